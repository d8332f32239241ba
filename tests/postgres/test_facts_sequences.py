"""Sequences that are renamed, swapped, moved or out of reach while they are bracketed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, LiteralString

import pytest

from replcheck.errors import StatementFailed
from replcheck.events import ChunkCompared, NodeCameBack, NodeWentAway
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import RelationReport
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.sequences import SequenceState, read_sequences
from replcheck.postgres.session import Session
from tests.staged import Staged, at, audit, newest_only, session_on, until, value

pytestmark = newest_only
BOTH = {"standby1": Verdict.CONSISTENT, "standby2": Verdict.CONSISTENT}
RENAME: tuple[LiteralString, ...] = ("alter sequence ticket rename to coupon",)
SWAP: tuple[LiteralString, ...] = (*RENAME, "create sequence ticket start 7000", "select nextval('ticket')")
NEW_SCHEMA: tuple[LiteralString, ...] = ("create schema desk", "alter sequence ticket set schema desk")


@pytest.fixture
def tickets(cluster: LabCluster, database: str) -> str:
    """A database with a table and two sequences, replayed everywhere."""
    run_on_primary(
        cluster,
        database,
        "create table visit as select 1 as id",
        "create sequence ticket",
        "select setval('ticket', 500)",
        "create sequence invoice",
        "select setval('invoice', 900)",
    )
    return database


def run_on_primary(cluster: LabCluster, database: str, *statements: LiteralString) -> None:
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
    cluster.catch_up()


def before_reading(monkeypatch: pytest.MonkeyPatch, node: str, number: int, act: Callable[[], object]) -> None:
    """Act just before a node's sequences are read for the `number`th time, from 1: twice a look on the primary."""
    counts = {"": 0}

    async def read(session: Session, sequences: Sequence[Relation]) -> Any:
        counts[session.node] = counts.get(session.node, 0) + 1
        if (session.node, counts[session.node]) == (node, number):
            act()
        return await read_sequences(session, sequences)

    monkeypatch.setattr("replcheck.audit.sequences.read_sequences", read)


def verdicts(report: RelationReport) -> dict[str, Verdict]:
    return {replica.node: replica.verdict for replica in report.replicas}


def assert_sequences_consistent(run: Staged, *names: str) -> None:
    run.assert_consistent()
    for name in names:
        assert verdicts(run.relation(name)) == BOTH


@pytest.mark.parametrize("change", [RENAME, SWAP, NEW_SCHEMA], ids=["renamed", "swapped", "in another schema"])
def test_a_sequence_that_gets_another_name_before_its_bracket_is_proven_under_it(
    cluster: LabCluster, tickets: str, change: tuple[LiteralString, ...]
) -> None:
    run = audit(cluster, tickets, at(ChunkCompared, lambda: run_on_primary(cluster, tickets, *change)))
    run.assert_consistent()
    found = [(report.name, verdicts(report)) for report in run.result.relations if report.kind.value == "sequence"]
    assert sorted(name for name, _ in found) == sorted(["invoice", "ticket"] + ["ticket"] * (change is SWAP))
    assert all(verdict == BOTH for _, verdict in found)


@pytest.mark.parametrize("change", [RENAME, SWAP], ids=["renamed", "swapped"])
@pytest.mark.parametrize(("node", "number"), [("primary", 1), ("standby1", 1), ("primary", 3)])
def test_a_sequence_that_gets_another_name_inside_its_bracket_is_proven_under_it(
    cluster: LabCluster,
    tickets: str,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[LiteralString, ...],
    node: str,
    number: int,
) -> None:
    """Before the first reading, before the replica's, and before the last, of one of the two brackets at least."""
    done = []

    def act() -> None:
        run_on_primary(cluster, tickets, *change)
        done.append(change)

    before_reading(monkeypatch, node, number, act)
    run = audit(cluster, tickets)
    assert done
    assert_sequences_consistent(run, "ticket", "invoice")


def test_a_sequence_that_is_dropped_inside_its_bracket_is_told_and_no_divergence(
    cluster: LabCluster, tickets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_reading(monkeypatch, "standby1", 1, lambda: run_on_primary(cluster, tickets, "drop sequence ticket"))
    run = audit(cluster, tickets)
    assert run.result.divergences == ()
    assert {(note.relation, note.code, note.by_design) for note in run.result.not_checked} == {
        ("public.ticket", "dropped", True)
    }
    assert run.verdict is Verdict.CONSISTENT
    assert verdicts(run.relation("invoice")) == BOTH


@pytest.mark.parametrize("node", ["primary", "standby1"])
def test_a_bracket_whose_connection_is_lost_is_begun_again(
    cluster: LabCluster, tickets: str, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    ours: LiteralString = "from pg_stat_activity where application_name like 'replcheck lane%'"

    def cut() -> None:
        cluster.nodes[node].execute(f"select pg_terminate_backend(pid) {ours}")
        until(lambda: value(cluster.nodes[node], f"select count(*) {ours}") == 0, "the connection is cut")

    before_reading(monkeypatch, node, 1, cut)
    run = audit(cluster, tickets)
    assert_sequences_consistent(run, "ticket", "invoice")
    assert (
        {event.node for event in run.told(NodeWentAway)} == {event.node for event in run.told(NodeCameBack)} == {node}
    )


def test_a_sequence_that_is_lost_for_a_replica_each_time_is_unchecked_there_alone(
    cluster: LabCluster, tickets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: LiteralString = "from pg_stat_activity where application_name like 'replcheck lane%'"

    async def read(session: Session, sequences: Sequence[Relation]) -> Any:
        if session.node == "standby1":
            cluster.nodes["standby1"].execute(f"select pg_terminate_backend(pid) {ours}")
        return await read_sequences(session, sequences)

    monkeypatch.setattr("replcheck.audit.sequences.read_sequences", read)
    run = audit(cluster, tickets)
    assert run.result.divergences == ()
    for name in ("ticket", "invoice"):
        assert verdicts(run.relation(name)) == {"standby1": Verdict.UNCHECKED, "standby2": Verdict.CONSISTENT}
    assert {(note.node, note.code) for note in run.result.not_checked} == {("standby1", "sequence_unread")}
    assert all("standby1" in note.reason for note in run.result.not_checked)


def test_no_snapshot_is_held_while_sequences_are_bracketed(
    cluster: LabCluster, tickets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the lock of each sequence that was read, and a DDL statement behind it would stop everybody."""
    held: LiteralString = (
        "select count(*) from pg_stat_activity where application_name like 'replcheck%'"
        " and application_name <> 'replcheck lab' and (xact_start is not null or backend_xmin is not null)"
    )
    seen = []

    def look() -> None:
        seen.append({name: value(node, held) for name, node in cluster.nodes.items()})

    before_reading(monkeypatch, "primary", 3, look)
    assert_sequences_consistent(audit(cluster, tickets), "ticket", "invoice")
    assert seen == [{"primary": 0, "standby1": 0, "standby2": 0}]


def test_a_sequence_set_back_on_one_standby_is_found_whatever_its_name(
    cluster: LabCluster, tickets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the tests above: the same renaming does not hide a sequence that differs."""
    before_reading(monkeypatch, "standby1", 1, lambda: run_on_primary(cluster, tickets, *RENAME))
    reading = read_sequences

    async def set_back_on_standby2(session: Session, sequences: Sequence[Relation]) -> Any:
        states = await reading(session, sequences)
        if session.node != "standby2":
            return states
        return {oid: _behind(state) for oid, state in states.items()}

    monkeypatch.setattr(f"{__name__}.read_sequences", set_back_on_standby2)
    run = audit(cluster, tickets)
    assert run.verdict is Verdict.DIVERGED
    assert {(found.relation, found.node) for found in run.result.divergences} == {
        ("public.ticket", "standby2"),
        ("public.invoice", "standby2"),
    }


def _behind(state: SequenceState | StatementFailed) -> SequenceState | StatementFailed:
    return replace(state, last_value=state.last_value - 300) if isinstance(state, SequenceState) else state
