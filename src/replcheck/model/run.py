"""The record of one run: what every run ends in, whether it proved something, failed or was interrupted."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from replcheck.model.outcome import ExitStatus, Outcome

UNNAMED_CLUSTER = "unnamed"
"""The cluster of a run whose nodes were given on the command line alone."""
AUDIT_KINDS = frozenset({"audit", "scrub"})
"""Kinds of runs that are audits: of everything at once, or a rolling one, chunk by chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run has no result; holds nothing secret."""

    error: str
    """Name of the error class."""
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What is known of a run when it begins."""

    run_id: str
    kind: str
    """The use case: `audit`."""
    cluster: str
    started_at: datetime
    tool_version: str
    argument_digest: str
    """SHA-256 over the nodes' names, scope and options: tells whether two runs were asked for the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(RunStart):
    """One run that ended, as the history keeps it."""

    finished_at: datetime
    outcome: Outcome
    verdict: str
    """The use case's own word for the outcome, for instance `diverged`."""
    exit_status: ExitStatus
    summary: str
    """The verdict, or the failure, in one sentence."""
    failure: Failure | None = None
    """None where the run has a result."""


def short_id(run_id: str) -> str:
    """Return the part of a run's id that tells it from others: the millisecond in which it began.

    >>> short_id("019535d9-3df7-79fb-b466-fa907fa17f9e")
    '019535d9-3df7'
    """
    return run_id[:13]


def moment_of(run_id: str) -> datetime | None:
    """Return when the run of an id began; None where the id is not one of ours.

    >>> moment_of("019535d9-3df7-79fb-b466-fa907fa17f9e").isoformat(timespec="milliseconds")
    '2025-02-24T02:46:24.503+00:00'
    """
    try:
        found = uuid.UUID(run_id)
        return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else None
    except (ValueError, OverflowError):
        return None  # no id at all, or one of a time beyond all calendars


def new_run_id(now: datetime) -> str:
    """Return a UUID of version 7: run ids sort by the time the runs began (RFC 9562, section 5.7)."""
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    bits = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))
