"""The soak and the benchmarks run on real servers, and the soak sees an audit that lies."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replcheck.audit.auditor import audit_cluster
from replcheck.model.audit import AuditResult
from replcheck.model.outcome import Verdict
from tests import labs
from tests.soak import histories, leftovers
from tests.soak.judging import Seen
from tests.soak.plans import LASTING_FAULTS, Client, FaultPlan, HistoryPlan, Step, plan_history
from tests.soak.records import AuditRecord

ROOT = Path(__file__).parents[2]
QUIET_OPTIONS = {"jobs": 2, "catalogs": False, "databases": ("postgres",), "fail_fast": False, "time_budget_s": None}


def calm_step(fault: FaultPlan | None) -> Step:
    """Return an audit of a history that nothing disturbs."""
    return Step(
        number=1,
        loads=(),
        fault=fault,
        disturbances=(),
        options=QUIET_OPTIONS,
        chunk_blocks=4,
        roles_expected=True,
        client=Client.LIBRARY,
        client_s=1.0,
    )


def calm_history(fault: FaultPlan | None) -> HistoryPlan:
    plan = plan_history(5, labs.majors())
    shape = replace(plan.shape, major=labs.majors()[0], standbys=2, cascades=False, apply_delay=None, synchronous="")
    return replace(plan, shape=shape, patients=0, steps=(calm_step(fault),))


def played(root: Path, plan: HistoryPlan) -> AuditRecord:
    told: list[AuditRecord] = []
    left = histories.play(
        plan,
        root,
        begun=lambda _: None,
        told=told.append,
        stopping=lambda: False,
        complaints=leftovers.Complaints(),
    )
    assert left == []
    [record] = told
    return record


def ran(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


LOST_ROW = FaultPlan(name="lose-row", node_lot=0, relation_lot=3)


def test_a_calm_audit_sees_its_fault_and_leaves_nothing_behind(clusters_root: Path) -> None:
    record = played(clusters_root, calm_history(LOST_ROW))
    assert (record.verdict, record.seen, record.problems) == ("diverged", Seen.SEEN, ())
    assert record.rows > 0


def lying(change: Callable[[AuditResult], AuditResult]) -> Any:
    """Return an audit whose result is changed before anybody sees it."""

    async def audit(*arguments: Any, **words: Any) -> AuditResult:
        return change(await audit_cluster(*arguments, **words))

    return audit


def test_the_soak_sees_an_audit_that_calls_a_broken_copy_consistent(
    clusters_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(result: AuditResult) -> AuditResult:
        relations = tuple(
            replace(
                relation,
                verdict=Verdict.CONSISTENT,
                replicas=tuple(replace(replica, verdict=Verdict.CONSISTENT) for replica in relation.replicas),
            )
            for relation in result.relations
        )
        replicas = tuple(replace(replica, verdict=Verdict.CONSISTENT) for replica in result.replicas)
        return replace(
            result, verdict=Verdict.CONSISTENT, relations=relations, replicas=replicas, divergences=(), odd_node=None
        )

    monkeypatch.setattr(histories, "audit_cluster", lying(blind))
    record = played(clusters_root, calm_history(LOST_ROW))
    assert record.seen is Seen.MISSED
    assert any("was missed" in problem for problem in record.problems)


def test_the_soak_sees_an_audit_that_accuses_a_healthy_copy(
    clusters_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alarmed(result: AuditResult) -> AuditResult:
        first = replace(result.relations[0].replicas[0], verdict=Verdict.DIVERGED)
        relation = replace(result.relations[0], replicas=(first, *result.relations[0].replicas[1:]))
        return replace(result, relations=(relation, *result.relations[1:]))

    monkeypatch.setattr(histories, "audit_cluster", lying(alarmed))
    record = played(clusters_root, calm_history(None))
    assert any("a healthy relation is called diverged" in problem for problem in record.problems)


def test_the_soak_sees_what_an_audit_leaves_behind(clusters_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE_S", 0.2)
    kept: list[subprocess.Popen[bytes]] = []

    def hold(player: Any, step: Step, disturber: Any) -> histories.Outcome:
        target = player._cluster.audit_dsn("primary")
        code = "import psycopg, sys; c = psycopg.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
        held = subprocess.Popen([sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert held.stdout is not None
        held.stdout.readline()
        kept.append(held)
        return outcome(player, step, disturber)

    outcome = histories._Player._outcome
    monkeypatch.setattr(histories._Player, "_outcome", hold)
    try:
        record = played(clusters_root, calm_history(None))
    finally:
        for held in kept:
            held.communicate()
    assert any("left behind: primary: session" in problem for problem in record.problems)


@pytest.mark.long
@pytest.mark.parametrize("name", LASTING_FAULTS)
def test_every_lasting_fault_is_seen_in_a_random_schema(clusters_root: Path, name: str) -> None:
    record = played(clusters_root, calm_history(FaultPlan(name=name, node_lot=1, relation_lot=11)))
    assert (record.verdict, record.seen, record.problems) == ("diverged", Seen.SEEN, ())


@pytest.mark.long
def test_a_short_soak_ends_well_and_can_be_replayed(tmp_path: Path) -> None:
    results = tmp_path / "soak.jsonl"
    command = [sys.executable, "-m", "tests.soak", "--results", str(results)]
    done = ran([*command, "--audits", "6", "--seed", "77"])
    assert done.returncode == 0, done.stdout
    assert "machine" in done.stdout
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    assert [line["name"] for line in lines[:2]] == ["77/1", "77/2"]
    assert lines[-1]["summary"]["problems"] == []
    again = ran([*command, "--replay", "77/2"])
    assert again.returncode == 0, again.stdout
    repeated = json.loads(results.read_text("utf-8").splitlines()[len(lines)])
    for same in ("name", "shape", "loads", "options", "fault"):
        assert repeated[same] == lines[1][same]


@pytest.mark.long
def test_every_benchmark_measures_something_at_a_small_size(tmp_path: Path) -> None:
    scenarios = ("help", "digest", "hidden", "relations", "memory", "workload")
    chosen = [word for name in scenarios for word in ("--only", name)]
    sizes = ["--rows", "20000", "--memory-rows", "5000", "20000", "--relations", "40", "--rounds", "1"]
    small = [*sizes, "--seconds", "2", "--scale", "1", "--results", str(tmp_path), "--dir", str(labs.clusters_root())]
    done = ran([sys.executable, "-m", "benchmarks", *chosen, *small])
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("*.json")
    measures = {measure["name"]: measure for measure in json.loads(file.read_text("utf-8"))["measures"]}
    assert {name.split()[0] for name in measures} == set(scenarios)
    assert all(measure["figure"] > 0 for measure in measures.values())
    assert measures["help"]["machine"]["cores"] >= 1
