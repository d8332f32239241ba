"""The checks of one node's indexes, one after the other, each in a session that the server limits.

A check holds a snapshot and ACCESS SHARE for as long as it takes: it is broken off as soon as somebody waits for that
lock or replay stands still behind it, and tried again a few times; and where the audit is held still or ends.

On a standby amcheck reports sound indexes too: an entry that the primary marked dead reaches the standby with a page
image, and is skipped although the standby's snapshot still sees its row. So what a standby reports is looked at again
while the primary holds an older snapshot, for which it must keep every entry that the standby may need.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from replcheck.audit.cluster import Cluster
from replcheck.audit.giving_way import watched
from replcheck.audit.handles import NodeHandle
from replcheck.audit.index_lacks import (
    IN_THE_WAY,
    NO_LIBRARY,
    TOO_LONG,
    UNCONFIRMED,
    UNSEEN,
    UNSTEADY,
    lost,
    refusal,
    without_amcheck,
)
from replcheck.audit.index_verdicts import MOST_LOOKS, IndexState, believed
from replcheck.audit.shortfalls import LOCKED, NO_DATABASE, Shortfall, conflict
from replcheck.errors import DatabaseMissing, NodeError, StatementCancelled, StatementFailed
from replcheck.events import IndexChecked
from replcheck.model.node import NodeRole
from replcheck.model.outcome import Verdict
from replcheck.model.wal import Lsn
from replcheck.postgres.amcheck import (
    Access,
    Amcheck,
    Index,
    IndexFault,
    check_index,
    prepare_checks,
    read_amcheck,
    read_indexes,
    stale_collations,
)
from replcheck.postgres.catalog import Relation
from replcheck.postgres.locks import is_waited_for
from replcheck.postgres.nodes import standby_lifetime_s
from replcheck.postgres.session import Limits, Session
from replcheck.postgres.wal import flush_lsn, insert_lsn, replay_state, wait_replayed, writer_delay_s

_TRIES = 8
_PAUSE_S = 0.25
_LOSSES = 3
"""Connections that may break under one index: a damaged page can crash a server."""
_MOST_STILL_S = 5.0
_LOCK_NOT_GRANTED = "55P03"
_CANCELLED = "57014"
_NO_FILE = "58P01"
_NOT_ALLOWED = "42501"


class NodeChecker:
    """Checks the indexes of one database on one node."""

    def __init__(self, node: NodeHandle, database: str, cluster: Cluster) -> None:
        self.states: dict[int, IndexState] = {}
        """What came of each index, by oid."""
        self._node = node
        self._database = database
        self._cluster = cluster
        self._options = cluster.options
        limit = cluster.options.index_timeout_s
        self._limits = Limits(statement_s=limit, transaction_s=limit)
        self._session: Session | None = None
        self._amcheck: Amcheck | None = None
        self._lack: Shortfall | None = None

    @property
    def lack(self) -> Shortfall | None:
        """Return why the node's indexes cannot be checked, None while they can."""
        return self._lack or self._node.gone

    async def list_indexes(self, tables: Mapping[int, Relation]) -> dict[int, Index] | None:
        """List the node's indexes of these tables; None where it cannot be asked, which `lack` then tells."""
        for _ in range(_LOSSES):
            try:
                return await read_indexes(await self._opened(), list(tables))
            except NodeError as error:
                if not await self._survives(error):
                    break
        self._lack = self.lack or refusal("its indexes could not be listed")
        return None

    async def check(self, indexes: Sequence[Index], tables: Mapping[int, Relation]) -> None:
        """Check these indexes; leaves those without a state that could not be asked for."""
        self._cluster.gate.enter()
        try:
            await self._check_all(indexes, tables)
        finally:
            self._cluster.gate.leave()

    async def _check_all(self, indexes: Sequence[Index], tables: Mapping[int, Relation]) -> None:
        listed = await self._replayed_list(tables)
        for index in indexes:
            if self.lack is not None:
                return
            began = self._cluster.clock()
            looks: list[IndexFault | None] = []
            state = await self._check(index, looks) if index.oid in listed else IndexState(lack=UNSEEN)
            if state is None:
                return
            self.states[index.oid] = state
            self._tell(index, tables[index.table_oid], state, len(looks), self._cluster.clock() - began)

    @property
    def _held(self) -> bool:
        return self._cluster.gate.closed or self._cluster.halt.called

    async def cancel(self) -> None:
        """End what runs on the server, and close the session."""
        if self._session is not None:
            await self._session.cancel()
        await self.close()

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _opened(self) -> Session:
        if self._session is None or not self._session.alive:
            session = await self._node.open(self._database, "indexes", limits=self._limits)
            self._session = session
            await prepare_checks(session)
        return self._session

    async def _survives(self, error: NodeError) -> bool:
        """Take note of a failure; return whether the node can be asked again, perhaps after it has come back."""
        if isinstance(error, DatabaseMissing):
            self._lack = NO_DATABASE
        elif isinstance(error, StatementCancelled):
            await asyncio.sleep(_PAUSE_S)
        elif isinstance(error, StatementFailed):
            self._lack = refusal(error.message)
        else:
            node = self._cluster.node(error.node)
            node.report(error)
            await node.wait_usable()
            return self.lack is None and node.gone is None
        return self.lack is None

    async def _replayed_list(self, tables: Mapping[int, Relation]) -> Mapping[int, Index]:
        """List the node's indexes once it has replayed what the primary listed, and find out whether it has amcheck."""
        for _ in range(_LOSSES):
            try:
                await self._catch_up()
                session = await self._opened()
                self._amcheck = await read_amcheck(session)
                if self._amcheck.access is not Access.GRANTED:
                    self._lack = without_amcheck(self._amcheck, self._node.facts.privileges.role, self._database)
                    return {}
                return await read_indexes(session, list(tables))
            except NodeError as error:
                if error.node != self._node.name or not await self._survives(error):
                    break
        self._lack = self.lack or refusal("its indexes could not be listed")
        return {}

    async def _catch_up(self) -> bool:
        """Wait until the node has replayed what the primary has written; return whether it has."""
        if self._node.facts.role is NodeRole.PRIMARY:
            return True
        primary = await self._cluster.primary.control()
        waited = await wait_replayed(
            await self._node.control(),
            await insert_lsn(primary),
            primary_flush=lambda: flush_lsn(primary),
            writer_delay=await writer_delay_s(primary),
            timeout_s=self._options.replay_wait_s,
        )
        return waited.reached

    async def _check(self, index: Index, looks: list[IndexFault | None]) -> IndexState | None:
        """Look at an index until the looks agree; None where the node was lost for good, or the audit ends."""
        tries = losses = 0
        while believed(looks) is None and len(looks) < MOST_LOOKS:
            await self._cluster.gate.wait_open()
            if self._cluster.halt.called:
                return None
            began = self._cluster.clock()
            try:
                looks.append(await self._look(index, again=bool(looks)))
            except _BehindError:
                return IndexState(lack=UNCONFIRMED)
            except StatementCancelled as error:
                if self._held:
                    continue
                tries += 1
                took = self._cluster.clock() - began
                if tries >= _TRIES or (error.sqlstate == _CANCELLED and took >= self._options.index_timeout_s):
                    return IndexState(lack=self._cut_off(error, took))
                await asyncio.sleep(_PAUSE_S * tries)
            except StatementFailed as error:
                return self._refused(error)
            except NodeError as error:
                losses += 1
                if not await self._survives(error):
                    return None
                if losses >= _LOSSES:
                    return IndexState(lack=lost(self._node.name))
        if believed(looks) is None:
            return IndexState(lack=UNSTEADY)
        return await self._broken(index, looks[-1]) if looks[-1] is not None else IndexState()

    async def _broken(self, index: Index, fault: IndexFault) -> IndexState:
        try:
            return IndexState(fault=fault, stale_collations=await stale_collations(await self._opened(), index.oid))
        except NodeError:
            return IndexState(fault=fault)

    async def _look(self, index: Index, *, again: bool) -> IndexFault | None:
        """Look at an index once; on a standby `again` under a snapshot that the primary holds meanwhile."""
        if not again or self._node.facts.role is NodeRole.PRIMARY:
            return await self._watched(await self._opened(), index)
        async with self._entries_kept():
            return await self._watched(await self._opened(), index)

    @asynccontextmanager
    async def _entries_kept(self) -> AsyncIterator[None]:
        """Hold a snapshot on the primary that is older than any that the node takes in the block.

        Whatever such a later one sees was not deleted when the primary's was taken, so its index entries stay. One node
        at a time, since the primary's connections are counted. Raises _BehindError where the node does not replay up to
        it, and NodeError where the snapshot was lost.
        """
        async with self._cluster.pinning:
            pin = await self._cluster.primary.open(self._database, "indexes", limits=self._limits)
            try:
                await pin.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                await pin.fetch("SELECT 1")
                if not await self._catch_up():
                    raise _BehindError
                yield
                await pin.fetch("SELECT 1")
            finally:
                await pin.close()

    async def _watched(self, session: Session, index: Index) -> IndexFault | None:
        """Check an index once, and break it off on the server where it is in somebody's way."""
        assert self._amcheck is not None  # noqa: S101 - asked for before anything is checked
        watch = _Watch(self._node, session.advertised_pid, self._cluster)

        async def in_the_way() -> bool:
            return self._held or await watch.is_in_the_way()

        check = check_index(session, self._amcheck, index.oid)
        return await watched(check, in_the_way=in_the_way, give_way=session.cancel)

    def _refused(self, error: StatementFailed) -> IndexState:
        """Tell why the server refused; where the index was dropped meanwhile, the last listing will show it."""
        if error.sqlstate == _NO_FILE:
            self._lack = NO_LIBRARY
        if error.sqlstate == _NOT_ALLOWED:
            self._lack = refusal("the role may not run amcheck")
        return IndexState(lack=self._lack or refusal(error.message))

    def _cut_off(self, error: StatementCancelled, took_s: float) -> Shortfall:
        if error.sqlstate == _LOCK_NOT_GRANTED:
            return LOCKED
        if error.sqlstate == _CANCELLED and took_s >= self._options.index_timeout_s:
            return TOO_LONG
        return IN_THE_WAY if error.sqlstate == _CANCELLED else conflict(self._node.name, error.sqlstate)

    def _tell(self, index: Index, table: Relation, state: IndexState, looks: int, elapsed_s: float) -> None:
        verdict = Verdict.DIVERGED if state.fault is not None else Verdict.CONSISTENT
        self._cluster.emit(
            IndexChecked(
                at=datetime.now(UTC),
                database=self._database,
                relation=table.label,
                index=index.label,
                node=self._node.name,
                verdict=state.lack.verdict if state.lack is not None else verdict,
                looks=looks,
                elapsed_s=elapsed_s,
            )
        )


class _BehindError(Exception):
    """The node does not replay far enough for its report to be confirmed."""


class _Watch:
    """Looks, beside a check that runs, whether it is in somebody's way."""

    def __init__(self, node: NodeHandle, backend_pid: int, cluster: Cluster) -> None:
        self._node = node
        self._backend_pid = backend_pid
        self._clock = cluster.clock
        self._standby = node.facts.role is NodeRole.STANDBY
        self._patience_s = min(_MOST_STILL_S, standby_lifetime_s(node.facts.settings))
        self._still: tuple[Lsn, float] | None = None

    async def is_in_the_way(self) -> bool:
        """Return whether somebody waits for the check's lock, or a standby has not replayed anything for a while."""
        try:
            control = await self._node.control()
            return await is_waited_for(control, self._backend_pid) or (self._standby and await self._holds(control))
        except NodeError:
            return False

    async def _holds(self, control: Session) -> bool:
        state, now = await replay_state(control), self._clock()
        if state.paused or state.starved or state.received is None or state.received <= state.replayed:
            self._still = None
        elif self._still is None or self._still[0] != state.replayed:
            self._still = (state.replayed, now)
        else:
            return now - self._still[1] >= self._patience_s
        return False
