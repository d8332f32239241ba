"""The use case `report` of a period: gathers what a history holds of one cluster over a time, as frozen facts.

Nothing is written and no node is asked. What cannot be read is counted and named; it never looks like something good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from replcheck import __version__
from replcheck.config.model import Configuration
from replcheck.errors import ReplcheckError, StoreError, UsageError
from replcheck.model.copies import AuditProof
from replcheck.model.copy_times import CopiesAsked, copies_over_time
from replcheck.model.drill import DrillResult
from replcheck.model.evidence import EvidenceState
from replcheck.model.plain import Plain
from replcheck.model.run import AUDIT_KINDS, RunRecord
from replcheck.model.spans import NodeSpan
from replcheck.report.period_facts import Asked, PastDrill, PeriodFacts
from replcheck.report.watched import SPANS_FROM, watched
from replcheck.runs.as_recorded import DOUBTS, AsRecorded, as_recorded
from replcheck.runs.checked import checked_controls
from replcheck.runs.evidence import evidence_state, keys_of
from replcheck.runs.history import DRILL, believed, summarize, with_states
from replcheck.store import LiveReader, RunFilter, open_evidence, open_live_reader

PROOF_AGE_S = 24 * 3600.0
"""How old a proof may be where no policy says."""
_RUNNING, _PROVEN = 1, 2
"""How many copies are taken as asked for where no policy says: a primary, and a replica that is proven to equal it."""
_EVIDENCE_S = 1.0
"""How long the chain of evidence is verified for a report, from its newest record back."""
_EVER = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodWanted:
    """Which period of which cluster."""

    since: datetime | None
    """None where it begins with the first that the history holds."""
    until: datetime | None
    """None for now."""
    cluster: str | None
    """None for the only one of the history."""


def gather_period(
    store: Path, configuration: Configuration | None, wanted: PeriodWanted, *, now: datetime
) -> PeriodFacts:
    """Return what a history holds of a period.

    Raises UsageError where it holds several clusters and none is named, StoreError where it holds none, or the period
    ends before it begins.
    """
    reader = open_live_reader(store)
    cluster = wanted.cluster or only_cluster(store, configuration)
    until = wanted.until or now
    since = wanted.since or _first_of(reader, cluster, until)
    asked_age_s = _proof_age_s(configuration)
    from_before = since - timedelta(seconds=asked_age_s) if since - _EVER > timedelta(seconds=asked_age_s) else _EVER
    spans = reader.node_spans(cluster, from_before, until)
    proofs = [proof for proof in reader.proofs(cluster, from_before) if proof.finished_at <= until]
    asked = _asked(configuration, spans, proofs)
    watch = reader.watch_spans(cluster, since - SPANS_FROM if since > _EVER else since, until)
    runs = reader.runs(RunFilter(since=since, until=until, cluster=cluster))
    ended = [run for run in runs if isinstance(run, RunRecord)]
    recorded = as_recorded(open_evidence(store), (run.run_id for run in ended))
    drills, unread = _drills(reader, RunFilter(since=since, until=until, kind=DRILL, cluster=cluster), recorded)
    pasts = with_states(reader, runs)
    checked = checked_controls(reader, pasts, recorded, min(until, now))
    doubted = {run.run_id: doubt for run in ended if run.kind not in AUDIT_KINDS and (doubt := recorded.doubt(run))}
    audits = summarize(store, since=wanted.since, until=until, now=now, cluster=cluster, recorded=recorded)
    unread |= checked.unread | doubted
    evidence, problem = _evidence(store, cluster, configuration)
    return PeriodFacts(
        cluster=cluster,
        since=since,
        until=until,
        made_at=now,
        tool_version=__version__,
        audits=audits,
        runs=tuple(reversed(pasts)),
        drills=drills,
        events=tuple(reversed(reader.events(cluster, since, until))),
        node_spans=tuple(span for span in spans if span.ended_at >= since),
        watch_spans=tuple(span for span in watch if span.ended_at >= since),
        watched=watched(watch, since, until),
        copies=copies_over_time(since, until, proofs, spans, asked.copies),
        asked=asked,
        controls=checked.controls,
        controls_at=checked.at,
        rechecked=checked.rechecked,
        checks=checked.made,
        tallies=checked.tallies,
        checks_left_out=checked.left_out,
        evidence_head=checked.evidence_head,
        evidence=evidence,
        evidence_problem=problem,
        unread=unread,
        altered=(
            *(one.run_id for one in audits.unread if one.reason in DOUBTS),
            *(run_id for run_id, reason in unread.items() if reason in DOUBTS),
        ),
        without_record=sum(not recorded.tells_of(run) for run in ended),
        damaged_rows=reader.damaged_rows,
    )


def _evidence(store: Path, cluster: str, configuration: Configuration | None) -> tuple[EvidenceState | None, str]:
    """Return how the chain of evidence stands, or why that cannot be told; nothing is kept of it."""
    try:
        return evidence_state(store, cluster, keys_of(configuration), budget_s=_EVIDENCE_S), ""
    except ReplcheckError as error:
        return None, error.message


def only_cluster(store: Path, configuration: Configuration | None) -> str:
    """Return the configured cluster, or the only one that a history holds; raise where that is not one."""
    if configuration is not None:
        return configuration.cluster
    found = clusters_of(store)
    if not found:
        raise StoreError(f"history {store} holds nothing of any cluster")
    if len(found) > 1:
        raise UsageError(
            f"the history holds {len(found)} clusters", hint=f"Name one with --cluster: {', '.join(found)}."
        )
    return found[0]


def clusters_of(store: Path) -> tuple[str, ...]:
    """Return the clusters of which a history holds runs or samples."""
    reader = open_live_reader(store)
    return tuple(sorted(reader.run_clusters() | set(reader.clusters())))


def _first_of(reader: LiveReader, cluster: str, until: datetime) -> datetime:
    """Return the time of the first run or sample before `until`, else `until`."""
    runs = reader.runs(RunFilter(until=until, cluster=cluster))
    watch = reader.watch_spans(cluster, _EVER, until)
    return min([*(run.started_at for run in runs), *(span.began_at for span in watch[:1]), until])


def _proof_age_s(configuration: Configuration | None) -> float:
    section = configuration.policy.consistency if configuration else None
    return section.max_age if section else PROOF_AGE_S


def _asked(configuration: Configuration | None, spans: Sequence[NodeSpan], proofs: Sequence[AuditProof]) -> Asked:
    policy = configuration.policy if configuration else None
    copies = policy.copies if policy else None
    point = policy.recovery_point if policy else None
    restore = policy.restore if policy else None
    seen = {span.node for span in spans} | {proof.node for proof in proofs} | {proof.primary for proof in proofs}
    return Asked(
        copies=CopiesAsked(
            nodes=tuple(configuration.nodes) if configuration else tuple(sorted(seen)),
            running=copies.running if copies else _RUNNING,
            proven=copies.proven if copies else _PROVEN,
            max_age_s=_proof_age_s(configuration),
        ),
        from_policy=copies is not None,
        recovery_limit_s=point.max_age if point else None,
        recovery_warn_s=point.warn if point else None,
        restore_limit_s=restore.max_time if restore else None,
    )


def _drills(
    reader: LiveReader, wanted: RunFilter, recorded: AsRecorded
) -> tuple[tuple[PastDrill, ...], dict[str, str]]:
    """Return the drills that ended, and of which the report cannot be read, with the reason."""
    unread: dict[str, str] = {}
    return tuple(_read_drills(reader, wanted, recorded, unread)), unread


def _read_drills(
    reader: LiveReader, wanted: RunFilter, recorded: AsRecorded, unread: dict[str, str]
) -> Iterator[PastDrill]:
    for run, document in reader.walk(wanted):
        if not isinstance(run, RunRecord) or recorded.doubt(run):
            continue
        result = None
        try:
            result = _drill_of(run, document, recorded)
        except (ValueError, StoreError) as error:
            unread[run.run_id] = "it is damaged" if isinstance(error, StoreError) else str(error)
        yield PastDrill(run=run, result=result)


def _drill_of(run: RunRecord, document: Plain | StoreError, recorded: AsRecorded) -> DrillResult | None:
    if isinstance(document, StoreError):
        raise document
    result = believed(run, document, recorded) if document is not None else None
    return result if isinstance(result, DrillResult) else None
