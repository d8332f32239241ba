"""A model of what a primary's transactions do, how a standby replays them, and what either server answers about them.

It follows the server: a transaction's end is written to the WAL before the primary shows it, so a standby may show it
first, and in another order; subtransactions end with their parent unless they are rolled back alone; `xmax` is one past
the newest transaction that has ended; a standby knows what it replayed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from replcheck.postgres import snapshots

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
_EPOCH = 1 << 32
_FIRST_NORMAL_XID = 3
_ANYWHERE = st.just(1000)
_ACTIONS = ("begin", "begin", "sub", "roll back sub", "log commit", "log commit", "log abort", "show", "show")


@dataclass(frozen=True)
class Unit:
    """Xids that end together: a transaction with its subtransactions, or a subtransaction rolled back alone."""

    xids: tuple[int, ...]
    committed: bool


@dataclass
class History:
    """Units in the order of their ends: in the WAL (which a standby follows), and as the primary shows them."""

    first_xid: int
    events: list[tuple[str, Any]] = field(default_factory=list)
    """("assigned", xid), ("logged", unit) and ("shown", unit), as they happen on the primary."""

    @property
    def wal(self) -> list[Unit]:
        """Return the ends in the order of the WAL."""
        return [what for name, what in self.events if name == "logged"]

    @property
    def units(self) -> dict[int, Unit]:
        """Return the unit that each xid ends with, where it ends."""
        return {xid: unit for unit in self.wal for xid in unit.xids}

    @property
    def xids(self) -> list[int]:
        """Return every xid that was assigned."""
        return [what for name, what in self.events if name == "assigned"]

    def shown(self, moment: int) -> list[Unit]:
        """Return the units that the primary shows after so many events."""
        return [what for name, what in self.events[:moment] if name == "shown"]

    def logged(self, moment: int) -> int:
        """Return how many ends are in the WAL after so many events."""
        return sum(name == "logged" for name, _ in self.events[:moment])


def next_xid(xid: int) -> int:
    """Return the xid after another; the first three of each epoch are never assigned."""
    later = xid + 1
    return later if later % _EPOCH >= _FIRST_NORMAL_XID else later - later % _EPOCH + _FIRST_NORMAL_XID


@st.composite
def histories(draw, *, first_xids=_ANYWHERE, quiet: bool = False) -> History:
    """Draw a history; with `quiet` every transaction has ended, and is shown, at its end."""
    history = History(first_xid=draw(first_xids))
    writer = _Writer(history)
    for action, number in draw(st.lists(st.tuples(st.sampled_from(_ACTIONS), st.integers(0, 7)), max_size=60)):
        writer.act(action, number)
    if quiet:
        while writer.running:
            writer.act("log commit", 0)
        while writer.unshown:
            writer.act("show", 0)
    return history


class _Writer:
    def __init__(self, history: History) -> None:
        self.history = history
        self.running: list[list[int]] = []
        self.unshown: list[Unit] = []
        self._next = history.first_xid

    def act(self, action: str, number: int) -> None:
        match action:
            case "begin":
                self.running.append([self._assign()])
            case "sub" if self.running:
                self._pick(self.running, number).append(self._assign())
            case "roll back sub" if any(len(xids) > 1 for xids in self.running):
                xids = self._pick([xids for xids in self.running if len(xids) > 1], number)
                unit = Unit((xids.pop(),), committed=False)
                self.history.events += [("logged", unit), ("shown", unit)]
            case "log commit" | "log abort" if self.running:
                xids = self._pick(self.running, number)
                self.running.remove(xids)
                unit = Unit(tuple(xids), committed=action == "log commit")
                self.history.events.append(("logged", unit))
                self.unshown.append(unit)
            case "show" if self.unshown:
                unit = self._pick(self.unshown, number)
                self.unshown.remove(unit)
                self.history.events.append(("shown", unit))

    @staticmethod
    def _pick(options: list[Any], number: int) -> Any:
        return options[number % len(options)]

    def _assign(self) -> int:
        xid = self._next
        self._next = next_xid(xid)
        self.history.events.append(("assigned", xid))
        return xid


def finish(coroutine: Any) -> Any:
    """Run a coroutine to its end that never has to wait, since a model server answers at once."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def take_anchor(server: Any, previous: snapshots.Anchor | None = None) -> snapshots.Anchor:
    """Take an anchor on a model primary."""
    anchor: snapshots.Anchor = finish(snapshots.read_anchor(server, previous))
    return anchor


def take_snapshot(server: Any, anchor: snapshots.Anchor) -> snapshots.SnapshotReading:
    """Open a snapshot on a model server."""
    reading: snapshots.SnapshotReading = finish(snapshots.open_snapshot(server, anchor))
    return reading


class ModelServer:
    """Answers, as a session of a primary or a standby would, what snapshots.py asks; time passes between two answers.

    `moment` counts events on a primary and replayed ends on a standby; `steps` says how far it moves at each question.
    """

    advertised_pid = 1

    def __init__(
        self, history: History, *, primary: bool, moment: int, steps: Iterator[int], hasty_status: bool = False
    ) -> None:
        self.server_version_num = 140004 if hasty_status else 180000
        self.history = history
        self.primary = primary
        self.moment = moment
        self.snapshot_moment = moment
        self.in_transaction = False
        self._steps = steps
        self._hasty_status = hasty_status
        """Whether a transaction is called committed once that is logged, before it is shown."""

    @property
    def last_moment(self) -> int:
        """Return the moment after which nothing happens."""
        return len(self.history.events if self.primary else self.history.wal)

    def ended(self, moment: int) -> list[Unit]:
        """Return the units that have ended here by a moment."""
        return self.history.shown(moment) if self.primary else self.history.wal[:moment]

    def sees(self, xid: int) -> bool:
        """Tell the truth: whether the newest snapshot sees a transaction."""
        return any(unit.committed and xid in unit.xids for unit in self.ended(self.snapshot_moment))

    def bounds(self, moment: int) -> tuple[int, int]:
        """Return xmin and xmax of a snapshot taken at a moment."""
        ended = {xid for unit in self.ended(moment) for xid in unit.xids}
        xmax = max(ended, default=self.history.first_xid - 1) + 1
        running = [xid for xid in self._assigned(moment) if xid < xmax and xid not in ended]
        return min(running, default=xmax), xmax

    def status(self, xid: int, moment: int) -> str:
        """Return what pg_xact_status() says at a moment."""
        ended = self.ended(moment)
        if self._hasty_status and self.primary:
            ended = self.history.wal[: self.history.logged(moment)]
        unit = next((unit for unit in ended if xid in unit.xids), None)
        if unit is None and xid in self.history.xids:
            return "in progress"
        return "committed" if unit is None or unit.committed else "aborted"

    async def rollback(self) -> None:
        """Give the snapshot back."""
        self.in_transaction = False

    async def arm_limits(self) -> None:
        """Have the server watch the time."""

    async def fetch(self, statement: Any, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        self._pass()
        if statement is snapshots.BEFORE:
            assert parameters is not None
            return [self._before(*parameters)]
        if "pg_last_wal_replay_lsn" in statement:
            return [(None, self.moment, False, False)]
        if "insert_lsn" in statement:
            return [(self.history.logged(self.moment),)]
        assert "pg_snapshot_xmin" in statement
        return [(self.bounds(self.moment)[0],)]

    async def fetch_batch(self, batches: Sequence[Sequence[tuple[Any, Any]]]) -> list[tuple[Any, ...]]:
        rows = []
        for statement, parameters in (step for batch in batches for step in batch):
            self._pass()
            if statement is snapshots.BEFORE:
                rows.append(self._before(*parameters))
            elif statement is snapshots.AFTER:
                rows.append(self._after(*parameters))
            else:
                assert (statement == snapshots.ROLLBACK) == self.in_transaction
                self.in_transaction = statement == snapshots.BEGIN
        return rows

    def _before(self, open_xids: Sequence[int], since: int) -> tuple[Any, ...]:
        _, xmax = self.bounds(self.moment)
        return xmax, self._with_status("in progress", self._statuses(open_xids, since, xmax))

    def _after(self, open_xids: Sequence[int], since: int) -> tuple[Any, ...]:
        self.snapshot_moment = self.moment
        xmin, xmax = self.bounds(self.moment)
        statuses = self._statuses(open_xids, since, xmax)
        in_progress, aborted = self._with_status("in progress", statuses), self._with_status("aborted", statuses)
        lsn = self.history.logged(self.moment) if self.primary else self.moment
        return xmin, xmax, in_progress, aborted, not self.primary, STARTED, self.advertised_pid, lsn

    def _statuses(self, open_xids: Sequence[int], since: int, xmax: int) -> dict[int, str]:
        statuses = {}
        for xid in [*(xid for xid in open_xids if xid < xmax), *range(since, xmax)]:
            self._pass()
            statuses[xid] = self.status(xid, self.moment)
        return statuses

    @staticmethod
    def _with_status(status: str, statuses: dict[int, str]) -> list[int]:
        return [xid for xid, found in statuses.items() if found == status]

    def _assigned(self, moment: int) -> list[int]:
        if self.primary:
            return [what for name, what in self.history.events[:moment] if name == "assigned"]
        return self.history.xids

    def _pass(self) -> None:
        self.moment = min(self.moment + next(self._steps, 0), self.last_moment)
