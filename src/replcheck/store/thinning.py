"""Keeps a history small: spans are joined as they grow old, and what is older than the user wants to keep is dropped.

Runs, their records, their results and what they said of each replica are never touched.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, select

from replcheck.model.plain import utc_text
from replcheck.model.spanning import Spans
from replcheck.store.live_rows import node_span, node_span_values, watch_span, watch_span_values
from replcheck.store.live_tables import ALIGNMENTS, CLUSTER_EVENTS, NODE_SPANS, RELATION_VERDICTS, WATCH_SPANS
from replcheck.store.tables import RUNS

_DAY_S = 86_400.0
STEPS = ((3_600.0, 60), (_DAY_S, 3_600))
"""From which age on, in seconds, spans are joined up to which length, in seconds."""
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what is kept beside the records stays, in seconds; None for ever."""

    samples_s: float | None = None
    events_s: float | None = None
    parts_s: float | None = None
    """Verdicts of single relations, and alignments; the result of each audit holds them still."""


KEEP_FOR_EVER = Keep()


def thin(connection: Connection, cluster: str, keep: Keep, now: datetime) -> None:
    """Join what has grown old and drop what has grown too old, in transactions that are short each."""
    for age_s, resolution_s in STEPS:
        before = _slot_of(now - timedelta(seconds=age_s), resolution_s)
        while _join(connection, cluster, resolution_s, before):
            pass
    for table in (NODE_SPANS, WATCH_SPANS):
        _drop(connection, table, table.c.cluster == cluster, table.c.ended_at, _moment(now, keep.samples_s))
    of_cluster = CLUSTER_EVENTS.c.cluster == cluster
    _drop(connection, CLUSTER_EVENTS, of_cluster, CLUSTER_EVENTS.c.at, _moment(now, keep.events_s))
    _drop_parts(connection, cluster, _moment(now, keep.parts_s))


def _join(connection: Connection, cluster: str, resolution_s: int, before: datetime) -> bool:
    """Join some spans; return whether there may be more."""
    more = False
    for table in (NODE_SPANS, WATCH_SPANS):
        with connection.begin():
            rows = connection.execute(
                select(table)
                .where(
                    table.c.cluster == cluster,
                    table.c.resolution_s < resolution_s,
                    table.c.ended_at < utc_text(before),
                )
                .order_by(table.c.ended_at)
                .limit(_AT_ONCE)
            ).all()
            if rows:
                connection.execute(delete(table).where(table.c.span_id.in_([row.span_id for row in rows])))
                connection.execute(insert(table), _joined(table, cluster, rows, resolution_s))
            more = more or len(rows) == _AT_ONCE
    return more


def _joined(table: Table, cluster: str, rows: list[Row[Any]] | Any, resolution_s: int) -> list[dict[str, Any]]:
    if table is NODE_SPANS:
        nodes = Spans(nodes=tuple(node_span(row) for row in rows)).thinned(resolution_s).nodes
        return [node_span_values(cluster, span, resolution_s) for span in nodes]
    watch = Spans(watch=tuple(watch_span(row) for row in rows)).thinned(resolution_s).watch
    return [watch_span_values(cluster, span, resolution_s) for span in watch]


def _drop(connection: Connection, table: Table, of_cluster: Any, at: Any, before: datetime | None) -> None:
    if before is not None:
        with connection.begin():
            connection.execute(delete(table).where(of_cluster, at < utc_text(before)))


def _drop_parts(connection: Connection, cluster: str, before: datetime | None) -> None:
    if before is None:
        return
    old = select(RUNS.c.run_id).where(RUNS.c.cluster == cluster, RUNS.c.started_at < utc_text(before))
    with connection.begin():
        for table in (RELATION_VERDICTS, ALIGNMENTS):
            connection.execute(delete(table).where(table.c.run_id.in_(old)))


def _moment(now: datetime, age_s: float | None) -> datetime | None:
    return now - timedelta(seconds=age_s) if age_s is not None else None


def _slot_of(moment: datetime, resolution_s: int) -> datetime:
    """Return the beginning of the slot that holds a moment: what is joined is joined up to a slot's end."""
    return datetime.fromtimestamp(moment.timestamp() // resolution_s * resolution_s, tz=moment.tzinfo)
