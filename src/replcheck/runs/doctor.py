"""The use case `doctor`: examine every node by itself, as an audit would meet it, and say what is in its way.

A node that can't be reached or used is told with its reason and keeps no other from being examined. Nothing is
written, no row of a relation is read, and no record is kept: nothing was proven.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from replcheck import __version__
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import matches_database
from replcheck.doctor.diagnosis import diagnose
from replcheck.doctor.facts import Failure, NodeExam
from replcheck.errors import (
    AuthenticationRefused,
    ConnectionsExhausted,
    DatabaseMissing,
    NodeError,
    NodeStarting,
    NodeUnfit,
    NodeUnreachable,
    UsageError,
)
from replcheck.model.audit import Scope
from replcheck.model.doctor import DoctorResult
from replcheck.model.node import NodeTarget
from replcheck.postgres import dsn
from replcheck.postgres.examination import DatabaseFacts, read_database, read_rights, read_server
from replcheck.postgres.nodes import Database, read_databases, read_facts
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.runs.records import now
from replcheck.runs.request import AuditRequest

_PURPOSE = "doctor"
_LEAVING_S = 2.0
"""How long a server may take to notice that a session was closed."""
_MOST_TRIES = 20
_LIMITS = Limits(statement_s=30.0, transaction_s=30.0)
_CODES: dict[type[NodeError], str] = {
    NodeUnreachable: "unreachable",
    NodeStarting: "unreachable",
    AuthenticationRefused: "refused",
    ConnectionsExhausted: "connections",
    DatabaseMissing: "no_database",
}


def run_doctor(request: AuditRequest, *, command: str) -> DoctorResult:
    """Examine the nodes that an audit would be given; `command` is that audit, as the reader may type it.

    Raises UsageError where --database matches none of the databases that were seen. Must not be called from a running
    event loop.
    """
    started_at = now()
    exams = asyncio.run(_examine_all(request.targets, request.options))
    _check_patterns(exams, request.options.databases)
    diagnosis = diagnose(exams, request.options)
    options = request.options
    return DoctorResult(
        cluster=request.cluster,
        started_at=started_at,
        finished_at=now(),
        tool_version=__version__,
        scope=Scope(
            databases=options.databases, tables=options.tables, excludes=options.excludes, catalogs=options.catalogs
        ),
        jobs=options.jobs,
        nodes=diagnosis.nodes,
        together=diagnosis.together,
        cost=diagnosis.cost,
        command=command,
    )


async def _examine_all(targets: Sequence[NodeTarget], options: AuditOptions) -> list[NodeExam]:
    return list(await asyncio.gather(*(examine(target, options) for target in targets)))


async def examine(target: NodeTarget, options: AuditOptions) -> NodeExam:
    """Read everything of one node; what fails is in the result, with all that was read before it."""
    exam = NodeExam(target=target, address=dsn.public_address(target.dsn), hosts=dsn.hosts(target.dsn))
    try:
        session = await open_session(target, purpose=_PURPOSE, limits=_LIMITS)
    except NodeError as error:
        return replace(exam, failure=_failure(error, unfit="too_old"))
    try:
        exam = replace(exam, rights=await read_rights(session))
        facts = await read_facts(session)
        exam = replace(exam, facts=facts, server=await read_server(session, facts))
        databases = _in_scope(await read_databases(session), options)
        exam = replace(exam, databases=tuple(databases))
        return replace(exam, visited=await _visit(target, databases))
    except NodeError as error:
        return replace(exam, failure=_failure(error, unfit="pooler"))
    finally:
        await session.close()


async def _visit(target: NodeTarget, databases: Sequence[Database]) -> dict[str, DatabaseFacts | Failure]:
    """Read the databases one after the other, so that one connection beside the first is enough."""
    visited: dict[str, DatabaseFacts | Failure] = {}
    for database in databases:
        if not (database.allows_connections and database.valid and database.may_connect):
            continue
        if _encodes(database.name):
            visited[database.name] = await _examine_database(target, database.name)
        else:
            visited[database.name] = Failure(
                code="name", what="its name is no UTF-8, so no client can ask for it", hint="Rename it."
            )
    return visited


async def _examine_database(target: NodeTarget, name: str) -> DatabaseFacts | Failure:
    session: Session | None = None
    try:
        session = await _open(target, name)
        return await read_database(session)
    except NodeError as error:
        return _failure(error, unfit="unfit")
    finally:
        if session is not None:
            await session.close()


async def _open(target: NodeTarget, database: str) -> Session:
    """Open a session; where there is no room, wait for a moment: the session before may not have left yet."""
    for _ in range(_MOST_TRIES - 1):
        try:
            return await open_session(target, database=database, purpose=_PURPOSE, limits=_LIMITS)
        except ConnectionsExhausted:
            await asyncio.sleep(_LEAVING_S / _MOST_TRIES)
    return await open_session(target, database=database, purpose=_PURPOSE, limits=_LIMITS)


def _in_scope(databases: Sequence[Database], options: AuditOptions) -> list[Database]:
    """Return the databases that an audit would read or name as not checked."""
    return [
        database
        for database in databases
        if (not options.databases or any(fnmatchcase(database.name, pattern) for pattern in options.databases))
        and (not options.tables or any(_may_match(database.name, pattern) for pattern in options.tables))
        and not any(matches_database(database.name, pattern) for pattern in options.excludes)
        and (database.allows_connections or database.name != "template0")
    ]


def _may_match(database: str, pattern: str) -> bool:
    parts = pattern.split(".")
    return len(parts) < 3 or fnmatchcase(database, parts[0])


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_patterns(exams: Sequence[NodeExam], patterns: Sequence[str]) -> None:
    names = {database.name for exam in exams for database in exam.databases}
    if not any(exam.facts for exam in exams):
        return
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f'no database matches "{pattern}"', hint="Names are matched as the server spells them.")


def _failure(error: NodeError, *, unfit: str) -> Failure:
    known = unfit if isinstance(error, NodeUnfit) else _CODES.get(type(error), "failed")
    return Failure.of(error, known)
