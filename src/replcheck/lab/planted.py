"""What was done to a node, as plain data: what an audit is expected to find."""

from dataclasses import dataclass, replace
from enum import Enum

from replcheck.model.audit import DifferenceKind


class Cure(Enum):
    """How a fault is healed."""

    COPY = "was copied anew from its upstream"
    RESUME = "had its replay resumed"
    RECONNECT = "was connected to its upstream again"
    START = "was started again"
    HURRY = "was told to replay without delay"
    THAW = "goes on where it was frozen"
    ARCHIVE = "archives its WAL again"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFault:
    """One fault on one node."""

    fault: str
    node: str
    """The node it was done to, which stands alone with it."""
    what: str
    """What was done, in one clause, without any row's content."""
    cure: Cure
    database: str | None = None
    """None where the fault concerns the node as a whole, as for all that follows."""
    relation: str | None = None
    """Schema-qualified and quoted; for a TOAST or index fault the table it belongs to."""
    kind: DifferenceKind | None = None
    """What an audit finds in the relation, judged from the replica; None where no row differs."""
    also: frozenset[DifferenceKind] = frozenset()
    """Kinds that may be found beside it."""
    rows: int | None = None
    """How many rows differ, None where it is not known, or the rows cannot be read."""
    block: int | None = None
    offset: int | None = None
    """The row's position as a ctid has it, where one row is meant."""
    sqlstate: str | None = None
    """What the server raises where the rows cannot be read."""

    def seen_from_replicas(self) -> "PlantedFault":
        """Return the fault of a primary as it is judged from its replicas: what it lost, they have too much."""
        swapped = {DifferenceKind.MISSING: DifferenceKind.EXTRA, DifferenceKind.EXTRA: DifferenceKind.MISSING}
        kind = swapped.get(self.kind, self.kind) if self.kind else None
        return replace(self, kind=kind, also=frozenset(swapped.get(other, other) for other in self.also))
