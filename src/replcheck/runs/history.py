"""The use case `history`: what was run, how it ended, and what it found, read from a history that nobody changes.

A run without an end was killed, unless it still works: the lock tells. A report is only handed on where its content
leads to the outcome that was recorded.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from replcheck.errors import StoreError, UsageError
from replcheck.model.audit import AuditResult
from replcheck.model.control import CheckResult
from replcheck.model.drill import DrillResult
from replcheck.model.evidence import EvidenceHead, EvidenceRecord, head_of
from replcheck.model.outcome import Outcome
from replcheck.model.plain import Plain
from replcheck.model.run import AUDIT_KINDS, UNNAMED_CLUSTER, RunRecord, RunStart, short_id
from replcheck.model.units import parse_duration
from replcheck.report.check_document import check_result
from replcheck.report.cluster_events import PastEvent
from replcheck.report.drill import drill_result
from replcheck.report.history import PastNote, PastRun, RunState
from replcheck.report.period import Period, PeriodTally
from replcheck.report.reading import audit_result
from replcheck.report.seal_stored import PastSeal, past_seal
from replcheck.report.verdict import outcome_of
from replcheck.runs.as_recorded import AsRecorded, as_recorded
from replcheck.runs.lock import is_held, lock_file
from replcheck.store import EvidenceReader, HistoryReader, RunFilter, open_evidence, open_live_reader, open_reader

LATEST = "latest"
AUDIT = "audit"
DRILL = "drill"
SEAL = "seal"
CHECK = "check"
SCRUB = "scrub"
KINDS = (AUDIT, DRILL, SEAL, CHECK, SCRUB, "selftest")
Reported = AuditResult | DrillResult | PastSeal | CheckResult
_LISTED = 'The runs are listed by "replcheck history".'
_LOCKED = (AUDIT, DRILL, SEAL, CHECK, SCRUB)
"""Kinds of runs that hold a lock of their own while they work; every other one is taken for an audit."""
_ID = re.compile(r"[0-9a-f][0-9a-f-]{2,35}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Runs, newest first, and what could not be read."""

    runs: tuple[PastRun, ...]
    damaged: tuple[str, ...]
    """Ids of runs whose record is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """The report of one run."""

    result: Reported
    document: Plain
    """The JSON as it was stored."""
    evidence: EvidenceHead | None = None
    """The run's record in the chain of its cluster; None where it has none."""


def known_kinds(store: Path) -> frozenset[str]:
    """Return the kinds of runs that there are: ours, and those that another version has left in a history."""
    return frozenset(KINDS) | open_reader(store).kinds()


def list_runs(store: Path, wanted: RunFilter, *, limit: int | None) -> Listing:
    """Return the runs that are wanted, newest first; raise StoreError where there is no history."""
    reader = open_evidence(store)
    runs = _with_evidence(reader, with_states(reader, reader.runs(wanted, limit=limit)))
    return Listing(runs=tuple(runs), damaged=tuple(dict.fromkeys(reader.damaged)))


def find_run(store: Path, name: str) -> PastRun:
    """Return one run by its id, the beginning of its id, or `latest`; raise UsageError where that names none."""
    reader = open_evidence(store)
    [past] = _with_evidence(reader, [_found(reader, name)])
    return replace(past, notes=tuple(_note(record) for record in reader.notes(past.run.run_id)))


def read_report(store: Path, name: str) -> StoredReport:
    """Return the report of one run; raise StoreError, saying why, where it has none or it is damaged."""
    reader = open_evidence(store)
    [past] = _with_evidence(reader, [_found(reader, name)])
    run_id = past.run.run_id
    document = reader.result(run_id)
    if document is None:
        raise StoreError(f"run {run_id} has no report: {_why_none(past)}", hint=_instead(reader, past))
    try:
        result = believed(past.run, document, as_recorded(reader, [run_id]))
        return StoredReport(result=result, document=document, evidence=past.evidence)
    except ValueError as error:
        raise StoreError(
            f"the report of run {run_id} cannot be read: {error}",
            hint=f'Its record is still shown by "replcheck history show {short_id(run_id)}".',
        ) from error


def summarize(
    store: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    now: datetime,
    cluster: str | None = None,
    recorded: AsRecorded | None = None,
) -> Period:
    """Return what the audits that began in a period proved, from `since` (None: the first one) to `until` (`now`).

    Those of one cluster alone where one is named. Runs of other kinds, such as drills and seals, are counted by how
    they ended. `recorded` is what the chain of evidence says of the runs; None where it is yet to be read.
    """
    reader = open_evidence(store)
    end = until or now
    tally = PeriodTally(since=since, until=end)
    runs = reader.runs(RunFilter(since=since, until=end, cluster=cluster))
    recorded = recorded or as_recorded(reader, (run.run_id for run in runs))
    open_runs = []
    for run, document in reader.walk(RunFilter(since=since, until=end, kinds=AUDIT_KINDS, cluster=cluster)):
        if not isinstance(run, RunRecord):
            open_runs.append(run)
            continue
        tally.add(run, _readable(run, document, recorded))
    for past in with_states(reader, open_runs):
        tally.add_unended(past)
    for run in reversed(runs):
        if run.kind not in AUDIT_KINDS:
            tally.add_other(run)
    return tally.finished(damaged=tuple(dict.fromkeys(reader.damaged)))


def list_events(
    store: Path, cluster: str | None, *, since: datetime | None, until: datetime | None, limit: int | None
) -> tuple[list[PastEvent], int]:
    """Return what happened to a cluster, or to all of a history, newest first, and how many events are damaged."""
    reader = open_live_reader(store)
    clusters = (cluster,) if cluster is not None else reader.clusters()
    found = [
        PastEvent(cluster=name, event=event)
        for name in clusters
        for event in reader.events(name, since=since, until=until, limit=limit)
    ]
    return sorted(found, key=lambda past: past.event.at, reverse=True)[:limit], reader.damaged_rows


def moment_of(text: str, *, flag: str, now: datetime, zone: tzinfo | None) -> datetime:
    """Return the time that a flag names: so long ago, or a date.

    A date without an offset is one of `zone`; None is that of this machine. Raises UsageError where it is neither.

    >>> moment_of("2026-03-01", flag="--since", now=datetime.now(UTC), zone=UTC).isoformat()
    '2026-03-01T00:00:00+00:00'
    """
    try:
        return now - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    except OverflowError as error:
        raise UsageError(f"{flag} is before all time") from error
    try:
        named = datetime.fromisoformat(text)
        if named.tzinfo is None and zone is not None:
            named = named.replace(tzinfo=zone)
        return named.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{flag} must be a duration such as 7d (units: us, ms, s, min, h, d) or a date such as 2026-03-01"
        ) from error


def _found(reader: HistoryReader, name: str) -> PastRun:
    if name == LATEST:
        runs = reader.runs(limit=1)
        if not runs:
            raise StoreError(f"history {reader.path} holds no run that can be read")
        return with_states(reader, runs)[0]
    prefix = name.lower()
    if not _ID.fullmatch(prefix):
        raise UsageError("a run is named by its id, by the beginning of its id, or by latest", hint=_LISTED)
    ids = reader.ids(prefix)
    if not ids:
        raise UsageError("no run has this id", hint=_LISTED)
    if len(ids) > 1 and prefix not in ids:
        raise UsageError(
            "more than one run has an id that begins so", hint=f"Write more of it, for instance {short_id(ids[0])}."
        )
    return with_states(reader, [reader.run(prefix if prefix in ids else ids[0])])[0]


def _with_evidence(reader: EvidenceReader, runs: Sequence[PastRun]) -> list[PastRun]:
    records = reader.of_runs(past.run.run_id for past in runs)
    return [replace(past, evidence=head_of(records.get(past.run.run_id))) for past in runs]


def _note(record: EvidenceRecord) -> PastNote:
    from replcheck.evidence.opening import Opened, open_line

    head = head_of(record)
    assert head is not None  # noqa: S101 - there is a record
    line = open_line((record.envelope or "").encode(), {})
    if not isinstance(line, Opened):
        why = "its text lies in an archive" if record.envelope is None else "it cannot be read"
        return PastNote(record=head, reviewer="", text=why, corrective_action="")
    told = {key: str(line.held.get(key) or "") for key in ("reviewer", "text", "corrective_action")}
    return PastNote(record=head, **told)


def with_states(reader: HistoryReader, runs: Sequence[RunStart]) -> list[PastRun]:
    """Return where each run stands: a run without an end may still be at work."""
    if all(isinstance(run, RunRecord) for run in runs):
        return [PastRun(run=run, state=RunState.ENDED) for run in runs]
    kinds = {_lock_of(run) for run in runs if not isinstance(run, RunRecord)}
    held = {kind: is_held(lock_file(reader.path, kind)) for kind in kinds}
    # Read again behind the question: what had no end before it, and nobody holding the lock, may have ended since.
    again = [run if isinstance(run, RunRecord) else reader.run(run.run_id) for run in runs]
    unended = reader.runs(RunFilter(unended=True)) if any(held.values()) else []
    working: dict[str, RunState] = {}
    for kind, is_at_work in held.items():
        working |= _working([run for run in unended if _lock_of(run) == kind]) if is_at_work else {}
    return [
        PastRun(run=run, state=RunState.ENDED)
        if isinstance(run, RunRecord)
        else PastRun(run=run, state=working.get(run.run_id, RunState.LOST))
        for run in again
    ]


def _lock_of(run: RunStart) -> str:
    return run.kind if run.kind in _LOCKED else AUDIT


def _working(unended: Sequence[RunStart]) -> dict[str, RunState]:
    """Return which of the runs without an end, newest first, may be at work while the lock is held.

    A configured cluster's audit holds the lock alone, so only the newest of them can; spelled-out nodes' share it.
    """
    sharing = [run for run in unended if run.cluster == UNNAMED_CLUSTER]
    alone = [run for run in unended if run.cluster != UNNAMED_CLUSTER][:1]
    candidates = [*sharing, *alone]
    state = RunState.RUNNING if len(candidates) == 1 else RunState.OPEN
    return {run.run_id: state for run in candidates}


def believed(run: RunStart, document: Plain, recorded: AsRecorded) -> Reported:
    """Return the result of a stored document; raise ValueError where it is none, or not the one that was recorded."""
    if isinstance(run, RunRecord) and (doubt := recorded.doubt_report(run, document)):
        raise ValueError(doubt)
    result, outcome = _read(run.kind, document)
    if isinstance(run, RunRecord) and run.outcome is not outcome:
        raise ValueError("it contradicts the record of the run")
    return result


def _read(kind: str, document: Plain) -> tuple[Reported, Outcome]:
    match kind:
        case "drill":
            drill = drill_result(document)
            return drill, drill.verdict.outcome
        case "seal":
            seal = past_seal(document)
            return seal, seal.verdict.outcome
        case "check":
            check = check_result(document)
            return check, check.outcome
    audit = audit_result(document)
    return audit, outcome_of(audit)


def _readable(run: RunRecord, document: Plain | StoreError, recorded: AsRecorded) -> AuditResult | str | None:
    """Return the result, None where the run has none, or why it cannot be read or believed."""
    if isinstance(document, StoreError):
        return "it is damaged"
    if document is None:
        return recorded.doubt(run) or None
    try:
        result = believed(run, document, recorded)
    except ValueError as error:
        return str(error)
    return result if isinstance(result, AuditResult) else None


def _why_none(past: PastRun) -> str:
    if isinstance(past.run, RunRecord):
        return past.run.summary
    return {
        RunState.RUNNING: "it is still running",
        RunState.OPEN: "it has not ended yet, or was killed",
    }.get(past.state, "it did not end")


def _instead(reader: HistoryReader, past: PastRun) -> str:
    for run in _ended(reader, past.run.kind):
        if run.failure is None:
            return f'The newest run with a report is shown by "replcheck report {short_id(run.run_id)}".'
    return ""


def _ended(reader: HistoryReader, kind: str) -> Iterator[RunRecord]:
    for run in reader.runs(RunFilter(kind=kind, outcomes=frozenset(Outcome)), limit=100):
        if isinstance(run, RunRecord):
            yield run
