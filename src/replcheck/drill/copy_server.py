"""The server of a restored copy, asked by read-only sessions: it stands still, so each takes a snapshot of its own."""

from dataclasses import dataclass

from replcheck.drill.backups.source import Restored
from replcheck.model.node import NodeTarget
from replcheck.model.seal import SealedServer
from replcheck.postgres.nodes import NodeFacts, read_facts
from replcheck.postgres.sealing import read_server
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.postgres.snapshots import BEGIN

NAME = "copy"
_LIMITS = Limits(statement_s=3600.0, transaction_s=86_400.0, lock_s=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyServer:
    """A restored copy that can be asked."""

    target: NodeTarget
    facts: NodeFacts
    server: SealedServer

    async def open(self, database: str | None) -> Session:
        """Open a session; raise NodeError where it cannot be had."""
        return await open_session(self.target, database=database, purpose="drill", limits=_LIMITS)

    async def open_snapshot(self, database: str) -> Session:
        """Open a session with a snapshot of its own."""
        session = await self.open(database)
        try:
            await session.fetch(BEGIN)
        except BaseException:
            await session.close()
            raise
        return session


async def connect_copy(restored: Restored) -> CopyServer:
    """Ask a restored copy what it is; raise NodeError where it does not answer."""
    target = NodeTarget(name=NAME, dsn=restored.dsn)
    session = await open_session(target, purpose="drill", limits=_LIMITS)
    try:
        facts = await read_facts(session)
        return CopyServer(target=target, facts=facts, server=await read_server(session, facts))
    finally:
        await session.close()
