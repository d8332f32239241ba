"""Random histories on real servers: whatever is written meanwhile, no healthy copy is accused and no broken one missed.

A history follows from its seed: the load, the options of its audits, the fault and the row it strikes. Only the moment
at which things meet is chance. To replay one, or to run others:

    REPLCHECK_HISTORY_SEEDS=17,18 pytest tests/postgres/test_histories.py
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from replcheck.audit.options import Level
from replcheck.errors import NodeLost, NodeUnreachable, ReplcheckError, StatementFailed
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.faults import apply_fault, heal
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.planted import PlantedFault
from replcheck.lab.schema import create_schema
from replcheck.lab.workload import MixedWorkload
from replcheck.model.audit import AuditResult, RelationKind
from replcheck.model.outcome import Verdict
from tests.auditing import AWAY_CODES, BUSY_CODES, run_audit_of
from tests.conftest import MakeCluster
from tests.labs import majors

SEEDS = (1,)
"""Of the short histories."""
LONG_SEEDS = (2, 3, *range(101, 113))
PATIENTS = 400
MOST_DISTURBANCES = 12

FAULTS = (
    *("flip-row-bytes", "lose-row", "hide-row", "invent-row", "swap-rows", "zero-page", "truncate-file"),
    *("corrupt-toast", "lose-toast-chunk", "flip-page-bytes", "break-page-header", "missing-file"),
)
"""Faults that last under a load: a page whose dead rows are still to be pruned (lost-write) mends when they are."""
QUIET_RELATIONS = ("clinic.chart", "clinic.staff", "quiet.ledger")
"""Relations of the load's database that nobody writes: they must be proven, whatever goes on beside them."""


def seeds(fixed: tuple[int, ...]) -> list[Any]:
    """Return the seeds of a test, or those that the environment asks for."""
    asked = os.environ.get("REPLCHECK_HISTORY_SEEDS")
    chosen = [int(seed) for seed in asked.split(",")] if asked else fixed
    return [pytest.param(seed, id=f"seed{seed}") for seed in chosen]


@dataclass(slots=True)
class History:
    """What follows from one seed."""

    seed: int
    rng: Random = field(init=False)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.tell(f"replay with: REPLCHECK_HISTORY_SEEDS={self.seed} pytest tests/postgres/test_histories.py")

    def tell(self, text: str) -> None:
        """Print what was chosen; pytest shows it where the test fails."""
        print(f"seed {self.seed}, {time.monotonic() - self.began:.1f} s: {text}")  # noqa: T201

    def options(self) -> dict[str, Any]:
        """Choose the options of one audit."""
        chosen = {
            "level": self.rng.choice(list(Level)),
            "jobs": self.rng.choice((1, 2, 4)),
            "catalogs": self.rng.random() < 0.7,
            "max_snapshot_age_s": self.rng.choice((1.0, 3.0, 60.0)),
            "chunk_target_s": self.rng.choice((0.02, 0.2, 1.0)),
            "align_budget_s": self.rng.choice((0.2, 1.0, 5.0)),
            "max_rows_listed": self.rng.choice((1, 50, 10_000)),
        }
        self.tell(f"options {chosen}")
        return chosen

    def fault(self, cluster: LabCluster) -> PlantedFault:
        """Break one standby in a relation that nobody writes."""
        name = self.rng.choice(FAULTS)
        node = self.rng.choice(cluster.standbys).name
        # Only charts have values out of line.
        relation = "clinic.chart" if "toast" in name else self.rng.choice(("clinic.chart", "quiet.ledger"))
        self.tell(f"fault {name} on {node} in {relation}")
        return apply_fault(cluster, name, node=node, relation=relation, seed=self.seed)


def prepare(cluster: LabCluster) -> None:
    """Make the tables of the load, and a large one beside them that nobody writes."""
    create_schema(cluster.primary, "postgres", patients=PATIENTS)
    for statement in (
        "create schema quiet",
        "create table quiet.ledger (id int primary key, entry text, amount numeric) with (fillfactor = 95)",
        "insert into quiet.ledger select i, md5(i::text), i * 0.25 from generate_series(1, 60000) i",
        "vacuum (freeze) quiet.ledger",
    ):
        cluster.primary.execute(statement)
    cluster.catch_up()


def assert_right(result: AuditResult, excuses: frozenset[str], planted: PlantedFault | None = None) -> None:
    """Check that nobody is accused but the broken node, of nothing else than what was broken, and that it was seen."""
    broken = (planted.node, planted.relation) if planted else None
    accused = {(found.node, found.relation) for found in result.divergences}
    assert accused <= {broken}, f"a healthy relation is accused: {result.divergences}"
    for relation in result.relations:
        label = f"{relation.schema}.{relation.name}"
        for replica in relation.replicas:
            if (replica.node, label) == broken:
                assert replica.verdict is not Verdict.CONSISTENT, f"{planted} was called consistent"
            else:
                assert replica.verdict is not Verdict.DIVERGED, f"{label} on {replica.node} is healthy"
    unexcused = [note for note in result.not_checked if not note.by_design and note.code not in excuses]
    assert unexcused == []
    refuting = [finding for finding in result.findings if finding.outcome is Verdict.DIVERGED.outcome]
    assert {finding.code for finding in refuting} <= ({"checksum_failures"} if planted else set())
    if planted:
        assert result.verdict is not Verdict.CONSISTENT


def still_differs(cluster: LabCluster, planted: PlantedFault) -> bool:
    """Return whether the broken relation's rows really are other ones on the broken node, by a look of our own."""
    rows = f"select ctid::text, md5(r::text) from {planted.relation} r"
    try:
        return cluster.nodes[planted.node].execute(rows) != cluster.primary.execute(rows)
    except StatementFailed:
        return True


def assert_thorough(result: AuditResult, planted: PlantedFault | None = None) -> None:
    """Check that what could be proven was: quiet relations on healthy nodes, and most of the busy ones."""
    accounted = {f"{relation.schema}.{relation.name}": relation for relation in result.relations}
    for name in QUIET_RELATIONS:
        for replica in accounted[name].replicas:
            expected = Verdict.CONSISTENT
            if planted and (replica.node, name) == (planted.node, planted.relation):
                expected = Verdict.DIVERGED
            assert replica.verdict is expected, f"{name} on {replica.node}: {result.not_checked}"
    rows = [relation for relation in result.relations if relation.kind is not RelationKind.SEQUENCE]
    settled = [relation for relation in rows if relation.verdict in {Verdict.CONSISTENT, Verdict.DIVERGED}]
    assert len(settled) >= 0.7 * len(rows), f"{len(settled)} of {len(rows)} relations: {result.not_checked}"


@pytest.fixture(scope="module")
def busy(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    with LabCluster.create(clusters_root, name=f"busy_{os.getpid()}", major=newest_major) as cluster:
        prepare(cluster)
        yield cluster


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_no_healthy_copy_is_accused_and_no_broken_one_missed_under_a_load(busy: LabCluster, seed: int) -> None:
    history = History(seed)
    with MixedWorkload(busy, seed=seed, rate=120, patients=PATIENTS) as load:
        load.wait_for(20)
        before = load.transactions
        healthy, _ = run_audit_of(busy, databases=("postgres",), settle_budget_s=30, **history.options())
        assert load.transactions > before
        assert_right(healthy, BUSY_CODES)
        assert_thorough(healthy)
        planted = history.fault(busy)
        load.wait_for(20)
        broken, _ = run_audit_of(busy, databases=("postgres",), settle_budget_s=30, **history.options())
        assert_right(broken, BUSY_CODES, planted)
        assert_thorough(broken, planted)
        assert broken.verdict is Verdict.DIVERGED
        assert broken.odd_node == planted.node
    heal(busy)
    busy.catch_up()
    quiet, _ = run_audit_of(busy, databases=("postgres",))
    assert quiet.verdict is Verdict.CONSISTENT, quiet.not_checked


@contextmanager
def disturbed(cluster: LabCluster, rng: Random) -> Iterator[list[str]]:
    """Kill, restart and pause standbys and cut connections, a dozen times at most; all run again at the end."""
    done: list[str] = []
    enough = threading.Event()
    failures: list[ReplcheckError] = []

    def disturb() -> None:
        while len(done) < MOST_DISTURBANCES and not enough.wait(rng.uniform(0.1, 1.5)):
            node = cluster.nodes[rng.choice([standby.name for standby in cluster.standbys])]
            what = rng.choice(("kill", "restart", "pause", "cut", "cut primary"))
            done.append(f"{what} {node.name}")
            try:
                if what == "kill":
                    node.kill()
                    enough.wait(rng.uniform(0, 2))
                    node.start()
                elif what == "restart":
                    node.restart("immediate" if rng.random() < 0.3 else "fast")
                elif what == "pause":
                    node.execute("select pg_wal_replay_pause()")
                    enough.wait(rng.uniform(0, 1.5))
                    node.execute("select pg_wal_replay_resume()")
                else:
                    server = cluster.primary if what == "cut primary" else node
                    server.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s and random() < 0.5",
                        [AUDIT_ROLE],
                    )
            except ReplcheckError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        enough.set()
        thread.join(timeout=120)
    assert failures == []
    assert not thread.is_alive()


def _audit_disturbed(
    cluster: LabCluster,
    history: History,
    options: dict[str, Any],
    excuses: frozenset[str],
    planted: PlantedFault | None = None,
) -> None:
    """Audit while standbys are killed and come back; one that begins meanwhile may say that it cannot."""
    with disturbed(cluster, Random(history.rng.random())) as done:
        try:
            shaken, _ = run_audit_of(cluster, **options | history.options())
        except (NodeLost, NodeUnreachable) as error:
            history.tell(f"disturbed by {done}, and not begun: {error.message}")
            return
    history.tell(f"disturbed by {done}")
    assert_right(shaken, excuses, planted)


@pytest.mark.long
@pytest.mark.parametrize("seed", seeds(LONG_SEEDS))
def test_no_verdict_is_wrong_while_standbys_come_and_go(make_cluster: MakeCluster, seed: int) -> None:
    history = History(seed)
    rng = history.rng
    made: dict[str, Any] = {
        "major": rng.choice(majors()),
        "checksums": rng.random() < 0.7,
        "feedback": rng.random() < 0.6,
        "standbys": rng.choice((1, 2, 2)),
    }
    history.tell(f"cluster {made}")
    cluster = make_cluster(**made)
    prepare(cluster)
    excuses = BUSY_CODES | AWAY_CODES
    options = {"settle_budget_s": 15, "node_timeout_s": 15, "replay_wait_s": 10}
    with ExitStack() as loads:
        load = loads.enter_context(
            MixedWorkload(cluster, seed=seed, rate=rng.choice((50, 150, None)), patients=PATIENTS)
        )
        if rng.random() < 0.5:
            cluster.create_database("bench")
            loads.enter_context(PgbenchLoad(cluster, database="bench", rate=rng.choice((50, 300)), seed=seed))
        load.wait_for(50, timeout_s=60)
        healthy, _ = run_audit_of(cluster, **options | history.options())
        assert_right(healthy, excuses)
        _audit_disturbed(cluster, history, options, excuses)
        cluster.wait_streaming(timeout_s=60)
        planted = history.fault(cluster)
        load.wait_for(50, timeout_s=60)
        _audit_disturbed(cluster, history, options, excuses, planted)
        cluster.wait_streaming(timeout_s=60)
        broken, _ = run_audit_of(cluster, **options | history.options())
        assert_right(broken, excuses, planted)
    assert still_differs(cluster, planted), "the fault did not last: the history shows nothing"
    cluster.catch_up(timeout_s=120)
    quiet, _ = run_audit_of(cluster)
    assert_right(quiet, frozenset(), planted)
    assert quiet.verdict is Verdict.DIVERGED
    assert {found.relation for found in quiet.divergences} == {planted.relation}
