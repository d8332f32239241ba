"""The use case `demo`: a real cluster is audited under load, broken, healed, backed up, restored from that and removed.

It believes nothing: every claim it makes is checked, and one that does not hold is a problem of the run. A signal is a
wish that is looked at between two steps, so that no step is cut in the middle and whatever was made is removed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from replcheck.audit.options import AuditOptions
from replcheck.lab.backups import ARCHIVING
from replcheck.lab.cluster import LabCluster, remove_root
from replcheck.lab.faults import apply_fault
from replcheck.lab.looks import looked_up, usual_checks
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.state import default_root
from replcheck.lab.workload import MixedWorkload
from replcheck.model.audit import AuditResult
from replcheck.model.demo import (
    AuditEnded,
    ClusterStarted,
    CopyMade,
    DemoBegun,
    DemoEnded,
    FaultDone,
    Part,
    PartBegun,
    Scene,
    WritingStarted,
)
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.report.verdict import verdict_of
from replcheck.runs import demo_claims
from replcheck.runs.audit import Tell, run_audit
from replcheck.runs.demo_drill import DrillStory
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.own_cluster import remove_leftovers, require_room
from replcheck.runs.request import AuditRequest
from replcheck.runs.sinks import Sink

NAME = "demo"
"""What a cluster that outlives its demo is called; the others carry the number of their process behind it."""
_FAULT = "flip-row-bytes"
_PATIENTS = 5_000
_SCALE = 6
_WRITERS = 3
_MIXED_RATE = 35.0
_PGBENCH_RATE = 65.0
"""Transactions per second of the loads; small machines keep up with both, and with the audit beside them."""
_SETTLE_S = 1.5
_USUAL_S = 4.0
_HEAL_UNTIL_S = 70.0
"""A new copy and a third audit begin only within so many seconds: the demo is to end before two minutes."""

Narrate = Callable[[Scene], None]
Watch = Callable[[], AbstractContextManager[Sink]]
"""Opens a reader of one audit's events, which shows its progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What may be chosen."""

    major: int | None = None
    """PostgreSQL's major version; None is the newest found."""
    root: Path | None = None
    """The folder of clusters; None is this user's usual one."""
    keep: bool = False
    """Whether the cluster, its standby broken, outlives the demo."""


def run_demo(
    options: DemoOptions | None = None,
    *,
    narrate: Narrate = lambda _: None,
    watch: Watch = lambda: nullcontext(lambda _: None),
    tell: Tell = lambda _: None,
) -> DemoEnded:
    """Play the demo and return how it ended, its last scene; no server is left unless it was to be kept.

    Raises Interrupted after a signal, and LabError or ProgramError where servers cannot be had: nothing is left then
    either. `tell` takes a line about a signal. Must not be called from a running event loop.
    """
    options = options or DemoOptions()
    root = (options.root or default_root()).absolute()
    remove_leftovers(root, NAME)
    require_room(root)
    narrate(DemoBegun(folder=root, kept=options.keep))
    with StopWish(tell).on_signals() as wish:
        story = _Story(wish, narrate, watch, tell)
        with _cluster(root, options, story):
            story.play(heals=not options.keep)
    ended = DemoEnded(
        problems=tuple(story.problems),
        broken=story.broken,
        healed=story.healed,
        drilled=story.drilled,
        took_s=story.elapsed_s,
        kept=NAME if options.keep else "",
        folder=root,
    )
    narrate(ended)
    return ended


@contextmanager
def _cluster(root: Path, options: DemoOptions, story: "_Story") -> Iterator[None]:
    """Give the story a cluster, and remove it afterwards unless it was told to its end and is to be kept."""
    story.begin(Part.CLUSTER)
    begun = time.monotonic()
    try:
        name = NAME if options.keep else f"{NAME}_{os.getpid()}"
        cluster = LabCluster.create(root, name=name, major=options.major, settings=ARCHIVING)
        try:
            story.take(cluster, time.monotonic() - begun)
            yield
            story.obey()
        except BaseException:
            cluster.destroy()
            raise
        if not options.keep:
            cluster.destroy()
    finally:
        remove_root(root)


class _Story:
    """The parts of the demo on one cluster, and what was found wrong with its claims."""

    def __init__(self, wish: StopWish, narrate: Narrate, watch: Watch, tell: Tell) -> None:
        self.problems: list[str] = []
        self.broken = ""
        self.healed = False
        self.drilled = False
        self._tell = tell
        self._wish = wish
        self._narrate = narrate
        self._watch = watch
        self._begun = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the story began."""
        return time.monotonic() - self._begun

    def begin(self, part: Part) -> None:
        """Begin a part, unless a signal came."""
        self._wish.obey()
        self._narrate(PartBegun(part=part))

    def obey(self) -> None:
        """Raise Interrupted where a signal came."""
        self._wish.obey()

    def take(self, cluster: LabCluster, took_s: float) -> None:
        """Take the cluster that was started."""
        self._wish.obey()
        self._cluster = cluster
        self._narrate(
            ClusterStarted(
                version=cluster.primary.programs.version,
                primary=cluster.primary.name,
                standbys=tuple(node.name for node in cluster.standbys),
                took_s=took_s,
            )
        )

    def play(self, *, heals: bool) -> None:
        """Play all parts that follow the start of the cluster, up to the first problem."""
        with ExitStack() as loads:
            self._start_writing(loads)
            result = self._audit(Part.FIRST_AUDIT)
            if self._claim(demo_claims.wrong_with_copies(result)):
                self._break_and_find()
            if heals and not self.problems and self.elapsed_s < _HEAL_UNTIL_S:
                self._heal()
            if not self.problems:
                self._restore()

    def _start_writing(self, loads: ExitStack) -> None:
        self.begin(Part.WRITING)
        self._mixed = MixedWorkload(self._cluster, rate=_MIXED_RATE, writers=_WRITERS, patients=_PATIENTS)
        loads.enter_context(self._wish.over(self._mixed))
        self._pgbench = PgbenchLoad(self._cluster, rate=_PGBENCH_RATE, clients=_WRITERS, scale=_SCALE)
        loads.enter_context(self._wish.over(self._pgbench))
        self._wish.sleep(_SETTLE_S)
        before, begun = self._transactions(), time.monotonic()
        self._wish.sleep(_USUAL_S)
        self._usual_per_second = (self._transactions() - before) / (time.monotonic() - begun)
        [(size_bytes,)] = self._cluster.primary.execute("select pg_database_size(current_database())")
        self._narrate(
            WritingStarted(size_bytes=size_bytes, connections=2 * _WRITERS, per_second=self._usual_per_second)
        )

    def _transactions(self) -> int:
        return self._mixed.transactions + self._pgbench.transactions

    def _audit(self, part: Part) -> AuditResult:
        """Audit all nodes; once more where not every row could be proven in time, as on a machine that is busy."""
        self.begin(part)
        result = self._audit_once(part)
        return self._audit_once(part) if verdict_of(result) is Verdict.INCONCLUSIVE else result

    def _audit_once(self, part: Part) -> AuditResult:
        nodes = self._cluster.nodes
        request = AuditRequest(
            cluster=NAME,
            targets=tuple(NodeTarget(name=name, dsn=self._cluster.audit_dsn(name)) for name in nodes),
            options=AuditOptions(),
        )
        before, begun = self._transactions(), time.monotonic()
        with self._watch() as progress:
            finished = run_audit(request, sinks=[progress], auditor=self._wish.auditor)
        self._wish.obey()
        if finished.error is not None:
            raise finished.error
        assert finished.result is not None  # noqa: S101 - a run without an error has a result
        ended = AuditEnded(
            part=part,
            result=finished.result,
            took_s=time.monotonic() - begun,
            transactions=self._transactions() - before,
            usual_per_second=self._usual_per_second,
        )
        self._narrate(ended)
        if not ended.transactions:
            self.problems.append("no transaction was committed while the audit ran")
        return finished.result

    def _break_and_find(self) -> None:
        self.begin(Part.FAULT)
        node, seed = demo_claims.drawn([standby.name for standby in self._cluster.standbys])
        planted = apply_fault(self._cluster, _FAULT, node=node, seed=seed)
        self.broken = node
        assert planted.relation is not None  # noqa: S101 - the fault is one of a row
        assert planted.block is not None  # noqa: S101
        assert planted.offset is not None  # noqa: S101
        self._narrate(FaultDone(node=node, relation=planted.relation, block=planted.block, offset=planted.offset))
        usual = usual_checks(self._cluster, node, planted.relation)
        self._narrate(usual)
        self._claim(demo_claims.wrong_with_silence(usual))
        result = self._audit(Part.SECOND_AUDIT)
        if self._claim(demo_claims.wrong_with_finding(result, planted)):
            looked = looked_up(self._cluster, result.divergences[0].query)
            self._narrate(looked)
            self._claim(demo_claims.wrong_with_row(looked, node))

    def _heal(self) -> None:
        self.begin(Part.NEW_COPY)
        begun = time.monotonic()
        self._cluster.copy_anew(self.broken)
        self._wish.obey()
        self._narrate(CopyMade(node=self.broken, took_s=time.monotonic() - begun))
        self.healed = self._claim(demo_claims.wrong_with_copies(self._audit_once(Part.NEW_COPY)))

    def _restore(self) -> None:
        # A table that is rewritten while it is sealed is left out of a seal: from here on pgbench alone writes.
        self._mixed.stop()
        drills = DrillStory(
            self._cluster,
            name=NAME,
            wish=self._wish,
            narrate=self._narrate,
            transactions=self._transactions,
            tell=self._tell,
        )
        self.drilled = drills.play()
        self._claim(drills.problems)

    def _claim(self, problems: list[str]) -> bool:
        self.problems += problems
        return not problems
