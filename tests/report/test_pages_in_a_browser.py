"""Pages of reports in a real browser, in light and dark, on a phone and on paper: silent, self-contained, readable."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.years import write_year
from replcheck.model.outcome import Verdict
from replcheck.report.html.render import paper_html
from replcheck.report.papers.audit import audit_paper
from replcheck.report.papers.drill import drill_paper
from replcheck.report.papers.period import period_paper
from replcheck.runs.period import PeriodWanted, gather_period
from tests import browser, factories
from tests.core import drills
from tests.core.test_papers import HOSTILE, INDIA, MONTH, ZONE

pytestmark = pytest.mark.skipif(
    not browser.PROGRAM, reason="no browser is installed (Debian: apt-get install chromium)"
)
PAGES = ("audit", "drill", "period")
WIDTHS = {"desktop": 1280, "tablet": 800, "phone": 360}
CONTRAST = """
(() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const colour = numbers(element instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance(colour), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName} ${element.className} ${ratio.toFixed(2)}`);
  }
  return poor.slice(0, 5);
})()
"""
"""Texts whose contrast is less than 4.5 to 1 (Web Content Accessibility Guidelines 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A page of each kind, its content as hostile as names allow."""
    folder = tmp_path_factory.mktemp("pages")
    month = replace(MONTH, names=HOSTILE)
    write_year(folder / "clinic.db", month)
    wanted = PeriodWanted(since=month.since, until=month.until, cluster=None)
    facts = gather_period(folder / "clinic.db", None, wanted, now=month.until + timedelta(hours=1))
    relations = tuple(factories.relation(name) for name in HOSTILE)
    papers = {
        "audit": audit_paper(factories.diverged(relations=(*factories.diverged().relations, *relations))),
        "drill": drill_paper(drills.failed(backup=HOSTILE[0])),
        "period": period_paper(facts, ZONE),
    }
    for name, paper in papers.items():
        (folder / f"{name}.html").write_text(paper_html(paper, INDIA), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in papers}


CUT = """
[...document.querySelectorAll('.scroll')].flatMap(box => [...box.querySelectorAll('.mark, thead th')]
  .filter(mark => mark.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)
  .map(mark => mark.textContent))
"""
"""Verdicts and headings of tables of which a part is beyond the right edge."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """The page of an audit of three replicas whose addresses and relations have long names."""
    replicas = tuple(
        replace(
            factories.replica(f"clinic-db{number}", Verdict.DIVERGED),
            node=factories.node(f"clinic-db{number}", address=f"clinic-db{number}.rack-b.internal.example:5432"),
        )
        for number in (2, 3, 4)
    )
    result = factories.diverged(replicas=replicas)
    verdicts = tuple(
        replace(result.relations[0].replicas[-1], node=replica.node.name, rows_in_flight=1_200) for replica in replicas
    )
    names = ("appointment_reminder_delivery_attempt_archive", "visit", "x" * 63)
    relations = tuple(replace(factories.relation(name), replicas=verdicts) for name in names)
    path: Path = tmp_path_factory.mktemp("wide") / "audit.html"
    path.write_text(paper_html(audit_paper(replace(result, relations=relations)), INDIA), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page() -> Iterator[browser.Page]:
    with browser.running() as running:
        yield running.page()


@pytest.fixture(autouse=True)
def nothing_said_or_asked(page: browser.Page) -> Iterator[None]:
    page.said.clear()
    page.asked.clear()
    yield
    assert page.said == []
    assert [address for address in page.asked if not address.startswith("data:")] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_silently_asks_for_nothing_and_can_be_read(page, pages, name, dark):
    page.show(pages[name], dark=dark)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate(CONTRAST) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_but_tables_and_pictures_is_wider_than_the_screen(page, pages, name, width):
    page.show(pages[name], width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider scrolls by itself, also by the keyboard.
    assert page.evaluate("[...document.querySelectorAll('.scroll, .picture, pre')].every(box => box.tabIndex === 0)")


@pytest.mark.parametrize("width", [1000, 1280, 1440])
def test_the_verdicts_of_an_audit_are_whole_on_any_desk(page, wide, width):
    page.show(wide, width=width)
    assert page.evaluate("document.querySelectorAll('td .mark.refuted').length") >= 12
    verdicts = page.evaluate(CUT.replace(", thead th", ""))
    assert verdicts == []


def test_long_names_of_an_audit_fit_on_paper(page, wide):
    page.show(wide, width=680, media="print")
    assert page.evaluate(CUT) == []


@pytest.mark.parametrize(("width", "media"), [(1000, ""), (1440, ""), (680, "print")], ids=["narrow", "wide", "paper"])
def test_every_column_of_an_audit_is_seen_where_names_are_of_usual_length(page, pages, width, media):
    page.show(pages["audit"], width=width, media=media)
    assert page.evaluate(CUT) == []


def test_a_table_that_is_wider_than_the_screen_shows_that_it_scrolls(page, wide):
    page.show(wide, width=500)
    assert page.evaluate(CUT) != []
    assert "gradient" in page.evaluate("getComputedStyle(document.querySelector('.scroll')).backgroundImage")


@pytest.mark.parametrize("name", PAGES)
def test_a_dark_screen_prints_on_white_paper(page, pages, name):
    page.show(pages[name], dark=True, media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 31, 36)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.evaluate(CONTRAST) == []
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2


@pytest.mark.parametrize("name", PAGES)
def test_a_screen_reader_is_told_landmarks_headings_tables_and_pictures(page, pages, name):
    page.show(pages[name])
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in page.accessible()]
    roles = [role for role, _ in told]
    assert {"banner", "navigation", "main", "contentinfo", "heading", "table"} <= set(roles)
    pictures = [words for role, words in told if role in {"image", "img", "graphics-document"}]
    assert len(pictures) == page.evaluate("document.querySelectorAll('figure').length")
    assert all(len(words) > 10 for words in pictures)
    assert all(words for role, words in told if role in {"heading", "table", "region", "link"})


def test_every_link_leads_somewhere_on_the_page(page, pages):
    page.show(pages["period"])
    assert page.evaluate("[...document.links].every(link => document.getElementById(link.hash.slice(1)))")


def test_the_browser_of_these_tests_hears_what_a_page_says_and_asks_for(page, tmp_path):
    """Else silence would prove nothing."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><title>x</title><img src='http://replcheck.invalid/x'><script>console.error(1)</script>"
    )
    page.show(bad)
    assert any("replcheck.invalid" in address for address in page.asked)
    assert page.said
    page.said.clear()
    page.asked.clear()
