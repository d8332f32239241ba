"""The newest anchor of an audit; each alignment advances it, so that its candidates stay few."""

import asyncio
from dataclasses import dataclass, field, replace

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
        """Take a new anchor, from the one before it.

        Where no transaction has begun or ended since, its position is the older one: the end of everything that is not
        open lies before that. What an audit's own reading writes meanwhile, hint bits and pruned pages, need not be
        replayed, and on a quiet primary nobody would flush it for a while.
        """
        before, now = self.latest, await read_anchor(await primary.control(), self.latest)
        if before is not None and (before.xmax, before.open_xids) == (now.xmax, now.open_xids):
            now = replace(now, lsn=before.lsn)
        self.latest = now
        return now
