"""Sequences: bracketed, since no snapshot holds them still.

S0 is read on the primary, then R on each replica, then S1 on the primary. R must lie between S0 and S1 plus the values
that S1 may have logged ahead. A primary moves within those without a word in the WAL, and a replica stands at their
end: so where nobody moves the sequence, R must be exactly there. Where it is not, it is read again once the replica has
replayed the moment of a new S0. The judging is pure.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.errors import NodeError, StatementCancelled, StatementFailed
from replcheck.model.outcome import Verdict
from replcheck.model.wal import Lsn
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.failures import is_corruption
from replcheck.postgres.sequences import SequenceState, read_sequences
from replcheck.postgres.session import Session
from replcheck.postgres.wal import flush_lsn, insert_lsn, wait_replayed

LOGGED_AHEAD = 32
"""Values a nextval() logs ahead (PostgreSQL source, SEQ_LOG_VALS in commands/sequence.c)."""
_LEAST_RECORD = 64
"""Bytes of WAL into which no record of a sequence fits, but the header of a page does, behind the last record."""
_WRITTEN_S = 30.0
"""By then a primary at which nothing happens has written its WAL out: its background writer, which may sleep for 10 s,
logs what runs every 15 s where something was logged since (PostgreSQL source, bgwriter.c)."""
_LOOKS = 6
_CONFIRMING_LOOKS = 2
_CONFIRMING_LOOKS_MOVING = 4
"""A sequence that is moved all the time may be set back and forth between the two reads."""
_CONFIRMING_LOOKS_NEAR = 5
"""One that is set back to the same place time and again may seem to stand still while the replica shows another."""
_PAUSE_S = 0.2


class Bracket(Enum):
    """What one bracket showed of a sequence on a replica."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    NEAR = "near"
    """Nobody moved it, and the replica lies within what may be logged ahead, but not where that ends."""
    UNSTEADY = "unsteady"
    """It was set back or went round in between: read again."""


def judge(before: SequenceState, replica: SequenceState, after: SequenceState) -> Bracket:
    """Tell whether a replica's sequence lies where the primary's went through.

    Where it was not moved in between, the replica must stand at the end of what was logged ahead, or have the same page
    if it was copied meanwhile. A page that was copied from an earlier primary says itself how far that one had logged
    ahead, and there the one that was promoted goes on. `setval` backwards and cycling make a bracket meaningless.
    """
    if _definition(before) != _definition(after):
        return Bracket.UNSTEADY
    moved = before != after
    if _definition(replica) != _definition(before):
        return Bracket.UNSTEADY if moved else Bracket.OUTSIDE
    sign = 1 if before.increment > 0 else -1
    low, high = sign * _next(before), sign * (_next(after) + _ahead(after) * after.increment)
    if sign * _next(after) < low:
        return Bracket.UNSTEADY
    logged = replace(replica, last_value=_place(replica)[0], log_count=0)
    if any(low <= sign * _next(state) <= high for state in (replica, logged)):
        return Bracket.INSIDE if moved or _place(replica) == _place(before) else Bracket.NEAR
    return Bracket.UNSTEADY if moved and before.cycles else Bracket.OUTSIDE


def _definition(state: SequenceState) -> tuple[int, int, int, int, bool]:
    return state.increment, state.minimum, state.maximum, state.cache, state.cycles


def _next(state: SequenceState) -> int:
    return state.last_value + (state.increment if state.called else 0)


def _ahead(state: SequenceState) -> int:
    return max(state.log_count, LOGGED_AHEAD + state.cache)


def _place(state: SequenceState) -> tuple[int, bool]:
    """Return the last value that is logged, which a nextval() without a record leaves as it is."""
    return state.last_value + state.log_count * state.increment, state.called


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceVerdict:
    """One sequence on one replica."""

    verdict: Verdict
    reason: str = ""
    sqlstate: str | None = None
    dropped: bool = False
    """Whether it was dropped while the audit ran, so that there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class _Outside:
    """Looks in a row that found a replica outside, through which the primary moved one way only."""

    looks: int
    shown: object
    after: object


async def bracket_sequences(
    sequences: Sequence[Relation],
    *,
    primary: NodeHandle,
    replica: NodeHandle,
    sessions: Callable[[NodeHandle], Awaitable[Session]],
    options: AuditOptions,
) -> Mapping[int, SequenceVerdict]:
    """Bracket every sequence on one replica, again where one lies outside; return the verdicts by oid.

    Raises NodeError where the primary or the replica fails.
    """
    verdicts: dict[int, SequenceVerdict] = {}
    outside: dict[int, _Outside] = {}
    left = await _hasty_look(sequences, verdicts, await sessions(primary), await sessions(replica))
    for look in range(_LOOKS if left else 0):
        if look:
            await asyncio.sleep(_PAUSE_S * look)
        left = await _one_look(left, verdicts, outside, await sessions(primary), await sessions(replica), options)
        if not left:
            break
    for sequence in left:
        verdicts[sequence.oid] = SequenceVerdict(
            verdict=Verdict.INCONCLUSIVE, reason="it was locked, set back or went round during each look"
        )
    return verdicts


async def _hasty_look(
    sequences: Sequence[Relation], verdicts: dict[int, SequenceVerdict], there: Session, here: Session
) -> list[Relation]:
    """Look without waiting for replay, and return what did not lie inside: only that needs the replica to come on."""
    if not sequences:
        return []
    before = await read_sequences(there, sequences)
    shown = await read_sequences(here, sequences)
    after = await read_sequences(there, sequences)
    left = []
    for sequence in sequences:
        verdict = _weigh(before.get(sequence.oid), shown.get(sequence.oid), after.get(sequence.oid))
        if verdict is not None and verdict.verdict is Verdict.CONSISTENT:
            verdicts[sequence.oid] = verdict
        else:
            left.append(sequence)
    return left


async def _one_look(
    sequences: list[Relation],
    verdicts: dict[int, SequenceVerdict],
    outside: dict[int, _Outside],
    there: Session,
    here: Session,
    options: AuditOptions,
) -> list[Relation]:
    before = await read_sequences(there, sequences)
    lack = await _wait(there, here, options)
    if lack:
        verdicts |= {s.oid: SequenceVerdict(verdict=Verdict.INCONCLUSIVE, reason=lack) for s in sequences}
        return []
    shown = await read_sequences(here, sequences)
    after = await read_sequences(there, sequences)
    gone = [s.oid for s in sequences if _gone(before.get(s.oid)) or _gone(after.get(s.oid))]
    renamed = await read_relations(there, gone) if gone else {}
    left = [renamed[oid] for oid in gone if oid in renamed]
    verdicts |= {oid: _DROPPED for oid in gone if oid not in renamed}
    for sequence in sequences:
        oid = sequence.oid
        if oid in gone:
            continue
        verdict = _weigh(before.get(oid), shown.get(oid), after.get(oid))
        if verdict is None:
            outside.pop(oid, None)
            left.append(sequence)
        elif verdict.verdict is not Verdict.DIVERGED or _confirmed(
            outside, oid, before.get(oid), shown.get(oid), after.get(oid)
        ):
            verdicts[oid] = verdict
        else:
            left.append(sequence)
    return left


async def _wait(there: Session, here: Session, options: AuditOptions) -> str:
    """Wait until the replica has replayed every record of a sequence; return why it has not, empty where it has.

    A value that is taken is in the WAL before anything is committed, so a tail that nobody has flushed may hold it.
    """
    target = await insert_lsn(there)
    began, least = time.monotonic(), Lsn(target - _LEAST_RECORD)
    if (await wait_replayed(here, least, timeout_s=options.replay_wait_s)).reached:
        return ""
    if await flush_lsn(there) >= least:
        return "the replica lags"
    # The replica is not to blame, however short its time to replay.
    left_s = max(0.0, _WRITTEN_S - (time.monotonic() - began))
    if (await wait_replayed(here, least, timeout_s=left_s)).reached:
        return ""
    flushed = await flush_lsn(there)
    return "the replica lags" if flushed >= least else "what the primary's WAL says of it is not written out yet"


def _confirmed(outside: dict[int, _Outside], oid: int, before: object, shown: object, after: object) -> bool:
    """Count a look that found the replica outside; return whether there were enough to believe it.

    A sequence that is set hither and thither may have been anywhere between two reads, so only looks count through
    which it moved one way; and where the replica is near, only those between which nothing moved on either side.
    """
    past, near = outside.get(oid), _is_near(before, shown, after)
    still = past is not None and (past.shown, past.after) == (shown, before)
    counts = past is not None and (still if near else not _went_back(past.after, before))
    looks = 1 + (past.looks if past is not None and counts else 0)
    outside[oid] = _Outside(looks, shown, after)
    if near:
        return looks >= _CONFIRMING_LOOKS_NEAR
    return looks >= (_CONFIRMING_LOOKS if before == after else _CONFIRMING_LOOKS_MOVING)


def _is_near(before: object, shown: object, after: object) -> bool:
    states = [state for state in (before, shown, after) if isinstance(state, SequenceState)]
    return len(states) == 3 and judge(*states) is Bracket.NEAR


def _went_back(earlier: object, later: object) -> bool:
    if not isinstance(earlier, SequenceState) or not isinstance(later, SequenceState):
        return False
    sign = 1 if earlier.increment > 0 else -1
    return sign * _next(later) < sign * _next(earlier)


def _weigh(
    before: SequenceState | StatementFailed | None,
    replica: SequenceState | StatementFailed | None,
    after: SequenceState | StatementFailed | None,
) -> SequenceVerdict | None:
    """Return the verdict of one look, None where it must be looked at again."""
    if any(isinstance(state, StatementCancelled) for state in (before, replica, after)):
        return None
    if _gone(replica):
        return SequenceVerdict(verdict=Verdict.DIVERGED, reason="the sequence is missing")
    for state in (before, after, replica):
        if isinstance(state, StatementFailed):
            corrupt = is_corruption(state)
            return SequenceVerdict(
                verdict=Verdict.DIVERGED if corrupt and state is replica else Verdict.UNCHECKED,
                reason=state.message,
                sqlstate=state.sqlstate,
            )
    if not isinstance(before, SequenceState) or not isinstance(after, SequenceState):
        return None
    if not isinstance(replica, SequenceState):
        return SequenceVerdict(verdict=Verdict.DIVERGED, reason="the sequence is missing")
    match judge(before, replica, after):
        case Bracket.INSIDE:
            return SequenceVerdict(verdict=Verdict.CONSISTENT)
        case Bracket.OUTSIDE:
            return SequenceVerdict(verdict=Verdict.DIVERGED, reason="its position lies outside the primary's")
        case Bracket.NEAR:
            return SequenceVerdict(verdict=Verdict.DIVERGED, reason="it stands elsewhere than the primary's has logged")
        case Bracket.UNSTEADY:
            return None


_DROPPED = SequenceVerdict(verdict=Verdict.CONSISTENT, dropped=True)
_NAMELESS_SQLSTATES = frozenset({"42P01", "3F000"})


def _gone(state: SequenceState | StatementFailed | None) -> bool:
    """Return whether nothing goes by the name any more: it was dropped, or it or its schema was renamed."""
    return state is None or (isinstance(state, StatementFailed) and state.sqlstate in _NAMELESS_SQLSTATES)


def failed(error: NodeError, sequences: Sequence[Relation]) -> Mapping[int, SequenceVerdict]:
    """Return the verdicts where a node failed before the brackets were closed."""
    lack = SequenceVerdict(verdict=Verdict.UNCHECKED, reason=error.message)
    return {sequence.oid: lack for sequence in sequences}
