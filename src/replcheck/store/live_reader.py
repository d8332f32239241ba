"""Reads what was watched from a history, without writing to it; a history older than watching holds nothing of it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, Text, select, type_coerce

from replcheck.model.copies import AuditProof
from replcheck.model.live import ClusterEvent, ClusterView, EventKind
from replcheck.model.plain import Plain, utc_text
from replcheck.model.shape import from_plain
from replcheck.model.spans import NodeSpan, WatchSpan
from replcheck.store.live_rows import audit_proof, node_span, watch_span
from replcheck.store.live_tables import AUDIT_NODES, CLUSTER_EVENTS, LIVE_STATES, LIVE_VIEWS, NODE_SPANS, WATCH_SPANS
from replcheck.store.reader import HistoryReader, open_reader
from replcheck.store.tables import RUNS

_Fact = TypeVar("_Fact")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredView:
    """The newest view of a cluster, and when it was written."""

    view: ClusterView
    written_at: datetime
    """By the clock of the recorder: what was long ago is no view of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event, and its number in the history: a later one has a higher number."""

    number: int
    event: ClusterEvent


def open_live_reader(path: Path) -> "LiveReader":
    """Open an existing history; raise StoreError where there is none, or it cannot be read by this replcheck."""
    open_reader(path)
    return LiveReader(path)


class LiveReader(HistoryReader):
    """What was watched, and the runs; every method raises StoreError where the file cannot be read.

    What is damaged is left out and counted in `damaged_rows`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.damaged_rows = 0

    def latest_view(self, cluster: str) -> StoredView | None:
        """Return the newest view of a cluster, however old; None where it was never watched."""
        document = type_coerce(LIVE_VIEWS.c.document, Text).label("document")
        statement = select(LIVE_VIEWS.c.written_at, document).where(LIVE_VIEWS.c.cluster == cluster)
        found = self._facts(LIVE_VIEWS, statement, _stored_view)
        return found[0] if found else None

    def state(self, cluster: str, name: str) -> Plain:
        """Return what who watches last kept under a name; None where nothing was."""
        own = (LIVE_STATES.c.cluster == cluster, LIVE_STATES.c.name == name)
        document = type_coerce(LIVE_STATES.c.document, Text).label("document")
        found = self._facts(LIVE_STATES, select(document).where(*own), _document)
        return found[0] if found else None

    def clusters(self) -> tuple[str, ...]:
        """Return the clusters that were ever watched with this history."""
        return tuple(self._facts(LIVE_VIEWS, select(LIVE_VIEWS.c.cluster).order_by(LIVE_VIEWS.c.cluster), _name))

    def events(
        self, cluster: str, since: datetime | None = None, until: datetime | None = None, limit: int | None = None
    ) -> list[ClusterEvent]:
        """Return what happened from `since` to before `until`, newest first; None for all."""
        statement = _events(cluster)
        if since is not None:
            statement = statement.where(CLUSTER_EVENTS.c.at >= utc_text(since))
        if until is not None:
            statement = statement.where(CLUSTER_EVENTS.c.at < utc_text(until))
        statement = statement.order_by(CLUSTER_EVENTS.c.at.desc(), CLUSTER_EVENTS.c.event_id.desc()).limit(limit)
        return [found.event for found in self._facts(CLUSTER_EVENTS, statement, _stored_event)]

    def events_after(self, cluster: str, number: int, limit: int | None = None) -> list[StoredEvent]:
        """Return the events with a higher number than `number`, in the order in which they were written."""
        statement = _events(cluster).where(CLUSTER_EVENTS.c.event_id > number)
        return self._facts(CLUSTER_EVENTS, statement.order_by(CLUSTER_EVENTS.c.event_id).limit(limit), _stored_event)

    def last_event_number(self, cluster: str) -> int:
        """Return the number of the newest event; 0 where there is none."""
        newest = _events(cluster).order_by(CLUSTER_EVENTS.c.event_id.desc()).limit(1)
        found = self._facts(CLUSTER_EVENTS, newest, _number)
        return found[0] if found else 0

    def node_spans(self, cluster: str, since: datetime, until: datetime) -> list[NodeSpan]:
        """Return the spans of nodes that reach into a time, in the order in which they began."""
        return self._facts(NODE_SPANS, _spans(NODE_SPANS, cluster, since, until), node_span)

    def watch_spans(self, cluster: str, since: datetime, until: datetime) -> list[WatchSpan]:
        """Return the spans of the whole cluster that reach into a time, in the order in which they began."""
        return self._facts(WATCH_SPANS, _spans(WATCH_SPANS, cluster, since, until), watch_span)

    def last_watched(self, cluster: str) -> tuple[datetime, bool] | None:
        """Return when the newest sample of a cluster was taken, and whether its watch ended in order; None for none."""
        newest = select(WATCH_SPANS.c.ended_at).where(WATCH_SPANS.c.cluster == cluster)
        spans = self._facts(WATCH_SPANS, newest.order_by(WATCH_SPANS.c.ended_at.desc()).limit(1), _ended_at)
        view = self.latest_view(cluster)
        moments = [*spans, *([view.view.at] if view else [])]
        if not moments:
            return None
        kinds = [EventKind.WATCH_BEGAN.value, EventKind.WATCH_ENDED.value]
        of_watches = _events(cluster).where(CLUSTER_EVENTS.c.kind.in_(kinds))
        newest_event = of_watches.order_by(CLUSTER_EVENTS.c.event_id.desc()).limit(1)
        last = self._facts(CLUSTER_EVENTS, newest_event, _stored_event)
        return max(moments), bool(last) and last[0].event.kind is EventKind.WATCH_ENDED

    def proofs(self, cluster: str, since: datetime | None = None) -> list[AuditProof]:
        """Return what audits that ended at `since` or later said of each replica, in the order in which they ended."""
        conditions = [AUDIT_NODES.c.finished_at >= utc_text(since)] if since is not None else []
        statement = proofs_of(cluster, *conditions).order_by(AUDIT_NODES.c.finished_at)
        return self._facts(AUDIT_NODES, statement, audit_proof)

    def _facts(self, table: Table, statement: Select[Any], read: Callable[[Row[Any]], _Fact]) -> list[_Fact]:
        with self._connected() as connection:
            if not has_table(connection, table):
                return []
            return list(self._sound(table, connection.execute(statement), read))

    def _sound(self, table: Table, rows: Any, read: Callable[[Row[Any]], _Fact]) -> Iterator[_Fact]:
        for row in rows:
            try:
                yield read(row)
            except (ValueError, TypeError):
                self._leave_out(table, row)

    def _leave_out(self, _table: Table, _row: Row[Any]) -> None:
        self.damaged_rows += 1


def has_table(connection: Connection, table: Table) -> bool:
    """Return whether a history has a table: one that was written before there was watching lacks some."""
    asked = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return connection.exec_driver_sql(asked, (table.name,)).first() is not None


def proofs_of(cluster: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Return the statement for what the audits of a cluster said, as far as the conditions hold.

    No join: SQLite would begin with every run of the cluster, and most histories are of one.
    """
    of_cluster = select(RUNS.c.run_id).where(RUNS.c.run_id == AUDIT_NODES.c.run_id, RUNS.c.cluster == cluster)
    return select(AUDIT_NODES).where(of_cluster.exists(), *conditions)


def _events(cluster: str) -> Select[Any]:
    document = type_coerce(CLUSTER_EVENTS.c.document, Text).label("document")
    return select(CLUSTER_EVENTS.c.event_id, document).where(CLUSTER_EVENTS.c.cluster == cluster)


def _spans(table: Table, cluster: str, since: datetime, until: datetime) -> Select[Any]:
    return (
        select(table)
        .where(table.c.cluster == cluster, table.c.ended_at >= utc_text(since), table.c.began_at <= utc_text(until))
        .order_by(table.c.began_at, table.c.span_id)
    )


def _stored_view(row: Row[Any]) -> StoredView:
    view = from_plain(ClusterView, json.loads(row.document))
    return StoredView(view=view, written_at=datetime.fromisoformat(row.written_at))


def _stored_event(row: Row[Any]) -> StoredEvent:
    return StoredEvent(number=row.event_id, event=from_plain(ClusterEvent, json.loads(row.document)))


def _document(row: Row[Any]) -> Plain:
    document: Plain = json.loads(row.document)
    return document


def _ended_at(row: Row[Any]) -> datetime:
    return datetime.fromisoformat(row.ended_at)


def _number(row: Row[Any]) -> int:
    return int(row.event_id)


def _name(row: Row[Any]) -> str:
    return str(row.cluster)
