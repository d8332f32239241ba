"""What a node and its role allow: read before an audit, on sessions that take no snapshot and read no row.

What the role may not see comes as None, never as a guess.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from replcheck.errors import StatementFailed
from replcheck.model.node import NodeRole
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.nodes import NodeFacts, text
from replcheck.postgres.session import Session, Statement
from replcheck.postgres.wal import ReplayState, replay_state

# Purpose: how this very connection is protected. PostgreSQL 14+, no privilege for one's own.
_TRANSPORT: Statement = """
    SELECT pg_catalog.textsend((SELECT s.version FROM pg_catalog.pg_stat_ssl AS s
                                WHERE s.pid = pg_catalog.pg_backend_pid() AND s.ssl)),
           coalesce((SELECT g.encrypted FROM pg_catalog.pg_stat_gssapi AS g
                     WHERE g.pid = pg_catalog.pg_backend_pid()), false),
           pg_catalog.inet_server_addr() IS NULL,
           coalesce(pg_catalog.inet_client_addr() <<= '127.0.0.0/8'::inet
                    OR pg_catalog.inet_client_addr() = '::1'::inet, false)
"""

# Purpose: signs of a managed service: its own settings, else its administrators' role. PostgreSQL 14+, no privilege.
_PLATFORM: Statement = """
    SELECT coalesce(
        (SELECT min(CASE WHEN starts_with(name, 'rds.') THEN 'r' WHEN starts_with(name, 'azure.') THEN 'a'
                         WHEN starts_with(name, 'cloudsql.') THEN 'c' END) FROM pg_catalog.pg_settings),
        (SELECT min(CASE rolname WHEN 'rds_superuser' THEN 'r' WHEN 'azure_pg_admin' THEN 'a'
                         WHEN 'cloudsqlsuperuser' THEN 'c' END) FROM pg_catalog.pg_roles),
        '')::pg_catalog.bytea
"""

# Purpose: who asks, and whether the role is a member of what it can't use (NOINHERIT). PostgreSQL 14+, no privilege.
_MEMBERSHIPS: Statement = """
    SELECT pg_catalog.textsend(current_user::text), pg_catalog.pg_has_role(current_user, 'pg_read_all_data', 'MEMBER'),
           pg_catalog.pg_has_role(current_user, 'pg_monitor', 'MEMBER')
"""

# Purpose: which roles other than superusers may grant what an audit needs: members with the admin option (d, m), roles
# that bypass row-level security and may change others (b), and those that may create roles (c). PostgreSQL 14+, no
# privilege.
_ADMINISTRATORS: Statement = """
    SELECT ascii(CASE g.rolname WHEN 'pg_monitor' THEN 'm' ELSE 'd' END), pg_catalog.textsend(m.rolname::text)
    FROM pg_catalog.pg_auth_members AS a
    JOIN pg_catalog.pg_roles AS m ON m.oid = a.member
    JOIN pg_catalog.pg_roles AS g ON g.oid = a.roleid
    WHERE a.admin_option AND NOT m.rolsuper AND g.rolname IN ('pg_read_all_data', 'pg_monitor')
    UNION
    SELECT ascii('b'), pg_catalog.textsend(rolname::text) FROM pg_catalog.pg_roles
    WHERE rolbypassrls AND rolcreaterole AND NOT rolsuper
    UNION
    SELECT ascii('c'), pg_catalog.textsend(rolname::text) FROM pg_catalog.pg_roles WHERE rolcreaterole AND NOT rolsuper
    ORDER BY 1, 2
"""

# Purpose: functions that an audit runs and the role may not: all are PUBLIC's unless somebody revoked that.
# PostgreSQL 14+, no privilege.
_REFUSED_FUNCTIONS: Statement = """
    SELECT pg_catalog.textsend(p.oid::regprocedure::text)
    FROM unnest(ARRAY[
        'pg_control_system()', 'pg_current_snapshot()', 'pg_current_wal_flush_lsn()', 'pg_current_wal_insert_lsn()',
        'pg_get_multixact_members(xid)', 'pg_is_in_recovery()', 'pg_is_wal_replay_paused()',
        'pg_last_wal_receive_lsn()', 'pg_last_wal_replay_lsn()', 'pg_postmaster_start_time()',
        'pg_relation_filenode(regclass)', 'pg_relation_size(regclass)', 'pg_relation_size(regclass,text)',
        'pg_stat_get_activity(integer)', 'pg_stat_get_wal_receiver()', 'pg_walfile_name(pg_lsn)', 'pg_xact_status(xid8)'
    ]) AS wanted (name)
    JOIN pg_catalog.pg_proc AS p ON p.oid = pg_catalog.to_regprocedure('pg_catalog.' || wanted.name)
    WHERE NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY wanted.name
"""

# Purpose: how many connections there are and who uses them. Database, role and name of every backend are visible to
# everyone, its type is not; processes of the server itself have no role. PostgreSQL 14+, no privilege.
_CONNECTIONS: Statement = """
    SELECT pg_catalog.current_setting('max_connections')::int,
           pg_catalog.current_setting('superuser_reserved_connections')::int
             + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0),
           count(*), count(*) FILTER (WHERE a.usesysid = r.oid), r.rolconnlimit
    FROM pg_catalog.pg_roles AS r
    LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) AS a
           ON a.usesysid IS NOT NULL AND (a.backend_type IS NULL OR a.backend_type = 'client backend')
    WHERE r.rolname = current_user
    GROUP BY r.oid, r.rolconnlimit
"""

# Purpose: sessions of other runs of replcheck, by their name. PostgreSQL 14+, no privilege.
_SESSIONS: Statement = """
    SELECT pg_catalog.textsend(a.application_name), count(*)
    FROM pg_catalog.pg_stat_get_activity(NULL) AS a
    WHERE starts_with(a.application_name, 'replcheck ')
      AND a.application_name NOT IN ('replcheck doctor', 'replcheck lab')
    GROUP BY a.application_name ORDER BY a.application_name
"""

# Purpose: whether a WAL receiver runs; its pid is all that everybody may see of it. PostgreSQL 14+, no privilege.
_RECEIVING: Statement = "SELECT count(*) > 0 FROM pg_catalog.pg_stat_get_wal_receiver() AS w WHERE w.pid IS NOT NULL"

# Purpose: what of this database's settings could cut a session that waits, its connection limit and who is in it.
# Milliseconds. PostgreSQL 14+, no privilege.
_DATABASE: Statement = """
    SELECT (SELECT s.setting::bigint FROM pg_catalog.pg_settings AS s WHERE s.name = 'idle_session_timeout'),
           d.datconnlimit,
           (SELECT count(*) FROM pg_catalog.pg_stat_get_activity(NULL) AS a
            WHERE a.datid = d.oid AND a.usesysid IS NOT NULL)
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
"""

# Purpose: pages that vacuum marked all-visible, of relations with their TOAST tables. PostgreSQL 14+, no privilege.
_ALL_VISIBLE: Statement = """
    SELECT c.oid::bigint, greatest(c.relallvisible, 0)::bigint + greatest(coalesce(t.relallvisible, 0), 0)
    FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_class AS t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'm')
"""

# Purpose: the functions of amcheck that check an index against its table, and whether the role may run them.
# PostgreSQL 14+, no privilege.
_AMCHECK: Statement = """
    SELECT pg_catalog.textsend(p.oid::regprocedure::text),
           pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
    JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = 'bt_index_check'
    WHERE e.extname = 'amcheck'
    ORDER BY p.pronargs
"""


class Platform(Enum):
    """Whose server it seems to be; the value is what people call it."""

    OWN = ""
    RDS = "Amazon RDS"
    AZURE = "Azure Database for PostgreSQL"
    CLOUD_SQL = "Cloud SQL"


_PLATFORMS = {b"": Platform.OWN, b"r": Platform.RDS, b"a": Platform.AZURE, b"c": Platform.CLOUD_SQL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How a connection travels."""

    unix_socket: bool
    loopback: bool
    tls: str
    """Version of the protocol, empty without TLS."""
    gss: bool
    """Encrypted by GSSAPI."""
    sslmode: str
    """What the client insists on, in libpq's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrators:
    """Roles beside superusers that may hand out what an audit needs."""

    of_read_all_data: tuple[str, ...] = ()
    of_monitor: tuple[str, ...] = ()
    of_bypass: tuple[str, ...] = ()
    of_roles: tuple[str, ...] = ()
    """CREATEROLE: before PostgreSQL 16 enough to grant both predefined roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What is known of the role's rights before anything else is asked."""

    role: str
    platform: Platform
    member_of_read_all_data: bool
    """Also where it is no use, because the role does not inherit."""
    member_of_monitor: bool
    refused_functions: tuple[str, ...]
    """With their arguments, quoted as SQL wants them."""
    administrators: Administrators


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """The connections of a server, the asking one included."""

    most: int
    reserved: int
    used: int
    used_by_role: int
    role_limit: int
    """-1 is none."""

    @property
    def free(self) -> int:
        """Return how many more the role could open."""
        of_server = self.most - self.reserved - self.used
        return of_server if self.role_limit < 0 else min(of_server, self.role_limit - self.used_by_role)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What is read of a server beside `NodeFacts`."""

    transport: Transport
    connections: Connections
    sessions: dict[str, int]
    """Sessions of other runs of replcheck, by application name."""
    replay: ReplayState | None
    """None on a primary."""
    receiving: bool | None
    """Whether a standby has a WAL receiver; None on a primary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amcheck:
    """The extension amcheck in one database."""

    functions: tuple[str, ...]
    """Those of bt_index_check that the role may not run, quoted as SQL wants them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What is read of one database on one node."""

    relations: tuple[Relation, ...]
    visible_pages: dict[int, int]
    """By oid of the relation, its TOAST table's included."""
    refused_functions: tuple[str, ...]
    idle_session_timeout_s: float
    """0 is none."""
    connection_limit: int
    """-1 is none."""
    connections: int
    """The asking one included."""
    amcheck: Amcheck | None
    """None where it is not installed."""


async def read_rights(session: Session) -> Rights:
    """Read what says whether the rest can be read, and who could change that."""
    ((platform,),) = await session.fetch(_PLATFORM)
    ((role, reads, monitors),) = await session.fetch(_MEMBERSHIPS)
    roles: dict[str, list[str]] = {"d": [], "m": [], "b": [], "c": []}
    for kind, name in await session.fetch(_ADMINISTRATORS):
        roles[chr(kind)].append(text(name))
    return Rights(
        role=text(role),
        platform=_PLATFORMS[bytes(platform)],
        member_of_read_all_data=reads,
        member_of_monitor=monitors,
        refused_functions=await _refused_functions(session),
        administrators=Administrators(
            of_read_all_data=tuple(roles["d"]),
            of_monitor=tuple(roles["m"]),
            of_bypass=tuple(roles["b"]),
            of_roles=tuple(roles["c"]),
        ),
    )


async def read_server(session: Session, facts: NodeFacts) -> ServerFacts:
    """Read how the node can be reached and how busy it is."""
    ((tls, gss, unix_socket, loopback),) = await session.fetch(_TRANSPORT)
    ((most, reserved, used, used_by_role, role_limit),) = await session.fetch(_CONNECTIONS)
    standby = facts.role is NodeRole.STANDBY
    receiving = None
    if standby:
        ((receiving,),) = await session.fetch(_RECEIVING)
    return ServerFacts(
        transport=Transport(
            # Both ends must say so: a proxy on the server's host makes every client look local to the server.
            unix_socket=unix_socket and not session.peer_address,
            loopback=loopback and _is_loopback(session.peer_address),
            tls=text(tls or b""),
            gss=gss,
            sslmode=session.sslmode,
        ),
        connections=Connections(
            most=most, reserved=reserved, used=used, used_by_role=used_by_role, role_limit=role_limit
        ),
        sessions={text(name): count for name, count in await session.fetch(_SESSIONS)},
        replay=await replay_state(session) if standby else None,
        receiving=receiving,
    )


async def read_database(session: Session) -> DatabaseFacts:
    """Read what an audit would find in the session's database; no relation's rows are read."""
    ((idle_ms, limit, connections),) = await session.fetch(_DATABASE)
    functions = await session.fetch(_AMCHECK)
    return DatabaseFacts(
        relations=tuple((await read_relations(session)).values()),
        visible_pages=dict(await session.fetch(_ALL_VISIBLE)),
        refused_functions=await _refused_functions(session),
        idle_session_timeout_s=(idle_ms or 0) / 1000,
        connection_limit=limit,
        connections=connections,
        amcheck=Amcheck(functions=tuple(text(name) for name, may in functions if not may)) if functions else None,
    )


def _is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address.partition("%")[0]).is_loopback


async def _refused_functions(session: Session) -> tuple[str, ...]:
    try:
        return tuple(text(name) for (name,) in await session.fetch(_REFUSED_FUNCTIONS))
    except StatementFailed:
        return ()
