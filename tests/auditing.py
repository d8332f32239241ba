"""Whole audits of lab clusters, and what must be true after each: everything accounted for, quiet server logs."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from replcheck.audit.auditor import audit_cluster
from replcheck.audit.gate import Gate
from replcheck.audit.options import AuditOptions
from replcheck.events import Event
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import AuditResult, Divergence, NotChecked, RelationReport
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.progress import Progress
from replcheck.postgres import digests
from replcheck.postgres.nodes import text
from replcheck.postgres.server import LocalServer

BUSY_CODES = frozenset({"redefined", "too_late", "locked", "in_flight", "unsteady", "sequence_unsteady", "conflict"})
"""Why a relation that is written, locked and redefined without pause may stay unproven."""
AWAY_CODES = frozenset(
    {
        "node_lost",
        "restarted",
        "left_behind",
        "lost_while_reading",
        "unanswered",
        "unfinished",
        "sequence_unread",
        "no_database",
    }
)
"""And why one may where standbys are killed as well."""
_LABEL = re.compile(r'("(?:[^"]|"")*"|[^".]+)\.("(?:[^"]|"")*"|[^".]+)', re.DOTALL)
_LOGGED_ERROR = re.compile(r"\[\d+\] (client backend|parallel worker) (ERROR|FATAL|PANIC|WARNING):\s*(.*)")


@dataclass(slots=True)
class Controls:
    """What a test does with an audit while it runs."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gate: Gate = field(default_factory=Gate)
    earlier: Progress | None = None
    on_event: Callable[[Event], None] = lambda _: None


def targets_of(cluster: LabCluster, *, superuser: bool = False) -> list[NodeTarget]:
    """Return the running nodes of a cluster as an audit takes them, by default under the audit role."""
    return [
        NodeTarget(
            name=name,
            dsn=server.dsn() if superuser else cluster.audit_dsn(name),
            expected_role=NodeRole.STANDBY if server.is_standby else NodeRole.PRIMARY,
        )
        for name, server in cluster.nodes.items()
        if server.running
    ]


async def audit_of(
    cluster: LabCluster,
    *,
    targets: Sequence[NodeTarget] | None = None,
    superuser: bool = False,
    controls: Controls | None = None,
    **options: Any,
) -> tuple[AuditResult, list[Event]]:
    """Audit a cluster, or `targets` of it, with the options of AuditOptions; return the result and what was told."""
    events: list[Event] = []
    controls = controls or Controls()

    def emit(event: Event) -> None:
        events.append(event)
        controls.on_event(event)

    result = await audit_cluster(
        targets_of(cluster, superuser=superuser) if targets is None else targets,
        AuditOptions(**options),
        run_id="test",
        cluster=cluster.name,
        emit=emit,
        stop=controls.stop,
        gate=controls.gate,
        earlier=[controls.earlier] if controls.earlier else (),
    )
    return result, events


def run_audit_of(
    cluster: LabCluster, *, targets: Sequence[NodeTarget] | None = None, superuser: bool = False, **options: Any
) -> tuple[AuditResult, list[Event]]:
    """Do the same as `audit_of` from a test that is not asynchronous."""
    return asyncio.run(audit_of(cluster, targets=targets, superuser=superuser, **options))


def relation_of(result: AuditResult, name: str, *, database: str | None = None) -> RelationReport:
    """Return the report of the one relation of that name, with or without its schema."""
    [found] = [
        relation
        for relation in result.relations
        if name in (relation.name, f"{relation.schema}.{relation.name}") and database in (None, relation.database)
    ]
    return found


def notes_of(result: AuditResult, name: str, *, database: str | None = None) -> list[NotChecked]:
    """Return why the relation of that name was not checked, one note for each reason and node."""
    return [
        note
        for note in result.not_checked
        if note.relation is not None
        and name in (parts_of(note.relation)[1], ".".join(parts_of(note.relation)))
        and database in (None, note.database)
    ]


def divergences_of(result: AuditResult, name: str) -> list[Divergence]:
    """Return how the relation of that name differs."""
    return [found for found in result.divergences if parts_of(found.relation)[1] == name]


def parts_of(label: str) -> tuple[str, str]:
    """Return schema and name of a relation's label, without its quotes.

    >>> parts_of('public."a.b""c"')
    ('public', 'a.b"c')
    """
    match = _LABEL.fullmatch(label)
    assert match is not None, label
    schema, name = (part[1:-1].replace('""', '"') if part[0] == '"' else part for part in match.groups())
    return schema, name


def unaccounted(cluster: LabCluster, result: AuditResult, databases: Iterable[str]) -> set[tuple[str, str, str]]:
    """Return the relations of these databases that hold rows and are neither compared nor named as not checked."""
    compared = {(found.database, found.schema, found.name) for found in result.relations}
    named = {(note.database, *parts_of(note.relation)) for note in result.not_checked if note.relation}
    shared = {(schema, name) for _, schema, name in compared | named}
    missing = set()
    for database in databases:
        for schema, name, is_shared in _storing(cluster.primary, database):
            if (database, schema, name) not in compared | named and not (is_shared and (schema, name) in shared):
                missing.add((database, schema, name))
    return missing


def _storing(server: LocalServer, database: str) -> list[tuple[str, str, bool]]:
    rows = server.execute(
        "select textsend(n.nspname::text), textsend(c.relname::text), c.relisshared"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm', 'S', 'f')",
        dbname=database,
    )
    return [(text(schema), text(name), shared) for schema, name, shared in rows]


@contextmanager
def server_errors(cluster: LabCluster) -> Iterator[list[str]]:
    """Gather what the nodes' client backends log as an error or warning inside; the list is filled at the end.

    The time limit of reads of several relations, which a busy machine exceeds by design, is out of the way meanwhile.
    """
    logs = {server.log_file: server.log_file.stat().st_size for server in cluster.nodes.values()}
    logged: list[str] = []
    with patch.object(digests, "SOON_OVER", "SELECT pg_catalog.set_config('statement_timeout', '20s', true)"):
        yield logged
    for path, size in logs.items():
        with path.open("rb") as log:
            log.seek(size)
            lines = log.read().decode("utf-8", "replace").splitlines()
        logged += [f"{match[2]}: {match[3]}" for line in lines if (match := _LOGGED_ERROR.search(line))]
