"""Which copies are proven at a moment, and how long there were enough: by cases, and against the bare samples."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.model.copies import AuditProof, as_configured, standings
from replcheck.model.copy_times import CopiesAsked, Coverage, copies_over_time
from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.spans import GAP_S, NodeSpan
from replcheck.report.watched import watched
from tests.core.checks import DAY, HOUR, NODES, NOW, ago, proof, span, watch

AGE_S = DAY
START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.sampled_from([1, 5, 20, 59, 60, 61, 100])
ALL_WELL = [span(name, 3 * DAY) for name in NODES]
PROOFS = [proof(name, HOUR) for name in ("db2", "db3")]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def reason(name: str, proofs: list[AuditProof], spans: list[NodeSpan], max_age_s: float = AGE_S) -> str:
    standing = standings(NOW, proofs, spans, max_age_s=max_age_s)[name]
    assert standing.proven is (not standing.reason)
    return standing.reason


def test_replicas_and_the_primary_they_agree_with_are_proven():
    found = standings(NOW, PROOFS, ALL_WELL, max_age_s=AGE_S)
    assert {name: standing.proven for name, standing in found.items()} == dict.fromkeys(NODES, True)
    assert found["db1"].age_s == HOUR


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        ([span("db2", 3 * DAY, 600), span("db2", 590, 580, NodeState.DETACHED), span("db2", 570)], "it was detached"),
        ([span("db2", 3 * DAY, 600), span("db2", 590, 580, NodeState.LOST), span("db2", 570)], "it was lost"),
        ([span("db2", 3 * DAY, 600), span("db2", 500)], "nothing watched it"),
        ([span("db2", 3 * DAY, 600), span("db2", 500, longest_gap_s=100)], "nothing watched it"),
        ([span("db2", 3 * DAY, 61)], "nothing watched it"),
        ([span("db2", 3 * DAY, 2 * HOUR), span("db2", HOUR - 61)], "nothing watched it"),
        ([span("db2", 3 * DAY, 600), span("db2", 590, system_identifier="other")], "another cluster"),
        ([span("db2", 3 * DAY, 600), span("db2", 590, 0, NodeState.STRAYED)], "it was strayed"),
        ([], "nothing watched it"),
    ],
)
def test_a_copy_that_was_not_seen_to_stream_since_its_proof_is_not_proven(spoilt, told):
    assert told in reason("db2", PROOFS, [one for one in ALL_WELL if one.node != "db2"] + spoilt)


@pytest.mark.parametrize(
    "harmless",
    [
        [span("db2", 3 * DAY, 600), span("db2", 540)],
        [span("db2", 3 * DAY, 60)],
        [span("db2", 3 * DAY, 2 * HOUR), span("db2", HOUR - 60)],
        [span("db2", 3 * DAY, HOUR + 10, NodeState.LOST), span("db2", HOUR + 5)],
        [span("db2", 3 * DAY, 600), span("db2", 590, system_identifier=None)],
        [span("db2", 3 * DAY, longest_gap_s=500)],
    ],
)
def test_what_happened_before_the_proof_or_within_a_gap_that_is_allowed_is_no_matter(harmless):
    assert reason("db2", PROOFS, [one for one in ALL_WELL if one.node != "db2"] + harmless) == ""


@pytest.mark.parametrize(
    ("proofs", "told"),
    [
        ([], "never audited"),
        ([proof("db2", HOUR, whole=False)], "never audited"),
        ([proof("db2", HOUR, Verdict.DIVERGED, whole=False)], "a part of it was found diverged"),
        ([proof("db2", HOUR, Verdict.INCONCLUSIVE)], "found it inconclusive"),
        ([proof("db2", HOUR, Verdict.DIVERGED)], "found it diverged"),
        ([proof("db2", 2 * HOUR), proof("db2", HOUR, Verdict.DIVERGED, whole=False)], "later audit found it diverged"),
        ([proof("db2", 2 * HOUR), proof("db2", HOUR, Verdict.UNCHECKED)], "found it unchecked"),
        ([proof("db2", 25 * HOUR)], "too old"),
        ([proof("db2", 30, took=60)], "never audited"),
    ],
)
def test_a_copy_is_proven_by_its_last_whole_audit_alone(proofs, told):
    assert told in reason("db2", proofs, ALL_WELL)


@pytest.mark.parametrize(
    "proofs",
    [
        [proof("db2", 2 * HOUR, Verdict.DIVERGED), proof("db2", HOUR)],
        [proof("db2", 2 * HOUR, Verdict.DIVERGED, whole=False), proof("db2", HOUR)],
        [proof("db2", 2 * HOUR), proof("db2", HOUR, Verdict.INCONCLUSIVE, whole=False)],
        [proof("db2", DAY, took=0)],
    ],
)
def test_a_later_whole_proof_makes_up_for_what_was_found_before(proofs):
    assert reason("db2", proofs, ALL_WELL) == ""


def test_an_audit_of_all_that_is_asked_for_is_a_whole_one_and_one_that_was_stopped_never_is():
    of_scope = replace(proof("db2", HOUR, whole=False), scope_digest="ab")
    stopped = replace(proof("db3", HOUR, whole=False), scope_digest="")
    assert [found.whole for found in as_configured([of_scope, stopped], "ab")] == [True, False]
    assert [found.whole for found in as_configured([of_scope, stopped], "")] == [False, False]


def test_a_primary_counts_only_while_a_proven_replica_agrees_with_it():
    assert "no proven replica" in reason("db1", [], ALL_WELL)
    other = [proof("db2", HOUR, primary="db3"), proof("db3", HOUR, primary="db3")]
    assert "no proven replica" in reason("db1", other, ALL_WELL)
    lost = [one for one in ALL_WELL if one.node != "db2"] + [
        span("db2", 3 * DAY, 60),
        span("db2", 59, 0, NodeState.LOST),
    ]
    assert reason("db1", [proof("db2", HOUR), proof("db3", 25 * HOUR)], lost).startswith("no proven replica")


@pytest.mark.parametrize(
    "between",
    [
        [span("db1", 3 * DAY, 600), span("db1", 590, 580, NodeState.STREAMING), span("db1", 570)],
        [span("db1", 3 * DAY, 600), span("db1", 590, 580, NodeState.LOST), span("db1", 570)],
        [span("db1", 3 * DAY, 600), span("db1", 500)],
    ],
)
def test_a_server_that_was_not_the_primary_all_the_time_is_not_the_one_that_was_compared(between):
    spans = [one for one in ALL_WELL if one.node != "db1"] + between
    found = standings(NOW, PROOFS, spans, max_age_s=AGE_S)
    assert not found["db1"].proven
    assert found["db2"].proven


def test_only_what_something_speaks_against_is_refuted():
    def refuted(proofs: list[AuditProof], *spans: NodeSpan) -> bool:
        return standings(NOW, proofs, spans, max_age_s=AGE_S)["db2"].refuted

    assert not refuted([proof("db2", 25 * HOUR)], span("db2", 3 * DAY))
    assert not refuted([proof("db2", HOUR)], span("db2", 3 * DAY, 600, NodeState.LOST))
    assert not refuted([proof("db2", HOUR)], span("db2", 3 * DAY, 0, NodeState.UNSURE))
    assert refuted([proof("db2", HOUR)], span("db2", 3 * DAY, 30, NodeState.LOST))
    assert refuted([proof("db2", HOUR, Verdict.DIVERGED)], span("db2", 3 * DAY))
    assert refuted(
        [proof("db2", HOUR, Verdict.DIVERGED), proof("db2", 600, Verdict.INCONCLUSIVE)], span("db2", 3 * DAY)
    )


ASKED = CopiesAsked(nodes=NODES, running=3, proven=2, max_age_s=AGE_S)


def over_a_day(proofs: list[AuditProof], spans: list[NodeSpan], asked: CopiesAsked = ASKED) -> dict[Coverage, float]:
    found = copies_over_time(ago(DAY), NOW, proofs, spans, asked)
    assert found.seconds == DAY
    assert [one.ended_at for one in found.stretches[:-1]] == [one.began_at for one in found.stretches[1:]]
    return {kind: found.spent(kind) for kind in Coverage if found.spent(kind)}


def rounds(every_s: float, *names: str) -> list[AuditProof]:
    return [proof(name, number * every_s) for number in range(1, int(3 * DAY / every_s)) for name in names]


def test_a_day_of_young_proofs_and_streaming_copies_is_enough_all_the_time():
    assert over_a_day(rounds(HOUR, "db2", "db3"), ALL_WELL) == {Coverage.ENOUGH: DAY}


def test_a_lost_copy_is_short_for_as_long_as_it_was_seen_to_be_lost_and_unproven_until_its_next_audit():
    spans = [span("db2", 3 * DAY, 7000), span("db2", 6990, 5000, NodeState.LOST), span("db2", 4990)]
    spent = over_a_day(rounds(HOUR, "db2", "db3"), [*ALL_WELL[::2], *spans])
    assert spent == {Coverage.SHORT: 2000, Coverage.ENOUGH: DAY - 2000}
    alone = replace(ASKED, proven=3)
    spent = over_a_day(rounds(HOUR, "db2", "db3"), [*ALL_WELL[::2], *spans], alone)
    # Lost from 6990 to 4990 seconds ago, proven again by the audit that ended 3540 seconds ago.
    assert spent == {Coverage.SHORT: 2000, Coverage.UNPROVEN: 1450, Coverage.ENOUGH: DAY - 3450}


def test_a_time_in_which_nothing_watched_is_told_as_such_and_what_follows_as_unproven():
    spans = [one for name in NODES for one in (span(name, 3 * DAY, 8000), span(name, 7000))]
    spent = over_a_day(rounds(HOUR, "db2", "db3"), spans)
    # The round that began 7200 seconds ago began while nothing watched: only the next one proves anything again.
    assert spent == {Coverage.UNWATCHED: 1000, Coverage.UNPROVEN: 3460, Coverage.ENOUGH: DAY - 4460}


def test_the_last_sample_is_trusted_for_a_minute_and_the_first_for_nothing_before_it():
    spans = [span(name, HOUR, 60) for name in NODES]
    assert over_a_day([], spans) == {Coverage.UNWATCHED: DAY - HOUR, Coverage.UNPROVEN: HOUR}
    spans = [span(name, HOUR, 61) for name in NODES]
    assert over_a_day([], spans) == {Coverage.UNWATCHED: DAY - HOUR + 61, Coverage.UNPROVEN: HOUR - 61}


@given(st.lists(st.tuples(STEPS, STEPS), min_size=1, max_size=8), st.integers(0, 120), st.integers(0, 120))
def test_the_record_and_the_copies_over_time_agree_on_what_nothing_watched(runs, cut_off, more):
    """Recorders begin and end: after so many seconds without one, each of `runs` watched for so many."""
    moment, times = 0, []
    for without, watched_s in runs:
        times.append((moment + without, moment + without + watched_s))
        moment = times[-1][1]
    nodes = [span(name, 0, began_at=at(first), ended_at=at(last)) for name in NODES for first, last in times]
    record = [watch(0, began_at=at(first), ended_at=at(last)) for first, last in times]
    since, until = at(min(cut_off, times[-1][1])), at(max(times[-1][1] + more, cut_off + 1))
    over = copies_over_time(since, until, [], nodes, ASKED)
    assert over.spent(Coverage.UNWATCHED) == watched(record, since, until).unwatched_s


def test_proofs_that_grow_too_old_leave_the_copies_unknown_and_not_bad():
    proofs = [proof(name, 30 * HOUR) for name in ("db2", "db3")]
    assert over_a_day(proofs, ALL_WELL) == {Coverage.ENOUGH: 18 * HOUR, Coverage.UNPROVEN: 6 * HOUR}


def test_a_divergence_is_bad_from_the_audit_that_found_it_until_one_that_proves_the_copy():
    proofs = [
        *(proof(name, 20 * HOUR + DAY / 4) for name in ("db2", "db3")),
        *(proof(name, 3 * HOUR, Verdict.DIVERGED, whole=False) for name in ("db2", "db3")),
        *(proof(name, HOUR) for name in ("db2", "db3")),
    ]
    assert over_a_day(proofs, ALL_WELL) == {Coverage.SHORT: 2 * HOUR, Coverage.ENOUGH: DAY - 2 * HOUR}


@dataclass(frozen=True)
class Seen:
    """One sample of one node."""

    at: int
    state: NodeState
    identifier: str


STATES = st.sampled_from([NodeState.STREAMING] * 8 + [NodeState.LOST, NodeState.PRIMARY, NodeState.UNSURE])


@st.composite
def samples(draw, usual: NodeState) -> list[Seen]:
    found: list[Seen] = []
    now, state, identifier = draw(st.integers(0, 50)), usual, "A"
    for step in draw(st.lists(STEPS, max_size=25)):
        now += step
        if draw(st.integers(0, 9)) == 0:
            state = draw(st.sampled_from([usual, usual, draw(STATES)]))
        if draw(st.integers(0, 40)) == 0:
            identifier = "B"
        found.append(Seen(now, state, identifier))
    return found


@st.composite
def spans_of(draw, name: str, seen: list[Seen]) -> list[NodeSpan]:
    """Join samples as a recorder does: never over a change or a gap, and anyhow only as long as it likes."""
    groups: list[list[int]] = []
    for number, one in enumerate(seen):
        before = seen[number - 1] if number else None
        joins = (
            before is not None
            and (before.state, before.identifier) == (one.state, one.identifier)
            and one.at - before.at <= GAP_S
            and draw(st.integers(0, 4)) > 0
        )
        if joins:
            groups[-1].append(number)
        else:
            groups.append([number])
    made = []
    for group in groups:
        first, last = seen[group[0]], seen[group[-1]]
        from_ = max(group[0] - 1, 0)
        gap = max((b.at - a.at for a, b in pairwise(seen[from_ : group[-1] + 1])), default=0)
        made.append(
            span(
                name,
                0,
                began_at=at(first.at),
                ended_at=at(last.at),
                longest_gap_s=float(gap),
                state=first.state,
                system_identifier=first.identifier,
            )
        )
    return made


@st.composite
def audits(draw) -> list[AuditProof]:
    verdicts = st.sampled_from([*[Verdict.CONSISTENT] * 6, Verdict.DIVERGED, Verdict.INCONCLUSIVE])
    found = []
    for number in range(draw(st.integers(0, 5))):
        began = draw(st.integers(0, 900))
        ended = at(began + draw(st.integers(0, 60))) + timedelta(milliseconds=number)
        times: dict[str, Any] = {
            "run_id": str(number),
            "proven_at": at(began),
            "finished_at": ended,
            "system_identifier": "A",
        }
        for name in ("b", "c"):
            whole, primary = draw(st.integers(0, 5)) > 0, draw(st.sampled_from(["a", "a", "a", "b"]))
            found += [proof(name, 0, draw(verdicts), whole=whole, primary=primary, **times)]
    return found


@st.composite
def histories(draw) -> tuple[dict[str, list[Seen]], list[NodeSpan], list[AuditProof]]:
    seen = {
        "a": draw(samples(NodeState.PRIMARY)),
        "b": draw(samples(NodeState.STREAMING)),
        "c": draw(samples(NodeState.STREAMING)),
    }
    spans = [one for name, own in seen.items() for one in draw(spans_of(name, own))]
    return seen, draw(st.permutations(spans)), draw(audits())


MAX_AGE = 400


def unbroken(seen: list[Seen], since: float, until: float, state: NodeState) -> bool:
    """Return whether samples alone show one and the same copy from one moment to another."""
    reached = since
    past = [one for one in seen if one.at <= until]
    for before, one in zip([None, *past], past, strict=False):
        if one.at < since:
            continue
        if one.at - (before.at if before else since) > GAP_S or one.at - reached > GAP_S:
            return False
        if one.state is not state or one.identifier != "A":
            return False
        reached = one.at
    return until - reached <= GAP_S


def proven_by_samples(seen: dict[str, list[Seen]], proofs: list[AuditProof], moment: float) -> set[str]:
    """Return what is proven by the letter of the rule, from bare samples."""
    found: dict[str, AuditProof] = {}
    for name in ("b", "c"):
        own = sorted(
            (one for one in proofs if one.node == name and one.finished_at <= at(moment)),
            key=lambda one: one.finished_at,
        )
        whole = [one for one in own if one.whole]
        if not whole or whole[-1].verdict is not Verdict.CONSISTENT:
            continue
        last = whole[-1]
        since = (last.proven_at - START).total_seconds()
        later = own[own.index(last) + 1 :]
        if moment - since > MAX_AGE or any(one.verdict is Verdict.DIVERGED for one in later):
            continue
        if unbroken(seen[name], since, moment, NodeState.STREAMING):
            found[name] = last
    past = {name: [one for one in own if one.at <= moment] for name, own in seen.items()}
    primaries = {name for name, own in past.items() if own and own[-1].state is NodeState.PRIMARY}
    proven = set(found) - primaries
    for name in primaries:
        witnesses = [proof.proven_at for proof in found.values() if proof.primary == name]
        youngest = max(witnesses, default=None)
        if youngest and unbroken(seen[name], (youngest - START).total_seconds(), moment, NodeState.PRIMARY):
            proven.add(name)
    return proven


@given(histories(), st.floats(0, 1500))
def test_spans_prove_the_same_copies_as_the_samples_that_they_were_made_of(history, moment):
    seen, spans, proofs = history
    found = standings(at(moment), proofs, spans, max_age_s=MAX_AGE)
    assert {name for name, one in found.items() if one.proven} == proven_by_samples(seen, proofs, moment)
    assert all(one.proven is not bool(one.reason) for one in found.values())
    assert not any(one.proven and one.refuted for one in found.values())


@given(histories(), st.integers(0, 3), st.integers(0, 3))
def test_the_sweep_over_a_time_says_at_each_moment_what_the_rule_says(history, running, proven):
    seen, spans, proofs = history
    asked = CopiesAsked(nodes=("a", "b", "c"), running=running, proven=proven, max_age_s=MAX_AGE)
    over = copies_over_time(at(0), at(1500), proofs, spans, asked)
    assert over.seconds == 1500
    assert 0 <= over.share <= over.share_at_best <= 100
    for stretch in over.stretches:
        middle = ((stretch.began_at - START) + (stretch.ended_at - START)).total_seconds() / 2
        found = standings(at(middle), proofs, spans, max_age_s=MAX_AGE)
        count = sum(one.proven for one in found.values())
        assert stretch.proven <= count
        if not any(in_a_tail(own, middle) for own in seen.values()):
            assert stretch.proven == count
        refuted = sum(found[name].refuted for name in asked.nodes if name in found)
        if stretch.coverage is Coverage.ENOUGH:
            assert stretch.running >= running
            assert count >= proven
        if stretch.coverage is Coverage.SHORT:
            assert stretch.running < running or 3 - refuted < proven


def in_a_tail(seen: list[Seen], moment: float) -> bool:
    """Return whether a moment lies behind the last sample before a gap, or before the first of all."""
    before = [one.at for one in seen if one.at <= moment]
    after = [one.at for one in seen if one.at > moment]
    return not before or not after or after[0] - before[-1] > GAP_S
