"""Which node answers, and what becomes of an audit whose nodes come and go."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from replcheck.errors import NodeUnfit
from replcheck.events import (
    Aligned,
    DivergenceFound,
    Event,
    NodeCameBack,
    NodeWentAway,
    ProvingBegan,
    RelationFinished,
    RowsDiffer,
)
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.outcome import Verdict
from tests.conftest import MakeCluster
from tests.proxies import proxied
from tests.staged import (
    at,
    audit,
    between_plan_and_read,
    make_slow_tables,
    newest_only,
    session_on,
    targets_of,
    until,
    value,
)

TABLES = ("one", "two", "three")


def _fill(cluster: LabCluster, database: str = "postgres") -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for number, name in enumerate(TABLES):
            # The audit reads the largest first: one, then two, then three.
            connection.execute(f"create table {name} (id int primary key, note text)")
            connection.execute(
                f"insert into {name} select g, repeat('x', 500) from generate_series(1, %s) g",
                [1500 - 500 * number],
            )
    cluster.catch_up()


@pytest.fixture
def own(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    """A primary and two standbys with three tables, which the test may break."""
    cluster = make_cluster(major=newest_major)
    _fill(cluster)
    return cluster


@pytest.fixture
def filled(cluster: LabCluster, database: str) -> str:
    """The same tables in a database of the shared cluster, whose nodes must be left alone."""
    _fill(cluster, database)
    return database


# --- which node answers ---


def _unchecked_roles(targets: list[NodeTarget]) -> list[NodeTarget]:
    return [NodeTarget(name=target.name, dsn=target.dsn) for target in targets]


@newest_only
@pytest.mark.parametrize("roles_expected", [True, False], ids=["roles expected", "roles observed"])
def test_a_primary_is_no_replica_of_itself(cluster: LabCluster, filled: str, roles_expected: bool) -> None:
    dsn = cluster.audit_dsn("primary")
    targets = [
        NodeTarget(name="primary", dsn=dsn, expected_role=NodeRole.PRIMARY),
        NodeTarget(name="replica", dsn=f"{dsn} dbname=template1", expected_role=NodeRole.STANDBY),
    ]
    with pytest.raises(NodeUnfit) as refused:
        audit(cluster, filled, targets=targets if roles_expected else _unchecked_roles(targets))
    assert refused.value.node == "replica"


@newest_only
def test_the_same_standby_is_not_counted_twice(cluster: LabCluster, filled: str) -> None:
    with proxied(cluster.node("standby1")) as proxy, pytest.raises(NodeUnfit, match="one and the same server"):
        audit(cluster, filled, targets=targets_of(cluster, standby2=proxy.dsn(cluster.audit_dsn("standby1"))))


def test_the_same_standby_is_not_counted_twice_over_another_kind_of_address(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, settings={"listen_addresses": "127.0.0.1"})
    over_tcp = f"{cluster.audit_dsn('standby1')} host=127.0.0.1"
    with pytest.raises(NodeUnfit, match="one and the same server"):
        audit(cluster, "postgres", targets=targets_of(cluster, standby2=over_tcp))


@newest_only
@pytest.mark.parametrize("node", ["primary", "standby1"])
def test_a_transaction_pooler_in_between_is_refused(cluster: LabCluster, filled: str, node: str) -> None:
    with proxied(cluster.node(node), pooler=True) as proxy, pytest.raises(NodeUnfit, match="connection pooler"):
        audit(cluster, filled, targets=targets_of(cluster, **{node: proxy.dsn(cluster.audit_dsn(node))}))


@newest_only
def test_a_plain_proxy_in_between_does_no_harm(cluster: LabCluster, filled: str) -> None:
    """The twin of the tests around it: what they refuse is not the proxy as such."""
    with ExitStack() as stack:
        dsns = {
            name: stack.enter_context(proxied(server)).dsn(cluster.audit_dsn(name))
            for name, server in cluster.nodes.items()
        }
        run = audit(cluster, filled, targets=targets_of(cluster, **dsns))
    run.assert_consistent()


@newest_only
@pytest.mark.parametrize("other", ["standby2", "primary"])
def test_an_endpoint_that_reaches_two_servers_is_no_node(cluster: LabCluster, filled: str, other: str) -> None:
    servers = [cluster.node("standby1"), cluster.node(other)]
    with proxied(lambda number: servers[min(number, 1)]) as endpoint:
        dsn = endpoint.dsn(cluster.audit_dsn("standby1"))
        run = audit(cluster, filled, targets=targets_of(cluster, standby1=dsn))
        assert endpoint.connections >= 2
    assert run.replica("standby1").verdict is Verdict.UNCHECKED
    assert "another server answers" in run.replica("standby1").reason
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.verdict is Verdict.UNCHECKED
    assert {run.on("standby1", name) for name in TABLES} == {Verdict.UNCHECKED}


def test_a_list_of_hosts_never_makes_one_node_of_two_servers(own: LabCluster) -> None:
    first, second = own.node("standby1"), own.node("standby2")
    dsn = f"{own.audit_dsn('standby1')} host={first.socket_dir},{second.socket_dir} port={first.port},{second.port}"
    targets = [target for target in targets_of(own, standby1=dsn) if target.name != "standby2"]
    run = audit(own, "postgres", between_plan_and_read("two", first.kill), targets=targets)
    assert run.replica("standby1").verdict is Verdict.UNCHECKED
    assert "another server answers" in run.replica("standby1").reason
    assert run.on("standby1", "two") is Verdict.UNCHECKED
    assert run.result.divergences == ()


# --- promotions ---


@pytest.mark.parametrize("written", [False, True], ids=["untouched", "written to"])
def test_no_chunk_of_a_standby_counts_that_is_read_after_its_promotion(own: LabCluster, written: bool) -> None:
    def promote() -> None:
        own.node("standby1").promote()
        if written:
            own.node("standby1").execute("delete from two")

    run = audit(own, "postgres", between_plan_and_read("two", promote))
    assert run.result.divergences == ()
    assert run.on("standby1", "two") is run.on("standby1", "three") is Verdict.UNCHECKED
    assert run.replica("standby1").verdict is Verdict.UNCHECKED
    assert "promoted" in run.replica("standby1").reason
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert run.verdict is Verdict.UNCHECKED


def test_a_promoted_standby_is_refused_at_once(own: LabCluster) -> None:
    targets = targets_of(own)
    own.node("standby1").promote()
    with pytest.raises(NodeUnfit) as refused:
        audit(own, "postgres", targets=targets)
    assert refused.value.node == "standby1"


# --- restarts and losses ---


@pytest.mark.parametrize("node", ["standby1", "primary"])
def test_a_node_that_crashes_and_comes_back_is_proven_all_the_same(own: LabCluster, node: str) -> None:
    def crash() -> None:
        own.node(node).kill()
        own.node(node).start()
        own.wait_streaming()

    run = audit(own, "postgres", between_plan_and_read("two", crash))
    run.assert_consistent()
    assert [run.relation(name).rows for name in TABLES] == [1500, 1000, 500]
    assert {(finding.code, finding.node) for finding in run.result.findings} >= {("restarted", node)}
    assert {event.node for event in run.told(NodeWentAway)} == {event.node for event in run.told(NodeCameBack)}


def test_a_standby_stopped_in_an_orderly_way_and_started_is_proven_all_the_same(own: LabCluster) -> None:
    run = audit(own, "postgres", between_plan_and_read("two", own.node("standby2").restart))
    run.assert_consistent()


@pytest.mark.parametrize("node", ["standby1", "primary"])
def test_a_copy_that_was_changed_while_its_server_was_down_is_seen_though_it_was_proven_before(
    own: LabCluster, node: str
) -> None:
    def change() -> None:
        apply_fault(own, "lose-row", node=node, relation="public.one")
        own.wait_streaming()

    run = audit(own, "postgres", at(RelationFinished, change))
    assert (run.verdict, run.result.odd_node) == (Verdict.DIVERGED, node)
    assert {(found.node, found.relation) for found in run.result.divergences} == {(node, "public.one")}
    assert [run.relation(name).rows for name in TABLES] == [1499 if node == "primary" else 1500, 1000, 500]
    assert {run.on("standby2", name) for name in TABLES[1:]} == {Verdict.CONSISTENT}
    assert {relation.proven_since for relation in run.result.relations} == {None}


def test_what_differed_before_a_copy_was_made_anew_stays_a_divergence(own: LabCluster) -> None:
    apply_fault(own, "lose-row", node="standby1", relation="public.one")

    def copy() -> None:
        own.copy_anew("standby1")
        own.wait_streaming()

    run = audit(own, "postgres", at(DivergenceFound, copy), max_snapshot_age_s=1.0)
    assert run.on("standby1", "one") is run.verdict is Verdict.DIVERGED
    assert {(found.node, found.relation) for found in run.result.divergences} == {("standby1", "public.one")}
    assert {run.on("standby1", name) for name in TABLES[1:]} == {Verdict.CONSISTENT}


def test_a_standby_that_is_restarted_again_and_again_is_inconclusive_and_the_audit_ends(own: LabCluster) -> None:
    def restart(event: Event) -> None:
        if isinstance(event, RelationFinished) and event.relation.name == "three":
            own.node("standby1").restart()

    run = audit(own, "postgres", every=restart)
    assert run.replica("standby1").verdict is run.verdict is Verdict.INCONCLUSIVE
    assert {run.on("standby1", name) for name in TABLES} == {Verdict.INCONCLUSIVE}
    assert {(note.node, note.code) for note in run.result.not_checked} == {("standby1", "restarted")}
    assert run.replica("standby2").verdict is Verdict.CONSISTENT


@newest_only
def test_a_standby_that_answers_only_after_the_plan_is_listed_before_it_is_consistent(
    cluster: LabCluster, filled: str
) -> None:
    server = cluster.node("standby2")
    nowhere = replace(server, port=1)
    reached = [server]

    def lose() -> None:
        reached[:] = [nowhere]
        late.cut()

    def find() -> None:
        reached[:] = [server]

    with proxied(lambda _: reached[0]) as late:
        run = audit(
            cluster,
            filled,
            at(ProvingBegan, lose),
            between_plan_and_read("one", find),
            targets=targets_of(cluster, standby2=late.dsn(cluster.audit_dsn("standby2"))),
        )
    assert run.told(Aligned)[0].replicas == ("standby1",), "it was there when the relations were listed"
    run.assert_consistent()
    assert {run.on("standby2", name) for name in TABLES} == {Verdict.CONSISTENT}


def test_a_standby_lost_for_good_leaves_the_other_proven(own: LabCluster) -> None:
    run = audit(own, "postgres", between_plan_and_read("two", own.node("standby1").kill), node_timeout_s=1.0)
    assert run.replica("standby1").verdict is Verdict.UNCHECKED
    assert {run.on("standby1", name) for name in ("two", "three")} == {Verdict.UNCHECKED}
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert {run.on("standby2", name) for name in TABLES} == {Verdict.CONSISTENT}
    assert run.verdict is Verdict.UNCHECKED
    assert run.result.divergences == ()
    assert {(note.node, note.by_design) for note in run.result.not_checked} == {("standby1", False)}


def test_what_was_proven_of_a_standby_before_it_was_lost_stays_proven(own: LabCluster) -> None:
    names = [f"slow{number}" for number in range(8)]
    make_slow_tables(own.primary, "postgres", names, rows=10, seconds=0.4)
    own.catch_up()
    run = audit(
        own,
        "postgres",
        at(RelationFinished, own.node("standby1").kill),
        max_snapshot_age_s=1.0,
        node_timeout_s=1.0,
    )
    verdicts = {relation.name: run.on("standby1", relation.name) for relation in run.result.relations}
    finished = run.told(RelationFinished)[0].relation.name
    assert verdicts[finished] is Verdict.CONSISTENT
    assert set(verdicts.values()) == {Verdict.CONSISTENT, Verdict.UNCHECKED}
    assert run.replica("standby1").verdict is Verdict.UNCHECKED
    assert run.replica("standby2").verdict is Verdict.CONSISTENT


def test_a_primary_lost_for_good_leaves_everything_unread_unchecked(own: LabCluster) -> None:
    run = audit(own, "postgres", between_plan_and_read("two", own.node("primary").kill), node_timeout_s=1.0)
    assert run.verdict is Verdict.UNCHECKED
    assert run.result.divergences == ()
    assert {run.on(node, name) for node in ("standby1", "standby2") for name in ("two", "three")} == {Verdict.UNCHECKED}
    assert all("primary" in note.reason for note in run.result.not_checked)


# --- who stands alone ---


@pytest.mark.parametrize("node", ["standby1", "primary"])
def test_of_three_nodes_the_odd_one_is_named_the_primary_too(own: LabCluster, node: str) -> None:
    apply_fault(own, "flip-row-bytes", node=node, relation="public.two")
    run = audit(own, "postgres")
    assert run.verdict is Verdict.DIVERGED
    assert run.result.odd_node == node
    assert {found.node for found in run.result.divergences} == {node}


def test_a_node_that_is_gone_has_no_vote(own: LabCluster) -> None:
    """Nobody stands alone against a single other node, though three had shown the row when it was confirmed."""
    own.primary.execute("create sequence ticket")
    own.catch_up()
    apply_fault(own, "lose-row", node="standby1", relation="public.two")
    witness = own.node("standby2")

    def lose_the_witness(event: Event) -> None:
        if isinstance(event, RowsDiffer) and event.look == 2 and witness.running:
            witness.kill()

    run = audit(own, "postgres", every=lose_the_witness, node_timeout_s=1.0)
    assert run.replica("standby2").verdict is Verdict.UNCHECKED
    assert run.on("standby1", "two") is run.verdict is Verdict.DIVERGED
    assert {found.node for found in run.result.divergences} == {"standby1"}
    assert run.result.odd_node is None


def test_a_replica_with_another_definition_keeps_no_other_from_being_proven(own: LabCluster) -> None:
    """An enum's label is missing in its catalog, so that it defines one table otherwise."""
    labels = ", ".join(f"'label{number}'" for number in range(60))
    with session_on(own.primary, "postgres", autocommit=True) as connection:
        connection.execute(f"create type mood as enum ({labels})")
        connection.execute("create table felt as select g as id, 'label0'::mood as mood from generate_series(1, 90) g")
    own.catch_up()
    apply_fault(own, "lose-row", node="standby1", relation="pg_catalog.pg_enum")
    run = audit(own, "postgres")
    assert {replica.node: replica.verdict for replica in run.relation("felt").replicas} == {
        "standby1": Verdict.DIVERGED,
        "standby2": Verdict.CONSISTENT,
    }
    assert run.relation("felt").rows == 90, "its rows were not read for the other replica"
    [found] = run.result.divergences
    assert (found.node, found.relation, found.what) == (
        "standby1",
        "public.felt",
        "the columns are defined otherwise",
    )
    assert run.replica("standby2").verdict is Verdict.CONSISTENT
    assert {run.on("standby1", name) for name in TABLES} == {Verdict.CONSISTENT}


def test_a_cascading_standby_is_no_independent_vote(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    _fill(cluster)
    apply_fault(cluster, "flip-row-bytes", node="standby1", relation="public.two")
    cluster.add_standby("leaf", upstream="standby1")
    cluster.catch_up()
    leaf = cluster.node("leaf")
    until(lambda: value(leaf, "select sender_host is not null from pg_stat_wal_receiver"), "the leaf streams")
    run = audit(cluster, "postgres")
    assert run.verdict is Verdict.DIVERGED
    assert {replica.verdict for replica in run.result.replicas} == {Verdict.DIVERGED}
    assert run.replica("leaf").node.upstream == "standby1"
    assert run.result.odd_node is None
