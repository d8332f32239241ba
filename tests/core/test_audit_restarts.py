"""What an audit keeps, and what it takes back, of servers that were started anew while it ran."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit.gathered import Gathered
from replcheck.audit.restarts import DatabaseRun
from replcheck.model.audit import (
    DifferenceKind,
    Divergence,
    IndexNode,
    IndexReport,
    RelationKind,
    RelationReplica,
    RelationReport,
)
from replcheck.model.outcome import Verdict, worst_verdict
from replcheck.model.progress import ProvenBlocks, RelationState
from replcheck.postgres.nodes import Database

STATE = RelationState(database=5, relation=20_000, token=7, filenode=20_007)
CLINIC = Database(
    name="clinic",
    allows_connections=True,
    valid=True,
    may_connect=True,
    encoding="UTF8",
    is_template=False,
    oid=5,
)


def report(name: str = "visit", **verdicts: Verdict) -> RelationReport:
    replicas = tuple(RelationReplica(node=node, verdict=verdict) for node, verdict in verdicts.items())
    return RelationReport(
        database="clinic",
        schema="public",
        name=name,
        kind=RelationKind.TABLE,
        verdict=worst_verdict(verdicts.values()),
        rows=3,
        chunks=1,
        size_bytes=8192,
        replicas=replicas,
    )


def verdicts(found: Gathered) -> dict[str, dict[str, Verdict]]:
    return {each.name: {replica.node: replica.verdict for replica in each.replicas} for each in found.relations}


def divergence(what: str = "") -> Divergence:
    return Divergence(
        database="clinic",
        relation="public.visit",
        node="db2",
        kind=DifferenceKind.MISSING,
        ranges=(),
        count=1,
        capped=False,
        sqlstate=None,
        block=None,
        query="",
        what=what,
    )


def cluster(*, gone: str = "", **restarts: int) -> Any:
    nodes = [
        SimpleNamespace(name=name, restarts=count, gone=object() if name == gone else None)
        for name, count in restarts.items()
    ]
    return SimpleNamespace(
        primary=nodes[0],
        nodes=nodes,
        replicas={node.name: node for node in nodes[1:]},
        node=lambda name: next(node for node in nodes if node.name == name),
    )


def run(*proofs: ProvenBlocks) -> DatabaseRun:
    """Return a run of a database that began when no node had been restarted."""
    starts = {"db1": 0, "db2": 0, "db3": 0}
    return DatabaseRun(database=CLINIC, shared_here=False, starts=starts, proofs=[*proofs])


def blocks(*replicas: str) -> ProvenBlocks:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return ProvenBlocks(state=STATE, replicas=replicas, ranges=((0, 9),), rows=3, proven_at=at)


@pytest.mark.parametrize(
    ("restarted", "outdated"),
    [({}, set()), ({"db2": 1}, {"db2"}), ({"db1": 1}, {"db1", "db2", "db3"})],
)
def test_a_restart_outdates_what_was_read_of_that_node_and_one_of_the_primary_everything(restarted, outdated):
    assert run().outdated(cluster(**({"db1": 0, "db2": 0, "db3": 0} | restarted))) == outdated


def test_nothing_more_is_read_of_a_node_that_is_gone():
    assert run().outdated(cluster(db1=0, db2=1, db3=0, gone="db2")) == set()


def test_only_what_was_proven_of_the_other_replicas_still_holds():
    made = run(blocks("db2", "db3"), blocks("db2"))
    assert made.still_holding(cluster(db1=0, db2=0, db3=0)) == {STATE: [blocks("db2", "db3"), blocks("db2")]}
    assert made.still_holding(cluster(db1=0, db2=1, db3=0)) == {STATE: [blocks("db3")]}
    assert made.still_holding(cluster(db1=1, db2=0, db3=0)) == {}


def test_a_consistent_verdict_is_taken_back_and_a_divergence_is_not():
    found = Gathered(relations=[report(db2=Verdict.CONSISTENT, db3=Verdict.CONSISTENT)])
    found.relations += [report("ward", db2=Verdict.DIVERGED, db3=Verdict.CONSISTENT)]
    found.void(["db2"])
    assert verdicts(found) == {
        "visit": {"db2": Verdict.INCONCLUSIVE, "db3": Verdict.CONSISTENT},
        "ward": {"db2": Verdict.DIVERGED, "db3": Verdict.CONSISTENT},
    }
    assert [each.verdict for each in found.relations] == [Verdict.INCONCLUSIVE, Verdict.DIVERGED]


def test_an_index_that_was_sound_before_a_restart_is_not_told_as_sound():
    nodes = (IndexNode(node="db1", verdict=Verdict.CONSISTENT), IndexNode(node="db2", verdict=Verdict.CONSISTENT))
    index = IndexReport(
        database="clinic",
        relation="public.visit",
        name="visit_pkey",
        verdict=Verdict.CONSISTENT,
        size_bytes=1,
        nodes=nodes,
    )
    found = Gathered(indexes=[index])
    found.void(["db2"])
    assert [each.verdict for each in found.indexes[0].nodes] == [Verdict.CONSISTENT, Verdict.INCONCLUSIVE]
    assert found.indexes[0].verdict is Verdict.INCONCLUSIVE


def test_what_differed_before_is_kept_once():
    before = Gathered(relations=[report(db2=Verdict.DIVERGED)], divergences=[divergence(), divergence("digest")])
    now = Gathered(relations=[report(db2=Verdict.CONSISTENT)], divergences=[divergence()], votes=["db2"])
    now.keep(before)
    assert verdicts(now) == {"visit": {"db2": Verdict.DIVERGED}}
    assert now.divergences == [divergence(), divergence("digest")]
    assert now.votes == ["db2", None]


def test_a_relation_that_differed_and_was_dropped_since_is_still_told():
    now = Gathered()
    now.keep(Gathered(relations=[report(db2=Verdict.DIVERGED), report("ward", db2=Verdict.CONSISTENT)]))
    assert verdicts(now) == {"visit": {"db2": Verdict.DIVERGED}}
