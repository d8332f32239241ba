"""Each screen in each of its states, cell by cell, at both sizes that the screens are made for.

A picture that changed is shown by the difference; UPDATE_GOLDENS=1 writes it anew.
"""

import itertools
import os
from pathlib import Path

import pytest

from replcheck.model.drill import Stage
from replcheck.report.human import print_audit
from replcheck.tui.feed import Link, LinkChanged, Offers, RunsRead
from tests import factories
from tests.tui import recordings, stories
from tests.tui.feeds import Asked
from tests.tui.test_screens import LARGE, SMALL, page, shown, until

DATA = Path(__file__).parents[1] / "data" / "screens"
HEALTHY = stories.healthy
UNREADABLE = RunsRead(
    at=stories.NOW, runs=(), problem="history /var/lib/replcheck/clinic.db cannot be read: disk i/o error"
)
STATES = {
    "overview": (HEALTHY, ""),
    "overview-connecting": (list, ""),
    "overview-degraded": (stories.degraded, ""),
    "overview-split-brain": (stories.split_brain, ""),
    "overview-lost-store": (stories.lost, ""),
    "overview-node": (stories.degraded, "down,down,enter"),
    "overview-claims": (HEALTHY, "c"),
    "audit-none": (HEALTHY, "2"),
    "audit-reading": (lambda: [*HEALTHY(), *stories.audit()], "2"),
    "audit-held": (lambda: [*HEALTHY(), *stories.held_audit()], "2"),
    "audit-diverged": (lambda: [*HEALTHY(), *stories.audit(share=1.0)], "2"),
    "audit-relation": (lambda: [*HEALTHY(), *stories.audit(share=1.0)], "2,enter"),
    "drill-none": (HEALTHY, "3"),
    "drill-fetching": (lambda: [*HEALTHY(), *stories.drill(until=Stage.FETCH)], "3"),
    "drill-ended": (lambda: [*HEALTHY(), *stories.drill(until=None)], "3"),
    "drill-failed": (lambda: [*HEALTHY(), *stories.failed_drill()], "3"),
    "drill-layer": (lambda: [*HEALTHY(), *stories.failed_drill()], "3,enter"),
    "history": (HEALTHY, "4"),
    "history-empty": (lambda: [*HEALTHY(), RunsRead(at=stories.NOW, runs=())], "4"),
    "history-lost-store": (lambda: [*stories.lost(), UNREADABLE], "4"),
    "history-report": (HEALTHY, "4,enter"),
    "help": (HEALTHY, "question_mark"),
    "replay-ended": (stories.replay_over, ""),
    "too-small": (stories.degraded, ""),
}
TINY = (59, 15)
"""A column and a line less than there must be."""
PICTURES = [
    *itertools.product([state for state in STATES if state != "too-small"], (SMALL, LARGE)),
    ("too-small", TINY),
]
RECORDED = Offers(why_no_audit="this is a recording", why_no_drill="this is a recording")


class Reporting(Asked):
    """Has the report of an audit for every run."""

    def print_report(self, run_id: str, console, style) -> None:
        print_audit(factories.diverged(), console, style)


@pytest.mark.parametrize(("state", "size"), PICTURES, ids=[f"{state}-{size[0]}x{size[1]}" for state, size in PICTURES])
async def test_every_state_of_every_screen_looks_as_it_did(state, size):
    told, keys = STATES[state]
    commands = Asked(offered=RECORDED) if state == "replay-ended" else Reporting()
    async with shown(told(), size=size, commands=commands) as (app, pilot, _):
        for key in keys.split(",") if keys else ():
            await pilot.press(key)
            await pilot.pause()
        golden = DATA / f"{state}-{size[0]}x{size[1]}.txt"
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.3)
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(f"{page(app)}\n", encoding="utf-8")
        wanted = golden.read_text(encoding="utf-8").rstrip("\n")
        # What is drawn after the last key may take a moment; what never comes is shown by the difference.
        try:
            await until(pilot, lambda: page(app).rstrip("\n") == wanted, seconds=5)
        except TimeoutError:
            assert page(app).rstrip("\n") == wanted


async def test_a_recording_of_real_servers_goes_through_every_screen():
    told = recordings.read()
    marks = {one.name for one in told if isinstance(one, recordings.Mark)}
    assert {"audited", "drilled", "diverged", "lost", "back"} <= marks
    commands = Asked(offered=RECORDED)
    async with shown(commands=commands) as (app, pilot, feed):
        feed.tell(LinkChanged(at=stories.NOW, link=Link.REPLAY))
        for one in told:
            if not isinstance(one, recordings.Mark):
                feed.tell(one)
                continue
            feed.tell(LinkChanged(at=stories.NOW, link=Link.REPLAY))
            for key in "1234":
                await pilot.press(key)
                page(app)
        await until(pilot, lambda: app.model.audit is not None and app.model.audit.result is not None)
        assert "✘ diverged" in page(app)
