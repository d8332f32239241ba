"""The soak's own judgement: what follows from a seed, what an audit must say, and what is counted."""

from dataclasses import replace
from typing import Any

import pytest

from replcheck.audit.options import Level
from replcheck.errors import LabError, NodeUnfit, NodeUnreachable, ReplcheckError
from replcheck.lab.faults import FAULTS
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.model.audit import AuditResult, DifferenceKind, RelationReplica
from replcheck.model.outcome import Outcome, Verdict
from replcheck.report.document import audit_document
from tests import factories
from tests.soak import tables
from tests.soak.histories import error_told
from tests.soak.judging import Circumstances, Judgement, Seen, judge, judge_refusal
from tests.soak.plans import Client, HistoryPlan, Trouble, plan_history
from tests.soak.records import AuditRecord, Summary

MAJORS = (18, 17, 15)
PLANS = [plan_history(seed, MAJORS) for seed in range(120)]
STEPS = [step for plan in PLANS for step in plan.steps]
BROKEN = PlantedFault(
    fault="lose-row",
    node="db3",
    what="the line pointer of one row was marked dead",
    cure=Cure.COPY,
    database="clinic",
    relation="public.visit",
    kind=DifferenceKind.MISSING,
)
CALM = Circumstances(primary="db1", replicas=frozenset({"db2", "db3"}))
FAULTY = replace(CALM, planted=BROKEN)


def judged(result: AuditResult, circumstances: Circumstances, **words: Any) -> Judgement:
    return judge(audit_document(result), circumstances, **words)


def diverged(**changes: Any) -> AuditResult:
    """Rows of public.visit differ on db3, and nothing else does."""
    visit = factories.relation(
        verdict=Verdict.DIVERGED,
        replicas=(
            RelationReplica(node="db2", verdict=Verdict.CONSISTENT),
            RelationReplica(node="db3", verdict=Verdict.DIVERGED, rows_differing=17),
        ),
    )
    return factories.consistent(
        **{
            "verdict": Verdict.DIVERGED,
            "odd_node": "db3",
            "relations": (visit, factories.relation("patient")),
            "divergences": (factories.divergence(),),
            **changes,
        }
    )


# --- what follows from a seed ---


def test_a_seed_always_gives_the_same_history() -> None:
    assert plan_history(42, MAJORS) == plan_history(42, MAJORS)
    assert tables.random_schema(7) == tables.random_schema(7)
    assert len({plan.shape for plan in map(_hashable, PLANS)}) > 60


def _hashable(plan: HistoryPlan) -> Any:
    return replace(plan, shape=str(plan.shape))  # type: ignore[arg-type] # only to tell shapes apart


def test_about_half_of_the_audits_meet_a_fault_and_half_a_disturbance() -> None:
    assert 0.4 < sum(step.fault is not None for step in STEPS) / len(STEPS) < 0.65
    assert 0.35 < sum(bool(step.disturbances) for step in STEPS) / len(STEPS) < 0.65


def test_every_trouble_fault_and_client_comes_up() -> None:
    assert {event.trouble for step in STEPS for event in step.disturbances} == set(Trouble)
    assert {step.client for step in STEPS} == set(Client)
    planted = {step.fault.name for step in STEPS if step.fault}
    assert planted == set(FAULTS) - {"kill-server", "flip-on-primary", "break-archive", "freeze-stream", "hang-server"}


def test_only_the_last_audits_of_a_history_meet_a_broken_primary() -> None:
    for plan in PLANS:
        on_primary = [bool(step.fault and step.fault.on_primary) for step in plan.steps]
        assert on_primary == sorted(on_primary)


def test_roles_change_only_where_nothing_is_broken_and_nothing_cascades() -> None:
    changing = {Trouble.PROMOTE, Trouble.FAIL_OVER}
    for plan in PLANS:
        for step in plan.steps:
            if changing & {event.trouble for event in step.disturbances}:
                assert step.fault is None
                assert not plan.shape.cascades


def test_audits_that_are_ended_by_the_soak_itself_are_not_disturbed_as_well() -> None:
    assert all(step.client is Client.LIBRARY for step in STEPS if step.disturbances)


def test_schemas_have_columns_of_every_type_and_names_of_their_own() -> None:
    schemas = [tables.random_schema(seed) for seed in range(80)]
    made = [table for schema in schemas for table in (*schema.quiet, *schema.busy)]
    assert {column.type for table in made for column in table.columns} == {type_ for type_, _ in tables._TYPES}
    for schema in schemas:
        names = [(table.schema, table.name) for table in (*schema.quiet, *schema.busy)]
        assert len(names) == len(set(names))


# --- what an audit must say ---


def test_a_healthy_cluster_must_be_consistent() -> None:
    assert judged(factories.consistent(), CALM) == Judgement((), Seen.NOTHING)


@pytest.mark.parametrize("load", [False, True])
@pytest.mark.parametrize("hampered", [frozenset(), frozenset({"db1", "db2", "db3"})])
def test_no_circumstance_excuses_a_false_alarm(load: bool, hampered: frozenset[str]) -> None:
    circumstances = replace(CALM, written=load, hampered=hampered)
    problems = judged(diverged(), circumstances).problems
    assert any("a healthy relation is accused" in problem for problem in problems)
    assert any("a healthy relation is called diverged" in problem for problem in problems)


def test_a_fault_must_be_seen_where_it_is_and_nowhere_else() -> None:
    assert judged(diverged(), FAULTY) == Judgement((), Seen.SEEN)
    elsewhere = replace(FAULTY, planted=replace(BROKEN, node="db2"))
    assert any("accused" in problem for problem in judged(diverged(), elsewhere).problems)
    another = replace(FAULTY, planted=replace(BROKEN, relation="public.patient"))
    assert any("accused" in problem for problem in judged(diverged(), another).problems)


@pytest.mark.parametrize("hampered", [frozenset(), frozenset({"db1", "db2", "db3"})])
def test_no_circumstance_excuses_a_fault_that_is_called_consistent(hampered: frozenset[str]) -> None:
    judgement = judged(factories.consistent(), replace(FAULTY, hampered=hampered, ended_early=bool(hampered)))
    assert judgement.seen is Seen.MISSED
    assert any("was missed" in problem for problem in judgement.problems)


def test_a_fault_that_could_not_be_looked_at_must_be_proven_only_where_nothing_was_in_the_way() -> None:
    assert judged(factories.inconclusive(), FAULTY).seen is Seen.UNPROVEN
    assert any("was not proven" in problem for problem in judged(factories.inconclusive(), FAULTY).problems)
    in_the_way = judged(factories.inconclusive(), replace(FAULTY, hampered=frozenset({"db3"})))
    assert in_the_way == Judgement((), Seen.UNPROVEN)


def test_a_broken_primary_may_be_named_or_every_replica_that_differs_from_it() -> None:
    broken = replace(FAULTY, planted=replace(BROKEN, node="db1"), fault_on_primary=True)
    differing = tuple(RelationReplica(node=node, verdict=Verdict.DIVERGED) for node in ("db2", "db3"))
    visit = factories.relation(verdict=Verdict.DIVERGED, replicas=differing)
    named = diverged(odd_node="db1", relations=(visit,), divergences=(factories.divergence(node="db1"),))
    each = tuple(factories.divergence(node=node) for node in ("db2", "db3"))
    assert judged(named, broken) == Judgement((), Seen.SEEN)
    assert judged(replace(named, odd_node=None, divergences=each), broken) == Judgement((), Seen.SEEN)
    assert judged(diverged(odd_node=None), broken).seen is Seen.MISSED


def test_a_verdict_must_say_what_its_relations_say() -> None:
    problems = judged(diverged(verdict=Verdict.CONSISTENT, divergences=()), FAULTY).problems
    assert any("diverged without a divergence" in problem for problem in problems)


def test_the_node_that_stands_alone_must_be_the_broken_one() -> None:
    assert any("stand alone" in problem for problem in judged(diverged(odd_node="db2"), FAULTY).problems)


def test_a_finding_may_not_refute_a_healthy_cluster() -> None:
    result = factories.consistent(findings=(factories.finding(Outcome.REFUTED),))
    assert any("a finding refutes" in problem for problem in judged(result, CALM).problems)


def test_what_nobody_writes_must_be_proven_under_a_load_too() -> None:
    written = replace(CALM, written=True)
    in_flight = factories.inconclusive()
    assert judged(in_flight, written).problems == ()
    note = factories.not_checked(code="in_flight", node="db3")
    assert judged(replace(in_flight, not_checked=(note,)), written).problems == ()
    assert any("quiet and healthy" in problem for problem in judged(in_flight, CALM).problems)


@pytest.mark.parametrize(
    ("code", "circumstances", "excused"),
    [
        ("in_flight", CALM, False),
        ("in_flight", replace(CALM, written=True), True),
        ("node_lost", replace(CALM, written=True), False),
        ("node_lost", replace(CALM, hampered=frozenset({"db3"})), True),
        ("privilege", replace(CALM, written=True, hampered=frozenset({"db3"})), False),
    ],
)
def test_what_was_not_checked_needs_an_excuse(code: str, circumstances: Circumstances, excused: bool) -> None:
    note = factories.not_checked(code=code, node="db3")
    problems = judged(factories.consistent(not_checked=(note,)), circumstances).problems
    assert any("without an excuse" in problem for problem in problems) is not excused


def test_an_audit_must_compare_every_quiet_relation() -> None:
    quiet = replace(CALM, quiet=frozenset({("public", "gone")}))
    assert any("was not compared" in problem for problem in judged(factories.consistent(), quiet).problems)


def test_an_audit_must_come_to_an_end() -> None:
    assert any("took 500 s" in problem for problem in judged(factories.consistent(), CALM, seconds=500.0).problems)
    assert not judged(factories.consistent(), replace(CALM, read_share=0.1), seconds=500.0).problems


@pytest.mark.parametrize(
    ("error", "circumstances", "seen", "fine"),
    [
        (NodeUnfit("two primaries", node="db3"), replace(CALM, planted=replace(BROKEN, fault="promote")), "refused", 1),
        (NodeUnreachable("gone", node="db3"), replace(CALM, hampered=frozenset({"db3"})), "nothing planted", 1),
        (NodeUnreachable("gone", node="db3"), CALM, "nothing planted", 0),
        (NodeUnfit("two primaries", node="db3"), CALM, "nothing planted", 0),
        (LabError("anything else"), replace(CALM, hampered=frozenset({"db3"})), "nothing planted", 0),
    ],
)
def test_an_audit_may_only_fail_to_begin_for_a_reason(
    error: ReplcheckError, circumstances: Circumstances, seen: str, fine: int
) -> None:
    judgement = judge_refusal(error, circumstances)
    assert (judgement.seen.value, not judgement.problems) == (seen, bool(fine))


def test_a_command_that_refuses_two_primaries_is_heard_as_the_library_is() -> None:
    error = error_told(
        'replcheck: error: more than one node is a primary: "primary", "standby1"\nhint: One was promoted.'
    )
    judgement = judge_refusal(error, replace(CALM, planted=replace(BROKEN, fault="promote")))
    assert (judgement.seen, judgement.problems) == (Seen.REFUSED, ())


def test_two_primaries_must_be_refused() -> None:
    circumstances = replace(CALM, planted=replace(BROKEN, fault="split-brain"))
    assert any("not refused" in problem for problem in judged(factories.consistent(), circumstances).problems)


# --- what is counted ---


def record(**changes: Any) -> AuditRecord:
    made = AuditRecord(
        name="42/7",
        began_at="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        total_s=2.5,
        shape="pg18, 2 standbys",
        loads=("random",),
        fault="lose-row on standby1 in public.visit",
        fault_name="lose-row",
        new_fault=True,
        seen=Seen.SEEN,
        disturbances=("kill standby2", "cut primary primary"),
        client="library",
        options={"level": Level.EXACT},
        verdict="diverged",
        rows=1000,
        relations=10,
        alignments=4,
        not_checked={},
        problems=(),
    )
    return replace(made, **changes)


def test_a_record_is_told_in_one_line_that_begins_with_its_name() -> None:
    line = record().line()
    assert line.startswith("42/7 ")
    assert "\n" not in line
    assert "lose-row on standby1 in public.visit seen; kill standby2; cut primary primary; random load" in line
    assert record().document()["options"] == {"level": "exact"}


def test_the_summary_counts_what_was_planted_seen_and_wrong() -> None:
    summary = Summary()
    summary.add(record())
    summary.add(record(name="42/8", new_fault=False))
    summary.add(record(name="43/1", fault="", fault_name="", new_fault=False, seen=Seen.NOTHING, verdict="consistent"))
    summary.add(record(name="43/2", seen=Seen.MISSED, verdict="consistent", problems=("it was missed",)))
    summary.add(record(name="43/3", problems=("a healthy relation is accused: public.x",)))
    assert (summary.audits, len(summary.histories), summary.faults["lose-row"]) == (5, 2, 3)
    assert (summary.seen[Seen.SEEN], summary.seen[Seen.MISSED], summary.seen[Seen.NOTHING]) == (3, 1, 0)
    assert summary.disturbances == {"kill": 5, "cut primary": 5}
    assert summary.false_divergences == 1
    assert summary.problems == ["43/2: it was missed", "43/3: a healthy relation is accused: public.x"]
    text = "\n".join(summary.lines(seconds=61.0, machine=["machine"]))
    assert "5 of 2 histories in 1 min 1 s" in text
    assert summary.document(seconds=61.0, machine={})["seen"] == {"seen": 3, "missed": 1}
