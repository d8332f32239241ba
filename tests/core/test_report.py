"""Reports: the same words for people and machines, nothing lost at 80 columns, and the published schema holds."""

import io
import json
import os
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from replcheck.audit.ending import INTERRUPTED
from replcheck.audit.shortfalls import STOPPED, UNFINISHED
from replcheck.model.audit import DifferenceKind, RelationKind, Scope
from replcheck.model.outcome import Outcome, Verdict
from replcheck.report.document import audit_document, audit_json, audit_schema
from replcheck.report.human import print_audit, print_verdict
from replcheck.report.style import Style
from replcheck.report.verdict import next_steps, outcome_of, sentence, verdict_of
from tests import factories

DATA = Path(__file__).parents[1] / "data"
RESULTS = {
    "consistent": factories.consistent(),
    "diverged": factories.diverged(),
    "unchecked": factories.unchecked(),
    "inconclusive": factories.inconclusive(),
    "stopped": factories.consistent(stopped="the run was stopped"),
    "broken-index": factories.broken_index(),
    "odd-primary": factories.diverged(
        odd_node="db1",
        replicas=(factories.replica("db2", Verdict.DIVERGED), factories.replica("db3", Verdict.DIVERGED)),
        divergences=(factories.divergence(node="db1", kind=DifferenceKind.CHANGED),),
    ),
    "unreadable-primary": factories.diverged(
        odd_node=None,
        replicas=(factories.replica("db3", Verdict.DIVERGED, reason="rows differ in 1 relation"),),
        divergences=(factories.unreadable(node="db1"),),
        findings=(),
    ),
    "two-nodes": factories.diverged(
        odd_node=None, replicas=(factories.replica("db3", Verdict.DIVERGED, reason="rows differ in 2 relations"),)
    ),
}
REPAIRS = ("pg_basebackup", "out of service")
INDIA = Style(zone=timezone(timedelta(hours=5, minutes=30)))


def rendered(result, *, style=INDIA, width=80, **options):
    page = io.StringIO()
    print_audit(result, Console(file=page, width=width, highlight=False, no_color=True), style, **options)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


@pytest.mark.parametrize("name", RESULTS)
def test_the_report_for_people_is_the_agreed_one(name):
    golden = DATA / f"audit-{name}.txt"
    text = rendered(RESULTS[name])
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RESULTS)
def test_the_verdict_stands_in_the_first_line_and_in_the_last_section(name):
    text = rendered(RESULTS[name])
    word = verdict_of(RESULTS[name]).value
    assert text.splitlines()[0].endswith(word)
    assert word.upper() in text
    assert " ".join(sentence(RESULTS[name]).split()) in " ".join(text.split())


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_but_queries_is_wider_than_the_terminal(name):
    assert all(len(line) <= 80 for line in rendered(RESULTS[name]).splitlines() if "SELECT" not in line)


def test_a_query_is_never_wrapped():
    assert factories.divergence().query in rendered(factories.diverged())


def test_ascii_only_means_ascii_only():
    for result in RESULTS.values():
        assert rendered(result, style=Style(ascii_only=True), verbose=True).isascii()


def test_a_word_stands_beside_every_colour():
    page = io.StringIO()
    console = Console(file=page, width=80, force_terminal=True, color_system="standard", highlight=False)
    print_verdict(factories.diverged(), console, Style())
    assert "\x1b[31m" in page.getvalue()
    assert "DIVERGED" in page.getvalue()


def test_a_name_cannot_steer_the_terminal():
    evil = factories.relation("a\x1b[2Jb", Verdict.DIVERGED)
    found = factories.divergence(relation='public."a\x1b[2Jb"', query='SELECT * FROM "a\x1b[2Jb"')
    entry = factories.not_checked(relation="c\x1b[31md")
    text = rendered(factories.diverged(relations=(evil,), divergences=(found,), not_checked=(entry,)))
    assert "\x1b" not in text
    assert r"a\x1b[2Jb" in text


def test_markup_in_a_name_is_a_name():
    assert "public.[red]" in rendered(factories.diverged(divergences=(factories.divergence(relation="public.[red]"),)))


def test_only_relations_that_are_not_consistent_are_listed_unless_asked():
    assert "clinic.public.patient" not in rendered(factories.diverged())
    assert "clinic.public.patient" in rendered(factories.diverged(), verbose=True)


def test_what_is_skipped_by_design_is_counted_and_listed_whole_when_asked():
    assert "unlogged: not replicated (5)" in rendered(factories.diverged())
    assert "and 2 more" in rendered(factories.diverged())
    assert "cache_4" in rendered(factories.diverged(), verbose=True)


def test_a_limited_audit_says_so_in_its_verdict():
    scope = Scope(databases=("clinic",), tables=(), excludes=("x",), catalogs=False)
    assert sentence(factories.consistent(scope=scope)).endswith(
        "; the audit was limited by --database, --exclude and --no-catalogs."
    )


def test_a_divergence_beside_something_unchecked_names_both():
    told = sentence(factories.diverged(not_checked=(factories.not_checked(), factories.unlogged("a"))))
    assert "1 thing was not checked" in told


def test_an_odd_primary_is_not_told_to_be_trusted():
    told = sentence(RESULTS["odd-primary"])
    assert "the primary db1 stands alone" in told
    assert not any("Rebuild db2" in step for step in next_steps(RESULTS["odd-primary"]))


def test_what_only_the_primary_cannot_read_makes_nobody_rebuild_the_good_copy():
    result = RESULTS["unreadable-primary"]
    assert sentence(result) == (
        "db3 and the primary db1 do not match: data cannot be read in 1 relation, all of it on the primary, so the"
        " broken copy may be the original."
    )
    steps = next_steps(result)
    assert steps[0].startswith("Do not rebuild db3 from db1, and do not fail over yet")
    assert not any(word in step for word in REPAIRS for step in steps)


def test_damage_of_the_primary_beside_that_of_a_replica_makes_nobody_rebuild_it():
    both = factories.diverged(odd_node=None, divergences=(factories.divergence(), factories.unreadable(node="db1")))
    assert "17 rows differ and data cannot be read in 2 relations, some of it on the primary" in sentence(both)
    assert not any(word in step for word in REPAIRS for step in next_steps(both))


@pytest.mark.parametrize("divergences", [(), (factories.divergence(),)], ids=["rows equal", "rows differ"])
def test_failed_checksums_of_the_primary_make_nobody_rebuild_a_replica(divergences):
    failed = factories.finding(Outcome.REFUTED, code="checksum_failures", node="db1", what="2 checksums failed")
    result = factories.diverged(divergences=divergences, findings=(failed,))
    assert "primary" in sentence(result)
    assert "2 checksums failed" in sentence(result)
    assert "the broken copy may be the original" in sentence(result)
    assert next_steps(result)[0].startswith("Do not rebuild")
    assert not any(word in step for word in REPAIRS for step in next_steps(result))
    assert any("pg_stat_reset()" in step for step in next_steps(result))


def test_failed_checksums_of_a_replica_name_it_and_how_to_clear_them():
    failed = factories.finding(Outcome.REFUTED, code="checksum_failures", node="db3", what="2 checksums failed")
    equal = tuple(factories.replica(name) for name in ("db2", "db3"))
    result = factories.diverged(divergences=(), findings=(failed,), replicas=equal, odd_node=None, relations=())
    assert sentence(result) == "db3 cannot be trusted as a copy of db1: 2 checksums failed."
    steps = next_steps(result)
    assert steps[0] == "Take db3 out of service for reads and failover until it is rebuilt."
    assert "Rebuild db3 with pg_basebackup, then audit again." in steps
    assert "pg_stat_reset()" in steps[-1]


def test_of_two_nodes_whose_rows_differ_none_is_said_to_be_right():
    steps = next_steps(RESULTS["two-nodes"])
    assert steps[0].startswith("Do not rebuild db3 yet")
    assert "Once db1 has proven right, rebuild db3 with pg_basebackup, then audit again." in steps


def test_a_replica_that_cannot_read_what_the_primary_reads_is_to_be_rebuilt():
    result = factories.diverged(odd_node=None, divergences=(factories.unreadable(),))
    assert "Rebuild db3 with pg_basebackup, then audit again." in next_steps(result)


def test_a_refuting_finding_without_differing_rows_is_told():
    broken = factories.finding(Outcome.REFUTED, what="2 data pages failed their checksum")
    result = factories.diverged(divergences=(), findings=(broken,))
    assert "2 data pages failed their checksum" in sentence(result)


def test_indexes_are_told_where_they_were_asked_for():
    scope = replace(factories.WHOLE, indexes=True)
    sound = factories.consistent(scope=scope, indexes=(factories.index(), factories.index("public.other")))
    assert "; 2 indexes match their tables on every node" in sentence(sound)
    assert "2 indexes: 2 sound" in rendered(sound)
    assert "visit_pkey" not in rendered(sound)
    assert "clinic.public.visit_pkey" in rendered(sound, verbose=True)
    assert "indexes" not in rendered(factories.consistent())


def test_a_broken_index_is_no_differing_row():
    told = sentence(RESULTS["broken-index"])
    assert (
        "on db3 1 index does not match its table, although on another node it does; no row was found to differ" in told
    )
    assert not any("pg_basebackup" in step for step in next_steps(RESULTS["broken-index"]))
    both = factories.diverged(divergences=(factories.divergence(), *RESULTS["broken-index"].divergences))
    assert "17 rows differ and 1 index does not match its table in 1 relation" in sentence(both)
    assert any("pg_basebackup" in step for step in next_steps(both))
    assert not any("I/O" in step for step in next_steps(both))


def test_an_index_that_is_broken_everywhere_makes_no_copy_a_bad_one():
    finding = factories.finding(Outcome.REFUTED, code="index_broken", node=None, what="index i is damaged, everywhere")
    result = factories.consistent(verdict=Verdict.DIVERGED, findings=(finding,))
    assert sentence(result) == "the rows are those of db1, but index i is damaged, everywhere."
    assert any("REINDEX" in step for step in next_steps(result))
    assert not any("out of service" in step for step in next_steps(result))


def test_a_relation_that_differs_as_a_whole_is_told_in_words():
    whole = factories.divergence(ranges=(), count=0, query="", what="its definition differs")
    result = factories.diverged(divergences=(whole,))
    assert "its definition differs in 1 relation" in sentence(result)
    assert "clinic.public.visit  its definition differs" in rendered(result)


def test_a_damaged_catalog_adds_a_warning():
    catalog = factories.relation("pg_class", Verdict.DIVERGED, kind=RelationKind.CATALOG)
    assert any("catalog" in step for step in next_steps(factories.diverged(relations=(catalog,))))


def test_the_hint_of_what_was_not_checked_is_what_to_do_next():
    assert next_steps(factories.unchecked()) == ("ALTER ROLE replcheck BYPASSRLS;",)


def test_a_verdict_without_its_report_speaks_of_no_queries_above():
    page = io.StringIO()
    console = Console(file=page, width=200, no_color=True)
    print_verdict(factories.diverged(), console, Style(), alone=True)
    assert "queries of the whole report, which --quiet leaves out" in page.getvalue()
    assert "queries above" not in page.getvalue()
    print_verdict(factories.diverged(), console, Style())
    assert "queries above" in page.getvalue()


@pytest.mark.parametrize("lack", [STOPPED, UNFINISHED], ids=lambda lack: lack.code)
def test_an_audit_that_was_stopped_says_once_to_run_it_again(lack):
    left = factories.not_checked(code=lack.code, reason=lack.reason, hint=lack.hint)
    stopped = factories.consistent(
        stopped=INTERRUPTED.what, stop_code=INTERRUPTED.code, verdict=Verdict.UNCHECKED, not_checked=(left,)
    )
    [step] = next_steps(stopped)
    assert step.startswith("Run the audit again and let it finish")


def test_all_well_leaves_nothing_to_do():
    assert next_steps(factories.consistent()) == ()


@pytest.mark.parametrize("name", RESULTS)
def test_the_document_follows_the_published_schema(name):
    schema = audit_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(audit_document(RESULTS[name]), schema)


def test_the_schema_refuses_what_it_does_not_know():
    document = audit_document(factories.consistent())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"extra": 1}, audit_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"verdict": "fine"}, audit_schema())


def test_the_document_holds_the_contract():
    document = json.loads(audit_json(factories.diverged()))
    assert document["schema"] == "replcheck/audit/1"
    assert (document["outcome"], document["verdict"], document["exit_code"]) == ("refuted", "diverged", 2)
    assert document["odd_node"] == "db3"
    first = document["divergences"][0]
    assert (first["kind"], first["ctid_ranges"], first["count"]) == ("missing", ["(12,3)..(12,19)"], 17)
    relation = document["relations"][1]
    assert (relation["name"], relation["table"]) == ('public."Notes"', "Notes")
    assert document["replicas"][0]["alignments"][0]["exact"] is True


def test_the_document_is_ascii_and_ends_with_a_line_break():
    text = audit_json(factories.consistent(cluster="clínica"))
    assert text.isascii()
    assert text.endswith("}\n")


@pytest.mark.parametrize("name", RESULTS)
def test_people_and_machines_read_the_same_outcome(name):
    result = RESULTS[name]
    assert audit_document(result)["exit_code"] == outcome_of(result).exit_status
    assert audit_document(result)["summary"] == sentence(result)
