"""Each screen in each of its states, cell by cell, at both sizes that the screens are made for.

A picture that changed is shown by the difference; UPDATE_GOLDENS=1 writes it anew.
"""

import os
from pathlib import Path

import pytest

from replcheck.model.drill import Stage
from replcheck.tui.feed import Link, LinkChanged, Offers
from tests.tui import recordings, stories
from tests.tui.feeds import Asked
from tests.tui.test_screens import LARGE, SMALL, page, shown, until

DATA = Path(__file__).parents[1] / "data" / "screens"
HEALTHY = stories.healthy
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
    "audit-diverged": (lambda: [*HEALTHY(), *stories.audit(share=1.0)], "2"),
    "audit-relation": (lambda: [*HEALTHY(), *stories.audit(share=1.0)], "2,enter"),
    "drill-none": (HEALTHY, "3"),
    "drill-fetching": (lambda: [*HEALTHY(), *stories.drill(until=Stage.FETCH)], "3"),
    "drill-ended": (lambda: [*HEALTHY(), *stories.drill(until=None)], "3"),
    "history": (HEALTHY, "4"),
    "help": (HEALTHY, "question_mark"),
}


@pytest.mark.parametrize("size", [SMALL, LARGE], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("state", STATES)
async def test_every_state_of_every_screen_looks_as_it_did(state, size):
    told, keys = STATES[state]
    async with shown(told(), size=size) as (app, pilot, _):
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
    commands = Asked(offered=Offers(why_no_audit="this is a recording", why_no_drill="this is a recording"))
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
