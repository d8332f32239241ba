"""Proven copies are counted by the rule of the model, at every sample."""

from dataclasses import replace

from replcheck.model.copies import AuditProof
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.spans import NodeSpan
from replcheck.watch.limits import WatchLimits
from tests.core.watched import IDENTIFIER, Watch, healthy, kinds, only, second, silence

LIMITS = WatchLimits(proven=3, max_proof_age_s=3600)


def proof(node, *, proven_at=10.0, verdict=Verdict.CONSISTENT):
    return AuditProof(
        run_id="run1",
        proven_at=second(proven_at),
        finished_at=second(proven_at + 5),
        node=node,
        primary="db1",
        verdict=verdict,
        whole=True,
        system_identifier=IDENTIFIER,
        timeline=1,
        level="exact",
    )


BOTH = (proof("db2"), proof("db3"))


def proven_watch():
    watch = Watch(LIMITS)
    watch.see(*map(healthy, range(20)))
    watch.state = watch.state.with_proofs(BOTH)
    watch.see(healthy(20))
    return watch


def test_without_any_proofs_given_nothing_is_told_of_proven_copies():
    watch = Watch(LIMITS)
    watch.see(*map(healthy, range(20)))
    assert watch.kinds() == []
    assert watch.state.view is not None
    assert watch.state.view.proven_copies is None


def test_an_audit_proves_its_replicas_and_with_them_the_primary():
    watch = proven_watch()
    assert watch.kinds() == []
    assert watch.state.proven_copies == 3
    assert watch.state.view is not None
    assert watch.state.view.proven_copies == 3


def test_a_standby_that_was_lost_since_its_proof_is_proven_no_more():
    watch = proven_watch()
    healthy_but = healthy(21)
    lost = replace(healthy_but, answers=healthy_but.answers[:2], silences=(silence(21, "db3"),))
    assert EventKind.PROVEN_SHORT in kinds(watch.see(lost))
    watch.see(healthy(22))
    assert watch.state.proven_copies == 2
    assert "it was lost since it was proven" in watch.state.standings["db3"].reason
    watch.state = watch.state.with_proofs((*BOTH, proof("db3", proven_at=23)))
    watch.see(*map(healthy, range(23, 30)))
    # The proof counts from the end of its audit on.
    assert only(watch.told, EventKind.PROVEN_BACK).seconds == 7.0


def test_a_proof_that_grows_too_old_counts_no_more():
    watch = proven_watch()
    watch.see(*(healthy(number) for number in range(30, 3_700, 30)))
    event = only(watch.told, EventKind.PROVEN_SHORT)
    assert "its proof is too old" in event.detail
    assert watch.state.proven_copies == 0


def test_a_gap_in_the_watch_ends_a_proof():
    watch = proven_watch()
    watch.see(healthy(100))
    assert watch.state.proven_copies == 0
    assert EventKind.WATCH_GAP in watch.kinds()


def span(node, began, ended, state=NodeState.STREAMING):
    return NodeSpan(
        node=node,
        began_at=second(began),
        ended_at=second(ended),
        samples=10,
        longest_gap_s=1.0,
        state=state,
        system_identifier=IDENTIFIER,
        timeline=1,
        host="10.0.0.2",
        max_lag_bytes=0,
        max_lag_s=0.0,
        replay_paused=False,
        checksum_failures=0,
        data_checksums=True,
    )


def test_spans_of_an_earlier_watch_carry_a_proof_over_a_restart():
    watch = Watch(LIMITS)
    earlier = [span("db1", 0, 39, NodeState.PRIMARY), span("db2", 0, 39), span("db3", 0, 20), span("db3", 20.5, 39)]
    watch.state = watch.state.with_proofs(BOTH, earlier)
    watch.see(healthy(40))
    assert watch.state.proven_copies == 3


def test_spans_of_an_earlier_watch_that_leave_a_gap_do_not():
    watch = Watch(LIMITS)
    watch.state = watch.state.with_proofs(BOTH, [span("db2", 0, 39), span("db3", 0, 39)])
    watch.see(healthy(120))
    assert watch.state.proven_copies == 0


def test_a_diverged_copy_is_not_proven():
    watch = Watch(LIMITS)
    watch.see(*map(healthy, range(20)))
    watch.state = watch.state.with_proofs((proof("db2", verdict=Verdict.DIVERGED), proof("db3")))
    watch.see(healthy(20))
    assert watch.state.proven_copies == 2
    assert "diverged" in watch.state.standings["db2"].reason
