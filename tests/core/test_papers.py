"""What reports say in Markdown and HTML: the agreed words, and nothing that a name could turn into markup."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from benchmarks.years import Year, write_year
from replcheck.config import load
from replcheck.model.audit import Scope
from replcheck.model.control import CheckResult, ControlName, ControlResult, DueRun, Standing
from replcheck.model.evidence import EvidenceHead, EvidenceState, UnsignedRecords
from replcheck.model.live import ClusterView, NodeState, NodeView, RecoveryPoint
from replcheck.model.outcome import Outcome
from replcheck.model.seal import NotSealed, SealResult, SignatureState, StoredSeal
from replcheck.report.checks_made import ChecksMade
from replcheck.report.html.render import paper_html
from replcheck.report.markdown import paper_markdown
from replcheck.report.papers.audit import audit_paper
from replcheck.report.papers.check import check_paper
from replcheck.report.papers.drill import drill_paper
from replcheck.report.papers.period import period_paper
from replcheck.report.papers.promises import claims_paper, standing_mark
from replcheck.report.papers.seal import seal_paper
from replcheck.report.requirements import REQUIREMENTS, UNPROVABLE
from replcheck.report.seal import seal_document
from replcheck.report.seal_stored import past_seal
from replcheck.report.style import Style
from replcheck.runs.period import PeriodWanted, gather_period
from tests import factories
from tests.core import drills

DATA = Path(__file__).parents[1] / "data"
ZONE = timezone(timedelta(hours=5, minutes=30))
INDIA = Style(zone=ZONE)
MONTH = Year(days=30, relations=6, check_every=timedelta(hours=6))
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "]]><svg onload=alert(1)>",
    "a|b *c* [d](javascript:e) `f` ~g~ &amp; <!-- h",
    '"><h1>i',
    "\x1b[2Jj\x00\u202ek",
)
POLICY = """
cluster = "clinic"
nodes = { db1 = { dsn = "host=db1" }, db2 = { dsn = "host=db2" }, db3 = { dsn = "host=db3" } }
[policy]
copies = { running = 3, proven = 2 }
consistency = { max_age = "26h" }
recovery-point = { max_age = "5min", warn = "4min" }
restore = { every = "7d", max_time = "2h" }
"""
AUDITS = {
    "consistent": factories.consistent(),
    "diverged": factories.diverged(),
    "unchecked": factories.unchecked(),
    "inconclusive": factories.inconclusive(),
    "broken-index": factories.broken_index(),
    "filtered": factories.consistent(scope=Scope(databases=("c*",), tables=(), excludes=("*.tmp_*",), catalogs=False)),
}


SEALED = SealResult(
    run_id="01a2",
    started_at=drills.BEGAN,
    finished_at=drills.BEGAN + timedelta(seconds=4),
    elapsed_s=4.2,
    snapshot_s=4.0,
    primary="db1",
    seal=StoredSeal(
        manifest=drills.seal(
            not_sealed=(
                NotSealed(
                    database="clinic", relation="public.cache", code="unlogged", reason="unlogged", by_design=True
                ),
            )
        ),
        file="/seals/01a2.json",
        sha256="ab" * 32,
        signature=SignatureState.UNSIGNED,
    ),
)


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """What a history of a month holds, with a policy."""
    folder = tmp_path_factory.mktemp("month")
    write_year(folder / "clinic.db", MONTH)
    (folder / "clinic.toml").write_text(POLICY)
    wanted = PeriodWanted(since=MONTH.since, until=MONTH.until, cluster=None)
    return gather_period(folder / "clinic.db", load(folder / "clinic.toml"), wanted, now=MONTH.until)


@pytest.fixture(scope="module")
def papers(month):
    """Every kind of paper by name."""
    found = {f"audit-{name}": audit_paper(result) for name, result in AUDITS.items()}
    found |= {f"drill-{name}": drill_paper(result) for name, result in drills.RESULTS.items()}
    found |= {"check": check_paper(check_of(month))}
    found |= {"seal": seal_paper(past_seal(seal_document(SEALED))), "period": period_paper(month, ZONE)}
    return found | {"claims": claims_paper(month)}


def check_of(month):
    """Return the newest check of the month, with the nodes it saw."""
    view = ClusterView(
        cluster="clinic",
        at=MONTH.until,
        watched_since=MONTH.since,
        system_identifier="7412345678901234567",
        primary="db2",
        nodes=(
            NodeView(
                node="db1", state=NodeState.LOST, since=MONTH.until, answered_at=None, reason="it does not answer"
            ),
            NodeView(node="db2", state=NodeState.PRIMARY, since=MONTH.since, answered_at=MONTH.until, zone="rack-b"),
            NodeView(node="db3", state=NodeState.STREAMING, since=MONTH.since, answered_at=MONTH.until, lag_s=0.4),
        ),
        recovery_point=RecoveryPoint(at=MONTH.until, age_s=38.0),
    )
    return CheckResult(
        run_id="01a2",
        cluster="clinic",
        started_at=MONTH.until,
        finished_at=MONTH.until,
        tool_version="0.1.0",
        controls=month.controls,
        view=view,
        due=(
            DueRun(
                kind="drill", subject="nightly", reason="the last one is 8d old", outcome=Outcome.REFUTED, run_id="x"
            ),
        ),
        notes=("the clock was moved back by 3s",),
        evidence_head="ab" * 32,
    )


NAMES = [
    "check",
    *(f"audit-{name}" for name in AUDITS),
    *(f"drill-{name}" for name in drills.RESULTS),
    "seal",
    "period",
    "claims",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_markdown_is_the_agreed_one(papers, name):
    golden = DATA / f"report-{name}.md"
    text = paper_markdown(papers[name], INDIA)
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_well_formed(papers, name):
    html5lib.HTMLParser(strict=True).parse(paper_html(papers[name], INDIA))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_every_word_that_the_markdown_says(papers, name):
    page = tree(paper_html(papers[name], INDIA))
    shown = letters("".join(element_of(page, "body").itertext()))
    rendered = MarkdownIt("commonmark").enable("table").render(paper_markdown(papers[name], INDIA))
    for element in tree(f"<!DOCTYPE html><title>x</title>{rendered}").iter():
        if element.tag in {"td", "li", "h2", "h3"}:
            assert letters("".join(element.itertext())) in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_screen_reader_finds_its_way(papers, name):
    page = tree(paper_html(papers[name], INDIA))
    assert page.get("lang") == "en"
    assert [len(list(page.iter(landmark))) for landmark in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    levels = [int(element.tag[1]) for element in page.iter() if re.fullmatch("h[1-6]", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in page.iter():
        for reference in (element.get("aria-labelledby") or "").split():
            assert reference in ids
        if (element.get("href") or "").startswith("#"):
            assert element.get("href", "")[1:] in ids
    for table in page.iter("table"):
        assert table.find("caption") is not None
        assert all(head.get("scope") == "col" for head in table.iterfind("thead/tr/th"))
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in table.iterfind("tbody/tr"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"seal", "claims", "check", "drill-blocked"}])
def test_every_picture_has_a_title_a_description_and_a_table_beside_it(papers, name):
    page = tree(paper_html(papers[name], INDIA))
    main = element_of(page, "main")
    pictures = [svg for svg in main.iter("svg") if svg.get("role") == "img"]
    assert pictures
    for svg in pictures:
        assert svg.findtext("title")
        assert svg.findtext("desc")
    parents = {child: parent for parent in main.iter() for child in parent}
    for figure in main.iter("figure"):
        around = list(parents[figure])
        beside = around[around.index(figure) + 1]
        assert beside.find("table") is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_page_holds_no_script_and_no_address(papers, name):
    text = paper_html(papers[name], INDIA)
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//[a-z]|<script|\son[a-z]+=|javascript:|@import|url\((?!#)", text, re.IGNORECASE)


def hostile(name: str):
    changed = factories.diverged(
        relations=(factories.relation(name), factories.relation("patient")),
        cluster=name,
        divergences=(factories.divergence(relation=f'public."{name}"', query=f"SELECT '{name}'"),),
        not_checked=(factories.not_checked(relation=name, reason=name),),
        findings=(factories.finding(what=name, node=name),),
    )
    return audit_paper(changed)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_looks_like_markup_stays_a_name(name):
    paper = hostile(name)
    page = paper_html(paper, INDIA)
    parsed = tree(page)
    html5lib.HTMLParser(strict=True).parse(page)
    harmless = tree(paper_html(hostile("visit"), INDIA))
    assert tags(parsed) == tags(harmless)
    assert list(parsed.iter("script")) == []
    assert "\x1b" not in page
    rendered = MarkdownIt("commonmark").enable("table").render(paper_markdown(paper, INDIA))
    plain = MarkdownIt("commonmark").enable("table").render(paper_markdown(hostile("visit"), INDIA))
    assert re.findall(r"<(\w+)", rendered) == re.findall(r"<(\w+)", plain)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_no_name_at_all_becomes_markup_in_a_page(name):
    page = paper_html(hostile(name), INDIA)
    html5lib.HTMLParser(strict=True).parse(page)
    assert tags(tree(page)) == tags(tree(paper_html(hostile("visit"), INDIA)))


def test_each_control_is_mapped_and_each_requirement_names_what_is_not_measured(papers):
    page = paper_markdown(papers["period"], INDIA)
    for requirement in REQUIREMENTS:
        assert f"`{requirement.reference}`" in page
        assert requirement.beyond
    assert {one.reference for one in REQUIREMENTS} == {
        *("A.8.13", "A.8.14", "A.5.30", "A1.2", "A1.3"),
        *("164.308(a)(7)(ii)(A)", "164.308(a)(7)(ii)(B)", "164.308(a)(7)(ii)(D)"),
    }
    assert {name for one in REQUIREMENTS for name in one.controls} == set(ControlName)


def test_a_promise_that_cites_the_old_edition_is_told_the_new_one(month):
    def told(claim: str) -> str:
        control = ControlResult(name=ControlName.COPIES, standing=Standing.MET, claim=claim)
        section = paper_markdown(claims_paper(replace(month, controls=(control,))), INDIA)
        return section.partition("### Control copies")[2].partition("## ")[0]

    assert "The one in force is ISO/IEC 27001:2022" in told("as ISO/IEC 27001:2005 asks")
    assert "The one in force" in told("as ISO / IEC 27001: 2013 asks")
    assert "The one in force" not in told("as ISO/IEC 27001:2022 asks")


HEAD = EvidenceHead(sequence=421, sha256="cd" * 32, signed=True, key_id="k", recorded_at=MONTH.until)
WHOLE = EvidenceState(
    records=421,
    verified=21,
    rested=400,
    rested_at=MONTH.since,
    problem="",
    head=HEAD,
    signed=21,
    unsigned=None,
    oldest_at=MONTH.since,
    newest_at=MONTH.until,
    outcome=Outcome.PROVEN,
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ("**✔ whole**", "21 records for this report, 21 with", "400 older ones rest on", "cdcdcd", "record 421")),
        ({"outcome": Outcome.PARTIAL, "partial": "x"}, ("**\\~ unvouched**", "x")),
        ({"outcome": Outcome.PARTIAL}, ("**\\~ unvouched**", "anybody could have written it all")),
        (
            {"outcome": Outcome.PARTIAL, "unsigned": UnsignedRecords(count=3, first=1, last=9, behind_signed=9)},
            (
                "**\\~ unvouched**",
                "3 records without a signature, the first is record 1; record 9 stands behind signed ones",
            ),
        ),
        (
            {"outcome": Outcome.REFUTED, "problem": "record 7 was changed"},
            ("The chain is broken: record 7 was changed",),
        ),
        ({"outcome": Outcome.UNCHECKED, "head": None}, ("There is no chain yet",)),
    ],
)
def test_a_report_says_how_the_chain_of_evidence_stands(month, changes, told):
    text = paper_markdown(period_paper(replace(month, evidence=replace(WHOLE, **changes)), UTC), INDIA)
    section = text.partition("## The chain of evidence")[2].partition("## ")[0]
    for words in told:
        assert words in section
    doubted = "That nobody changed the history afterwards" in text
    assert doubted is bool(changes)


def test_a_chain_that_cannot_be_read_is_told_with_the_reason(month):
    facts = replace(month, evidence=None, evidence_problem="the signing key cannot be read")
    assert "is not known: the signing key cannot be read" in paper_markdown(period_paper(facts, UTC), INDIA)


def test_where_the_evidence_is_broken_no_control_is_the_headline(month):
    broken = replace(WHOLE, outcome=Outcome.REFUTED, problem="record 7 was changed")
    mark = standing_mark(replace(month, evidence=broken))
    assert (mark.outcome, mark.word) == (Outcome.REFUTED, "the chain of evidence is broken")


def test_promises_name_what_cannot_be_proven(papers):
    text = paper_markdown(papers["claims"], INDIA)
    assert all(sentence in text for sentence in UNPROVABLE)
    assert "racks" in text
    assert "outage of a provider" in text


def test_what_was_not_met_in_between_is_no_green_headline(month):
    assert all(control.standing in {Standing.MET, Standing.NOT_ASKED} for control in month.controls)
    assert standing_mark(month).word == "all 7 controls met at the last check, 1 of them not at all times"
    assert standing_mark(month).outcome is not Standing.MET.outcome
    spotless = replace(month, tallies=tuple(replace(tally, last_not_met_at=None) for tally in month.tallies))
    assert standing_mark(spotless).outcome is Standing.MET.outcome


@pytest.mark.parametrize(
    ("count", "standing", "word"),
    [
        (1, Standing.MET, "the only control met at the last check"),
        (2, Standing.MET, "both controls met at the last check"),
        (3, Standing.MET, "all 3 controls met at the last check"),
        (1, Standing.BREACHED, "the only control breached at the last check"),
    ],
)
def test_the_headline_counts_controls_as_people_do(month, count, standing, word):
    controls = tuple(replace(control, standing=standing) for control in month.controls[:count])
    assert standing_mark(replace(month, controls=controls, tallies=())).word == word


def test_the_only_control_was_not_met_at_all_times(month):
    broken = tuple(tally for tally in month.tallies if tally.last_not_met_at is not None)
    mark = standing_mark(replace(month, controls=month.controls[:1], tallies=broken))
    assert (mark.outcome, mark.word) == (
        Outcome.PARTIAL,
        "the only control met at the last check, but not at all times",
    )


SILENT = ChecksMade(whole=24, limited=3, failed=2, failed_since=2, uncounted=1, every_s=3600.0, age_s=25 * 86_400.0)


def test_checks_that_failed_looked_at_a_part_or_stopped_coming_are_told_in_words(month):
    facts = replace(month, checks=SILENT)
    text = paper_markdown(period_paper(facts, UTC), INDIA)
    promises = paper_markdown(claims_paper(facts), INDIA)
    old = "In the last 25d of the period the policy was not checked as a whole; until then one began every 1h. How the"
    for page in (text, promises):
        assert old in page
        assert "2 checks ended in an error or were killed, 2 of them since the last whole one: counted as unch" in page
        assert "3 checks looked at some of the controls only (--control): counted for these alone." in page
        assert ", 25d before the end of the period" in page
    made = "24 checks of the whole policy, 3 of some of its controls, 2 that ended in an error or were killed, 1 whose"
    assert made in text
    assert old in text.partition("### What was not measured")[2].partition("## ")[0]


def test_a_policy_that_was_only_checked_in_part_is_not_told_to_be_none(month):
    facts = replace(month, controls=(), controls_at=None, checks=ChecksMade(limited=3))
    text = paper_markdown(period_paper(facts, UTC), INDIA)
    assert "No check of the whole policy came to a result in this period" in text
    assert "No check of a policy is in this history" not in text
    assert "no check of a policy is in this history" not in text
    assert "never as a whole" in text


@pytest.mark.parametrize("worst", [Standing.BREACHED, Standing.UNCHECKED, Standing.AT_RISK, Standing.WAIVED])
def test_one_control_that_is_not_met_is_the_headline(month, worst):
    controls = (replace(month.controls[0], standing=worst), *month.controls[1:])
    mark = standing_mark(replace(month, controls=controls, tallies=()))
    assert mark.outcome is worst.outcome
    assert mark.word.startswith("1 of 7 controls")


def test_gaps_in_the_record_are_told_in_words_and_one_by_one(month, papers):
    text = paper_markdown(papers["period"], INDIA)
    assert len(month.watched.gaps) == 3
    assert "Nothing was watching 3 times" in text
    for gap in month.watched.gaps:
        assert INDIA.time(gap.began_at) in text


def test_a_period_in_which_nothing_was_watched_or_run_says_that_nothing_is_known(tmp_path):
    write_year(tmp_path / "clinic.db", replace(MONTH, days=8))
    until = datetime(2001, 1, 1, tzinfo=UTC)
    wanted = PeriodWanted(since=until - timedelta(days=7), until=until, cluster=None)
    text = paper_markdown(
        period_paper(gather_period(tmp_path / "clinic.db", None, wanted, now=MONTH.until), UTC), INDIA
    )
    assert "there is not one sample of it" in text
    assert "that the replicas are copies was not proven once" in text
    assert "that a backup comes back was not proven once" in text
    assert "No check of a policy is in this history" in text
    assert "NO CONTROL WAS ASKED FOR" in text
    assert "✔" not in text


def tree(page: str) -> ET.Element:
    """Return the elements of a page, by their bare names."""
    parsed: ET.Element = html5lib.parse(page, namespaceHTMLElements=False)
    for element in parsed.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return parsed


def element_of(page: ET.Element, tag: str) -> ET.Element:
    """Return the only element with a tag."""
    [found] = page.iter(tag)
    return found


def tags(page: ET.Element) -> list[str]:
    return [str(element.tag) for element in page.iter()]


def letters(text: str) -> str:
    return re.sub(r"[\s:]+", "", text)
