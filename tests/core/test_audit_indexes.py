"""What the checks of indexes come to: nothing is believed at the first look, and nothing unlooked at is sound."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.index_verdicts import MOST_LOOKS, Checked, IndexState, believed, index_findings, what_is_wrong
from replcheck.audit.shortfalls import LOCKED, STOPPED
from replcheck.model.audit import DifferenceKind
from replcheck.model.outcome import Outcome, Verdict
from replcheck.postgres.amcheck import Index, IndexFault
from tests.core.proofs import lack, relation

ROW = IndexFault(sqlstate="XX001", row=(4, 2), mark="a")
OTHER_ROW = IndexFault(sqlstate="XX001", row=(4, 3), mark="b")
DAMAGE = IndexFault(sqlstate="XX002", block=7, mark="c")
LOOKS = st.lists(st.sampled_from([None, ROW, OTHER_ROW, DAMAGE]), max_size=MOST_LOOKS)
TABLE = relation(oid=20_000)
NODES = ("db1", "db2", "db3")


def index(oid: int = 30_000, **changes: Any) -> Index:
    made = Index(
        oid=oid,
        table_oid=TABLE.oid,
        schema="public",
        name=f"visit_{oid}",
        method="btree",
        valid=True,
        size_bytes=8192,
        toast=False,
    )
    return replace(made, **changes)


def checked(*states: Mapping[int, IndexState], **changes: Any) -> Checked:
    indexes = changes.pop("indexes", [index()])
    made = Checked(
        database="clinic",
        listed=True,
        tables={TABLE.oid: TABLE},
        indexes={each.oid: each for each in indexes},
        states=dict(zip(NODES, states, strict=False)),
        lacks={},
        left_over=STOPPED,
        versions=dict.fromkeys(NODES, 180000),
    )
    return replace(made, **changes)


def of_one(*states: IndexState, **changes: Any) -> Checked:
    return checked(*({30_000: state} for state in states), **changes)


SOUND, BROKEN = IndexState(), IndexState(fault=ROW)


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([], None),
        ([None], False),
        ([ROW], None),
        ([ROW, ROW], True),
        ([ROW, OTHER_ROW], None),
        ([ROW, OTHER_ROW, ROW], True),
        ([ROW, None], None),
        ([ROW, None, None], False),
        ([ROW, None, ROW], True),
        ([ROW, None, OTHER_ROW, None], None),
    ],
)
def test_a_report_is_believed_when_it_comes_twice_and_forgotten_after_two_clean_looks(looks, verdict):
    assert believed(looks) is verdict


@given(LOOKS)
def test_one_look_alone_never_accuses_and_a_last_report_never_acquits(looks):
    if believed(looks) is True:
        assert [look.mark for look in looks if look].count(looks[-1].mark) >= 2
    if looks and looks[-1] is not None:
        assert believed(looks) is not False


def test_sound_everywhere_leaves_nothing_to_tell():
    found = index_findings(of_one(SOUND, SOUND, SOUND))
    assert [report.verdict for report in found.reports] == [Verdict.CONSISTENT]
    assert [node.node for node in found.reports[0].nodes] == list(NODES)
    assert (found.divergences, found.findings, found.not_checked, found.votes) == ((), (), (), ())


@pytest.mark.parametrize("broken", range(3))
def test_the_node_whose_index_is_broken_has_diverged_the_primary_too(broken):
    states = [SOUND, SOUND, SOUND]
    states[broken] = BROKEN
    found = index_findings(of_one(*states))
    [divergence] = found.divergences
    assert (divergence.node, divergence.kind) == (NODES[broken], DifferenceKind.INDEX)
    assert divergence.relation == "public.visit_20000"
    assert divergence.what == "index public.visit_30000 does not know the row at ctid (4,2)"
    assert [str(place) for place in divergence.ranges] == ["(4,2)"]
    assert divergence.query.endswith("WHERE ctid = '(4,2)';")
    assert found.votes == (NODES[broken],)
    assert found.findings == ()


def test_two_broken_ones_are_told_both_and_nobody_stands_alone():
    found = index_findings(of_one(SOUND, BROKEN, IndexState(fault=DAMAGE)))
    assert {divergence.node for divergence in found.divergences} == {"db2", "db3"}
    assert found.votes == (None,)
    assert "is damaged at block 7 (SQLSTATE XX002)" in found.divergences[1].what
    assert found.divergences[1].query == ""


def test_one_that_is_broken_everywhere_refutes_the_run_and_accuses_nobody():
    found = index_findings(of_one(BROKEN, BROKEN, BROKEN))
    [finding] = found.findings
    assert (finding.node, finding.outcome, finding.code) == (None, Outcome.REFUTED, "index_broken")
    assert "on every node" in finding.what
    assert found.divergences == ()
    assert found.reports[0].verdict is Verdict.DIVERGED


def test_one_that_is_broken_where_it_could_be_checked_refutes_the_run_too():
    found = index_findings(of_one(SOUND, BROKEN, lacks={}, states={"db2": {30_000: BROKEN}, "db1": {}}))
    [finding] = found.findings
    assert finding.outcome is Outcome.REFUTED
    assert "on db2, and was not checked elsewhere" in finding.what
    assert [note.node for note in found.not_checked] == ["db1"]


@pytest.mark.parametrize(("version", "outcome"), [(150006, Outcome.PARTIAL), (150007, Outcome.REFUTED)])
def test_what_old_servers_report_of_sound_indexes_is_a_doubt(version, outcome):
    versions = dict.fromkeys(NODES, version)
    found = index_findings(of_one(BROKEN, BROKEN, BROKEN, versions=versions))
    assert [finding.outcome for finding in found.findings] == [outcome]
    assert found.reports[0].verdict.outcome is outcome
    # A difference between nodes of the same version has another cause.
    elsewhere_sound = index_findings(of_one(SOUND, BROKEN, SOUND, versions=versions))
    assert elsewhere_sound.divergences
    assert elsewhere_sound.reports[0].verdict is Verdict.DIVERGED
    damaged = [IndexState(fault=DAMAGE)] * 3
    assert index_findings(of_one(*damaged, versions=versions)).findings[0].outcome is Outcome.REFUTED


def test_a_toast_index_is_told_of_its_table_without_a_query():
    found = index_findings(of_one(SOUND, BROKEN, indexes=[index(schema="pg_toast", toast=True)]))
    assert (found.divergences[0].query, found.divergences[0].ranges) == ("", ())
    assert found.reports[0].relation == "public.visit_20000"


def test_other_methods_are_listed_by_design_and_invalid_ones_are_noted():
    others = [index(1, method="gin"), index(2, valid=False)]
    found = index_findings(checked({}, {}, indexes=others))
    assert found.reports == ()
    [note] = found.not_checked
    assert (note.code, note.by_design, note.relation) == ("index_method", True, "public.visit_1")
    assert [(finding.code, finding.outcome) for finding in found.findings] == [("invalid_index", Outcome.PROVEN)]


def test_a_node_that_could_not_be_asked_is_told_once_and_never_passes():
    refused = lack("amcheck", Verdict.UNCHECKED)
    indexes = [index(oid) for oid in (1, 2, 3)]
    found = index_findings(checked({1: SOUND, 2: SOUND, 3: SOUND}, {1: SOUND}, indexes=indexes, lacks={"db2": refused}))
    [note] = found.not_checked
    assert (note.node, note.relation, note.code) == ("db2", None, "amcheck")
    assert note.reason.startswith("2 of 3 indexes not checked: ")
    assert [report.verdict for report in found.reports] == [
        Verdict.CONSISTENT, Verdict.UNCHECKED, Verdict.UNCHECKED
    ]  # fmt: skip


def test_indexes_that_could_not_even_be_listed_are_told():
    found = index_findings(checked({}, {}, indexes=[], listed=False))
    [note] = found.not_checked
    assert (note.database, note.node, note.relation, note.code) == ("clinic", None, None, "stopped")
    assert not note.by_design
    found = index_findings(
        checked({}, {}, indexes=[], listed=False, lacks={"db1": lack("node_lost", Verdict.UNCHECKED)})
    )
    assert [note.code for note in found.not_checked] == ["node_lost"]
    assert index_findings(checked({}, {}, indexes=[])).not_checked == ()


@given(st.lists(st.sampled_from([None, SOUND, BROKEN, IndexState(lack=LOCKED)]), min_size=2, max_size=3))
def test_a_report_is_consistent_only_where_every_node_was_sound_and_all_else_is_told(states):
    each = [{} if state is None else {30_000: state} for state in states]
    found = index_findings(checked(*each))
    [report] = found.reports
    assert (report.verdict is Verdict.CONSISTENT) == all(state is SOUND for state in states)
    told = {divergence.node for divergence in found.divergences} | {note.node for note in found.not_checked}
    if not found.findings:
        assert told == {node for node, state in zip(NODES, states, strict=False) if state is not SOUND}
    assert bool(found.findings) == (BROKEN in states and SOUND not in states)


def test_another_version_of_a_collation_is_said_with_what_is_wrong():
    state = IndexState(fault=DAMAGE, stale_collations=("public.german",))
    assert "its collation public.german has another version there" in what_is_wrong(index(), state)
