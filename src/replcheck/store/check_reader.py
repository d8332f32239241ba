"""Reads from a history what controls are evaluated from, and no more of it: a check has a second, whatever it holds.

Spans are joined as they are read: a month of them is tens of thousands of rows, which say the same most of the time.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, Text, and_, func, or_, select, type_coerce

from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, EventKind
from replcheck.model.outcome import Verdict
from replcheck.model.plain import Plain, utc_text
from replcheck.model.run import RunStart
from replcheck.model.shape import from_plain
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan
from replcheck.model.wal import Lsn
from replcheck.store.live_reader import LiveReader
from replcheck.store.live_rows import audit_proof, node_span, watch_span
from replcheck.store.live_tables import ALIGNMENTS, AUDIT_NODES, CLUSTER_EVENTS, LIVE_VIEWS, NODE_SPANS, WATCH_SPANS
from replcheck.store.reader import RunFilter, open_reader
from replcheck.store.tables import RECORDS, RESULTS, RUNS

_FIRST_PROOFS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A run with the document of its result; None where it has none."""

    run: RunStart
    document: Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPosition:
    """Where the primary's WAL had come to under an alignment of an audit."""

    run_id: str
    at: datetime
    lsn: Lsn
    timeline: int | None


def open_check_reader(path: Path) -> "CheckReader":
    """Open an existing history; raise StoreError where there is none, or it cannot be read by this replcheck."""
    open_reader(path)
    return CheckReader(path)


class CheckReader(LiveReader):
    """What controls need of a history; every method raises StoreError where the file cannot be read."""

    def joined_node_spans(self, cluster: str, since: datetime, until: datetime) -> list[NodeSpan]:
        """Return the spans of nodes that reach into a time, joined as far as they say the same without a gap."""
        statement = _spans(NODE_SPANS, cluster, since, until).order_by(NODE_SPANS.c.node, NODE_SPANS.c.began_at)
        return list(self._sound(self._groups(NODE_SPANS, statement, _node_key), _joined_nodes))

    def joined_watch_spans(self, cluster: str, since: datetime, until: datetime) -> list[WatchSpan]:
        """Return the spans of the whole cluster that reach into a time, joined alike.

        The last one before each gap stays by itself: how old the recovery point was then is a fact of its own.
        """
        statement = _spans(WATCH_SPANS, cluster, since, until).order_by(WATCH_SPANS.c.began_at)
        groups = self._groups(WATCH_SPANS, statement, _watch_key)
        parts = (part for rows in groups for part in (rows[:-1], rows[-1:]) if part)
        return list(self._sound(parts, _joined_watch))

    def settling_proofs(self, cluster: str, node: str, scope_digest: str) -> list[AuditProof]:
        """Return the newest proof that found a node consistent as a whole, and the newest that found it diverged.

        An audit of the scope with that digest counts as one of the whole.
        """
        whole = or_(AUDIT_NODES.c.whole, AUDIT_NODES.c.scope_digest == scope_digest)
        settling = (
            and_(AUDIT_NODES.c.verdict == Verdict.CONSISTENT.value, whole),
            AUDIT_NODES.c.verdict == Verdict.DIVERGED.value,
        )
        newest = AUDIT_NODES.c.finished_at.desc()
        statements = [_proofs(cluster, AUDIT_NODES.c.node == node, of).order_by(newest).limit(1) for of in settling]
        return [proof for statement in statements for proof in self._facts(AUDIT_NODES, statement, audit_proof)]

    def first_proofs_since(self, cluster: str, since: datetime) -> list[AuditProof]:
        """Return what the first audits said that began after some moment, in the order in which they ended."""
        later = AUDIT_NODES.c.finished_at >= utc_text(since), AUDIT_NODES.c.proven_at >= utc_text(since)
        statement = _proofs(cluster, *later).order_by(AUDIT_NODES.c.finished_at).limit(_FIRST_PROOFS)
        return self._facts(AUDIT_NODES, statement, audit_proof)

    def newest_results(self, cluster: str, kind: str, limit: int) -> list[StoredResult]:
        """Return the newest runs of a kind that ended, with their results, newest first."""
        runs = self.runs(RunFilter(cluster=cluster, kind=kind), limit=limit)
        return [StoredResult(run=run, document=self._document(run.run_id)) for run in runs]

    def runs_of(self, cluster: str, kind: str, limit: int) -> list[RunStart]:
        """Return the newest runs of a kind, newest first, also those that never ended."""
        return self.runs(RunFilter(cluster=cluster, kind=kind), limit=limit)

    def events_of(self, cluster: str, kinds: Iterable[EventKind], limit: int) -> list[ClusterEvent]:
        """Return the newest events of some kinds, newest first."""
        wanted = CLUSTER_EVENTS.c.kind.in_([kind.value for kind in kinds])
        newest = CLUSTER_EVENTS.c.at.desc(), CLUSTER_EVENTS.c.event_id.desc()
        document = type_coerce(CLUSTER_EVENTS.c.document, Text).label("document")
        statement = select(document).where(CLUSTER_EVENTS.c.cluster == cluster, wanted).order_by(*newest).limit(limit)
        return self._facts(CLUSTER_EVENTS, statement, lambda row: from_plain(ClusterEvent, json.loads(row.document)))

    def position_before(self, cluster: str, moment: datetime) -> StoredPosition | None:
        """Return where the WAL had come to in the newest audit that ended before a moment; None where none tells."""
        earlier = AUDIT_NODES.c.finished_at < utc_text(moment)
        newest = _proofs(cluster, earlier).order_by(AUDIT_NODES.c.finished_at.desc()).limit(1)
        for proof in self._facts(AUDIT_NODES, newest, audit_proof):
            of_run = select(ALIGNMENTS.c.lsn, ALIGNMENTS.c.taken_at).where(ALIGNMENTS.c.run_id == proof.run_id)
            seen = self._facts(
                ALIGNMENTS, of_run, lambda row: (Lsn.parse(row.lsn), datetime.fromisoformat(row.taken_at))
            )
            if seen:
                lsn, at = max(seen)
                return StoredPosition(run_id=proof.run_id, at=at, lsn=lsn, timeline=proof.timeline)
        return None

    def newest_moment(self, cluster: str) -> datetime | None:
        """Return the latest time that anything in the history tells of; None where it holds nothing."""
        newest_run = select(func.max(RUNS.c.run_id)).where(RUNS.c.cluster == cluster).scalar_subquery()
        statements = (
            (RUNS, select(RUNS.c.started_at).where(RUNS.c.run_id == newest_run)),
            (RECORDS, select(RECORDS.c.finished_at).where(RECORDS.c.run_id == newest_run)),
            (LIVE_VIEWS, select(LIVE_VIEWS.c.written_at).where(LIVE_VIEWS.c.cluster == cluster)),
            (NODE_SPANS, select(func.max(NODE_SPANS.c.ended_at)).where(NODE_SPANS.c.cluster == cluster)),
            (CLUSTER_EVENTS, select(func.max(CLUSTER_EVENTS.c.at)).where(CLUSTER_EVENTS.c.cluster == cluster)),
        )
        found = [moment for table, statement in statements for moment in self._facts(table, statement, _moment)]
        return max((moment for moment in found if moment is not None), default=None)

    def _document(self, run_id: str) -> Plain:
        document = type_coerce(RESULTS.c.document, Text).label("document")
        found = self._facts(
            RESULTS, select(document).where(RESULTS.c.run_id == run_id), lambda row: json.loads(row.document)
        )
        return found[0] if found else None

    def _groups(
        self, table: Table, statement: Select[Any], key: Callable[[Row[Any]], tuple[object, ...]]
    ) -> Iterator[list[Row[Any]]]:
        group: list[Row[Any]] = []
        before: tuple[object, ...] | None = None
        for row in self._facts(table, statement, lambda row: row):
            its_key = key(row)
            if group and (its_key != before or row.longest_gap_s > GAP_S or _far(group[-1].ended_at, row.began_at)):
                yield group
                group = []
            group.append(row)
            before = its_key
        if group:
            yield group


def _spans(table: Table, cluster: str, since: datetime, until: datetime) -> Select[Any]:
    return select(table).where(
        table.c.cluster == cluster, table.c.ended_at >= utc_text(since), table.c.began_at <= utc_text(until)
    )


def _proofs(cluster: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    runs = AUDIT_NODES.join(RUNS, RUNS.c.run_id == AUDIT_NODES.c.run_id)
    return select(AUDIT_NODES).select_from(runs).where(RUNS.c.cluster == cluster, *conditions)


def _node_key(row: Row[Any]) -> tuple[object, ...]:
    history = (row.system_identifier, row.timeline, row.host)
    return (row.node, row.state, *history, row.checksum_failures, row.data_checksums)


def _watch_key(row: Row[Any]) -> tuple[object, ...]:
    return (row.primary_node, row.min_running_copies, row.recovery_unknown)


def _far(ended_at: str, began_at: str) -> bool:
    """Return whether a gap lies between two times as they are stored."""
    if began_at[:16] == ended_at[:16]:
        return False  # the same minute: most are, and need no arithmetic
    return (datetime.fromisoformat(began_at) - datetime.fromisoformat(ended_at)).total_seconds() > GAP_S


def _joined_nodes(rows: Sequence[Row[Any]]) -> NodeSpan:
    return replace(
        node_span(rows[0]),
        **_of_all(rows),
        max_lag_bytes=_worst(row.max_lag_bytes for row in rows),
        max_lag_s=_worst(row.max_lag_s for row in rows),
    )


def _joined_watch(rows: Sequence[Row[Any]]) -> WatchSpan:
    worst_s = _worst(row.max_recovery_age_s for row in rows)
    return replace(watch_span(rows[0]), **_of_all(rows), max_recovery_age_s=worst_s)


def _of_all(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "ended_at": datetime.fromisoformat(max(row.ended_at for row in rows)),
        "samples": sum(row.samples for row in rows),
        "longest_gap_s": max(row.longest_gap_s for row in rows),
    }


def _worst(values: Iterable[float | None]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _moment(row: Row[Any]) -> datetime | None:
    return datetime.fromisoformat(row[0]) if row[0] is not None else None
