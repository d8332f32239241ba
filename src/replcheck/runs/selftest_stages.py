"""What a self-test does, stage by stage: audits of a healthy cluster under load, then of one that was damaged.

Each stage ends in scores; what an audit raises instead of a result counts as a miss or is raised on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from replcheck.audit.options import AuditOptions
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.lab import differences as lab
from replcheck.lab.cluster import LabCluster
from replcheck.lab.differences import DATABASES, DEFINITIONS, ROWS
from replcheck.lab.faults import apply_fault, heal
from replcheck.lab.workload import MixedWorkload
from replcheck.model.audit import AuditResult
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.model.selftest import Difference, DifferenceReport, NotTried, Sight, Twin
from replcheck.report.verdict import verdict_of
from replcheck.runs.audit import Auditor, run_audit
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.request import AuditRequest
from replcheck.runs.selftest_score import bystanders, sight, twin

BROKEN, HEALTHY = "standby2", "standby1"
_RATE = 60.0
_WRITERS = 3
_PATIENTS = 300
_TRIES = 3
_SHORT_WAIT_S = 1.5
BEFORE = "before anything was planted, under load"
BESIDE = "on the healthy standby"
_NO_ROWS = "public.untouched"

Step = Callable[[str], None]
"""Takes what begins now, in a few words."""


class Stages:
    """The stages of one self-test on one cluster."""

    def __init__(self, cluster: LabCluster, wish: StopWish, step: Step, auditor: Auditor, *, quick: bool) -> None:
        self._cluster = cluster
        self._wish = wish
        self._step = step
        self._auditor = auditor
        self._quick = quick

    def play(self) -> tuple[tuple[DifferenceReport, ...], tuple[Twin, ...], tuple[NotTried, ...]]:
        """Play all stages and return the scores, those of what lies beside the differences, and what was not tried."""
        self._begin("making tables of every kind")
        prepared = lab.prepare(self._cluster, quick=self._quick, between=self._wish.obey)
        self._begin("auditing while nothing differs, under load")
        before = self._audit_under_load()
        self._begin("planting every known difference on one standby")
        planted = lab.plant(self._cluster, prepared, BROKEN, between=self._wish.obey)
        self._begin(f"auditing with {len(planted)} differences planted")
        after = self._audit(databases=DATABASES)
        reports = [self._scored(difference, before, after) for difference in planted]
        beside = [
            bystanders([], before, "", BEFORE),
            bystanders(planted, after, DEFINITIONS, "beside the planted differences"),
        ]
        if prepared.indexes:
            self._begin("auditing with --indexes")
            reports.append(self._index_report(before))
        if not self._quick:
            reports += self._node_reports()
        return tuple(reports), tuple(beside), prepared.not_tried

    def _begin(self, what: str) -> None:
        self._wish.obey()
        self._step(what)

    def _scored(self, difference: Difference, before: AuditResult, after: AuditResult) -> DifferenceReport:
        seen, reason = sight(difference, after)
        twins = (twin(difference, before, (HEALTHY, BROKEN), BEFORE), twin(difference, after, (HEALTHY,), BESIDE))
        return _report(difference, seen, reason, twins)

    def _audit_under_load(self) -> AuditResult:
        """Audit everything while a load writes; again where not every row was proven, as on a busy machine."""
        load = MixedWorkload(self._cluster, rate=_RATE, writers=_WRITERS, patients=_PATIENTS)
        with self._wish.over(load):
            load.wait_for(_WRITERS)
            for _ in range(_TRIES - 1):
                result = self._audit()
                if verdict_of(result) is not Verdict.INCONCLUSIVE:
                    return result
            return self._audit()

    def _index_report(self, before: AuditResult) -> DifferenceReport:
        result = self._audit(databases=(ROWS,), tables=(f"public.{lab.INDEXED}", _NO_ROWS), indexes=True)
        difference = lab.index_difference(BROKEN)
        seen, reason = sight(difference, result)
        clean = [twin(difference, before, (HEALTHY, BROKEN), BEFORE), twin(difference, result, (HEALTHY,), BESIDE)]
        return _report(difference, seen, reason, clean)

    def _node_reports(self) -> Iterable[DifferenceReport]:
        """Damage the primary, then do to whole nodes what makes them no copies; each is undone before the next."""
        yield self._broken_primary()
        for fault in ("pause-replay", "stop-server", "promote"):
            self._begin(f"auditing after: {fault}")
            targets = self._targets()
            done = apply_fault(self._cluster, fault, node=HEALTHY)
            if fault == "pause-replay":
                self._cluster.primary.execute("update public.untouched set weight = 1 where id = 1", dbname=ROWS)
            said = self._said_of(targets, HEALTHY)
            yield _node_report(f"a standby: {done.what}", HEALTHY, said)
            heal(self._cluster, HEALTHY)
            self._cluster.catch_up(only=HEALTHY)
        self._begin("auditing one server under two names")
        [primary] = [target for target in self._targets() if target.name == self._cluster.primary.name]
        said = self._said_of([primary, replace(primary, name="copy")], "copy")
        yield _node_report("a primary given as its own replica", "copy", said)

    def _broken_primary(self) -> DifferenceReport:
        primary = self._cluster.primary.name
        self._begin("auditing a damaged primary")
        done = apply_fault(self._cluster, "flip-on-primary", database=ROWS, relation=f"public.{lab.ON_PRIMARY}")
        self._cluster.wait_streaming()
        difference = lab.of_fault(done, f"{done.what}, of the primary", "nodes")
        result = self._audit(databases=(ROWS,), tables=(f"public.{lab.ON_PRIMARY}", _NO_ROWS))
        seen, reason = sight(difference, result)
        if seen is Sight.SEEN and result.odd_node != primary:
            seen, reason = Sight.MISSED, f"the node that stands alone was said to be {result.odd_node or 'nobody'}"
        rest = bystanders([difference], result, "", "beside the damaged table of the primary")
        return _report(difference, seen, reason, [rest])

    def _said_of(self, targets: Sequence[NodeTarget], node: str) -> str:
        """Return how an audit of a table keeps from calling a node a copy; empty where it does not."""
        try:
            result = self._audit(targets, databases=(ROWS,), tables=(_NO_ROWS,), replay_wait_s=_SHORT_WAIT_S)
        except Interrupted:
            raise
        except ReplcheckError as error:
            return error.message if getattr(error, "node", None) == node else ""
        verdicts = [replica.verdict for replica in result.replicas if replica.node.name == node]
        doubted = all(verdict is not Verdict.CONSISTENT for verdict in verdicts)
        return f"{verdicts[0].value}" if verdicts and doubted else ""

    def _targets(self) -> list[NodeTarget]:
        return [NodeTarget(name=name, dsn=self._cluster.audit_dsn(name)) for name in self._cluster.nodes]

    def _audit(self, targets: Sequence[NodeTarget] | None = None, **options: object) -> AuditResult:
        request = AuditRequest(
            cluster="selftest",
            targets=tuple(self._targets() if targets is None else targets),
            options=AuditOptions(**options),  # type: ignore[arg-type] # the callers name its own fields
        )
        finished = run_audit(request, auditor=self._auditor)
        self._wish.obey()
        if finished.error is not None:
            raise finished.error
        assert finished.result is not None  # noqa: S101 - a run without an error has a result
        return finished.result


def _report(difference: Difference, seen: Sight, reason: str, twins: Iterable[Twin | None]) -> DifferenceReport:
    return DifferenceReport(
        group=difference.group,
        name=difference.name,
        node=difference.node,
        database=difference.database,
        relations=difference.relations,
        sight=seen,
        reason=reason,
        twins=tuple(one for one in twins if one is not None),
    )


def _node_report(name: str, node: str, said: str) -> DifferenceReport:
    return DifferenceReport(
        group="nodes",
        name=name,
        node=node,
        database="",
        relations=(),
        sight=Sight.SEEN if said else Sight.MISSED,
        reason="" if said else f"nothing kept {node} from being called a copy",
    )
