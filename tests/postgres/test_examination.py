"""What is read of a real server before an audit is what the server says, on every major, whatever the role may see."""

from collections.abc import AsyncIterator, Iterator

import pytest

from replcheck.audit.options import AuditOptions
from replcheck.doctor.facts import NodeExam
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.model.node import NodeTarget
from replcheck.postgres import advice
from replcheck.postgres.examination import Administrators, Platform, read_rights
from replcheck.postgres.local import sql as psql
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.runs.doctor import examine
from tests.staged import session_on

POOR = 'po\\or "role"\nwith no rights'
"""A role with a line break, quotes and a backslash in its name, to which nothing was granted."""
OPTIONS = AuditOptions()


@pytest.fixture(scope="module")
def furnished(cluster: LabCluster) -> Iterator[str]:
    """A database with what an examination has to tell apart, and a role without rights."""
    name = cluster.create_database('ex.am "ined"\n')
    for statement in (
        'create schema "s.p""q"',
        'create table "s.p""q"."t\t1" with (autovacuum_enabled = off) as select i from generate_series(1, 20000) as i',
        "create table hidden (i int)",
        "alter table hidden enable row level security",
        "create unlogged table fleeting (i int)",
        "create extension amcheck",
    ):
        cluster.primary.execute(psql.SQL(statement), dbname=name)
    cluster.primary.execute(psql.SQL("create role {} login connection limit 9").format(psql.Identifier(POOR)))
    cluster.primary.execute(psql.SQL("alter role {} set idle_session_timeout = '70s'").format(psql.Identifier(POOR)))
    cluster.catch_up()
    yield name
    cluster.drop_database(name)
    cluster.primary.execute(psql.SQL("drop role {}").format(psql.Identifier(POOR)))


def target(cluster: LabCluster, node: str, role: str = AUDIT_ROLE) -> NodeTarget:
    dsn = cluster.audit_dsn(node)
    if role != AUDIT_ROLE:
        quoted = role.replace("\\", "\\\\").replace("'", "\\'")
        dsn = f"{cluster.node(node).address} dbname=postgres user='{quoted}'"
    return NodeTarget(name=node, dsn=dsn)


async def examined(cluster: LabCluster, node: str, role: str = AUDIT_ROLE) -> NodeExam:
    exam = await examine(target(cluster, node, role), OPTIONS)
    assert exam.failure is None
    assert exam.rights is not None
    assert exam.facts is not None
    assert exam.server is not None
    return exam


@pytest.mark.parametrize("node", ["primary", "standby1"])
async def test_the_audit_role_sees_everything_of_every_node(cluster: LabCluster, furnished: str, node: str) -> None:
    exam = await examined(cluster, node)
    assert exam.rights is not None
    assert exam.server is not None
    assert (exam.rights.role, exam.rights.platform, exam.rights.refused_functions) == (AUDIT_ROLE, Platform.OWN, ())
    assert (exam.server.transport.unix_socket, exam.server.transport.sslmode) == (True, "prefer")
    assert exam.server.connections.most == 100
    assert 1 <= exam.server.connections.used_by_role <= exam.server.connections.used < 20
    assert exam.server.receiving is (True if node == "standby1" else None)
    assert (exam.server.replay is None) == (node == "primary")
    assert {"postgres", "template1", furnished} <= exam.visited.keys()
    assert "template0" not in {database.name for database in exam.databases}


async def test_a_database_is_told_with_what_is_hidden_and_what_is_all_visible(
    cluster: LabCluster, furnished: str
) -> None:
    found = (await examined(cluster, "primary")).visited[furnished]
    relations = {relation.name: relation for relation in found.relations}  # type: ignore[union-attr]
    assert relations["hidden"].row_security
    assert relations["fleeting"].persistence == "u"
    assert relations["t\t1"].schema == 's.p"q'
    visible = found.visible_pages  # type: ignore[union-attr]
    catalog = relations["pg_proc"]
    assert 0 < visible[catalog.oid] * 8192 <= catalog.total_bytes
    assert visible[relations["t\t1"].oid] == 0
    functions = found.amcheck.functions  # type: ignore[union-attr]
    assert {function.partition("(")[0] for function in functions} == {"public.bt_index_check"}


@pytest.mark.parametrize("node", ["primary", "standby1"])
async def test_a_role_without_rights_is_read_as_far_as_it_may_see(
    cluster: LabCluster, furnished: str, node: str
) -> None:
    exam = await examined(cluster, node, POOR)
    assert exam.rights is not None
    assert exam.facts is not None
    assert exam.server is not None
    assert (exam.rights.role, exam.facts.privileges.role) == (POOR, POOR)
    assert not exam.rights.member_of_read_all_data
    assert exam.server.receiving is (True if node == "standby1" else None)
    assert (exam.server.connections.role_limit, exam.server.connections.used_by_role) == (9, 1)
    assert exam.server.connections.used < 20
    found = exam.visited[furnished]
    assert found.idle_session_timeout_s == 70  # type: ignore[union-attr]
    assert not any(relation.readable for relation in found.relations if not relation.is_catalog)  # type: ignore[union-attr]


@pytest.fixture
async def poor(cluster: LabCluster, furnished: str) -> AsyncIterator[Session]:
    session = await open_session(target(cluster, "primary", POOR), purpose="test", limits=Limits())
    yield session
    await session.close()


async def test_the_advice_names_the_role_whatever_it_is_called(
    cluster: LabCluster, furnished: str, poor: Session
) -> None:
    assert not (await read_rights(poor)).member_of_monitor
    for statement in (
        advice.grant_monitor(POOR),
        advice.grant_read_all_data(POOR),
        advice.grant_connect(POOR, furnished),
        advice.bypass_row_security(POOR),
        advice.lift_idle_limit(POOR),
    ):
        assert "\n" not in statement
        cluster.primary.execute(psql.SQL(statement))
    try:
        rights = await read_rights(poor)
        assert (rights.member_of_monitor, rights.member_of_read_all_data) == (True, True)
    finally:
        for undo in ("revoke pg_monitor, pg_read_all_data from {0}", "alter role {0} nobypassrls"):
            cluster.primary.execute(psql.SQL(undo).format(psql.Identifier(POOR)))


async def test_who_may_grant_and_whose_server_it_is_are_seen(cluster: LabCluster, poor: Session) -> None:
    before = (await read_rights(poor)).administrators
    assert before == Administrators()
    names = ("rds_superuser", "may_bypass")
    cluster.primary.execute("create role rds_superuser")
    cluster.primary.execute("create role may_bypass bypassrls createrole")
    try:
        cluster.primary.execute("grant pg_read_all_data to rds_superuser with admin option")
        rights = await read_rights(poor)
        assert rights.platform is Platform.RDS
        assert rights.administrators == Administrators(
            of_read_all_data=("rds_superuser",), of_bypass=("may_bypass",), of_roles=("may_bypass",)
        )
    finally:
        for name in names:
            cluster.primary.execute(psql.SQL("drop role {}").format(psql.Identifier(name)))


@pytest.mark.parametrize(
    ("role", "platform"), [("azure_pg_admin", Platform.AZURE), ("cloudsqlsuperuser", Platform.CLOUD_SQL)]
)
async def test_the_administrators_role_of_a_service_tells_whose_server_it_is(
    cluster: LabCluster, poor: Session, role: str, platform: Platform
) -> None:
    name = psql.Identifier(role)
    cluster.primary.execute(psql.SQL("create role {} createrole").format(name))
    try:
        rights = await read_rights(poor)
    finally:
        cluster.primary.execute(psql.SQL("drop role {}").format(name))
    assert (rights.platform, rights.administrators.of_roles) == (platform, (role,))


@pytest.mark.parametrize(
    ("setting", "platform"),
    [
        ("rds.extensions", Platform.RDS),
        ("azure.extensions", Platform.AZURE),
        ("cloudsql.iam_authentication", Platform.CLOUD_SQL),
        ("rdsx.extensions", Platform.OWN),
    ],
)
async def test_the_settings_of_a_service_tell_whose_server_it_is(
    cluster: LabCluster, database: str, setting: str, platform: Platform
) -> None:
    add_setting(cluster, database, setting)
    assert await platform_in(cluster, database) is platform


async def test_settings_tell_more_than_a_role_that_anybody_may_have_made(cluster: LabCluster, database: str) -> None:
    add_setting(cluster, database, "cloudsql.iam_authentication")
    cluster.primary.execute("create role rds_superuser")
    try:
        assert await platform_in(cluster, database) is Platform.CLOUD_SQL
    finally:
        cluster.primary.execute("drop role rds_superuser")


def add_setting(cluster: LabCluster, database: str, setting: str) -> None:
    """Have a database list one more setting, as a library of a managed service brings it.

    Only a library can define one that is listed: what is set under any other name stays hidden (PostgreSQL manual,
    pg_settings).
    """
    with session_on(cluster.primary, database, autocommit=True) as connection:
        [(listed,)] = connection.execute("select rtrim(pg_get_viewdef('pg_settings'::regclass), ';')").fetchall()
        [(one_more,)] = connection.execute(
            r"select regexp_replace(%s, 'SELECT (a\.)?name,', format('SELECT %%L,', %s::text))", [listed, setting]
        ).fetchall()
        connection.execute("set allow_system_table_mods = on")
        connection.execute(
            f"create or replace view pg_catalog.pg_settings as {listed} union all {one_more} where name = 'port'"
        )


async def platform_in(cluster: LabCluster, database: str) -> Platform:
    """Return whose server it seems to be to a session in a database."""
    here = NodeTarget(name="primary", dsn=cluster.audit_dsn("primary", database))
    session = await open_session(here, purpose="test", limits=Limits())
    try:
        return (await read_rights(session)).platform
    finally:
        await session.close()


async def test_a_revoked_function_is_named_though_it_ends_the_examination(cluster: LabCluster, furnished: str) -> None:
    cluster.primary.execute("revoke execute on function pg_control_system() from public")
    try:
        exam = await examine(target(cluster, "primary", POOR), OPTIONS)
    finally:
        cluster.primary.execute("grant execute on function pg_control_system() to public")
    assert exam.failure is not None
    assert exam.rights is not None
    assert exam.rights.refused_functions == ("pg_control_system()",)
    assert exam.facts is None
