"""What every part of one audit shares: the nodes, the options and where events go."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from replcheck.audit.anchors import Anchors
from replcheck.audit.digest import Hasher
from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.audit.shortfalls import STOPPED, UNFINISHED, Shortfall, primary_lost
from replcheck.events import Emit


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The nodes under audit and the means of the audit."""

    primary: NodeHandle
    replicas: Mapping[str, NodeHandle]
    hasher: Hasher
    options: AuditOptions
    emit: Emit
    anchors: Anchors = field(default_factory=Anchors)
    clock: Callable[[], float] = time.monotonic

    @property
    def nodes(self) -> tuple[NodeHandle, ...]:
        """Return every node, the primary first."""
        return (self.primary, *self.replicas.values())

    @property
    def over(self) -> bool:
        """Return whether nobody is left to compare."""
        return self.primary.gone is not None or all(node.gone is not None for node in self.replicas.values())

    def node(self, name: str) -> NodeHandle:
        """Return the node of that name."""
        return self.primary if name == self.primary.name else self.replicas[name]

    def left_over(self, *, stopped: bool) -> Shortfall:
        """Return why what is still unproven at the end stays so."""
        if stopped:
            return STOPPED
        return UNFINISHED if self.primary.gone is None else primary_lost(self.primary.gone)
