"""What keeps an audit from a proof is missing, what only worries is a warning, and what can't be seen is neither."""

from dataclasses import replace

import pytest

from replcheck.audit.options import Pacing
from replcheck.doctor.facts import Failure
from replcheck.model.audit import RelationKind
from replcheck.model.doctor import CheckState
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.examination import Administrators, Amcheck, Platform, Transport
from replcheck.postgres.nodes import NodeIdentity
from replcheck.postgres.wal import ReplayState
from tests.core.doctors import (
    POSITION,
    bad,
    checks_of,
    connections,
    content,
    database,
    diagnosed,
    exam,
    only,
    privileges,
    rights,
    server,
    sound,
    spoiled,
)
from tests.core.proofs import relation

MISSING, WARNING, UNKNOWN, OK = CheckState.MISSING, CheckState.WARNING, CheckState.UNKNOWN, CheckState.OK
STANDBY = exam("db2", standby=True)


def with_content(*relations, role=None, **changes):
    """Return a primary whose database holds these relations."""
    made = exam(visited={"clinic": content(*relations, **changes)})
    return spoiled(made, privileges=role) if role else made


# A sound cluster


def test_a_sound_cluster_has_nothing_but_what_is_in_order():
    assert bad() == set()
    codes = {check.code for check in checks_of()}
    assert {"read_all_data", "monitor", "connect", "read_relations", "connections", "tls", "conflicts"} <= codes


def test_every_check_of_a_node_names_it_and_sql_always_has_its_place():
    ill = with_content(relation(readable=False), role=privileges(reads_all_data=False, monitors=False))
    for check in checks_of(ill, STANDBY, jobs=64):
        assert check.node in ("db1", "db2")
        assert bool(check.sql) == (check.sql_node is not None)
        assert "canary" not in repr(check)


def test_a_node_alone_is_not_ready_as_an_audit_would_refuse_it():
    found = only("replicas", exam())
    assert (found.state, found.node) == (MISSING, None)
    assert "--replica" in found.remedy


# Rights


@pytest.mark.parametrize("spoil", [{"readable": False}, {"schema_usable": False}])
def test_an_unreadable_relation_is_missing_with_the_grant(spoil):
    ill = with_content(relation(name="visit", **spoil), role=privileges(reads_all_data=False))
    found = only(
        "read_relations", replace(ill, rights=rights(member_of_read_all_data=False)), STANDBY, tables=("visit",)
    )
    assert (found.state, found.database) == (MISSING, "clinic")
    assert "1 of 1 relations in scope (public.visit)" in found.what
    assert found.sql == ('GRANT pg_read_all_data TO "auditor";',)
    assert found.remedy == "Run it as a superuser."


def test_grants_belong_to_the_primary_and_settings_to_the_node():
    hidden = replace(STANDBY, visited={"clinic": content(relation(row_security=True))})
    assert only("row_security", exam(), hidden).sql_node == "db1"
    curt = exam("db3", standby=True, settings={"hot_standby_feedback": "off", "max_standby_streaming_delay": "0"})
    assert only("conflicts", exam(), curt).sql_node == "db3"


def test_of_many_unreadable_relations_the_users_own_are_named_first():
    own = [relation(20_000 + number, name=f"t{number}", readable=False) for number in range(6)]
    catalog = relation(1_260, schema="pg_catalog", name="pg_authid", kind=RelationKind.CATALOG, readable=False)
    found = only("read_relations", with_content(catalog, *own, role=privileges(reads_all_data=False)))
    assert "7 of 7 relations in scope (public.t0, public.t1, public.t2, public.t3, public.t4 and 2 more)" in found.what


def test_large_objects_are_a_thing_of_their_own():
    store = relation(2_613, schema="pg_catalog", name="pg_largeobject", kind=RelationKind.LARGE_OBJECTS, readable=False)
    assert ("large_objects", "db1", MISSING) in bad(with_content(store, role=privileges(reads_all_data=False)))
    assert ("read_relations", "db1", MISSING) not in bad(with_content(store, role=privileges(reads_all_data=False)))


def test_what_a_server_holds_back_from_pg_read_all_data_is_no_matter_of_a_grant():
    catalog = relation(1_260, schema="pg_catalog", name="pg_authid", kind=RelationKind.CATALOG, readable=False)
    found = only("read_relations", with_content(catalog))
    assert found.sql == ()
    assert "--no-catalogs" in found.remedy
    store = relation(2_613, schema="pg_catalog", name="pg_largeobject", kind=RelationKind.LARGE_OBJECTS, readable=False)
    assert "--exclude" in only("large_objects", with_content(store)).remedy
    assert bad(with_content(catalog), catalogs=False) == set()


def test_a_member_that_does_not_inherit_is_told_so():
    ill = with_content(relation(readable=False), role=privileges(reads_all_data=False))
    found = only("read_relations", ill)
    assert found.sql == ('GRANT pg_read_all_data TO "auditor" WITH INHERIT TRUE;',)
    older = only("read_relations", spoiled(ill, version_num=150_004))
    assert older.sql == ('ALTER ROLE "auditor" INHERIT;',)


def test_row_level_security_needs_bypass_only_where_it_hides_rows():
    assert bad() == set()
    found = only("row_security", with_content(relation(name="secret", row_security=True)))
    assert (found.state, found.sql) == (MISSING, ('ALTER ROLE "auditor" BYPASSRLS;',))
    assert "public.secret" in found.what


def test_what_a_grant_would_only_bring_to_light_is_told_at_once():
    secret = relation(name="secret", readable=False, row_security=True)
    ill = with_content(secret, relation(20_001, readable=False), role=privileges(reads_all_data=False))
    assert "1 relation (public.secret)" in only("row_security", ill).what
    assert "2 of 2" in only("read_relations", ill).what


def test_what_the_user_excluded_is_not_missing():
    ill = with_content(relation(name="secret", readable=False), relation(20_001, name="visit"))
    assert bad(ill, excludes=("secret",)) == set()
    assert bad(ill, excludes=("visit",)) == {("read_relations", "db1", MISSING)}


def test_what_nothing_grants_is_missing_too():
    found = only("access_method", with_content(relation(access_method="columnar")))
    assert (found.state, found.sql) == (MISSING, ())
    assert "--exclude" in found.remedy


@pytest.mark.parametrize("spoil", [{"kind": None, "access_method": ""}, {"persistence": "u"}, {"populated": False}])
def test_what_is_left_out_by_design_is_in_order(spoil):
    assert bad(with_content(relation(**spoil))) == set()


def test_without_pg_monitor_an_audit_works_and_less_is_seen():
    blind = spoiled(STANDBY, privileges=privileges(monitors=False), timeline=None)
    assert bad(exam(), blind) == {("monitor", "db2", WARNING), ("timeline", "db2", UNKNOWN)}
    assert only("timeline", exam(), blind).sql == ()


def test_a_superuser_is_more_than_needed():
    found = only("superuser", spoiled(exam(), privileges=privileges(superuser=True)))
    assert found.state is WARNING
    assert found.sql[0] == "CREATE ROLE replcheck LOGIN;"


def test_a_revoked_function_is_missing_even_where_it_ended_the_examination():
    failure = Failure(code="failed", what="refused a statement (SQLSTATE 42501)", hint="")
    told = rights(refused_functions=("pg_control_system()",))
    found = only("execute", exam(facts=None, server=None, databases=(), visited={}, rights=told, failure=failure))
    assert (found.state, found.sql) == (
        MISSING,
        ('GRANT EXECUTE ON FUNCTION pg_control_system() TO "auditor";',),
    )
    assert only("execute", with_content(refused_functions=("pg_xact_status(xid8)",))).database == "clinic"


@pytest.mark.parametrize(
    ("version", "platform", "holders", "told"),
    [
        (180_001, Platform.OWN, Administrators(), "Run it as a superuser."),
        (180_001, Platform.OWN, Administrators(of_read_all_data=("dba",)), "Run it as a superuser, or as dba."),
        (
            180_001,
            Platform.RDS,
            Administrators(of_read_all_data=("rds_superuser",)),
            "On Amazon RDS, run it as rds_superuser or one of its members.",
        ),
        (
            160_001,
            Platform.CLOUD_SQL,
            Administrators(of_roles=("postgres",)),
            "On Cloud SQL, no role that can be seen may grant it: ask your provider.",
        ),
        (
            150_001,
            Platform.AZURE,
            Administrators(of_roles=("azure_pg_admin",)),
            "On Azure Database for PostgreSQL, run it as azure_pg_admin or one of its members.",
        ),
    ],
)
def test_who_may_grant_is_what_the_server_shows(version, platform, holders, told):
    ill = with_content(relation(readable=False), role=privileges(reads_all_data=False))
    who = rights(platform=platform, administrators=holders, member_of_read_all_data=False)
    assert only("read_relations", replace(spoiled(ill, version_num=version), rights=who)).remedy == told


@pytest.mark.parametrize(
    ("version", "platform", "holders", "told"),
    [
        (180_001, Platform.OWN, (), "or run this as a superuser."),
        (
            180_001,
            Platform.AZURE,
            ("azure_pg_admin",),
            "run this as azure_pg_admin, with the admin option on the role.",
        ),
        (150_001, Platform.AZURE, ("azure_pg_admin",), "ask your provider"),
        (180_001, Platform.CLOUD_SQL, (), "ask your provider"),
    ],
)
def test_who_may_let_a_role_bypass_is_what_the_server_shows(version, platform, holders, told):
    ill = spoiled(with_content(relation(row_security=True)), version_num=version)
    who = rights(platform=platform, administrators=Administrators(of_bypass=holders))
    assert told in only("row_security", replace(ill, rights=who)).remedy


@pytest.mark.parametrize(
    ("spoil", "code", "sql"),
    [
        ({"may_connect": False}, "connect", ('GRANT CONNECT ON DATABASE "clinic" TO "auditor";',)),
        ({"allows_connections": False}, "no_connections", ()),
        ({"valid": False}, "invalid_database", ()),
    ],
)
def test_a_database_that_can_not_be_entered_is_missing(spoil, code, sql):
    found = only(code, exam(databases=(database(**spoil),), visited={}))
    assert (found.state, found.database, found.sql) == (MISSING, "clinic", sql)


def test_a_database_that_let_nobody_in_after_all_is_missing():
    failure = Failure(code="refused", what="refuses the role or its password", hint="Check pg_hba.conf.")
    found = only("refused", exam(visited={"clinic": failure}))
    assert (found.state, found.database, found.remedy) == (MISSING, "clinic", "Check pg_hba.conf.")


@pytest.mark.parametrize(
    ("amcheck", "what", "grants"),
    [
        (None, "not installed", 0),
        (Amcheck(functions=()), "may be run", 0),
        (Amcheck(functions=("public.bt_index_check(regclass)",)), "may not run it", 1),
    ],
)
def test_amcheck_is_something_more_that_no_audit_of_rows_needs(amcheck, what, grants):
    found = only("amcheck", with_content(amcheck=amcheck))
    assert found.state is OK
    assert what in found.what
    assert len(found.sql) == grants


# Reaching the node


@pytest.mark.parametrize(
    ("transport", "state"),
    [
        ({"sslmode": "verify-full"}, OK),
        ({"sslmode": "verify-ca"}, WARNING),
        ({"sslmode": "require"}, WARNING),
        ({"sslmode": "prefer"}, WARNING),
        ({"tls": "", "sslmode": "verify-full"}, WARNING),
        ({"tls": "", "sslmode": "prefer"}, WARNING),
        ({"tls": "", "gss": True, "sslmode": "prefer"}, OK),
        ({"tls": "", "unix_socket": True, "sslmode": "prefer"}, OK),
        ({"tls": "", "loopback": True, "sslmode": "prefer"}, OK),
        ({"loopback": True, "sslmode": "prefer"}, OK),
    ],
)
def test_anything_below_verify_full_is_a_warning_unless_it_never_leaves_the_machine(transport, state):
    sound_one = Transport(unix_socket=False, loopback=False, tls="TLSv1.3", gss=False, sslmode="verify-full")
    assert only("tls", exam(server=server(transport=replace(sound_one, **transport)))).state is state


@pytest.mark.parametrize(
    ("free", "jobs", "state"),
    [(2, 3, MISSING), (3, 3, WARNING), (5, 3, WARNING), (6, 3, OK), (86, 2, OK), (1, 2, MISSING)],
)
def test_an_audit_needs_a_connection_for_each_lane_beside_the_first(free, jobs, state):
    used = connections(used=97 - free)
    node = spoiled(exam(server=server(connections=used)), free_connections=free)
    found = only("connections", node, jobs=jobs)
    assert found.state is state
    assert f"an audit needs {1 + jobs} connections, {free + 1} can be had" in found.what
    assert diagnosed(node, jobs=jobs).nodes[0].connections_free == free + 1


def test_checks_of_indexes_need_a_second_connection_beside_the_first_on_the_primary_alone():
    node = spoiled(exam(server=server(connections=connections(used=96))), free_connections=1)
    assert "needs 2 connections" in only("connections", node, jobs=1).what
    assert only("connections", node, jobs=1, indexes=True).state is MISSING
    assert "needs 3 connections" in only("connections", node, jobs=1, indexes=True).what
    assert "needs 4 connections" in only("connections", node, jobs=3, indexes=True).what
    standby = replace(STANDBY, server=server(connections=connections(used=90)))
    assert "needs 2 connections" in only("connections", standby, jobs=1, indexes=True).what


def test_the_limit_of_a_database_counts_for_checks_of_indexes_too():
    full = with_content(connection_limit=2, connections=2)
    assert ("database_connections", "db1", MISSING) in bad(full, jobs=1, indexes=True)


def test_the_limit_of_the_role_counts_with_its_other_sessions():
    limited = connections(role_limit=4, used_by_role=3)
    assert ("connections", "db1", MISSING) in bad(exam(server=server(connections=limited)), jobs=2)
    assert bad(exam(server=server(connections=replace(limited, role_limit=40))), jobs=2) == set()


def test_the_limit_of_a_database_counts_unless_a_superuser_asks():
    full = with_content(connection_limit=2, connections=2)
    assert ("database_connections", "db1", MISSING) in bad(full, jobs=2)
    assert ("database_connections", "db1", MISSING) not in bad(full, jobs=1)
    assert ("database_connections", "db1", MISSING) not in bad(spoiled(full, privileges=privileges(superuser=True)))


def test_other_runs_and_short_idle_limits_are_warnings():
    busy = exam(server=server(sessions={"replcheck lane 1": 2, "replcheck control": 1}))
    assert bad(busy) == {("other_runs", "db1", WARNING)}
    assert "3 sessions" in only("other_runs", busy).what
    assert bad(with_content(idle_session_timeout_s=60)) == {("idle_session_timeout", "db1", WARNING)}
    assert bad(with_content(idle_session_timeout_s=3600)) == set()


def test_one_name_for_several_hosts_is_a_warning():
    assert bad(exam(hosts=("a", "b"))) == {("several_hosts", "db1", WARNING)}


# Standbys


@pytest.mark.parametrize(
    ("settings", "state", "told"),
    [
        ({"hot_standby_feedback": "on"}, OK, "is on"),
        ({"hot_standby_feedback": "off", "max_standby_streaming_delay": "30000"}, OK, "no snapshot longer than 5s"),
        ({"hot_standby_feedback": "off", "max_standby_streaming_delay": "-1"}, OK, "no snapshot longer than 5s"),
        ({"hot_standby_feedback": "off", "max_standby_streaming_delay": "4000"}, WARNING, "longer than 1s"),
        ({"hot_standby_feedback": "off", "max_standby_streaming_delay": "0"}, WARNING, "longer than 500ms"),
    ],
)
def test_how_a_standby_treats_long_reads_is_told_with_what_an_audit_does_then(settings, state, told):
    found = only("conflicts", exam(), exam("db2", standby=True, settings=settings))
    assert found.state is state
    assert told in found.what


def test_a_managed_standby_is_set_in_its_own_way():
    curt = exam("db2", standby=True, settings={"hot_standby_feedback": "off", "max_standby_streaming_delay": "0"})
    found = only("conflicts", exam(), replace(curt, rights=rights(platform=Platform.RDS)))
    assert (found.state, found.sql) == (WARNING, ())
    assert "parameter group" in found.remedy


def test_a_standby_that_does_not_follow_is_a_warning():
    paused = ReplayState(received=POSITION, replayed=POSITION, paused=True, starved=False)
    standby = exam(
        "db2",
        standby=True,
        settings={"recovery_min_apply_delay": "3600000"},
        server=server(standby=True, replay=paused, receiving=False),
    )
    assert bad(exam(), standby) == {
        ("replay_paused", "db2", WARNING),
        ("apply_delay", "db2", WARNING),
        ("not_streaming", "db2", WARNING),
    }
    assert "1h" in only("apply_delay", exam(), standby).what


@pytest.mark.parametrize(("lag", "codes"), [(0, set()), (64 << 20, set()), ((64 << 20) + 1, {("lag", "db2", WARNING)})])
def test_a_standby_far_behind_is_a_warning(lag, codes):
    behind = spoiled(STANDBY, lsn=type(POSITION)(POSITION - lag))
    assert bad(exam(), behind) == codes
    [_, seen] = diagnosed(exam(), behind).nodes
    assert seen.observed is not None
    assert seen.observed.lag_bytes == lag


def test_remote_apply_is_a_warning_where_somebody_waits_for_it():
    assert bad(exam(settings={"synchronous_commit": "remote_apply"}), STANDBY) == set()
    waits = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "*"}
    assert bad(exam(settings=waits), STANDBY) == {("remote_apply", "db1", WARNING)}


@pytest.mark.parametrize(
    ("name", "value"), [("ignore_checksum_failure", "on"), ("zero_damaged_pages", "on"), ("data_checksums", "off")]
)
def test_settings_that_make_an_audit_blind_are_warnings(name, value):
    both = (exam(settings={name: value}), exam("db2", standby=True, settings={name: value}))
    assert bad(*both) == {(f"setting_{name}", "db1", WARNING), (f"setting_{name}", "db2", WARNING)}
    assert only(f"setting_{name}", both[0]).remedy


def test_a_parity_finding_is_told_once_and_of_its_own_node():
    other = exam("db2", standby=True, settings={"block_size": "4096"})
    found = [
        check for check in checks_of(exam(), other, exam("db3", standby=True)) if check.code == "setting_block_size"
    ]
    assert [(check.node, check.state) for check in found] == [("db2", WARNING)]
    assert found[0].remedy == "An audit is inconclusive as long as that is so."


# Who the nodes are


def identity(of, **changes) -> NodeIdentity:
    found: NodeIdentity = replace(of.facts.identity, **changes)
    return found


def test_one_server_under_two_names_is_missing_a_copy():
    twin = spoiled(exam("db2"), identity=identity(exam()))
    found = bad(exam(), twin)
    assert ("same_server", "db2", MISSING) in found
    assert ("primaries", None, MISSING) in found


def test_a_standby_of_another_cluster_is_no_replica():
    foreign = spoiled(STANDBY, identity=identity(STANDBY, system_identifier="1"))
    assert ("system_identifier", "db2", MISSING) in bad(exam(), foreign)
    assert ("system_identifier", "db2", MISSING) in bad(foreign, exam())


@pytest.mark.parametrize("role", NodeRole)
def test_a_node_that_is_something_else_than_it_was_given_as_is_missing(role):
    node = replace(
        STANDBY if role is NodeRole.PRIMARY else exam(), target=NodeTarget(name="x", dsn="", expected_role=role)
    )
    assert ("role", "x", MISSING) in bad(node)


def test_standbys_alone_can_not_be_audited_but_an_unseen_node_may_be_the_primary():
    assert ("primaries", None, MISSING) in bad(STANDBY, exam("db3", standby=True))
    unseen = exam("db1", failure=Failure(code="unreachable", what="does not answer", hint=""), rights=None, facts=None)
    assert bad(replace(unseen, server=None, databases=(), visited={}), STANDBY) == {("unreachable", "db1", MISSING)}


def test_from_whom_a_standby_streams_is_told_where_it_can_be_seen():
    def upstream(*exams):
        return [node.observed.upstream for node in diagnosed(*exams).nodes if node.observed]

    follows = spoiled(STANDBY, upstream=("db1.internal", 5432))
    assert upstream(exam(), follows, exam("db3", standby=True)) == [None, "db1", None]
    assert upstream(exam(), spoiled(STANDBY, upstream=("db1.internal", 5433))) == [None, None]
    assert upstream(exam(), spoiled(STANDBY, upstream=("elsewhere", 5432))) == [None, None]


def test_a_reader_of_shared_storage_is_no_copy():
    reader = spoiled(STANDBY, shared_storage="Aurora")
    assert bad(exam(), reader) == {("shared_storage", "db2", MISSING)}
    assert bad(spoiled(exam(), shared_storage="Aurora"), STANDBY) == set()


def test_what_was_read_before_a_failure_is_still_told():
    cut = exam("db2", standby=True, failure=Failure(code="failed", what="the connection was lost", hint=""))
    assert bad(exam(), cut) == {("failed", "db2", MISSING)}


# The cost


def test_the_cost_is_that_of_the_primary_and_leaves_out_what_an_audit_leaves_out():
    relations = (
        relation(16_384, name="visit", size_bytes=8 << 20, toast_bytes=4 << 20),
        relation(16_385, name="unlogged", persistence="u", size_bytes=1 << 30),
        relation(16_386, name="counter", kind=RelationKind.SEQUENCE, access_method="", size_bytes=8192),
        relation(16_387, name="locked", readable=False, size_bytes=1 << 20),
    )
    cost = diagnosed(STANDBY, with_content(*relations), jobs=2).cost
    assert cost is not None
    assert (cost.node, cost.relations, cost.size_bytes) == ("db1", 3, 13 << 20)
    assert cost.databases[0].left_out == 1
    assert cost.not_visible_bytes == 5 << 20
    assert cost.duration_s == pytest.approx(13 / 200)
    gentle = diagnosed(with_content(*relations), jobs=1, pacing=Pacing.GENTLE).cost
    assert gentle is not None
    assert gentle.pace == "gentle"
    assert gentle.duration_s == pytest.approx(13 / 10)


def test_shared_catalogs_are_counted_once():
    shared = relation(
        1_262, schema="pg_catalog", name="pg_database", kind=RelationKind.CATALOG, shared=True, size_bytes=8192
    )
    node = exam(databases=(database("a"), database("b")), visited={"a": content(shared), "b": content(shared)})
    cost = diagnosed(node).cost
    assert cost is not None
    assert [found.relations for found in cost.databases] == [1, 0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"data_checksums": "on"}, "512MB of WAL"),
        ({"data_checksums": "off", "wal_log_hints": "on"}, "512MB of WAL"),
        ({"data_checksums": "off", "wal_log_hints": "off"}, "but no WAL"),
    ],
)
def test_a_load_that_vacuum_has_not_seen_is_a_warning(settings, told):
    loaded = replace(
        exam(settings=settings),
        visited={"clinic": content(relation(16_384, size_bytes=1 << 30), visible_pages={16_384: 65_536})},
    )
    found = only("not_all_visible", loaded, STANDBY)
    assert bad(loaded, STANDBY) - {
        ("setting_data_checksums", "db1", WARNING),
        ("setting_data_checksums", "db2", WARNING),
    } == {("not_all_visible", "db1", WARNING)}
    assert found.state is WARNING
    assert told in found.what
    assert "512MB of 1GB" in found.what


@pytest.mark.parametrize(("size", "visible"), [(100 << 20, 0), (4 << 30, 4 * 131_072 - 40_000)])
def test_little_that_is_not_all_visible_is_no_warning(size, visible):
    fresh = replace(
        exam(), visited={"clinic": content(relation(16_384, size_bytes=size), visible_pages={16_384: visible})}
    )
    assert bad(fresh) == set()


def test_without_any_node_there_is_no_cost():
    assert diagnosed(exam(facts=None, rights=None, server=None)).cost is None


def test_a_sound_cluster_of_three_is_examined_node_by_node():
    assert [node.name for node in diagnosed(*sound()).nodes] == ["db1", "db2", "db3"]
