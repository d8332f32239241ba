"""What one server is: identity, role, settings and privileges, read once on a session without a snapshot."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from replcheck.errors import NodeUnfit, StatementFailed
from replcheck.model.node import NodeRole
from replcheck.model.wal import Lsn
from replcheck.postgres.session import Session, Statement

# Purpose: which server answers. PostgreSQL 14+; data_directory is NULL without pg_read_all_settings.
_IDENTITY: Statement = """
    SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_postmaster_start_time(), pg_catalog.pg_backend_pid(),
           pg_catalog.textsend(host(pg_catalog.inet_server_addr())), pg_catalog.inet_server_port(),
           pg_catalog.current_setting('port')::int,
           (SELECT pg_catalog.textsend(setting) FROM pg_catalog.pg_settings WHERE name = 'data_directory')
"""

# Purpose: the cluster's system identifier. PostgreSQL 9.6+, executable by everyone unless revoked.
_SYSTEM_IDENTIFIER: Statement = (
    "SELECT pg_catalog.textsend(system_identifier::text) FROM pg_catalog.pg_control_system()"
)

# Purpose: timeline and position. The timeline of a primary is in its WAL file name, that of a standby at its receiver,
# whose columns are NULL without pg_read_all_stats. pg_control_checkpoint is not asked: it lags behind a promotion.
_POSITION: Statement = """
    SELECT CASE WHEN r.in_recovery THEN (SELECT w.received_tli FROM pg_catalog.pg_stat_get_wal_receiver() AS w)
                ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
                     )::bit(32)::int
           END,
           (CASE WHEN r.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn()
                 ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_lsn)::bigint
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) AS r
"""

# Purpose: from whom a standby streams. NULL without pg_read_all_stats; the connection string is never asked for.
_UPSTREAM: Statement = """
    SELECT pg_catalog.textsend(sender_host), sender_port FROM pg_catalog.pg_stat_get_wal_receiver()
"""

# Purpose: settings that matter to an audit or to the likeness of two nodes. PostgreSQL 14+, no privilege.
_SETTINGS: Statement = """
    SELECT pg_catalog.textsend(name), pg_catalog.textsend(coalesce(setting, ''))
    FROM pg_catalog.pg_settings WHERE name = ANY (%s::text[])
"""

# Purpose: what the role may do. PostgreSQL 14+, no privilege.
_PRIVILEGES: Statement = """
    SELECT pg_catalog.textsend(current_user::text), r.rolsuper, r.rolbypassrls,
           pg_catalog.pg_has_role(current_user, 'pg_read_all_data', 'USAGE'),
           pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
"""

# Purpose: how many connections are left for this role. PostgreSQL 14+; without pg_monitor the type of another role's
# backend is NULL, and only processes of the server itself have no role.
_CONNECTIONS: Statement = """
    SELECT pg_catalog.current_setting('max_connections')::int
             - pg_catalog.current_setting('superuser_reserved_connections')::int
             - coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0)
             - (SELECT count(*)::int FROM pg_catalog.pg_stat_get_activity(NULL)
                WHERE usesysid IS NOT NULL AND (backend_type IS NULL OR backend_type = 'client backend')),
           (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""

# Purpose: databases and whether this role can enter them. PostgreSQL 14+, no privilege.
_DATABASES: Statement = """
    SELECT pg_catalog.textsend(datname::text), datallowconn, datconnlimit,
           pg_catalog.has_database_privilege(oid, 'CONNECT'),
           pg_catalog.textsend(pg_catalog.pg_encoding_to_char(encoding)::text), datistemplate, oid::bigint
    FROM pg_catalog.pg_database ORDER BY datname
"""

# Purpose: which database this is. PostgreSQL 14+, no privilege.
_CURRENT_DATABASE: Statement = """
    SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
"""

# Purpose: page checksum failures seen by the server since its statistics were reset; a clean restart keeps them.
# PostgreSQL 12+, NULL where checksums are off.
_CHECKSUM_FAILURES: Statement = """
    SELECT pg_catalog.textsend(coalesce(datname::text, '')), checksum_failures, checksum_last_failure, stats_reset
    FROM pg_catalog.pg_stat_database WHERE checksum_failures > 0
"""

# Purpose: signs of a service whose readers share the storage of their primary. PostgreSQL 14+, no privilege.
_SHARED_STORAGE: Statement = """
    SELECT CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'aurora_version') THEN 'a'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'neon.timeline_id') THEN 'n'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name LIKE 'alloydb.%') THEN 'l'
        ELSE '' END::pg_catalog.bytea
"""
_SERVICES = {b"a": "Aurora", b"n": "Neon", b"l": "AlloyDB"}

WATCHED_SETTINGS = (
    "block_size",
    "data_checksums",
    "full_page_writes",
    "fsync",
    "hot_standby_feedback",
    "ignore_checksum_failure",
    "lc_messages",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_standby_archive_delay",
    "max_standby_streaming_delay",
    "max_wal_senders",
    "max_worker_processes",
    "primary_slot_name",
    "recovery_min_apply_delay",
    "server_encoding",
    "shared_buffers",
    "shared_preload_libraries",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
    "wal_log_hints",
    "wal_writer_delay",
    "zero_damaged_pages",
)


_NO_FEEDBACK_LIFETIME_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """Which server answers under a node's name, as one connection saw it."""

    system_identifier: str
    in_recovery: bool
    started_at: datetime
    host: str
    """The server's own address, empty over a Unix socket."""
    port: int
    own_port: int
    """The port in its configuration, whatever lies in between."""
    data_directory: str
    """Empty where the role may not see it."""

    @property
    def start_key(self) -> str:
        """Return a SHA-256 that tells this start of this server from every other."""
        told = (self.system_identifier, self.started_at.isoformat(), self.own_port, self.data_directory)
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def same_start(self, other: "NodeIdentity") -> bool:
        """Return whether both are one and the same running server, by whatever kind of address it was reached."""
        mine = (self.system_identifier, self.started_at, self.own_port)
        directories = {self.data_directory, other.data_directory} - {""}
        return mine == (other.system_identifier, other.started_at, other.own_port) and len(directories) < 2

    def same_server(self, other: "NodeIdentity") -> bool:
        """Return whether both are the same installation, before and after a restart perhaps."""
        if self.same_start(other):
            return True
        mine = (self.system_identifier, self.host, self.port, self.data_directory)
        return mine == (other.system_identifier, other.host, other.port, other.data_directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What the audit's role may do on a node."""

    role: str
    superuser: bool
    bypasses_row_security: bool
    reads_all_data: bool
    monitors: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database as the primary lists it."""

    name: str
    allows_connections: bool
    valid: bool
    """False where a DROP DATABASE was cut off (PostgreSQL 14.11 and later say so)."""
    may_connect: bool
    encoding: str
    is_template: bool
    oid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksumFailures:
    """Pages of one database whose checksum a server saw fail."""

    count: int
    last_at: datetime | None = None
    since: datetime | None = None
    """When the count was last set to zero, None where it never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Everything that is read of a node when a run begins."""

    name: str
    identity: NodeIdentity
    version_num: int
    version: str
    timeline: int | None
    lsn: Lsn | None
    settings: dict[str, str]
    privileges: Privileges
    free_connections: int
    checksum_failures: dict[str, ChecksumFailures]
    """By database, that of the shared catalogs being empty; only where there are any."""
    upstream: tuple[str, int] | None
    """Host or socket directory and port of the sender, None where nothing streams or nothing may be seen."""
    shared_storage: str = ""
    """The service whose readers are no copies, empty where the node shows no sign of one."""

    @property
    def role(self) -> NodeRole:
        """Return what the node is."""
        return NodeRole.STANDBY if self.identity.in_recovery else NodeRole.PRIMARY

    @property
    def block_size(self) -> int:
        """Return the bytes of a heap block."""
        return int(self.settings["block_size"])

    @property
    def shared_buffers(self) -> int:
        """Return the bytes of shared buffers (pg_settings counts them in blocks)."""
        return int(self.settings["shared_buffers"]) * self.block_size


async def read_identity(session: Session) -> NodeIdentity:
    """Tell which server this session speaks to.

    Raises NodeUnfit where a pooler stands in between: it tells its clients a backend pid of its own, and may hand any
    transaction to another session.
    """
    ((in_recovery, started_at, pid, host, port, own_port, directory),) = await session.fetch(_IDENTITY)
    if pid != session.advertised_pid:
        raise NodeUnfit(
            f'node "{session.node}" is reached through a connection pooler',
            node=session.node,
            hint="Give the address of the server itself: a pooler can hand a snapshot to another session.",
        )
    ((system_identifier,),) = await session.fetch(_SYSTEM_IDENTIFIER)
    return NodeIdentity(
        system_identifier=text(system_identifier),
        in_recovery=in_recovery,
        started_at=started_at,
        host=text(host or b""),
        port=port or own_port,
        own_port=own_port,
        data_directory=text(directory or b""),
    )


async def read_facts(session: Session) -> NodeFacts:
    """Read everything that is read of a node when a run begins."""
    identity = await read_identity(session)
    ((timeline, lsn),) = await session.fetch(_POSITION)
    settings = {text(name): text(value) for name, value in await session.fetch(_SETTINGS, [list(WATCHED_SETTINGS)])}
    ((role, superuser, bypass, reads, monitors),) = await session.fetch(_PRIVILEGES)
    ((server_free, role_limit),) = await session.fetch(_CONNECTIONS)
    version = session.server_version_num
    return NodeFacts(
        name=session.node,
        identity=identity,
        version_num=version,
        version=f"{version // 10000}.{version % 10000}",
        timeline=timeline,
        lsn=None if lsn is None else Lsn(lsn),
        settings=settings,
        privileges=Privileges(
            role=text(role), superuser=superuser, bypasses_row_security=bypass, reads_all_data=reads, monitors=monitors
        ),
        free_connections=server_free if role_limit < 0 or superuser else min(server_free, role_limit - 1),
        checksum_failures={
            text(name): ChecksumFailures(count=count, last_at=last_at, since=since)
            for name, count, last_at, since in await session.fetch(_CHECKSUM_FAILURES)
        },
        upstream=await _upstream(session),
        shared_storage=_SERVICES.get(bytes((await session.fetch(_SHARED_STORAGE))[0][0]), ""),
    )


async def read_databases(session: Session) -> list[Database]:
    """List the databases of the cluster."""
    return [
        Database(
            name=text(name),
            allows_connections=allows,
            valid=limit != -2,
            may_connect=may_connect,
            encoding=text(encoding),
            is_template=template,
            oid=oid,
        )
        for name, allows, limit, may_connect, encoding, template, oid in await session.fetch(_DATABASES)
    ]


async def read_database_oid(session: Session) -> int:
    """Tell which database a session is in, whatever its name is by now."""
    ((oid,),) = await session.fetch(_CURRENT_DATABASE)
    return int(oid)


async def _upstream(session: Session) -> tuple[str, int] | None:
    try:
        rows = await session.fetch(_UPSTREAM)
    except StatementFailed:
        return None
    return next(((text(host), port) for host, port in rows if host is not None and port is not None), None)


def standby_lifetime_s(settings: Mapping[str, str]) -> float:
    """Return how many seconds a snapshot may live on a standby without holding up its replay for long.

    With hot_standby_feedback the primary keeps the rows the snapshot needs; without it, replay waits for the snapshot
    at the first conflict (PostgreSQL manual, Handling Query Conflicts).

    >>> standby_lifetime_s({"hot_standby_feedback": "off", "max_standby_streaming_delay": "8000"})
    2.0
    """
    if settings.get("hot_standby_feedback") == "on":
        return float("inf")
    delay_ms = int(settings.get("max_standby_streaming_delay") or 30_000)
    return _NO_FEEDBACK_LIFETIME_S if delay_ms < 0 else max(0.5, min(_NO_FEEDBACK_LIFETIME_S, delay_ms / 4000))


def text(raw: bytes) -> str:
    """Read bytes of any server encoding; `raw_name` gives the same bytes back."""
    return bytes(raw).decode("utf-8", "surrogateescape")


def raw_name(name: str) -> bytes:
    """Return the bytes that `text` read."""
    return name.encode("utf-8", "surrogateescape")
