"""Every fault has the effect it claims, on the node it was done to and on no other, and can be healed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replcheck.errors import LabError, NodeError, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import FAULTS, apply_fault, heal
from replcheck.lab.planted import PlantedFault
from replcheck.lab.schema import create_schema
from replcheck.lab.workload import MixedWorkload
from replcheck.model.audit import DifferenceKind
from replcheck.postgres.server import LocalServer
from tests.conftest import MakeCluster
from tests.labs import majors

ROWS = """
    select ctid::text, md5(c::text) from clinic.chart c
    union all select 'invoice', last_value::text from clinic.invoice
"""
SILENT = [
    *("flip-row-bytes", "zero-page", "lose-row", "hide-row", "invent-row", "swap-rows", "lost-write"),
    *("truncate-file", "corrupt-toast", "sequence-behind"),
]
UNREADABLE = ["flip-page-bytes", "break-page-header", "missing-file", "lose-toast-chunk"]

VERSIONS = [(number == 0, version) for number, version in enumerate(majors())]
"""The majors; pages look alike in all of them, so all but the newest are for the long run."""

Rows = dict[str, str]


@pytest.fixture(
    scope="module",
    params=[pytest.param(version, marks=() if first else pytest.mark.long) for first, version in VERSIONS],
    ids="pg{}".format,
)
def broken(clusters_root: Path, request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    major: int = request.param
    with LabCluster.create(clusters_root, name=f"broken_{major}", major=major) as made:
        create_schema(made.primary, "postgres", patients=500)
        made.catch_up()
        yield made


def rows_of(node: LocalServer) -> Rows:
    return dict(node.execute(ROWS))


def differences(ours: Rows, theirs: Rows) -> dict[DifferenceKind, set[str]]:
    """Return where `theirs`, a replica's rows, differ from `ours`."""
    return {
        DifferenceKind.MISSING: ours.keys() - theirs.keys(),
        DifferenceKind.EXTRA: theirs.keys() - ours.keys(),
        DifferenceKind.CHANGED: {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]},
    }


def assert_planted(planted: PlantedFault, found: dict[DifferenceKind, set[str]]) -> None:
    kinds = {kind for kind, places in found.items() if places}
    assert planted.kind in kinds
    assert kinds <= {planted.kind} | planted.also
    assert planted.kind is not None
    if planted.rows is not None:
        assert len(found[planted.kind]) == planted.rows
    if planted.offset is not None:
        assert f"({planted.block},{planted.offset})" in found[planted.kind]


def healed(cluster: LabCluster) -> None:
    heal(cluster)
    cluster.catch_up()
    assert len({tuple(rows_of(node).items()) for node in cluster.nodes.values()}) == 1


@pytest.mark.parametrize("name", SILENT)
def test_a_silent_fault_shows_in_the_rows_of_one_standby(broken: LabCluster, name: str) -> None:
    planted = apply_fault(broken, name, node="standby2", seed=5)
    broken.catch_up()
    primary = rows_of(broken.primary)
    assert_planted(planted, differences(primary, rows_of(broken.nodes["standby2"])))
    assert rows_of(broken.nodes["standby1"]) == primary
    healed(broken)


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_fault_raises_what_it_says(broken: LabCluster, name: str) -> None:
    planted = apply_fault(broken, name, seed=5)
    broken.catch_up()
    with pytest.raises(StatementFailed) as refused:
        rows_of(broken.nodes["standby1"])
    assert planted.kind is DifferenceKind.UNREADABLE
    assert refused.value.sqlstate == planted.sqlstate
    assert rows_of(broken.nodes["standby2"]) == rows_of(broken.primary)
    healed(broken)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_seed_chooses_the_row(broken: LabCluster, seed: int) -> None:
    planted = apply_fault(broken, "lose-row", seed=seed)
    assert_planted(planted, differences(rows_of(broken.primary), rows_of(broken.nodes["standby1"])))
    assert planted.block is not None
    healed(broken)


def test_another_relation_can_be_damaged(broken: LabCluster) -> None:
    planted = apply_fault(broken, "flip-row-bytes", relation='"Odd Names"."We""ird, table"')
    query = """select ctid::text, md5(w::text) from "Odd Names"."We""ird, table" w"""
    ours, theirs = (dict(node.execute(query)) for node in (broken.primary, broken.nodes["standby1"]))
    assert_planted(planted, differences(ours, theirs))
    assert planted.relation == '"Odd Names"."We""ird, table"'
    healed(broken)


def test_an_index_can_lose_an_entry_of_an_intact_table(broken: LabCluster) -> None:
    broken.primary.execute("create extension if not exists amcheck")
    planted = apply_fault(broken, "index-mismatch")
    broken.catch_up()
    assert planted.kind is None
    assert rows_of(broken.nodes["standby1"]) == rows_of(broken.primary)
    check = "select bt_index_check('clinic.chart_pkey', true)"
    broken.nodes["standby2"].execute(check)
    with pytest.raises(StatementFailed) as refused:
        broken.nodes["standby1"].execute(check)
    assert refused.value.sqlstate in {"XX001", "XX002"}
    healed(broken)


@pytest.mark.parametrize("name", ["pause-replay", "cut-connection", "delay-apply"])
def test_a_standby_can_be_held_back(broken: LabCluster, name: str) -> None:
    planted = apply_fault(broken, name)
    broken.primary.execute("update clinic.form set answer = %s where id = 1", [name])
    with pytest.raises(LabError, match="standby1 had not replayed"):
        broken.catch_up(timeout_s=0.7, only="standby1")
    assert planted.kind is None
    assert planted.relation is None
    healed(broken)


@pytest.mark.parametrize("name", ["kill-server", "stop-server"])
def test_a_node_can_go_away(broken: LabCluster, name: str) -> None:
    apply_fault(broken, name)
    assert not broken.nodes["standby1"].running
    with pytest.raises(NodeError):
        rows_of(broken.nodes["standby1"])
    with pytest.raises(LabError, match="does not run"):
        apply_fault(broken, "lose-row", node="standby1")
    healed(broken)


def test_a_standby_can_be_promoted_and_written_to(broken: LabCluster) -> None:
    planted = apply_fault(broken, "split-brain", node="standby2")
    assert broken.nodes["standby2"].execute("select pg_is_in_recovery()") == [(False,)]
    assert broken.primary.name == "primary"
    assert_planted(planted, differences(rows_of(broken.primary), rows_of(broken.nodes["standby2"])))
    healed(broken)
    apply_fault(broken, "promote", node="standby2")
    assert rows_of(broken.primary) == rows_of(broken.nodes["standby2"])
    healed(broken)


def test_every_fault_is_tested_and_described() -> None:
    tested = {*SILENT, *UNREADABLE, "index-mismatch", "pause-replay", "cut-connection", "delay-apply"}
    tested |= {"kill-server", "stop-server", "promote", "split-brain", "flip-on-primary"}
    tested |= {"freeze-stream", "hang-server", "break-archive"}  # in test_failover
    assert tested == set(FAULTS)
    assert all(fault.what.endswith(".") for fault in FAULTS.values())


def test_a_fault_lasts_under_a_load(broken: LabCluster) -> None:
    with MixedWorkload(broken, seed=3, rate=150, patients=500) as load:
        planted = apply_fault(broken, "flip-row-bytes", seed=8)
        load.wait_for(150)
    broken.catch_up()
    assert_planted(planted, differences(rows_of(broken.primary), rows_of(broken.nodes["standby1"])))
    healed(broken)


def test_the_broken_copy_can_be_the_primary(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major)
    create_schema(cluster.primary, "postgres", patients=300)
    cluster.catch_up()
    planted = apply_fault(cluster, "flip-on-primary")
    cluster.catch_up()
    first, second = (rows_of(node) for node in cluster.standbys)
    assert planted.node == "primary"
    assert first == second
    assert_planted(planted, differences(rows_of(cluster.primary), first))
    planted = apply_fault(cluster, "invent-row", node="primary")
    assert planted.kind is DifferenceKind.MISSING
    with pytest.raises(LabError, match="nothing to be copied from"):
        heal(cluster)


def test_without_checksums_a_flipped_bit_is_silent(make_cluster: MakeCluster, newest_major: int) -> None:
    cluster = make_cluster(major=newest_major, checksums=False, standbys=1)
    create_schema(cluster.primary, "postgres", patients=300)
    planted = apply_fault(cluster, "flip-page-bytes")
    assert cluster.primary.execute("show data_checksums") == [("off",)]
    assert planted.kind is DifferenceKind.CHANGED
    assert_planted(planted, differences(rows_of(cluster.primary), rows_of(cluster.nodes["standby1"])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "no-such-fault"}, "there is no fault"),
        ({"name": "lose-row", "node": "standby9"}, "has no node standby9"),
        ({"name": "lose-row", "relation": "clinic.nothing"}, "has no relation"),
        ({"name": "lose-row", "relation": "clinic.measurement"}, "has no relation"),
        ({"name": "lose-row", "relation": "clinic.measurement_0", "database": "template1"}, "has no relation"),
        ({"name": "pause-replay", "node": "primary"}, "is a primary"),
        ({"name": "corrupt-toast", "relation": "clinic.counter"}, "no TOAST table"),
    ],
)
def test_what_cannot_be_broken_is_said(broken: LabCluster, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        apply_fault(broken, **options)
    assert broken.state.faults == ()
