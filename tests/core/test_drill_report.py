"""Reports of drills: the same words for people and machines, and never more than what was proven."""

import io
import json
import os
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from replcheck.drill.verdict import DUMP_CHANGED, required_problems, result_verdict
from replcheck.events import (
    LayerFinished,
    ProblemFound,
    RunFinished,
    RunStarted,
    StageBegan,
    StageEnded,
    StageProgressed,
)
from replcheck.model.drill import DrillResult, DrillVerdict, LayerName, LayerState, Stage
from replcheck.model.evidence import EvidenceHead
from replcheck.model.outcome import Outcome
from replcheck.model.shape import json_schema, properties_schema
from replcheck.report.drill import drill_document, drill_json, drill_result, drills_json
from replcheck.report.drill_human import print_all_drills, print_drill, print_drill_briefly
from replcheck.report.drill_progress import DrillProgress, draw_drill
from replcheck.report.drill_words import drill_sentence, drill_steps
from replcheck.report.markdown import paper_markdown
from replcheck.report.papers.drill import drill_paper
from replcheck.report.published import schema_text
from replcheck.report.style import Style
from tests.core import drills
from tests.core.drills import BEGAN, RESULTS

DATA = Path(__file__).parents[1] / "data"
INDIA = Style(zone=timezone(timedelta(hours=5, minutes=30)))
SCHEMA = json.loads(schema_text("drill"))


def drawn(print_it, *, width=80):
    page = io.StringIO()
    print_it(Console(file=page, width=width, highlight=False, no_color=True))
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


def rendered(result, *, style=INDIA, **options):
    return drawn(lambda console: print_drill(result, console, style, **options))


@pytest.mark.parametrize("name", RESULTS)
def test_the_report_for_people_is_the_agreed_one(name):
    golden = DATA / f"drill-{name}.txt"
    text = rendered(RESULTS[name])
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RESULTS)
def test_the_verdict_stands_in_the_first_line_and_in_the_last_section(name):
    text = rendered(RESULTS[name])
    word = RESULTS[name].verdict.value
    assert text.splitlines()[0].endswith(word)
    assert word.upper() in text
    assert " ".join(drill_sentence(RESULTS[name]).split()) in " ".join(text.split())


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_but_commands_is_wider_than_the_terminal(name):
    assert all(len(line) <= 80 for line in rendered(RESULTS[name]).splitlines() if "psql" not in line)


def test_ascii_only_means_ascii_only():
    for result in RESULTS.values():
        assert rendered(result, style=Style(ascii_only=True), verbose=True).isascii()


@pytest.mark.parametrize("name", RESULTS)
def test_every_layer_is_named_with_its_state(name):
    text = rendered(RESULTS[name], verbose=True)
    for layer in RESULTS[name].layers:
        assert any(
            line.strip().startswith(layer.name.value) and layer.state.value in line for line in text.splitlines()
        )


@pytest.mark.parametrize("name", RESULTS)
def test_the_report_says_where_the_copy_lay_and_what_became_of_it(name):
    scratch = RESULTS[name].scratch
    text = " ".join(rendered(RESULTS[name]).split())
    if scratch is None:
        assert "Scratch copy" not in text
        return
    assert scratch.where in text
    assert ("was removed" in text) == scratch.removed
    assert scratch.connect in text


def test_where_no_layer_compared_rows_the_verdict_says_so():
    sentence = drill_sentence(drills.uncompared())
    assert "NOT PROVEN" in sentence
    assert "no row was compared" in sentence
    assert "no seal was named" in sentence
    assert any("replcheck seal" in step for step in drill_steps(drills.uncompared()))


def test_where_rows_match_and_a_layer_could_not_prove_all_the_verdict_says_both():
    layers = drills.layers(
        SEAL=drills.layer(LayerName.SEAL),
        AMCHECK=drills.layer(LayerName.AMCHECK, LayerState.INCONCLUSIVE, reason="x could not be read; y neither"),
    )
    result = drills.result(layers=layers, verdict=DrillVerdict.UNPROVEN)
    expected = "its rows match, but not everything was proven: amcheck inconclusive: x could not be read, and 1 more"
    assert expected in drill_sentence(result)
    assert "RESTORED, NOT ALL PROVEN" in rendered(result)


def test_a_layer_that_could_not_run_is_told_in_the_verdict():
    layers = drills.layers(
        SEAL=drills.layer(LayerName.SEAL), AMCHECK=drills.layer(LayerName.AMCHECK, LayerState.NOT_RUN, reason="missing")
    )
    assert "; amcheck did not run: missing; " in drill_sentence(drills.result(layers=layers))
    assert any("--require" in step for step in drill_steps(drills.result(layers=layers)))


def test_a_refuted_backup_names_what_is_wrong_first():
    assert drill_sentence(drills.broken_archive()).startswith(
        "backup 20261128-0200 of nightly failed its drill: WAL segment 000000010000000000000007 is missing"
    )
    assert "at least 41 rows differ in 3 relations" in drill_sentence(drills.failed())
    assert drill_steps(drills.failed())[0].startswith("Do not count on this backup")


def test_a_limit_that_was_exceeded_is_no_reason_to_distrust_the_backup():
    assert "does not meet its limits" in drill_sentence(drills.kept())
    assert not [step for step in drill_steps(drills.kept()) if "Do not count" in step]


def test_rows_that_the_primary_has_beyond_the_copy_are_told_in_the_verdict():
    primary = drills.layer(LayerName.PRIMARY, later_rows=1000)
    told = drill_sentence(drills.result(target=drills.LATEST, layers=drills.layers(PRIMARY=primary)))
    assert "matches the primary, where 1,000 rows were written since" in told


def test_what_blocked_a_drill_neither_proves_nor_refutes():
    assert "is neither proven nor refuted: there is no room" in drill_sentence(drills.blocked())


@pytest.mark.parametrize("name", RESULTS)
def test_the_document_follows_its_schema_and_reads_back(name):
    document = json.loads(drill_json(RESULTS[name]))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert drill_result(document) == RESULTS[name]
    assert document["exit_code"] == int(RESULTS[name].verdict.outcome.exit_status)
    assert document["recovery_time_s"] == RESULTS[name].recovery_time_s


def test_the_schema_describes_every_field_of_a_result():
    definitions = {}
    properties = properties_schema(DrillResult, definitions)
    json_schema(EvidenceHead, definitions)
    assert set(SCHEMA["properties"]) == set(properties) | {
        *("schema", "kind", "outcome", "exit_code", "summary", "recovery_time_s", "evidence")
    }
    assert SCHEMA["$defs"] == json.loads(json.dumps(dict(sorted(definitions.items()))))


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": DrillVerdict.RESTORED.value, "outcome": "proven", "exit_code": 0},
        {"exit_code": 0},
        {"schema": "replcheck/drill/2"},
        {"layers": []},
        {"stages": None},
    ],
)
def test_a_document_that_belies_itself_is_refused(changes):
    document = json.loads(drill_json(drills.failed())) | changes
    with pytest.raises(ValueError, match=r"verdict|schema|array"):
        drill_result(document if changes != {"layers": []} else document | {"problems": []})


def test_several_drills_are_one_document_with_the_worst_outcome():
    results = [drills.result(), drills.failed(), drills.blocked()]
    text = drills_json([drill_document(result) for result in results], [result.verdict for result in results])
    document = json.loads(text)
    jsonschema.Draft202012Validator(json.loads(schema_text("drills"))).validate(document)
    assert (document["outcome"], document["exit_code"], len(document["drills"])) == ("refuted", 2, 3)
    page = drawn(lambda console: print_all_drills([result.verdict for result in results], console, INDIA))
    assert page.strip() == "✘ FAILED  of 3 backups 1 restored, 1 failed and 1 not tried."


def test_quiet_is_the_verdict_alone_unless_a_copy_is_left():
    page = drawn(lambda console: print_drill_briefly(drills.result(), console, INDIA))
    assert page.count("\n\n") == 0
    assert "RESTORED" in page
    left = drills.kept()
    assert left.scratch is not None
    assert left.scratch.connect in drawn(lambda console: print_drill_briefly(left, console, INDIA))


def progressed(*events):
    progress = DrillProgress()
    for event in events:
        progress(event)
    return progress


def shown(progress, elapsed_s):
    return drawn(lambda console: console.print(draw_drill(progress, elapsed_s)))


def test_the_bar_tells_the_stage_the_bytes_and_the_time_left():
    progress = progressed(
        RunStarted(at=BEGAN, run_id="x", kind="drill", cluster="clinic"),
        StageBegan(at=BEGAN, stage=Stage.FETCH, total_bytes=200 << 20),
    )
    assert "fetching" in shown(progress, 10)
    progress(
        StageProgressed(at=BEGAN, stage=Stage.FETCH, done_bytes=50 << 20, total_bytes=200 << 20, what="base/5/16384")
    )
    text = shown(progress, 20)
    assert "50MB of 200MB" in text
    assert "30s left" in text
    assert "base/5/16384" in text


def test_the_bar_invents_no_end_where_none_is_known():
    progress = progressed(StageBegan(at=BEGAN, stage=Stage.RECOVER, total_bytes=None))
    assert progress.share is None
    assert "left" not in shown(progress, 60)
    progress(StageEnded(at=BEGAN, stage=Stage.RECOVER, elapsed_s=1, size_bytes=None, ok=True))
    progress(LayerFinished(at=BEGAN, layer=drills.layer(LayerName.SEAL)))
    assert "rows against a seal passed" in shown(progress, 60)
    progress(ProblemFound(at=BEGAN, problem=drills.broken_archive().problems[0]))
    assert "WAL segment" in shown(progress, 60)
    progress(RunFinished(at=BEGAN, run_id="x", outcome=Outcome.REFUTED, summary="x"))
    assert progress.share == 1


def test_no_name_of_a_file_or_relation_steers_the_terminal():
    odd = replace(drills.failed().layers[0].differences[0], relation="public.\x1b[31mx")
    layers = drills.layers(SEAL=drills.layer(LayerName.SEAL, LayerState.FAILED, differences=(odd,)))
    assert "\x1b" not in rendered(drills.result(layers=layers, verdict=DrillVerdict.FAILED))


def test_the_sentence_says_what_the_layer_of_the_primary_leaves_out():
    proven = drills.result(layers=drills.layers(PRIMARY=drills.layer(LayerName.PRIMARY)))
    assert "matches the primary (catalogs and sequences are not compared)" in drill_sentence(proven)
    assert "catalogs" not in drill_sentence(drills.result())


def test_what_lets_a_layer_run_the_next_time_is_among_the_steps():
    hint = "For the layer amcheck, type CREATE EXTENSION amcheck; in each database of the primary, once."
    unrun = drills.layer(LayerName.AMCHECK, LayerState.NOT_RUN, reason="it is not installed", hint=hint)
    layers = drills.layers(SEAL=drills.layer(LayerName.SEAL), AMCHECK=unrun)
    assert hint in drill_steps(drills.result(layers=layers))
    by_design = drills.layers(SEAL=drills.layer(LayerName.SEAL), AMCHECK=replace(unrun, by_design=True))
    assert drill_steps(drills.result(layers=by_design)) == ()


@pytest.mark.parametrize(
    ("reason", "step"), [(DUMP_CHANGED, "who changed the dump"), ("moved", "Seal the primary again")]
)
def test_what_to_do_about_a_seal_depends_on_what_kept_it_from_proving_all(reason, step):
    doubtful = drills.layer(LayerName.SEAL, LayerState.INCONCLUSIVE, reason=f"{reason}; and more")
    found = drills.result(layers=drills.layers(SEAL=doubtful), verdict=DrillVerdict.UNPROVEN)
    assert step in " ".join(drill_steps(found))


def test_what_an_older_version_called_not_compared_is_told_as_what_it_was():
    layers = drills.layers(
        SEAL=drills.layer(LayerName.SEAL), PRIMARY=drills.layer(LayerName.PRIMARY, LayerState.INCONCLUSIVE)
    )
    stored = drill_document(drills.result(layers=layers, verdict=DrillVerdict.UNCOMPARED))
    assert drill_result(stored).verdict is DrillVerdict.UNPROVEN
    with pytest.raises(ValueError, match="its verdict is not the one of its content"):
        drill_result(drill_document(drills.uncompared()) | {"verdict": DrillVerdict.UNPROVEN.value})


def test_a_copy_that_came_back_without_a_required_layer_is_not_called_not_tried():
    unrun = drills.layer(LayerName.MANIFEST, LayerState.NOT_RUN, reason="only a base backup has one", by_design=True)
    layers = drills.layers(SEAL=drills.layer(LayerName.SEAL), MANIFEST=unrun)
    problems = tuple(required_problems(layers, {LayerName.MANIFEST}))
    lacking = drills.result(layers=layers, problems=problems, verdict=DrillVerdict.NOT_TRIED)
    assert result_verdict(lacking) is DrillVerdict.NOT_TRIED
    text = rendered(lacking)
    assert text.splitlines()[0].endswith("restored, required proof missing")
    assert "was restored and answers, and is neither proven nor refuted: the layer" in " ".join(text.split())
    assert "`require` of a backup" in " ".join(text.split())
    full = drills.blocked().problems
    both = replace(lacking, problems=(*problems, *full))
    assert rendered(both).splitlines()[0].endswith("not tried")


def test_where_nothing_was_fetched_no_page_of_what_did_not_run_is_printed():
    assert "Layers of proof" not in rendered(drills.blocked())
    assert "Layers of proof" in rendered(drills.blocked(), verbose=True)
    assert "Layers of proof" in rendered(drills.broken_archive())


def test_a_newest_commit_that_lies_ahead_of_the_drill_is_told_so():
    """The primary's clock is ahead of that of this machine."""
    ahead = replace(drills.uncompared(), recovery_point_age_s=-90.0)
    paper = paper_markdown(drill_paper(ahead), INDIA)
    for told in (rendered(ahead, style=INDIA), drill_sentence(ahead), paper):
        assert "newest" in told
        assert "dated 1min 30s ahead of the clock" in " ".join(told.split())
