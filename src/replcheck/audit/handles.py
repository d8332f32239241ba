"""The nodes of one audit while it runs: who answers, who went away, who is gone for good.

A node that goes away is waited for in the background, so that the others are not held up. Every connection of a node
must reach the same server; a restart is survived, another server under the same name, or another role, is not.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from replcheck.audit.options import AuditOptions
from replcheck.audit.shortfalls import Shortfall, node_lost
from replcheck.errors import (
    ConnectionsExhausted,
    NodeError,
    NodeLost,
    NodeReplaced,
    NodeUnfit,
    NodeUnreachable,
    StatementCancelled,
    StatementFailed,
)
from replcheck.events import Emit, NodeCameBack, NodeWentAway
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.nodes import NodeFacts, NodeIdentity, read_identity, standby_lifetime_s
from replcheck.postgres.session import Limits, Session, open_session

_RETRY_S = 0.25
_MOST_FAILURES = 20
"""Failures in a row, each time followed by a connection that works, after which a node is given up."""


class NodeHandle:
    """One node of the audit; `gone` tells why it takes no further part, None while it does."""

    def __init__(
        self,
        target: NodeTarget,
        facts: NodeFacts,
        control: Session,
        *,
        options: AuditOptions,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.facts = facts
        self.gone: Shortfall | None = None
        self.restarts = 0
        self.lagging_since: float | None = None
        self.unaligned_since: float | None = None
        self._identity = facts.identity
        self._control: Session | None = control
        self._lock = asyncio.Lock()
        self._options = options
        self._emit = emit
        self._clock = clock
        self._revival: asyncio.Task[None] | None = None
        self._failures = 0

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.target.name

    @property
    def away(self) -> bool:
        """Return whether the node stopped answering and is being waited for."""
        return self._revival is not None

    @property
    def usable(self) -> bool:
        """Return whether the node can be asked now."""
        return self.gone is None and not self.away

    @property
    def steady(self) -> bool:
        """Return whether the node can be asked and keeps up."""
        return self.usable and self.lagging_since is None

    @property
    def limits(self) -> Limits:
        """Return the time limits of this node's lane sessions; on a standby the server, too, ends snapshots early."""
        life = self._options.max_snapshot_age_s
        if self.facts.role is NodeRole.STANDBY:
            life = min(life, standby_lifetime_s(self.facts.settings))
        return Limits(statement_s=life + 1, transaction_s=life)

    async def control(self) -> Session:
        """Return the session without a snapshot, opened again where it was lost; raise NodeError where it can't be."""
        async with self._lock:
            if self._control is None or not self._control.alive:
                self._control = await self.open(None, "control")
            return self._control

    async def open(self, database: str | None, purpose: str, *, limits: Limits | None = None) -> Session:
        """Open a session and make sure it reached the same server as all the others of this node.

        `limits` are those of a lane where none are given.
        """
        session = await open_session(self.target, database=database, purpose=purpose, limits=limits or self.limits)
        try:
            self._recognize(await read_identity(session))
        except (NodeError, asyncio.CancelledError):
            await session.close()
            raise
        return session

    def _recognize(self, identity: NodeIdentity) -> None:
        if not identity.same_server(self._identity):
            raise NodeReplaced(
                f'another server answers as node "{self.name}" than at the beginning',
                node=self.name,
                hint="Give each node the address of one server: no reader endpoint, no list of hosts.",
            )
        if identity.in_recovery != self._identity.in_recovery:
            raise NodeUnfit(_changed_role(self.name, identity.in_recovery), node=self.name)
        if not identity.same_start(self._identity):
            if identity.started_at < self._identity.started_at:
                raise NodeReplaced(f'an older server answers as node "{self.name}" than before', node=self.name)
            self.restarts += 1
            self._identity = identity

    def same_backend(self, started_at: datetime, *, in_recovery: bool) -> bool:
        """Return whether a statement was answered by the server that this node was when its session was opened."""
        return started_at == self._identity.started_at and in_recovery == self._identity.in_recovery

    async def look(self) -> None:
        """Make sure that the same server answers as before, or take note that it was started anew.

        One that does not answer is waited for; it may be `gone` afterwards.
        """
        await self.wait_usable()
        if self.gone is None:
            try:
                self._recognize(await read_identity(await self.control()))
            except NodeError as error:
                self.report(error)
                await self.wait_usable()

    async def wait_usable(self) -> None:
        """Wait until the node answers or is gone for good."""
        if self._revival is not None:
            await asyncio.wait({self._revival})

    def report(self, error: NodeError) -> None:
        """Take note that the node failed; begin to wait for it where that can help."""
        if self.gone is not None or self._revival is not None:
            return
        self._failures += 1
        refused = isinstance(error, StatementFailed) and not isinstance(error, StatementCancelled)
        if refused or isinstance(error, NodeReplaced | NodeUnfit) or self._failures > _MOST_FAILURES:
            self._leave(error.message)
            return
        self._emit(NodeWentAway(at=datetime.now(UTC), node=self.name, reason=error.message))
        self._revival = asyncio.create_task(self._revive())

    def succeeded(self) -> None:
        """Take note that the node took part in an alignment: what failed before is forgotten."""
        self._failures = 0
        self.unaligned_since = None

    def leave_behind(self, lack: Shortfall) -> None:
        """Exclude the node from the rest of the audit."""
        if self.gone is None:
            self.gone = lack
            self._emit(NodeWentAway(at=datetime.now(UTC), node=self.name, reason=lack.reason))

    async def close(self) -> None:
        """Close what the handle holds."""
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
        if self._control is not None:
            await self._control.close()

    async def _revive(self) -> None:
        began = self._clock()
        try:
            while True:
                try:
                    session = await self.open(None, "control")
                except (NodeUnreachable, NodeLost, ConnectionsExhausted) as error:
                    if self._clock() - began > self._options.node_timeout_s:
                        self._leave(f"it went away and did not come back: {error.message}")
                        return
                    await asyncio.sleep(_RETRY_S)
                except NodeError as error:
                    self._leave(error.message)
                    return
                else:
                    await self._replace_control(session)
                    elapsed = self._clock() - began
                    self._emit(NodeCameBack(at=datetime.now(UTC), node=self.name, elapsed_s=elapsed))
                    return
        finally:
            self._revival = None

    async def _replace_control(self, session: Session) -> None:
        async with self._lock:
            if self._control is not None:
                await self._control.close()
            self._control = session

    def _leave(self, reason: str) -> None:
        self.leave_behind(node_lost(self.name, reason))


def _changed_role(node: str, in_recovery: bool) -> str:
    return (
        f'node "{node}" has become a standby in the middle of the audit'
        if in_recovery
        else f'node "{node}" was promoted in the middle of the audit'
    )
