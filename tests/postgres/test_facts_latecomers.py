"""Relations that come into being while an audit runs, or take another's place: they are read like all the others."""

from functools import partial
from typing import LiteralString

import pytest
from psycopg import sql

from replcheck.audit import database as database_audit
from replcheck.events import ChunkCompared, DatabasePlanned, Event
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.model.audit import DifferenceKind
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from tests.conftest import MakeCluster
from tests.staged import at, audit, between_plan_and_read, newest_only, session_on

ROWS = 50


def run_on_primary(cluster: LabCluster, database: str, *statements: LiteralString | sql.Composed) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
    cluster.catch_up()


MAKE_VISIT: LiteralString = "create table visit as select g as id, 'old' as note from generate_series(1, 50) g"
MAKE_LATE: LiteralString = "create table late as select g as id, 'late' as note from generate_series(1, 200) g"
SWAP: tuple[LiteralString, ...] = (
    "create table visit_new as select g as id, 'new' as note from generate_series(1, 70) g",
    "drop table visit",
    "alter table visit_new rename to visit",
)


@pytest.fixture
def visits(cluster: LabCluster, database: str) -> str:
    """A database with a table, replayed everywhere."""
    run_on_primary(cluster, database, MAKE_VISIT)
    return database


@newest_only
@pytest.mark.parametrize("moment", [DatabasePlanned, ChunkCompared])
def test_a_table_created_after_the_plan_is_planned_and_proven(
    cluster: LabCluster, visits: str, moment: type[Event]
) -> None:
    run = audit(cluster, visits, at(moment, lambda: run_on_primary(cluster, visits, MAKE_LATE)))
    run.assert_consistent()
    assert run.relation("late").rows == 200
    assert {replica.verdict for replica in run.relation("late").replicas} == {Verdict.CONSISTENT}
    assert run.relation("visit").rows == ROWS


@newest_only
def test_tables_created_while_latecomers_are_read_are_found_too(cluster: LabCluster, visits: str) -> None:
    run = audit(
        cluster,
        visits,
        at(ChunkCompared, lambda: run_on_primary(cluster, visits, MAKE_LATE)),
        at(
            ChunkCompared,
            lambda: run_on_primary(cluster, visits, "create table later as select 1 as id"),
            relation="late",
        ),
    )
    run.assert_consistent()
    assert (run.relation("late").rows, run.relation("later").rows) == (200, 1)


@newest_only
def test_tables_that_come_into_being_without_end_are_told_as_too_late(cluster: LabCluster, visits: str) -> None:
    def one_more(number: int) -> None:
        name = sql.Identifier(f"late{number}")
        run_on_primary(cluster, visits, sql.SQL("create table {} as select 1 as id").format(name))

    last = database_audit._ROUNDS - 1
    more = [at(ChunkCompared, partial(one_more, n), relation=f"late{n - 1}") for n in range(1, last + 1)]
    run = audit(cluster, visits, at(ChunkCompared, partial(one_more, 0)), *more)
    assert {(note.code, note.relation) for note in run.result.not_checked} == {("too_late", f"public.late{last}")}
    assert run.verdict is Verdict.INCONCLUSIVE
    assert {run.relation(f"late{n}").verdict for n in range(last)} == {Verdict.CONSISTENT}


@newest_only
@pytest.mark.parametrize("moment", ["between plan and read", "after the read"])
def test_a_table_that_takes_anothers_place_under_its_name_is_proven_instead_of_it(
    cluster: LabCluster, visits: str, moment: str
) -> None:
    def swap() -> None:
        run_on_primary(cluster, visits, *SWAP)

    run = audit(
        cluster,
        visits,
        at(ChunkCompared, swap, relation="visit")
        if moment == "after the read"
        else between_plan_and_read("visit", swap),
    )
    assert run.relation("visit").rows == 70, "the one that goes by the name now was not read"
    assert run.verdict is run.relation("visit").verdict is Verdict.CONSISTENT
    assert run.result.divergences == ()
    assert {(note.relation, note.code, note.by_design) for note in run.result.not_checked} == {
        ("public.visit", "dropped", True)
    }


READS_TABLES = "reads_tables"
"""A role that was granted the tables there were."""
UNREADABLE: dict[str, tuple[LiteralString, ...]] = {
    "privilege": SWAP,
    "row_security": (*SWAP, "alter table visit enable row level security", "grant select on visit to reads_tables"),
    "access_method": (
        "create access method other type table handler heap_tableam_handler",
        "create table visit_new using other as select 1 as id",
        "grant select on visit_new to reads_tables",
        *SWAP[1:],
    ),
}


@newest_only
@pytest.mark.parametrize(("code", "swap"), UNREADABLE.items())
def test_a_table_that_takes_anothers_place_and_cannot_be_read_is_told(
    cluster: LabCluster, visits: str, code: str, swap: tuple[LiteralString, ...]
) -> None:
    run_on_primary(
        cluster, visits, "create role reads_tables login", "grant select on all tables in schema public to reads_tables"
    )
    role = f"user={READS_TABLES}"
    targets = [NodeTarget(name=name, dsn=f"{node.dsn()} {role}") for name, node in cluster.nodes.items()]
    try:
        act = at(ChunkCompared, lambda: run_on_primary(cluster, visits, *swap), relation="visit")
        run = audit(cluster, visits, act, targets=targets, tables=("public.*",))
    finally:
        run_on_primary(cluster, visits, "drop owned by reads_tables", "drop role reads_tables")
    assert {(note.relation, note.code, note.by_design) for note in run.result.not_checked} == {
        ("public.visit", "dropped", True),
        ("public.visit", code, False),
    }
    assert run.verdict is Verdict.UNCHECKED


@pytest.mark.parametrize("how", [pytest.param("created", marks=pytest.mark.long), "swapped in"])
def test_a_broken_latecomer_on_a_standby_is_found(make_cluster: MakeCluster, newest_major: int, how: str) -> None:
    cluster = make_cluster(major=newest_major)
    run_on_primary(cluster, "postgres", MAKE_VISIT)
    name = "late" if how == "created" else "visit"
    planted = []

    def make_and_break() -> None:
        run_on_primary(cluster, "postgres", *((MAKE_LATE,) if how == "created" else SWAP))
        planted.append(apply_fault(cluster, "lose-row", node="standby1", relation=f"public.{name}"))

    run = audit(cluster, "postgres", between_plan_and_read("visit", make_and_break))
    assert run.verdict is Verdict.DIVERGED
    [found] = run.result.divergences
    assert (found.node, found.relation, found.kind) == ("standby1", f"public.{name}", DifferenceKind.MISSING)
    assert [str(place) for place in found.ranges] == [f"({planted[0].block},{planted[0].offset})"]
    assert run.on("standby2", name) is Verdict.CONSISTENT
    assert run.result.odd_node == "standby1"
