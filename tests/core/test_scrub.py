"""The rolling audit: what is due, how long it takes, and how it goes on after whatever happens."""

import threading
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from replcheck.audit.options import AuditOptions, Pacing
from replcheck.audit.scope import scope_of
from replcheck.events import BlocksProven, ChunkCompared, DatabasePlanned, ProvingBegan
from replcheck.model.copies import AuditProof, CopyStanding, as_configured
from replcheck.model.live import NodeState
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.progress import Premises, ProvenBlocks, RelationState
from replcheck.runs.background import Bench
from replcheck.runs.lock import lock_file, only_run
from replcheck.runs.request import AuditRequest
from replcheck.runs.scrub import KIND, Scrub, Waiting, due_replicas, gentle, steady_since
from replcheck.runs.scrub_pace import LONGEST_REST_S, WORK_S, Pacer, ScrubProgress, working_share
from replcheck.store import open_history
from tests.commands import wait_for
from tests.core.lives import at, span
from tests.core.watched import IDENTIFIER, Watch, healthy, primary, sample, second, silence, standby
from tests.factories import consistent, node, relation, replica

PERIOD_S = 1000.0
TARGETS = tuple(NodeTarget(name=name, dsn=f"host={name}") for name in ("db1", "db2", "db3"))
PREMISES = Premises(
    encoding="exact/1", system_identifier="7", servers={"db1": "a", "db2": "b", "db3": "c"}, primary="db1", timeline=1
)


def proof(name, begun, *, verdict=Verdict.CONSISTENT, **changes):
    made = AuditProof(
        run_id=f"run of {begun}",
        proven_at=second(begun),
        finished_at=second(begun + 1),
        node=name,
        primary="db1",
        verdict=verdict,
        whole=True,
        system_identifier=IDENTIFIER,
        timeline=1,
        level="exact",
    )
    return replace(made, **changes)


def standing(name, age_s, *, proven=True, verdict=Verdict.CONSISTENT, reason=""):
    return CopyStanding(node=name, proven=proven, proof=proof(name, 0, verdict=verdict), age_s=age_s, reason=reason)


# --- what is due, and for how long ---


def test_a_proof_is_made_anew_when_half_of_the_time_is_over():
    fresh = {"db2": standing("db2", 200.0), "db3": standing("db3", 499.0)}
    assert due_replicas(["db2", "db3"], fresh, period_s=PERIOD_S) == ((), None)
    one_old = {"db2": standing("db2", 100.0), "db3": standing("db3", 500.0)}
    assert due_replicas(["db2", "db3"], one_old, period_s=PERIOD_S) == (("db3",), 500.0)


def test_what_will_be_due_soon_is_proven_along():
    both = {"db2": standing("db2", 300.0), "db3": standing("db3", 500.0)}
    assert due_replicas(["db2", "db3"], both, period_s=PERIOD_S) == (("db2", "db3"), 500.0)


def test_a_copy_without_a_proof_that_counts_is_proven_at_once():
    out_of_step = standing("db2", 10.0, proven=False, reason="it was lost since it was proven")
    assert due_replicas(["db2"], {}, period_s=PERIOD_S) == (("db2",), None)
    assert due_replicas(["db2"], {"db2": out_of_step}, period_s=PERIOD_S) == (("db2",), None)


def test_a_copy_that_an_audit_refuted_is_not_looked_at_again_at_once():
    refuted = standing("db2", 10.0, proven=False, verdict=Verdict.DIVERGED, reason="it diverged")
    assert due_replicas(["db2"], {"db2": refuted}, period_s=PERIOD_S) == ((), None)
    assert due_replicas(["db2"], {"db2": replace(refuted, age_s=500.0)}, period_s=PERIOD_S) == (("db2",), None)


def test_a_replica_is_steady_from_when_it_last_began_to_stream_unseen_times_included():
    streaming, lost = NodeState.STREAMING, NodeState.LOST
    assert steady_since([]) is None
    assert steady_since([span("db2", 0, 90, lost)]) is None
    assert steady_since([span("db2", 0, 90, streaming), span("db2", 91, 95, streaming)]) == at(0)
    assert steady_since([span("db2", 0, 90, lost), span("db2", 91, 95, streaming)]) == at(91)
    assert steady_since([span("db2", 0, 90, streaming), span("db2", 151, 200, streaming)]) == at(151)
    assert steady_since([span("db2", 0, 90, streaming, longest_gap_s=61.0)]) == at(90)


def test_a_rolling_audit_reads_rows_gently_and_takes_its_time():
    asked = AuditOptions(jobs=8, indexes=True, time_budget_s=60.0, fail_fast=True, excludes=("public.tmp_*",))
    taken = gentle(asked)
    assert (taken.pacing, taken.jobs, taken.indexes, taken.time_budget_s) == (Pacing.GENTLE, 1, False, None)
    assert taken.excludes == asked.excludes


# --- how it is spread over its time ---


def test_it_works_all_the_time_where_the_time_is_short():
    pacer = Pacer()
    assert all(pacer.works(float(now), 1.0) for now in range(1000))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03])
def test_it_works_for_its_share_of_the_time_and_rests_for_the_others(share):
    pacer = Pacer()
    worked = [pacer.works(float(now), share) for now in range(100_000)]
    assert sum(worked) / len(worked) == pytest.approx(share, rel=0.1)
    assert worked[0]


def test_it_never_rests_for_longer_than_half_an_hour():
    pacer = Pacer()
    worked = [now for now in range(20_000) if pacer.works(float(now), 1e-9)]
    assert max(later - earlier for earlier, later in pairwise(worked)) <= LONGEST_REST_S + 1
    assert len(worked) == pytest.approx(20_000 / (WORK_S + LONGEST_REST_S) * WORK_S, rel=0.2)


def chunk(database, size, verdict=Verdict.CONSISTENT):
    return ChunkCompared(
        at=second(0),
        lane=0,
        database=database,
        relation="public.t",
        first_block=0,
        last_block=1,
        rows=1,
        size_bytes=size,
        elapsed_s=0.1,
        verdict=verdict,
    )


def test_what_is_left_is_known_before_a_database_is_entered_and_better_after():
    progress = ScrubProgress(left={"a": 100, "b": 900})
    assert progress.left_bytes == 1000
    progress(DatabasePlanned(at=second(0), database="a", relations=1, size_bytes=80))
    progress(chunk("a", 30))
    assert progress.left_bytes == 950
    progress(DatabasePlanned(at=second(0), database="b", relations=1, size_bytes=500))
    assert progress.left_bytes == 500
    progress(chunk("b", 470))
    assert progress.left_bytes == 30
    assert progress.share == pytest.approx(500 / 530)


def test_the_rate_is_that_of_the_time_in_which_it_works():
    progress = ScrubProgress(left={"a": 10_000})
    progress(chunk("a", 5_000))
    progress.working_s = 50.0
    assert progress.bytes_per_s == 100.0
    # 50 s of work within three quarters of 1000 s.
    assert working_share(progress.left_bytes, progress.bytes_per_s, 1000.0) == pytest.approx(50 / 750)


# --- the audits that it is made of ---


class Rolling:
    """A rolling audit over a fake auditor, whose time and samples are those of the test."""

    def __init__(self, store, *, hold=False, verdict=Verdict.CONSISTENT, excludes=()):
        self.now, self.watch = 0.0, Watch()
        self.watch.see(healthy(0))
        self.watch.state = self.watch.state.with_proofs(())
        self.asked: list[tuple[list[str], list[int]]] = []
        self.told: list[str] = []
        self.events = []
        self.verdict = verdict
        self._hold = hold
        self.release = threading.Event()
        options = AuditOptions(excludes=excludes)
        request = AuditRequest(cluster="clinic", targets=TARGETS, options=options)
        bench = Bench(request=request, store=store, tell=self.told.append, auditor=self.audit)
        self.scope = scope_of(options)
        self.digest = request.extent.digest
        self.scrub = Scrub(bench, PERIOD_S, lambda: self.now)

    async def audit(self, targets, options, *, run_id, cluster, emit, stop, gate, earlier):
        names = [target.name for target in targets]
        before = sorted(proof.state.relation for run in earlier for proof in run.proofs)
        number = len(self.asked) + 1
        emit(ProvingBegan(at=second(self.now), premises=PREMISES))
        emit(BlocksProven(at=second(self.now), proof=blocks(number, names[1:], second(self.now))))
        self.asked.append((names, before))
        if self._hold:
            await stop.wait()
        begun = second(self.now)
        return consistent(
            started_at=begun,
            finished_at=begun + timedelta(seconds=1),
            verdict=self.verdict,
            scope=self.scope,
            relations=(relation(verdict=self.verdict),),
            primary=self._node(names[0], NodeRole.PRIMARY),
            replicas=tuple(replace(replica(name, self.verdict), node=self._node(name)) for name in names[1:]),
            stopped="it was stopped" if stop.is_set() else "",
        )

    def _node(self, name, role=NodeRole.STANDBY):
        return replace(node(name, role), system_identifier=IDENTIFIER)

    def see(self, seconds, make=healthy):
        """Let so many seconds pass, with a sample each."""
        for _ in range(seconds):
            self.now += 1
            self.watch.see(make(self.now))
            proofs = self.scrub.seen(self.watch.state)
            if proofs:
                counted = as_configured((*self.watch.state.proofs.proofs, *proofs), self.digest)
                self.watch.state = self.watch.state.with_proofs(counted)

    def until(self, condition):
        """Wait for what the audit's thread does, and let a little time pass."""
        wait_for(condition)
        self.see(5)

    @property
    def proven(self):
        return {name for name, found in self.watch.state.standings.items() if found.proven}


def blocks(relation, replicas, moment):
    state = RelationState(database=5, relation=relation, token=77, filenode=relation)
    return ProvenBlocks(state=state, replicas=tuple(replicas), ranges=((0, 9),), rows=10, proven_at=moment)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "clinic.db"


def ended(rolling, runs):
    """Return whether so many audits were begun and are over."""
    return lambda: len(rolling.asked) == runs and (rolling.scrub._audit is None or rolling.scrub._audit.over)


def test_everything_is_proven_at_the_beginning_and_anew_after_half_of_the_time(store):
    rolling = Rolling(store)
    rolling.see(3)
    rolling.until(ended(rolling, 1))
    assert rolling.proven == {"db1", "db2", "db3"}
    rolling.see(480)
    assert len(rolling.asked) == 1
    rolling.see(20)
    rolling.until(ended(rolling, 2))
    assert rolling.asked == [(["db1", "db2", "db3"], [])] * 2
    runs = open_history(store).runs()
    assert [(run.kind, getattr(run, "outcome", None)) for run in runs] == [(KIND, Outcome.PROVEN)] * 2


def test_one_that_is_ended_goes_on_with_what_it_has_proven(store):
    first = Rolling(store, hold=True)
    first.see(3)
    wait_for(lambda: len(first.asked) == 1)
    first.scrub.end()
    second_one = Rolling(store)
    second_one.now = 10.0
    second_one.watch = first.watch
    second_one.see(3)
    second_one.until(ended(second_one, 1))
    assert second_one.asked == [(["db1", "db2", "db3"], [1])]


def test_what_was_proven_before_a_copy_was_out_of_step_is_read_again(store):
    first = Rolling(store, hold=True)
    first.see(3)
    wait_for(lambda: len(first.asked) == 1)
    first.scrub.end()
    second_one = Rolling(store)
    second_one.watch, second_one.now = first.watch, 10.0
    gone = second_one.now
    for moment in range(3):
        second_one.watch.see(
            sample(gone + moment, primary(gone + moment), standby(gone + moment), silence(gone + moment, "db3"))
        )
    second_one.now = 20.0
    second_one.see(3)
    second_one.until(ended(second_one, 1))
    assert second_one.asked == [(["db1", "db2", "db3"], [])]


def test_a_replica_that_is_away_is_left_out_and_proven_when_it_is_back(store):
    def without_db3(moment):
        return sample(moment, primary(moment), standby(moment), silence(moment, "db3"))

    rolling = Rolling(store)
    rolling.see(8, without_db3)
    rolling.until(ended(rolling, 1))
    rolling.see(3)
    rolling.until(ended(rolling, 2))
    assert [names for names, _ in rolling.asked] == [["db1", "db2"], ["db1", "db3"]]


def test_an_audit_goes_on_without_a_replica_that_stays_away(store):
    def without_db3(moment):
        return sample(moment, primary(moment), standby(moment), silence(moment, "db3"))

    rolling = Rolling(store, hold=True)
    rolling.see(3)
    wait_for(lambda: len(rolling.asked) == 1)
    rolling.see(50, without_db3)
    assert len(rolling.asked) == 1
    rolling.see(30, without_db3)
    wait_for(lambda: rolling.scrub._audit is None or rolling.scrub._audit.over)
    rolling.see(5, without_db3)
    wait_for(lambda: len(rolling.asked) == 2)
    assert rolling.asked[1] == (["db1", "db2"], [1])
    rolling.scrub.end()


def without_any(moment):
    return sample(moment, primary(moment), silence(moment, "db2"), silence(moment, "db3"))


def test_it_says_that_all_is_proven_only_where_it_is(store):
    rolling = Rolling(store)
    assert rolling.scrub.state().waiting is None
    rolling.see(3)
    rolling.until(ended(rolling, 1))
    rolling.see(3)
    assert rolling.scrub.state().waiting == Waiting(proven=("db2", "db3"))


def test_it_names_the_replicas_that_it_cannot_audit(store):
    rolling = Rolling(store)
    rolling.see(8, without_any)
    assert rolling.scrub.state().waiting == Waiting(unfit=("db2", "db3"))
    assert rolling.asked == []


def test_it_names_the_replicas_that_diverged(store):
    rolling = Rolling(store, verdict=Verdict.DIVERGED)
    rolling.see(3)
    rolling.until(ended(rolling, 1))
    rolling.see(3)
    assert rolling.scrub.state().waiting == Waiting(diverged=("db2", "db3"))


def test_it_says_when_it_begins_anew_after_an_audit_that_settled_nothing(store):
    rolling = Rolling(store, verdict=Verdict.INCONCLUSIVE)
    rolling.see(3)
    rolling.until(ended(rolling, 1))
    rolling.see(10)
    state = rolling.scrub.state()
    assert state.waiting is not None
    assert state.waiting.again_at is not None
    assert 0 < (state.waiting.again_at - second(rolling.now)).total_seconds() <= 60
    assert state.waiting == replace(Waiting(), again_at=state.waiting.again_at)
    rolling.see(10)
    assert rolling.scrub.state() == state


def test_it_gives_way_to_any_other_audit(store):
    rolling = Rolling(store, hold=True)
    rolling.see(3)
    wait_for(lambda: len(rolling.asked) == 1)
    with only_run(lock_file(store), "an audit"):
        rolling.see(3)
        assert rolling.scrub.state().resting == "another audit is running"
    rolling.see(3)
    assert rolling.scrub.state().resting == ""
    rolling.scrub.end()


def test_a_proof_by_another_audit_counts(store):
    rolling = Rolling(store)
    rolling.watch.state = rolling.watch.state.with_proofs([proof("db2", 0), proof("db3", 0)])
    rolling.see(400)
    assert rolling.asked == []


def test_where_the_user_leaves_something_out_an_audit_of_the_rest_is_a_whole_one(store):
    rolling = Rolling(store, excludes=("public.tmp_*",))
    rolling.see(3)
    rolling.until(ended(rolling, 1))
    assert rolling.proven == {"db1", "db2", "db3"}
    rolling.see(400)
    assert len(rolling.asked) == 1
    part = AuditRequest(cluster="clinic", targets=TARGETS, options=AuditOptions(tables=("public.visit",)))
    of_part = proof("db2", 0, whole=False, scope_digest=part.extent.digest)
    assert [found.whole for found in as_configured([of_part], rolling.digest)] == [False]


def test_what_stays_inconclusive_is_tried_again_ever_more_rarely(store):
    rolling = Rolling(store, verdict=Verdict.INCONCLUSIVE)
    for runs, pause_s in ((1, 3), (2, 65), (3, 125)):
        rolling.see(pause_s)
        rolling.until(ended(rolling, runs))
    rolling.see(200)
    assert len(rolling.asked) == 3
    assert rolling.asked[2][1] == [1, 2]


def test_its_time_is_over_when_the_oldest_proof_is_as_old_as_was_allowed(store):
    rolling = Rolling(store, hold=True)
    watched = [
        replace(span(name, 0, 1), began_at=second(-400), ended_at=second(0), system_identifier=IDENTIFIER)
        for name in ("db2", "db3")
    ]
    rolling.watch.state = rolling.watch.state.with_proofs([proof("db2", -300), proof("db3", -300)], watched)
    rolling.see(203)
    wait_for(lambda: len(rolling.asked) == 1)
    state = rolling.scrub.state()
    assert (state.running, state.nodes) == (True, ("db2", "db3"))
    assert state.deadline is not None
    assert abs((state.deadline - second(700)).total_seconds()) < 5
    rolling.scrub.end()
