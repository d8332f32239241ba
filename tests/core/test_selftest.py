"""The scores of a self-test: what counts as seen, what accuses a healthy twin, and what the whole comes to."""

import io
import json
import os
import signal
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from replcheck.cli.main import main
from replcheck.errors import Interrupted
from replcheck.evidence.keys import create_keys
from replcheck.lab.changes import CHANGES, type_changes
from replcheck.model.audit import AuditResult, CtidRange, DifferenceKind
from replcheck.model.outcome import Outcome
from replcheck.model.selftest import Difference, DifferenceReport, Innocence, NotTried, SelftestResult, Sight, Twin
from replcheck.report.selftest import (
    print_selftest,
    selftest_document,
    selftest_json,
    selftest_schema,
    selftest_sentence,
    selftest_verdict,
)
from replcheck.report.style import Style
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.evidence import evidence_head
from replcheck.runs.selftest import run_selftest
from replcheck.runs.selftest_score import bystanders, sight, twin
from replcheck.runs.signing import Signing
from tests import factories

CLEAN, ACCUSED, UNPROVEN = (Twin(where="beside", state=state) for state in Innocence)
SEEN = DifferenceReport(
    group="rows",
    name="a row is missing",
    node="db3",
    database="clinic",
    relations=("public.visit",),
    sight=Sight.SEEN,
    twins=(CLEAN, CLEAN),
)
MISSED = replace(SEEN, sight=Sight.MISSED, name="a bit was flipped", reason="nothing was said of public.visit on db3")


def planted(**changes: Any) -> Difference:
    made = Difference(
        group="rows",
        name="a row is missing",
        node="db3",
        database="clinic",
        relations=("public.visit",),
        kinds=frozenset({DifferenceKind.MISSING}),
        place=CtidRange(first_block=12, first_offset=4, last_block=12, last_offset=4),
    )
    return replace(made, **changes)


def audited(**changes: Any) -> AuditResult:
    """Rows of public.visit are missing on db3; nothing else differs."""
    result = factories.diverged(divergences=(factories.divergence(),))
    result = replace(result, relations=(result.relations[0], factories.relation("patient")))
    return replace(result, **changes)


def scored(*differences: DifferenceReport, **changes: Any) -> SelftestResult:
    made = SelftestResult(
        run_id="019535d9-3df7-79fb-b466-fa907fa17f9e",
        started_at=factories.BEGUN,
        finished_at=factories.BEGUN + timedelta(seconds=41),
        tool_version="0.1.0",
        server_version="18.1",
        quick=False,
        differences=differences or (SEEN,),
        bystanders=(CLEAN,),
    )
    return replace(made, **changes)


def test_a_difference_is_seen_where_it_was_planted():
    assert sight(planted(), audited()) == (Sight.SEEN, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": "db2"}, "nothing was said of public.visit on db2"),
        ({"database": "other"}, "nothing was said"),
        ({"relations": ("public.visit", "public.patient")}, "nothing was said of public.patient on db3"),
        ({"kinds": frozenset({DifferenceKind.CHANGED})}, "public.visit on db3 was called missing, not changed"),
        ({"place": CtidRange(first_block=12, first_offset=99, last_block=12, last_offset=99)}, "ctid (12,99)"),
    ],
)
def test_it_is_missed_where_its_node_kind_or_place_is_not_named(changes, reason):
    seen, said = sight(planted(**changes), audited())
    assert seen is Sight.MISSED
    assert reason in said


def test_any_kind_will_do_where_none_is_meant():
    assert sight(planted(kinds=frozenset(), place=None), audited())[0] is Sight.SEEN


def test_a_twin_is_clean_where_it_was_proven():
    found = twin(planted(), audited(), ("db2",), "beside")
    assert found == CLEAN


def test_a_twin_that_is_called_broken_is_accused():
    accusing = factories.divergence(node="db2")
    found = twin(planted(), audited(divergences=(accusing,)), ("db2",), "beside")
    assert found is not None
    assert (found.state, found.reason) == (Innocence.ACCUSED, "public.visit on db2 was called missing")
    both = twin(planted(), audited(), ("db2", "db3"), "beside")
    assert both is not None
    assert both.state is Innocence.ACCUSED


def test_a_twin_that_was_not_proven_is_neither_clean_nor_accused():
    found = twin(planted(), factories.inconclusive(), ("db3",), "beside")
    assert found is not None
    assert found.state is Innocence.UNPROVEN
    assert "public.visit on db3 is inconclusive" in found.reason
    assert twin(planted(relations=("public.nothing",)), audited(), ("db2",), "beside") is None


def test_what_lies_beside_is_clean_only_where_nothing_of_it_is_named():
    assert bystanders([planted()], audited(), "", "beside") == CLEAN
    stray = factories.divergence(relation="public.patient", node="db3")
    found = bystanders([planted()], audited(divergences=(stray,)), "", "beside")
    assert (found.state, found.reason) == (Innocence.ACCUSED, "clinic.public.patient on db3 was called missing")
    assert bystanders([planted(also=("public.patient",))], audited(divergences=(stray,)), "", "b").state is not (
        Innocence.ACCUSED
    )
    catalog = factories.divergence(relation="pg_catalog.pg_class", node="db3")
    assert bystanders([planted()], audited(divergences=(catalog,)), "clinic", "beside") == CLEAN
    assert bystanders([planted()], audited(divergences=(catalog,)), "", "beside").state is Innocence.ACCUSED
    assert bystanders([], factories.inconclusive(), "", "beside").state is Innocence.UNPROVEN
    alone = audited(relations=(factories.relation(),))
    assert bystanders([planted()], alone, "", "beside").state is Innocence.UNPROVEN


@pytest.mark.parametrize(
    ("result", "outcome", "verdict"),
    [
        (scored(SEEN, SEEN), Outcome.PROVEN, "passed"),
        (scored(SEEN, MISSED), Outcome.REFUTED, "failed"),
        (scored(SEEN, bystanders=(ACCUSED,)), Outcome.REFUTED, "failed"),
        (scored(replace(SEEN, twins=(CLEAN, ACCUSED))), Outcome.REFUTED, "failed"),
        (scored(SEEN, bystanders=(UNPROVEN,)), Outcome.PARTIAL, "inconclusive"),
        (scored(MISSED, bystanders=(UNPROVEN,)), Outcome.REFUTED, "failed"),
        (scored(differences=()), Outcome.UNCHECKED, "not run"),
        (scored(replace(SEEN, twins=()), bystanders=()), Outcome.UNCHECKED, "not run"),
    ],
)
def test_all_must_be_seen_and_nobody_accused(result, outcome, verdict):
    assert (result.outcome, selftest_verdict(result)) == (outcome, verdict)
    document = selftest_document(result)
    assert (document["outcome"], document["exit_code"]) == (outcome.value, int(outcome.exit_status))
    jsonschema.validate(document, selftest_schema())


def test_the_scores_are_told_in_one_sentence():
    result = scored(SEEN, MISSED, not_tried=(NotTried(name="xml: comment", reason="no libxml"),))
    assert selftest_sentence(result) == (
        "1 of 2 known differences seen, 0 of 5 healthy twins accused; 1 difference could not be tried here."
    )
    assert "1 twin was not proven" in selftest_sentence(scored(SEEN, bystanders=(UNPROVEN,)))


def rendered(result: SelftestResult, width: int = 100) -> str:
    page = io.StringIO()
    print_selftest(result, Console(file=page, width=width, highlight=False, no_color=True), Style(ascii_only=True))
    return page.getvalue()


def test_every_difference_has_its_line_and_what_was_missed_its_reason():
    text = rendered(scored(SEEN, replace(MISSED, twins=(CLEAN, replace(ACCUSED, reason="public.visit on db2")))))
    lines = text.splitlines()
    assert "  + seen    + twins clean    a row is missing" in lines
    assert "  x MISSED  x twin ACCUSED   a bit was flipped" in lines
    assert "    nothing was said of public.visit on db3" in lines
    assert "    public.visit on db2" in lines
    assert "(1 of 2 seen)" in text
    assert lines[-1].startswith("x FAILED  1 of 2 known differences seen, 1 of 5 healthy twins accused")


def test_the_document_is_ascii_and_counts_what_it_lists():
    document = json.loads(selftest_json(scored(SEEN, MISSED)))
    assert document["differences_planted"] == len(document["differences"]) == 2
    assert document["differences_seen"] == 1
    assert document["twins"] == 5
    jsonschema.Draft202012Validator.check_schema(selftest_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"extra": 1}, selftest_schema())


def test_every_change_is_named_once_and_says_where_it_shows():
    changes = (*CHANGES, *type_changes())
    assert len({change.name for change in changes}) == len(changes)
    for change in changes:
        assert change.after
        assert bool(change.row) == change.relation.startswith("pg_catalog.")
        assert bool(change.kinds) != bool(change.row)


def test_a_signal_in_the_middle_of_a_line_is_a_wish_like_any_other():
    def interrupted_write(_: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    wish = StopWish(interrupted_write, what="the self-test")
    with wish.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match="the self-test was ended by SIGINT"):
            wish.obey()


def test_its_record_is_signed_with_the_key_that_is_named(tmp_path, monkeypatch):
    create_keys(tmp_path / "clinic.key")
    monkeypatch.setattr("replcheck.runs.selftest._tested", lambda *_: scored())
    store = tmp_path / "selftest.db"
    run_selftest(store=store, signing=Signing(key=tmp_path / "clinic.key"))
    head = evidence_head(store, "selftest")
    assert head is not None
    assert (head.sequence, head.signed) == (2, True)


def test_a_key_that_others_may_read_ends_it_before_anything_is_planted(tmp_path, monkeypatch, capsys):
    create_keys(tmp_path / "clinic.key")
    (tmp_path / "clinic.key").chmod(0o644)
    nodes = '[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'
    given = f'cluster = "clinic"\n{nodes}[output]\nsigning_key = "{tmp_path / "clinic.key"}"\n'
    (tmp_path / "clinic.toml").write_text(given, encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("replcheck.runs.selftest._tested", lambda *_: pytest.fail("something was planted"))
    assert main(["selftest", "--config", str(tmp_path / "clinic.toml")]) == 3
    assert "clinic.key" in capsys.readouterr().err
