"""Why something was not proven: the reasons an audit gives, each with a code that scripts may rely on.

What can be tried again with hope is inconclusive, what could not be looked at is unchecked.
"""

from dataclasses import dataclass
from enum import Enum

from replcheck.errors import StatementFailed
from replcheck.model.outcome import Verdict
from replcheck.postgres import advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Why a part of a relation, a relation or a node was not proven."""

    code: str
    reason: str
    verdict: Verdict
    """INCONCLUSIVE or UNCHECKED; CONSISTENT where nothing is left to prove."""
    hint: str = ""


UNSTEADY = Shortfall(
    code="unsteady",
    reason="rows differ, but in other places at each look",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when the relation is written less.",
)
STILL_IN_FLIGHT = Shortfall(
    code="in_flight",
    reason="rows were still in flight when the time to settle them was over",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when the transactions that hold them have ended.",
)
UNANSWERED = Shortfall(
    code="unanswered",
    reason="the replica could not answer, however often it was asked",
    verdict=Verdict.UNCHECKED,
    hint="Look at that server's log and audit again.",
)
REDEFINED = Shortfall(
    code="redefined",
    reason="it was redefined again and again while it was read",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit it when no DDL runs.",
)
TOO_LATE = Shortfall(
    code="too_late",
    reason="it came into being when the audit had looked for new relations as often as it does",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit when fewer relations come into being.",
)
UNLISTED = Shortfall(
    code="unlisted",
    reason="relations that came into being while the audit ran: the primary could not list them",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again.",
)
NEVER_LISTED = Shortfall(
    code="unlisted",
    reason="relations that it alone may have: its list of them was never read",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again.",
)
UNSHARED = Shortfall(
    code="shared_catalogs",
    reason="the catalogs that all databases share: every database in which they could be compared was dropped",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again.",
)
LOCKED = Shortfall(
    code="locked",
    reason="a lock kept the audit out",
    verdict=Verdict.INCONCLUSIVE,
    hint="Look for a session that holds ACCESS EXCLUSIVE on it (pg_locks) and audit it again.",
)
TOO_SLOW = Shortfall(
    code="too_slow",
    reason="a single block takes longer to read than a snapshot may live",
    verdict=Verdict.UNCHECKED,
    hint="Raise --max-snapshot-age.",
)
NO_DATABASE = Shortfall(
    code="no_database",
    reason="it has no such database",
    verdict=Verdict.UNCHECKED,
    hint="Where it was renamed while the audit ran, audit again; otherwise that server is no copy.",
)
DATABASE_RENAMED = Shortfall(
    code="no_database",
    reason="the database has another name on the primary than when the audit began",
    verdict=Verdict.UNCHECKED,
    hint="Audit again.",
)
UNREADABLE = Shortfall(
    code="unreadable_everywhere",
    reason="no node that was asked can read some of its blocks",
    verdict=Verdict.UNCHECKED,
    hint="Look for corruption in the servers' logs; pg_amcheck may tell more.",
)
RESTARTED = Shortfall(
    code="restarted",
    reason="it was started anew after it was read, and not proven again since",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when it is not restarted.",
)
NOTHING_COMPARED = Shortfall(
    code="nothing_compared",
    reason="nothing was compared: no relation in scope was there to be read",
    verdict=Verdict.INCONCLUSIVE,
    hint="Look at --database, --table, --exclude and --no-catalogs, and audit again.",
)
DROPPED = Shortfall(code="dropped", reason="dropped while the audit ran", verdict=Verdict.CONSISTENT)
UNLOGGED = Shortfall(code="unlogged", reason="made unlogged while the audit ran", verdict=Verdict.CONSISTENT)
STOPPED = Shortfall(
    code="stopped", reason="the run was stopped", verdict=Verdict.UNCHECKED, hint="Run the audit again to its end."
)
TIME_OVER = Shortfall(
    code="time_budget",
    reason="the time budget was over before it was proven",
    verdict=Verdict.INCONCLUSIVE,
    hint="Go on where this run ended with --resume.",
)
FAIL_FAST = Shortfall(
    code="fail_fast",
    reason="the audit ended at the first divergence",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit without --fail-fast to see everything that differs.",
)
UNFINISHED = Shortfall(
    code="unfinished", reason="the audit ended before it was read", verdict=Verdict.UNCHECKED, hint="Audit again."
)

NODE_CODES = frozenset(
    {
        "node_lost",
        "stopped",
        "time_budget",
        "fail_fast",
        "left_behind",
        "primary_lost",
        "unfinished",
        "no_database",
        "catalog_damage",
    }
)
"""Shortfalls of a whole node or run: told once, not once a relation."""
INCONCLUSIVE_CODES = frozenset(
    {
        "left_behind",
        "in_flight",
        "unsteady",
        "redefined",
        "too_late",
        "unlisted",
        "shared_catalogs",
        "restarted",
        "nothing_compared",
        "locked",
        "conflict",
        "sequence_unsteady",
        "index_unsteady",
        "index_unseen",
        "time_budget",
        "fail_fast",
    }
)
"""Shortfalls that leave hope: everything else that was not checked makes a replica unchecked."""
FINAL_CODES = NODE_CODES | {"redefined", "dropped", "filter"}
"""Shortfalls of a whole relation on a replica, after which none of its chunks is read there."""


def filter_unfit(reason: str) -> Shortfall:
    """Say that a relation was redefined so that its filter cannot be applied any more."""
    return Shortfall(
        code="filter",
        reason=reason,
        verdict=Verdict.UNCHECKED,
        hint="Give a filter over the columns that the relation has by now, and audit again.",
    )


def node_lost(node: str, reason: str) -> Shortfall:
    """Say that a node takes no further part."""
    return Shortfall(
        code="node_lost",
        reason=reason,
        verdict=Verdict.UNCHECKED,
        hint=f'Bring node "{node}" back and audit again.',
    )


def primary_lost(lack: Shortfall) -> Shortfall:
    """Say that nothing more can be compared because the primary is gone."""
    return Shortfall(
        code="primary_lost", reason=f"the primary: {lack.reason}", verdict=Verdict.UNCHECKED, hint=lack.hint
    )


class Lag(Enum):
    """Why a replica does not replay far enough."""

    PAUSED = "its replay is paused"
    DELAYED = "it is delayed on purpose"
    NOT_RECEIVING = "it receives no WAL"
    SLOW = "it lags"


def left_behind(node: str, distance_bytes: int, waited_s: float, lag: Lag) -> Shortfall:
    """Say that a replica does not replay far enough to be compared."""
    hint = {
        Lag.PAUSED: f'Run SELECT pg_wal_replay_resume() on node "{node}" and audit again.',
        Lag.DELAYED: "A standby that is delayed on purpose can't be compared with the present.",
        Lag.NOT_RECEIVING: f'Look at primary_conninfo and at the log of node "{node}": it is not connected.',
        Lag.SLOW: "Audit it when it has caught up.",
    }[lag]
    return Shortfall(
        code="left_behind",
        reason=f"{lag.value}: {distance_bytes} bytes of WAL behind after {waited_s:.0f} s",
        verdict=Verdict.INCONCLUSIVE,
        hint=hint,
    )


def lost_while_reading(node: str, first_block: int, last_block: int | None) -> Shortfall:
    """Say that a node's connection broke each time the same blocks were read."""
    last = "the end" if last_block is None else str(last_block)
    return Shortfall(
        code="lost_while_reading",
        reason=f"{node} was lost each time while blocks {first_block} to {last} were read",
        verdict=Verdict.UNCHECKED,
        hint="Look at that server's log: a damaged page can crash a server.",
    )


def conflict(node: str, sqlstate: str) -> Shortfall:
    """Say that a node cancelled the read again and again."""
    return Shortfall(
        code="conflict",
        reason=f"{node} cancelled the read each time (SQLSTATE {sqlstate})",
        verdict=Verdict.INCONCLUSIVE,
        hint="Turn on hot_standby_feedback there, or raise max_standby_streaming_delay.",
    )


def refusal(error: StatementFailed, role: str) -> Shortfall:
    """Say that a node refused to read a relation."""
    privilege = error.sqlstate == "42501"
    return Shortfall(
        code="privilege" if privilege else f"sqlstate_{error.sqlstate}",
        reason="the role may not read it" if privilege else error.message,
        verdict=Verdict.UNCHECKED,
        hint=advice.grant_read_all_data(role) if privilege else "Look the SQLSTATE up in that server's log.",
    )
