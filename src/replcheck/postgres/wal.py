"""Positions in the WAL: read them, and wait until a standby has replayed one.

All waiting happens here, on a session without a snapshot, so that it can never hold up replay.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from replcheck.model.wal import Lsn
from replcheck.postgres.session import Session, Statement

# Purpose: how far a primary's WAL is inserted and flushed. PostgreSQL 10+, no privilege.
_PRIMARY: Statement = """
    SELECT (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint,
           (pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
"""

# Purpose: how far a standby has received and replayed, and whether replay waits for more WAL to come. The first is NULL
# where nothing streams, the last without pg_read_all_stats. PostgreSQL 13+, no other privilege.
_STANDBY: Statement = """
    SELECT (pg_catalog.pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint,
           (pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint,
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END,
           coalesce((SELECT a.wait_event = 'RecoveryWalStream' FROM pg_catalog.pg_stat_get_activity(NULL) AS a
                     WHERE a.backend_type = 'startup'), false)
"""

# Purpose: how long a commit can stay unflushed with synchronous_commit off (three times this). PostgreSQL 14+.
_WRITER_DELAY: Statement = "SELECT setting::float8 / 1000 FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'"

_FIRST_POLL_S = 0.002
_LAST_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayState:
    """Where a standby stands; `received` is None where no WAL receiver ever ran."""

    received: Lsn | None
    replayed: Lsn
    paused: bool
    starved: bool
    """Whether all that was received is replayed and replay waits for more; False where that can't be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWait:
    """How waiting for a replay position ended."""

    reached: bool
    state: ReplayState


async def replay_state(session: Session) -> ReplayState:
    """Read where a standby stands."""
    ((received, replayed, paused, starved),) = await session.fetch(_STANDBY)
    return ReplayState(
        received=None if received is None else Lsn(received),
        replayed=Lsn(replayed or 0),
        paused=bool(paused),
        starved=starved,
    )


async def insert_lsn(session: Session) -> Lsn:
    """Read a primary's insert position."""
    ((inserted, _),) = await session.fetch(_PRIMARY)
    return Lsn(inserted)


async def flush_lsn(session: Session) -> Lsn:
    """Read a primary's flush position."""
    ((_, flushed),) = await session.fetch(_PRIMARY)
    return Lsn(flushed)


async def writer_delay_s(session: Session) -> float:
    """Read wal_writer_delay in seconds."""
    ((delay,),) = await session.fetch(_WRITER_DELAY)
    return float(delay)


async def wait_replayed(
    standby: Session,
    target: Lsn,
    *,
    timeout_s: float,
    enough: Callable[[], Awaitable[bool]] | None = None,
    primary_flush: Callable[[], Awaitable[Lsn]] | None = None,
    writer_delay: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> ReplayWait:
    """Wait until a standby has replayed `target`, at most `timeout_s` seconds.

    `enough` tells whether what was replayed will do, although the target is still beyond it.

    On a quiet primary with an idle WAL writer the tail of the WAL is not flushed and so never sent. Whoever waits for
    commits alone gives `primary_flush`: where the standby has replayed all that is flushed, and nothing moves for more
    than three `writer_delay`s, the target then counts as reached, since every commit would have been flushed by then
    (PostgreSQL manual, Asynchronous Commit). The flush position can lie inside a record (the WAL writer flushes whole
    pages), so it need not be replayed itself. Raises what the session raises.
    """
    started, pause = clock(), _FIRST_POLL_S
    still: tuple[Lsn, Lsn] | None = None
    still_since = started
    while True:
        state, now = await replay_state(standby), clock()
        if state.replayed >= target:
            return ReplayWait(reached=True, state=state)
        if enough is not None and await enough():
            return ReplayWait(reached=True, state=state)
        if now - started > timeout_s:
            return ReplayWait(reached=False, state=state)
        if primary_flush is not None and now - started > writer_delay:
            flushed = await primary_flush()
            if not _has_replayed_all(state, flushed):
                still = None
            elif still != (flushed, state.replayed):
                still, still_since = (flushed, state.replayed), now
            elif now - still_since > 3 * writer_delay:
                return ReplayWait(reached=True, state=state)
        await sleep(pause)
        pause = min(pause * 1.5, _LAST_POLL_S)


def _has_replayed_all(state: ReplayState, flushed: Lsn) -> bool:
    """Return whether a standby has replayed every whole record that its primary has flushed."""
    if state.replayed >= flushed:
        return True
    return state.starved and not state.paused and state.received is not None and state.received >= flushed
