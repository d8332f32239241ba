"""What every part of one audit shares: the nodes, the options and where events go."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from replcheck.audit.anchors import Anchors
from replcheck.audit.cross_check import Sampler
from replcheck.audit.digest import Hasher
from replcheck.audit.ending import Halt
from replcheck.audit.filters import RelationFilters
from replcheck.audit.gate import Gate
from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.audit.shortfalls import UNFINISHED, Shortfall, primary_lost
from replcheck.events import Emit
from replcheck.model.progress import ProvenBlocks, RelationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The nodes under audit and the means of the audit."""

    primary: NodeHandle
    replicas: Mapping[str, NodeHandle]
    hasher: Hasher
    options: AuditOptions
    emit: Emit
    anchors: Anchors = field(default_factory=Anchors)
    halt: Halt = field(default_factory=Halt)
    gate: Gate = field(default_factory=Gate)
    filters: RelationFilters = field(default_factory=RelationFilters)
    sampler: Sampler = field(default_factory=lambda: Sampler(0.0))
    """Draws what is compared in the client too."""
    pinning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one check of an index that has a session on the primary besides the primary's own."""
    earlier: Mapping[RelationState, Sequence[ProvenBlocks]] = field(default_factory=dict)
    """What an earlier run has proven and what still holds."""

    def clock(self) -> float:
        """Return monotonic seconds, without those that the gate held every lane still."""
        return self.gate.clock()

    @property
    def nodes(self) -> tuple[NodeHandle, ...]:
        """Return every node, the primary first."""
        return (self.primary, *self.replicas.values())

    @property
    def over(self) -> bool:
        """Return whether nobody is left to compare, or the audit is to end."""
        return (
            self.halt.called
            or self.primary.gone is not None
            or all(node.gone is not None for node in self.replicas.values())
        )

    def node(self, name: str) -> NodeHandle:
        """Return the node of that name."""
        return self.primary if name == self.primary.name else self.replicas[name]

    @property
    def left_over(self) -> Shortfall:
        """Return why what is still unproven at the end stays so."""
        if self.halt.ending is not None:
            return self.halt.ending.lack
        return UNFINISHED if self.primary.gone is None else primary_lost(self.primary.gone)
