"""Seal a primary: fix one moment of all its databases, then digest every relation as it was at that moment.

Writers are never waited for and never made to wait: each statement holds its lock for about a second, and one that
would have to wait for a lock is put off. What could not be digested is named, and never counts as sealed.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from replcheck import __version__
from replcheck.audit.handles import NodeHandle
from replcheck.audit.preflight import node_report
from replcheck.audit.scope import check_tables, databases_in_scope, scope_of
from replcheck.drill.held_database import HeldDatabase, not_sealed
from replcheck.drill.part_reading import REDEFINED, PartReader
from replcheck.drill.point import FixedPoint, fix_point
from replcheck.drill.seal_dump import discard_dump, take_dump
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealed_parts import Gathering
from replcheck.errors import (
    ConnectionsExhausted,
    DatabaseMissing,
    DrillBlocked,
    Interrupted,
    NodeUnfit,
    StatementFailed,
    UsageError,
)
from replcheck.events import DatabasePlanned, Emit, NodeObserved, RelationSealed
from replcheck.model.audit import NotChecked
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.seal import (
    EXACT,
    MANIFEST_FORMAT,
    PORTABLE,
    NotSealed,
    PreparedTransaction,
    SealedDump,
    SealFacts,
    SealManifest,
)
from replcheck.model.units import format_duration
from replcheck.postgres.nodes import Database, read_facts
from replcheck.postgres.seal_facts import read_prepared, read_roles, read_tablespaces
from replcheck.postgres.sealing import (
    import_snapshot,
    in_the_way,
    may_make_point,
    not_allowed,
    read_activity,
    read_server,
)
from replcheck.postgres.session import Limits, Session, open_session

_STATEMENT_S = 60.0
_SNAPSHOT_GONE = frozenset({"22023", "58P01", "55000"})
"""What an import is refused with whose snapshot nobody holds any more (PostgreSQL source, snapmgr.c)."""


async def connect_primary(target: NodeTarget, options: SealOptions, emit: Emit) -> NodeHandle:
    """Connect to the node that is to be sealed; raise NodeUnfit where it is a standby."""
    limits = Limits(statement_s=_STATEMENT_S, transaction_s=options.max_age_s)
    session = await open_session(target, purpose="seal control", limits=limits)
    try:
        facts = await read_facts(session)
        if facts.role is not NodeRole.PRIMARY:
            raise NodeUnfit(
                f'node "{target.name}" is a standby, and only a primary can be sealed',
                node=target.name,
                hint="Name the primary with --primary DSN.",
            )
        return NodeHandle(target, facts, session, options=options.scope, emit=emit)
    except BaseException:
        await session.close()
        raise


async def seal_primary(
    primary: NodeHandle, options: SealOptions, *, seal_id: str, cluster: str, emit: Emit, stop: asyncio.Event
) -> tuple[SealManifest, float]:
    """Return the seal of a primary, and for how many seconds its snapshot was held.

    Raises UsageError for what makes no sense, NodeError where the primary is lost, DrillBlocked where the snapshot is,
    Interrupted where `stop` is set.
    """
    sealing = _Sealing(primary, options, emit=emit, stop=stop)
    try:
        return await sealing.run(seal_id, cluster)
    except BaseException:
        discard_dump(sealing.dump)
        raise
    finally:
        await sealing.close()


def granted_in(names: Sequence[str], connected: str) -> str:
    """Return the database in which a grant helps and is looked for: that of the connection string, else a user's own.

    Templates come last: what is granted there goes on into every database that is made from them.

    >>> granted_in(["template1", "clinic", "postgres"], "postgres"), granted_in(["template1", "clinic"], "postgres")
    ('postgres', 'clinic')
    """
    if connected in names:
        return connected
    return next((name for name in names if not name.startswith("template")), names[0])


class _Sealing:
    def __init__(self, primary: NodeHandle, options: SealOptions, *, emit: Emit, stop: asyncio.Event) -> None:
        self._primary = primary
        self._options = options
        self._emit = emit
        self._stop = stop
        self._held: list[HeldDatabase] = []
        self._notes: list[NotSealed] = []
        self._roles: tuple[str, ...] = ()
        self._tablespaces: tuple[str, ...] = ()
        self._prepared: frozenset[PreparedTransaction] = frozenset()
        self.dump: SealedDump | None = None
        """The dump, as soon as it is whole."""
        self._deadline = float("inf")
        self._seeds = (secrets.randbits(63),)

    async def run(self, seal_id: str, cluster: str) -> tuple[SealManifest, float]:
        primary, scope = self._primary, self._options.scope
        self._emit(NodeObserved(at=datetime.now(UTC), node=node_report(primary, [primary])))
        databases, left_out = await databases_in_scope(primary, scope)
        self._notes += map(not_sealed, left_out)
        await check_tables(primary, databases, left_out, scope)
        self._check(databases, left_out)
        for database in databases:
            await self._hold(database)
        in_order, before = await self._in_order(), await read_prepared(await primary.control())
        fixed = await fix_point(
            primary,
            {held.name: held.session for held in in_order},
            name=f"replcheck_{seal_id}",
            budget_s=self._options.fix_budget_s,
        )
        self._prepared = before & await read_prepared(await primary.control())
        # The server ends an idle snapshot at that age by itself, the client one that is at work.
        self._deadline = fixed.taken + self._options.max_age_s
        dump = await self._digest()
        snapshot_s = time.monotonic() - fixed.taken
        await self.close()
        for held in self._held:
            await held.check_definitions()
        return await self._manifest(seal_id, cluster, fixed, dump), snapshot_s

    async def close(self) -> None:
        """Give the snapshots back; never raises."""
        await asyncio.gather(*(held.session.close() for held in self._held))

    def _obey(self) -> None:
        if self._stop.is_set():
            raise Interrupted("the seal was stopped before it was whole")
        if time.monotonic() > self._deadline:
            raise DrillBlocked(
                f"the seal's snapshot was {format_duration(self._options.max_age_s)} old before all was digested",
                code="snapshot_too_old",
                hint="Raise --max-age or --jobs, or seal fewer databases with --database.",
            )

    def _check(self, databases: Sequence[Database], left_out: Iterable[NotChecked]) -> None:
        if not databases:
            closed = "; ".join(f"{note.database}: {note.reason}" for note in left_out)
            raise UsageError("there is no database to seal", hint=f"Not entered are {closed}." if closed else "")
        if self._options.dump_file is not None and len(databases) != 1:
            named = ", ".join(database.name for database in databases)
            raise UsageError(
                f"a dump is taken of one database, and {len(databases)} are in scope",
                hint=f"Choose one with --database: {named}.",
            )
        free, needed = self._primary.facts.free_connections, len(databases) + self._options.jobs + 1
        if free < needed:
            raise ConnectionsExhausted(
                f'node "{self._primary.name}" has {max(free, 0)} free connections, the seal needs {needed} more',
                node=self._primary.name,
                hint="Lower --jobs, seal fewer databases with --database, or raise max_connections there.",
            )

    async def _hold(self, database: Database) -> None:
        self._obey()
        limits = Limits(statement_s=self._options.max_age_s, transaction_s=self._options.max_age_s)
        try:
            session = await self._primary.open(database.name, "seal snapshot", limits=limits)
        except DatabaseMissing:
            self._notes.append(
                NotSealed(
                    database=database.name,
                    relation=None,
                    code=REDEFINED.code,
                    reason="it was dropped or renamed meanwhile",
                    by_design=False,
                )
            )
            return
        held = HeldDatabase(database, session, self._primary, self._options, self._seeds)
        self._held.append(held)
        await held.read_sequences()

    async def _in_order(self) -> list[HeldDatabase]:
        """Return the databases, the busiest first in which the role may make a restore point."""
        control = await self._primary.control()
        activity = await read_activity(control)
        busiest = sorted(self._held, key=lambda held: -activity.get(held.database.oid, 0))
        for held in busiest:
            if await may_make_point(held.session):
                return [held, *(other for other in busiest if other is not held)]
        database = granted_in([held.name for held in busiest], control.database)
        raise not_allowed(self._primary.name, database, self._primary.facts.privileges.role)

    async def _digest(self) -> SealedDump | None:
        for held in self._held:
            await held.read_sequences()
        for number, held in enumerate(self._held):
            self._obey()
            await held.plan(shared_here=number == 0)
            if number == 0:
                # Under the snapshot too: a role that was made behind the restore point is in no copy of it.
                self._roles = await read_roles(held.session)
                self._tablespaces = await read_tablespaces(held.session)
            self._emit(
                DatabasePlanned(
                    at=datetime.now(UTC),
                    database=held.name,
                    relations=len(held.gatherings),
                    size_bytes=sum(gathering.relation.total_bytes for gathering in held.gatherings),
                )
            )
        reader = PartReader(
            open_session=self._open,
            seeds=self._seeds,
            jobs=self._options.jobs,
            in_recovery=False,
            in_the_way=self._in_the_way,
            obey=self._obey,
            finished=self._finished,
            settle_s=self._options.settle_s,
        )
        gatherings = [gathering for held in self._held for gathering in held.gatherings]
        dumping, reading = asyncio.create_task(self._dump()), asyncio.create_task(reader.read(gatherings))
        try:
            dump, _ = await asyncio.gather(dumping, reading)
        finally:
            for task in (dumping, reading):
                task.cancel()
            await asyncio.gather(dumping, reading, return_exceptions=True)
        if dump is not None:
            for held in self._held:
                await held.read_sequences()
        return dump

    async def _dump(self) -> SealedDump | None:
        if self._options.dump_file is None:
            return None
        [held] = self._held
        self.dump = await take_dump(self._primary, held.name, held.snapshot, self._options, stop=self._stop)
        return self.dump

    async def _open(self, database: str) -> Session:
        limits = Limits(statement_s=_STATEMENT_S, transaction_s=self._options.max_age_s)
        session = await self._primary.open(database, "seal", limits=limits)
        held = next(held for held in self._held if held.name == database)
        try:
            await import_snapshot(session, held.snapshot)
        except StatementFailed as error:
            await session.close()
            if error.sqlstate in _SNAPSHOT_GONE:
                raise DrillBlocked(
                    "the seal's snapshot was lost before all was digested",
                    code="snapshot_lost",
                    hint="It may live as long as --max-age says; a restart of the server ends it too.",
                ) from error
            raise
        except BaseException:
            await session.close()
            raise
        return session

    async def _in_the_way(self, pids: list[int]) -> frozenset[int]:
        return await in_the_way(await self._primary.control(), pids)

    def _finished(self, gathering: Gathering) -> None:
        relation = gathering.relation
        self._emit(
            RelationSealed(
                at=datetime.now(UTC),
                database=gathering.database,
                relation=relation.label,
                rows=gathering.rows,
                size_bytes=relation.total_bytes,
                elapsed_s=gathering.elapsed_s,
            )
        )

    async def _manifest(self, seal_id: str, cluster: str, fixed: FixedPoint, dump: SealedDump | None) -> SealManifest:
        control = await self._primary.control()
        databases = tuple(held.sealed(fixed.views[held.name], fixed.unsettled[held.name]) for held in self._held)
        notes = [*self._notes, *(note for held in self._held for note in held.notes)]
        return SealManifest(
            format=MANIFEST_FORMAT,
            seal_id=seal_id,
            cluster=cluster,
            tool_version=__version__,
            encoding=EXACT,
            portable_encoding=PORTABLE if self._options.carries_dumps else None,
            seeds=tuple(map(str, self._seeds)),
            restore_point=fixed.point,
            server=await read_server(control, self._primary.facts),
            scope=scope_of(self._options.scope),
            databases=databases,
            not_sealed=tuple(notes),
            facts=SealFacts(
                roles=self._roles,
                tablespaces=self._tablespaces,
                databases=tuple(held.facts for held in self._held if held.facts is not None),
                prepared=tuple(sorted(self._prepared, key=lambda one: one.xid)),
            ),
            dump=dump,
        )
