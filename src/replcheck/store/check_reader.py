"""Reads from a history what controls are evaluated from, and no more of it: a check has a second, whatever it holds.

Spans are joined as they are read: a month of them is tens of thousands of rows, which say the same most of the time.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, Text, and_, func, or_, select, type_coerce

from replcheck.errors import StoreError
from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.plain import Plain, aware_moment, utc_text
from replcheck.model.run import RunStart
from replcheck.model.shape import from_plain
from replcheck.model.spans import GAP_S, NodeSpan, WatchSpan
from replcheck.model.wal import Lsn
from replcheck.store.live_reader import LiveReader, has_table, proofs_of
from replcheck.store.live_rows import audit_proof, watch_span
from replcheck.store.live_tables import ALIGNMENTS, AUDIT_NODES, CLUSTER_EVENTS, LIVE_VIEWS, NODE_SPANS, WATCH_SPANS
from replcheck.store.reader import RunFilter, open_reader
from replcheck.store.tables import RECORDS, RESULTS, RUNS

_FIRST_PROOFS = 20
_NODE_KEY = (
    NODE_SPANS.c.node,
    NODE_SPANS.c.state,
    NODE_SPANS.c.system_identifier,
    NODE_SPANS.c.timeline,
    NODE_SPANS.c.host,
    NODE_SPANS.c.replay_paused,
    NODE_SPANS.c.checksum_failures,
    NODE_SPANS.c.data_checksums,
)
_WATCH_KEY = (WATCH_SPANS.c.primary_node, WATCH_SPANS.c.min_running_copies, WATCH_SPANS.c.recovery_unknown)
_Row = tuple[Any, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """A row that was read and cannot be understood, with what of it still can."""

    table: str
    key: str
    """What tells it from others; empty where nothing does."""
    node: str
    """Empty where the row tells none."""
    at: datetime | None
    """When what it tells of ended, or else began; None where that is damaged too, or not told."""


def open_check_reader(path: Path) -> "CheckReader":
    """Open an existing history; raise StoreError where there is none, or it cannot be read by this replcheck."""
    open_reader(path)
    return CheckReader(path)


class CheckReader(LiveReader):
    """What controls need of a history; every method raises StoreError where the file cannot be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._held: Connection | None = None
        self.damage: dict[str, set[DamagedRow]] = defaultdict(set)
        """What was left out, by the name of its table."""

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """See the history as of one moment for as long as the block runs, and open its file once."""
        with super()._connected() as connection:
            self._held = connection
            try:
                yield
            finally:
                self._held = None

    def joined_node_spans(self, cluster: str, since: datetime, until: datetime) -> list[NodeSpan]:
        """Return the spans of nodes that reach into a time, joined as far as they say the same without a gap."""
        lag = NODE_SPANS.c.max_lag_bytes, NODE_SPANS.c.max_lag_s
        return [_node_span(run) for run in self._joined(_of_time(NODE_SPANS, cluster, since, until), _NODE_KEY, lag)]

    def joined_watch_spans(self, cluster: str, since: datetime, until: datetime) -> list[WatchSpan]:
        """Return the spans of the whole cluster that reach into a time, joined alike."""
        age = (WATCH_SPANS.c.max_recovery_age_s,)
        return [_watch_span(run) for run in self._joined(_of_time(WATCH_SPANS, cluster, since, until), _WATCH_KEY, age)]

    def last_watch_span_before(self, cluster: str, moment: datetime) -> WatchSpan | None:
        """Return the last span of the whole cluster that ended by some moment, as it was written."""
        earlier = WATCH_SPANS.c.cluster == cluster, WATCH_SPANS.c.ended_at <= utc_text(moment)
        newest = select(WATCH_SPANS).where(*earlier).order_by(WATCH_SPANS.c.ended_at.desc()).limit(1)
        return next(iter(self._facts(WATCH_SPANS, newest, watch_span)), None)

    def settling_proofs(self, cluster: str, node: str, scope_digest: str, until: datetime) -> list[AuditProof]:
        """Return the newest proof that found a node consistent as a whole, and the newest that found it diverged.

        What ended after `until` is left out of account. An audit of the scope with that digest counts as one of the
        whole; none does where it is empty.
        """
        whole: ColumnElement[bool] = AUDIT_NODES.c.whole
        if scope_digest:
            whole = or_(whole, AUDIT_NODES.c.scope_digest == scope_digest)
        settling = (
            and_(AUDIT_NODES.c.verdict == Verdict.CONSISTENT.value, whole),
            AUDIT_NODES.c.verdict == Verdict.DIVERGED.value,
        )
        newest = AUDIT_NODES.c.finished_at.desc()
        of_node = AUDIT_NODES.c.node == node, AUDIT_NODES.c.finished_at <= utc_text(until)
        statements = [proofs_of(cluster, *of_node, of).order_by(newest).limit(1) for of in settling]
        return [proof for statement in statements for proof in self._facts(AUDIT_NODES, statement, audit_proof)]

    def first_proofs_since(self, cluster: str, since: datetime) -> list[AuditProof]:
        """Return what the first audits that began after some moment found of each node, consistent or diverged.

        In the order in which they ended. One that found neither settles nothing, however many there are of it.
        """
        later = AUDIT_NODES.c.finished_at >= utc_text(since), AUDIT_NODES.c.proven_at >= utc_text(since)
        found: list[AuditProof] = []
        for node in self._audited_nodes():
            for verdict in (Verdict.CONSISTENT, Verdict.DIVERGED):
                own = AUDIT_NODES.c.node == node, AUDIT_NODES.c.verdict == verdict.value
                statement = proofs_of(cluster, *own, *later).order_by(AUDIT_NODES.c.finished_at).limit(_FIRST_PROOFS)
                found += self._facts(AUDIT_NODES, statement, audit_proof)
        return sorted(found, key=lambda proof: proof.finished_at)

    def _audited_nodes(self) -> list[str]:
        """Return the nodes that audits tell of; each is sought behind the one before, so that few rows are read."""
        found: list[str] = []
        while True:
            behind = [AUDIT_NODES.c.node > found[-1]] if found else []
            following = select(func.min(AUDIT_NODES.c.node).label("node")).where(*behind)
            names = [name for name in self._facts(AUDIT_NODES, following, lambda row: row.node) if name is not None]
            if not names:
                return found
            found += names

    def newest_results(self, cluster: str, kind: str, limit: int) -> list[StoredResult]:
        """Return the newest runs of a kind that ended, with their results, newest first."""
        return [self.with_result(run) for run in self.runs_of(cluster, kind, limit)]

    def newest_run(self, cluster: str, kind: str, until: datetime) -> RunStart | None:
        """Return the newest run of a kind that began by some moment; None where there is none."""
        found = next(iter(self.runs_of(cluster, kind, 1)), None)
        if found is None or found.started_at <= until:
            return found
        # Asked so only where the newest is too late: it takes the runs apart one by one.
        wanted = RunFilter(cluster=cluster, kind=kind, until=until)
        return next(iter(self.runs(wanted, limit=1)), None)

    def with_result(self, run: RunStart) -> StoredResult:
        """Return a run with the document of its result."""
        document = type_coerce(RESULTS.c.document, Text).label("document")
        of_run = select(document).where(RESULTS.c.run_id == run.run_id)
        found = self._facts(RESULTS, of_run, lambda row: json.loads(row.document))
        return StoredResult(run=run, document=found[0] if found else None)

    def runs_of(self, cluster: str, kind: str, limit: int) -> list[RunStart]:
        """Return the newest runs of a kind, newest first, also those that never ended."""
        return self.runs(RunFilter(cluster=cluster, kind=kind), limit=limit)

    def events_of(self, cluster: str, kinds: Iterable[EventKind], limit: int) -> list[ClusterEvent]:
        """Return the newest events of some kinds, newest first."""
        wanted = CLUSTER_EVENTS.c.kind.in_([kind.value for kind in kinds])
        newest = CLUSTER_EVENTS.c.at.desc(), CLUSTER_EVENTS.c.event_id.desc()
        document = type_coerce(CLUSTER_EVENTS.c.document, Text).label("document")
        columns = CLUSTER_EVENTS.c.event_id, CLUSTER_EVENTS.c.at, document
        statement = select(*columns).where(CLUSTER_EVENTS.c.cluster == cluster, wanted).order_by(*newest).limit(limit)
        return self._facts(CLUSTER_EVENTS, statement, lambda row: from_plain(ClusterEvent, json.loads(row.document)))

    def position_before(self, cluster: str, moment: datetime) -> StoredPosition | None:
        """Return where the WAL had come to in the newest audit that ended before a moment; None where none tells."""
        earlier = AUDIT_NODES.c.finished_at < utc_text(moment)
        newest = proofs_of(cluster, earlier).order_by(AUDIT_NODES.c.finished_at.desc()).limit(1)
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
        newest = select(func.max(RUNS.c.started_at)).where(RUNS.c.cluster == cluster)
        of_newest = RUNS.c.cluster == cluster, RUNS.c.started_at == newest.scalar_subquery()
        statements = (
            (RUNS, newest),
            (RECORDS, select(RECORDS.c.finished_at).join(RUNS).where(*of_newest)),
            (LIVE_VIEWS, select(LIVE_VIEWS.c.written_at).where(LIVE_VIEWS.c.cluster == cluster)),
            (NODE_SPANS, select(func.max(NODE_SPANS.c.ended_at)).where(NODE_SPANS.c.cluster == cluster)),
            (CLUSTER_EVENTS, select(func.max(CLUSTER_EVENTS.c.at)).where(CLUSTER_EVENTS.c.cluster == cluster)),
        )
        found = [moment for table, statement in statements for moment in self._facts(table, statement, _moment)]
        return max((moment for moment in found if moment is not None), default=None)

    def _leave_out(self, table: Table, row: Row[Any]) -> None:
        super()._leave_out(table, row)
        held = row._mapping  # noqa: SLF001 - the public name of it, which SQLAlchemy keeps apart from columns
        told = (held.get(name) for name in ("finished_at", "proven_at", "at"))
        left_out = DamagedRow(
            table=table.name,
            key=" ".join(str(held[name]) for name in ("run_id", "event_id") if name in held),
            node=str(held.get("node") or ""),
            at=next(filter(None, map(_readable, told)), None),
        )
        self.damage[table.name].add(left_out)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        if self._held is None:
            with super()._connected() as connection:
                yield connection
        else:
            yield self._held

    def _joined(
        self, of_time: Sequence[ColumnElement[bool]], key: Sequence[Column[Any]], worst: Sequence[Column[Any]]
    ) -> list["_Run"]:
        """Return the runs of neighbours that have the same key, which begins with the node where there are several."""
        table = key[0].table
        columns = (*key, table.c.began_at, table.c.ended_at, table.c.samples, table.c.longest_gap_s, *worst)
        with self._connected() as connection:
            if not has_table(connection, NODE_SPANS):
                return []
            # As the driver gives them: what is made of each row costs more than all that is done with it here.
            rows = list(connection.execute(select(*columns).where(*of_time)).cursor.fetchall())
        place = len(key)
        rows.sort(key=lambda row: (row[0] if table is NODE_SPANS else "", row[place]))
        try:
            return [_run(group, place) for group in _neighbours(rows, place)]
        except (ValueError, TypeError) as error:
            raise StoreError(f"history {self.path}: what was seen of the nodes is damaged") from error


@dataclass(frozen=True, slots=True)
class _Run:
    """Spans that follow one another and say the same."""

    key: _Row
    began_at: datetime
    ended_at: datetime
    samples: int
    longest_gap_s: float
    worst: _Row


def _of_time(table: Table, cluster: str, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return (table.c.cluster == cluster, table.c.ended_at >= utc_text(since), table.c.began_at <= utc_text(until))


def _neighbours(rows: Iterable[_Row], place: int) -> Iterator[list[_Row]]:
    """Yield rows that follow one another, are the same up to `place`, and have no gap between them."""
    group: list[_Row] = []
    for row in rows:
        if group:
            before = group[-1]
            near = row[place + 3] <= GAP_S and _are_near(before[place + 1], row[place])
            if near and row[:place] == before[:place]:
                group.append(row)
                continue
            yield group
        group = [row]
    if group:
        yield group


def _are_near(ended_at: str, began_at: str) -> bool:
    """Return whether no gap lies between two times as they are stored."""
    if began_at[:16] == ended_at[:16]:
        return True  # the same minute: most are, and need no arithmetic
    return (datetime.fromisoformat(began_at) - datetime.fromisoformat(ended_at)).total_seconds() <= GAP_S


def _run(rows: Sequence[_Row], place: int) -> _Run:
    worst = [[row[column] for row in rows if row[column] is not None] for column in range(place + 4, len(rows[0]))]
    return _Run(
        key=rows[0][:place],
        began_at=aware_moment(rows[0][place]),
        ended_at=aware_moment(max(row[place + 1] for row in rows)),
        samples=sum(row[place + 2] for row in rows),
        longest_gap_s=max(row[place + 3] for row in rows),
        worst=tuple(max(values, default=None) for values in worst),
    )


def _node_span(run: _Run) -> NodeSpan:
    node, state, identifier, timeline, host, paused, failures, checksums = run.key
    return NodeSpan(
        node=node,
        began_at=run.began_at,
        ended_at=run.ended_at,
        samples=run.samples,
        longest_gap_s=run.longest_gap_s,
        state=NodeState(state),
        system_identifier=identifier,
        timeline=timeline,
        host=host,
        max_lag_bytes=run.worst[0],
        max_lag_s=run.worst[1],
        replay_paused=bool(paused),
        checksum_failures=failures,
        data_checksums=None if checksums is None else bool(checksums),
    )


def _watch_span(run: _Run) -> WatchSpan:
    primary, copies, unknown = run.key
    return WatchSpan(
        began_at=run.began_at,
        ended_at=run.ended_at,
        samples=run.samples,
        longest_gap_s=run.longest_gap_s,
        primary=primary,
        min_running_copies=copies,
        max_recovery_age_s=run.worst[0],
        recovery_unknown=bool(unknown),
    )


def _readable(text: object) -> datetime | None:
    try:
        return aware_moment(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _moment(row: Row[Any]) -> datetime | None:
    return aware_moment(row[0]) if row[0] is not None else None
