"""Which transactions a snapshot sees, and which of them two snapshots disagree about.

Pure. The invariant: a transaction is called settled only where both snapshots certainly agree about it; every doubt
makes it unsettled. A wrong "unsettled" costs time, a wrong "settled" could accuse a healthy row.
"""

from dataclasses import dataclass
from enum import Enum


class Sight(Enum):
    """What a snapshot makes of one transaction."""

    SEEN = "seen"
    UNSEEN = "unseen"
    DOUBTFUL = "doubtful"
    NEVER = "never"
    """Aborted: its rows are visible to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The transactions a snapshot sees, among the candidates of an anchor (64-bit xids).

    Every xid below `xmax` that is in no set is seen (or aborted long ago, which makes no difference).
    """

    xmin: int
    xmax: int
    in_progress: frozenset[int]
    doubtful: frozenset[int]
    aborted: frozenset[int]

    def sight(self, xid: int) -> Sight:
        """Tell whether the snapshot sees the transaction."""
        if xid in self.aborted:
            return Sight.NEVER
        if xid >= self.xmax or xid in self.in_progress:
            return Sight.UNSEEN
        return Sight.DOUBTFUL if xid in self.doubtful else Sight.SEEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """Transactions that two snapshots may see differently (64-bit xids)."""

    behind: frozenset[int] = frozenset()
    """The primary sees or may see them, the replica does not or may not."""
    ahead: frozenset[int] = frozenset()
    """The replica sees or may see them, the primary does not or may not."""

    def __len__(self) -> int:
        return len(self.behind | self.ahead)


class Position(Enum):
    """Where a replica's snapshot stands against the primary's."""

    ALIGNED = "aligned"
    BEHIND = "behind"
    """Only behind: a later snapshot of the replica may be aligned."""
    AHEAD = "ahead"
    """Ahead in something: no later snapshot of the replica can be aligned with this one of the primary."""


def view_of(
    *,
    xmin: int,
    xmax: int,
    known_before: int,
    unfinished_before: frozenset[int],
    in_progress: frozenset[int],
    aborted: frozenset[int],
) -> View:
    """Fold what was asked before and after a snapshot into what it sees.

    An xid is in doubt where it was not known to be complete before the snapshot and is not in progress after it: it
    ended in between, on either side of the snapshot.

    >>> view_of(xmin=5, xmax=9, known_before=8, unfinished_before=frozenset({5, 6}),
    ...         in_progress=frozenset({5}), aborted=frozenset()).doubtful == {6, 8}
    True
    """
    open_or_unknown = {xid for xid in unfinished_before if xid < xmax} | set(range(known_before, xmax))
    doubtful = frozenset(xid for xid in open_or_unknown - in_progress - aborted if xid >= xmin)
    return View(xmin=xmin, xmax=xmax, in_progress=in_progress, doubtful=doubtful, aborted=aborted)


def distrusted(view: View, candidates: frozenset[int]) -> View:
    """Return the view with every completed candidate in doubt, for servers whose pg_xact_status cannot be trusted."""
    completed = frozenset(xid for xid in candidates if view.sight(xid) is Sight.SEEN)
    return View(
        xmin=view.xmin,
        xmax=view.xmax,
        in_progress=view.in_progress,
        doubtful=view.doubtful | completed,
        aborted=view.aborted,
    )


def unsettled(primary: View, replica: View) -> Unsettled:
    """Return the transactions that the two views do not certainly agree about."""
    low, high = sorted((primary.xmax, replica.xmax))
    questionable = primary.in_progress | primary.doubtful | replica.in_progress | replica.doubtful
    behind, ahead = set(), set()
    for xid in questionable | set(range(low, high)):
        there, here = primary.sight(xid), replica.sight(xid)
        if Sight.NEVER in (there, here) or (there is here and there is not Sight.DOUBTFUL):
            continue
        if there is not Sight.UNSEEN and here is not Sight.SEEN:
            behind.add(xid)
        if here is not Sight.UNSEEN and there is not Sight.SEEN:
            ahead.add(xid)
    return Unsettled(behind=frozenset(behind), ahead=frozenset(ahead))


def position(difference: Unsettled) -> Position:
    """Tell whether to keep the replica's snapshot, to take a later one, or to begin again with the primary."""
    if difference.ahead:
        return Position.AHEAD
    return Position.BEHIND if difference.behind else Position.ALIGNED
