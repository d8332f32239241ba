"""Gathers what controls are evaluated from: out of the history, from the configuration, and from the last look."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from replcheck.check.controls.copies import proof_age_limit
from replcheck.check.controls.recovery_point import shown_by
from replcheck.check.due import THE_END
from replcheck.check.facts import CLOCK_SLACK_S, Facts, UnreadProof, WalSeen
from replcheck.errors import EmptyHistory, StoreError
from replcheck.model.control import ControlName
from replcheck.model.copies import AuditProof, as_configured
from replcheck.model.live import ClusterEvent, ClusterView, EventKind
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan
from replcheck.model.units import format_ago, format_duration
from replcheck.report.check_document import check_result
from replcheck.runs.check_drills import DRILL, MOST_DRILLS, find_drills
from replcheck.runs.check_request import CheckRequest
from replcheck.store import CheckReader, DamagedRow, open_check_reader

CHECK, AUDIT = "check", "audit"
CLUSTER_EVENTS, AUDIT_NODES = "cluster_events", "audit_nodes"
"""Tables of the history."""
_MOST_EVENTS = 200
_MOST_GAPS = 50
_AGREED_S = 60.0
"""Within which the servers' clocks are taken to say what this machine's does."""
_TOLD = (
    EventKind.PRIMARY_LOST,
    EventKind.STANDBY_LOST,
    EventKind.STANDBY_DETACHED,
    EventKind.STRAYED,
    EventKind.NODE_BACK,
    EventKind.REJOINED,
    EventKind.SWITCHED_OVER,
    EventKind.COPY_RECREATED,
)
_REMEMBERED = (EventKind.SWITCHED_OVER, EventKind.COPY_RECREATED)
"""The last of which is asked for however long ago it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look brought."""

    view: ClusterView
    servers_at: datetime | None
    """What the servers' clocks said, in the middle; None where none answered."""


def open_store(store: Path | None) -> CheckReader | None:
    """Return a reader of the history; None where there is no file yet, or one that is only just being made.

    Raises StoreError where there is one that cannot be read, or that a newer replcheck wrote.
    """
    try:
        return open_check_reader(store) if store is not None and store.exists() else None
    except EmptyHistory:
        return None


def last_view(request: CheckRequest, reader: CheckReader | None, now: datetime) -> ClusterView | None:
    """Return the newest view that the history holds, of a watch or of an earlier check; None where it holds none.

    One that is ahead of the clock is only taken where there is no other: how old it is cannot be told.
    """
    if reader is None:
        return None
    until = _until(now)
    with reader.at_one_moment():
        stored = reader.latest_view(request.cluster)
        check = reader.newest_run(request.cluster, CHECK, until)
        document = reader.with_result(check).document if check is not None else None
    views = [stored.view] if stored is not None else []
    try:
        checked = check_result(document).view
    except ValueError:
        checked = None  # it ended without a result, or another version wrote it
    views += [checked] if checked is not None else []
    return max(views, key=lambda view: (view.at <= until, view.at), default=None)


def _until(now: datetime) -> datetime:
    """Return the latest moment that is not ahead of the clock."""
    return now + timedelta(seconds=CLOCK_SLACK_S)


def gather(
    request: CheckRequest, reader: CheckReader | None, looked: Looked | None, view: ClusterView | None, now: datetime
) -> Facts:
    """Return all that is known; `looked` is this check's own look, `view` the newest where it made none."""
    seen, problem = _viewed(request, looked, view, now)
    facts = Facts(
        now=now,
        nodes=request.nodes,
        backups=request.backups,
        lag=request.lag,
        left_out=request.left_out,
        view=seen,
        view_problem=problem,
        stale_after_s=request.stale_after_s,
    )
    if reader is None:
        return replace(facts, history_problem="there is no history yet")
    with reader.at_one_moment():
        return _with_history(request, reader, facts, looked)


def _with_history(request: CheckRequest, reader: CheckReader, facts: Facts, looked: Looked | None) -> Facts:
    drills, untold = find_drills(request, reader, facts.now)
    facts = replace(
        facts,
        spans=_spans(request, reader, facts.now),
        watch=_watch(request, reader, facts.now),
        events=_events(request, reader),
        proofs=_in_order(_proofs(request, reader, facts.now), request.scope_digest),
        drills=drills,
        untold_drills=untold,
        clock_problem=_clock_problem(request, reader, looked, facts.now),
    )
    facts = replace(facts, proofs=_with_first_proofs(request, reader, facts))
    facts = replace(facts, wal_seen=_wal_seen(request, reader, facts))
    return replace(
        facts, unread_proofs=_unread_proofs(request, reader), unread_events=len(_damaged(reader, CLUSTER_EVENTS))
    )


def _unread_proofs(request: CheckRequest, reader: CheckReader) -> tuple[UnreadProof, ...]:
    """Return what audits said and cannot be read; a name that is none of the configured nodes is damaged itself."""
    names = {node.name for node in request.nodes}
    return tuple(
        UnreadProof(node=row.node if row.node in names else "", at=row.at) for row in _damaged(reader, AUDIT_NODES)
    )


def _damaged(reader: CheckReader, table: str) -> frozenset[DamagedRow]:
    return frozenset(reader.damage.get(table, ()))


def _viewed(
    request: CheckRequest, looked: Looked | None, view: ClusterView | None, now: datetime
) -> tuple[ClusterView | None, str]:
    """Return the view that counts, or why there is none."""
    if looked is not None:
        return looked.view, ""
    if view is None:
        return None, "the nodes were never looked at"
    ago_s = (now - view.at).total_seconds()
    if ago_s < -CLOCK_SLACK_S:
        return None, f"the nodes were last seen at a time that is {format_ago(ago_s)}"
    if ago_s <= request.stale_after_s:
        return view, ""
    limit = format_duration(request.stale_after_s)
    return None, f"the nodes were last seen {format_duration(ago_s)} ago (limit {limit})"


def _proofs(request: CheckRequest, reader: CheckReader, now: datetime) -> list[AuditProof]:
    """Return the proofs that any control may ask for, in the order in which they ended."""
    window_s = (request.policy.copies.window or 0.0) if request.policy.copies else 0.0
    since = now - timedelta(seconds=window_s + 2 * proof_age_limit(request.policy))
    found = reader.proofs(request.cluster, since)
    for node in request.nodes:
        found += reader.settling_proofs(request.cluster, node.name, request.scope_digest, _until(now))
    return found


def _with_first_proofs(request: CheckRequest, reader: CheckReader, facts: Facts) -> tuple[AuditProof, ...]:
    """Return the proofs with the first ones behind the last failover and the last copy that was recreated."""
    found = list(facts.proofs)
    for kind in _REMEMBERED:
        last = next((event for event in reversed(facts.events) if event.kind is kind), None)
        if last is not None:
            found += reader.first_proofs_since(request.cluster, last.at)
    return _in_order(found, request.scope_digest)


def _in_order(proofs: Sequence[AuditProof], scope_digest: str) -> tuple[AuditProof, ...]:
    """Return each proof once, in the order of their ends; one of all that the configuration asks for is a whole one."""
    single = {(proof.run_id, proof.node): proof for proof in proofs}
    return tuple(sorted(as_configured(single.values(), scope_digest), key=lambda proof: proof.finished_at))


def _spans(request: CheckRequest, reader: CheckReader, now: datetime) -> tuple[NodeSpan, ...]:
    copies = request.policy.copies if ControlName.COPIES in request.wanted else None
    window_s = (copies.window or 0.0) if copies else 0.0
    since = now - timedelta(seconds=window_s + proof_age_limit(request.policy) + GAP_S)
    return tuple(reader.joined_node_spans(request.cluster, since, now))


def _watch(request: CheckRequest, reader: CheckReader, now: datetime) -> tuple[WatchSpan, ...]:
    """Return how old the recovery point was over its window, and how old it was when each gap in that began."""
    asked = request.policy.recovery_point
    if asked is None or asked.window is None or ControlName.RECOVERY_POINT not in request.wanted:
        return ()
    spans = reader.joined_watch_spans(request.cluster, now - timedelta(seconds=asked.window), now)
    known = [span for span in spans if span.max_recovery_age_s is not None and not span.recovery_unknown]
    gaps = [one.ended_at for one, later in pairwise(known) if (later.began_at - one.ended_at).total_seconds() > GAP_S]
    last = [reader.last_watch_span_before(request.cluster, moment) for moment in gaps[-_MOST_GAPS:]]
    return (*spans, *(span for span in last if span is not None))


def _events(request: CheckRequest, reader: CheckReader) -> tuple[ClusterEvent, ...]:
    if request.policy.failover is None and request.policy.replacement is None:
        return ()
    found = reader.events_of(request.cluster, _TOLD, _MOST_EVENTS)
    held = set(found)
    for kind in _REMEMBERED:
        found += [event for event in reader.events_of(request.cluster, (kind,), 1) if event not in held]
    # Read newest first: what one sample told at one moment stays in the order in which it was told.
    found.reverse()
    # A standby that nobody configured may come and go as it likes.
    configured = {node.name for node in request.nodes}
    found = [event for event in found if event.kind is not EventKind.NODE_BACK or event.node in configured]
    return tuple(sorted(found, key=lambda event: event.at))


def _wal_seen(request: CheckRequest, reader: CheckReader, facts: Facts) -> tuple[WalSeen, ...]:
    asked, drill = request.policy.recovery_point, shown_by(facts)
    if asked is None or drill is None or (drill.recovery_point_age_s or 0.0) <= asked.max_age:
        return ()
    seen = reader.position_before(request.cluster, drill.started_at - timedelta(seconds=asked.max_age))
    return (WalSeen(at=seen.at, lsn=seen.lsn, timeline=seen.timeline, run_id=seen.run_id),) if seen else ()


def _clock_problem(request: CheckRequest, reader: CheckReader, looked: Looked | None, now: datetime) -> str:
    """Return why ages cannot be told: the history is ahead of the clock, and no server says that the clock is right."""
    before = reader.damaged_rows
    newest = reader.newest_moment(request.cluster)
    if reader.damaged_rows > before and not _is_confirmed(looked, now):
        return "a time in the history cannot be read: whether the clock of this machine was set back is unknown"
    ahead_s = (newest - now).total_seconds() if newest is not None else 0.0
    if ahead_s <= CLOCK_SLACK_S or _is_confirmed(looked, now):
        return ""
    return f"the clock of this machine is {format_duration(ahead_s)} behind what the history holds: it was set back"


def _is_confirmed(looked: Looked | None, now: datetime) -> bool:
    if looked is None or looked.servers_at is None:
        return False
    return abs((looked.servers_at - now).total_seconds()) <= _AGREED_S


def tried(
    request: CheckRequest,
    reader: CheckReader | None,
    facts: Facts,
    digests: Mapping[tuple[str, str], str],
    to_the_end: Collection[str],
) -> dict[tuple[str, str], datetime]:
    """Return when each kind of due work was last begun, however it ended; `digests` tell the drills of each backup.

    A drill that ended in an error has no result: what it was asked for tells which backup it was of. One to the end of
    the archive is no try of another target: only backups in `to_the_end` are drilled so by themselves.
    """
    if reader is None:
        return {}
    until = _until(facts.now)
    past = [drill for drill in facts.drills if drill.started_at <= until]
    found: dict[tuple[str, str], datetime] = {}
    for drill in past:
        if drill.to_the_end:
            found[THE_END, drill.backup] = drill.started_at
        if drill.backup in to_the_end or not drill.to_the_end:
            found[DRILL, drill.backup] = drill.started_at
    try:
        for run in reversed(reader.runs_of(request.cluster, DRILL, MOST_DRILLS)):
            if run.started_at <= until:
                found |= {key: run.started_at for key, digest in digests.items() if digest == run.argument_digest}
        audit = reader.newest_run(request.cluster, AUDIT, until)
        if audit is not None:
            found[AUDIT, ""] = audit.started_at
    except StoreError:
        return found
    return found
