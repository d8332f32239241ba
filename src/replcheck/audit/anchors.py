"""The newest anchor of an audit; each alignment advances it, so that its candidates stay few."""

import asyncio
from dataclasses import dataclass, field

from replcheck.audit.handles import NodeHandle
from replcheck.postgres.snapshots import Anchor, read_anchor


@dataclass(slots=True)
class Anchors:
    """Shared by the lanes of an audit; transaction ids are the cluster's, not a database's."""

    latest: Anchor | None = None
    chasing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the lane that chases: two at once would only slow each other down."""
    drawn: int = 0
    """The number of the last alignment that was begun."""

    def draw(self) -> int:
        """Return the number of an alignment that begins now, under `chasing`: a greater one means newer snapshots."""
        self.drawn += 1
        return self.drawn

    async def advance(self, primary: NodeHandle) -> Anchor:
        """Take a new anchor, from the one before it."""
        self.latest = await read_anchor(await primary.control(), self.latest)
        return self.latest
