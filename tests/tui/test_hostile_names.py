"""Names that would steer a terminal: none of their characters reaches it, from any screen, window, note or palette."""

import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from replcheck.errors import UsageError
from replcheck.model.live import Severity
from replcheck.tui import app as app_module
from replcheck.tui.feed import Noted, Offer, Offers
from replcheck.tui.steering import NoSteering
from replcheck.tui.widgets.framed import Framed
from tests.tui import stories
from tests.tui.feeds import Asked
from tests.tui.test_screens import LARGE, page, shown, told, until

STEERS = "\x1b[31mred\x1b]0;title\x07\n\x9b2J\u202e"
_NAME = re.compile(r"db[123]|clinic|records|billing|chart|nightly|copies|physical|archive")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class LetsAllThrough(LineFilter):
    """Stands where the last line behind the screens does, so that what they draw themselves is seen."""

    def apply(self, segments, background):
        return segments


@pytest.fixture(autouse=True)
def _drawn_as_it_is(monkeypatch):
    monkeypatch.setattr(app_module, "_NO_STEERING", LetsAllThrough())


def hostile(value):
    """Return a value of the stories in which each name goes on with what would steer a terminal."""
    match value:
        case str() if not isinstance(value, Enum):
            return _NAME.sub(lambda found: found[0] + STEERS, value)
        case tuple() | list() | frozenset():
            return type(value)(map(hostile, value))
        case dict():
            return {hostile(key): hostile(held) for key, held in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: hostile(getattr(value, part.name)) for part in fields(value) if part.init})
    return value


OFFERS = Offers(
    audit=hostile(Offer(name="clinic", sentence="Every row of db2 is compared with db1.")),
    drills=(hostile(Offer(name="nightly", sentence="Backup nightly is restored.")),),
    controls=True,
)
TWO = replace(OFFERS, drills=(*OFFERS.drills, Offer(name=f"other{STEERS}", sentence=f"Other {STEERS} is restored.")))
NONE = Offers(audit=None, drills=(), why_no_audit=f"no {STEERS}", why_no_drill=f"no {STEERS}", controls=False)
WELL, ILL = [*stories.healthy()], [*stories.degraded(), *stories.audit(), *stories.failed_drill()]


@pytest.mark.parametrize(
    ("updates", "offers", "looks"),
    [
        (stories.split_brain(), OFFERS, ["1"]),
        (stories.lost(), OFFERS, ["1"]),
        (ILL, OFFERS, ["1", "1 enter", "1 tab enter", "1 tab tab enter", "1 c"]),
        (ILL, OFFERS, ["2", "2 enter", "2 x", "2 question_mark", "2 ctrl+p"]),
        (ILL, OFFERS, ["3", "3 enter", "3 q", "4", "4 enter"]),
        (WELL, OFFERS, ["2", "2 a", "3", "3 d"]),
        (WELL, TWO, ["3 d"]),
        (WELL, NONE, ["2", "3"]),
    ],
)
async def test_no_screen_or_window_writes_what_would_steer_the_terminal(updates, offers, looks):
    updates = [hostile(update) for update in updates]
    async with shown(updates, size=LARGE, commands=Asked(offered=offers)) as (app, pilot, _):
        for look in looks:
            for key in look.split():
                await pilot.press(key)
                await pilot.pause()
            over = app.screen is not app.screen_stack[0]
            assert (look, _steering(app), over) == (look, [], " " in look)
            await pilot.press(*["escape"] * over)
            await pilot.pause()


async def test_the_title_of_a_relation_shows_its_name_as_escapes():
    updates = [*stories.healthy(), *map(hostile, stories.audit())]
    async with shown(updates, size=LARGE) as (app, pilot, _):
        await pilot.press("2", "enter")
        await until(pilot, lambda: app.screen.query(Framed))
        assert r"chart\x1b[31mred\x1b]0;title\x07" in str(app.screen.query_one(Framed).border_title)
        assert _steering(app) == []


async def test_no_note_and_no_refusal_writes_what_would_steer_the_terminal():
    async with shown(stories.healthy(), size=LARGE) as (app, pilot, feed):
        await told(app, pilot, feed, Noted(at=stories.NOW, text=f"of {STEERS}", severity=Severity.CRITICAL))
        app.try_to(_refuse)
        app.screen.notify("said by a screen", title=f"title {STEERS}", markup=False)
        await until(pilot, lambda: all(said in page(app) for said in ("of ", "refused", "said by a screen")))
        assert _steering(app) == []


def _refuse():
    raise UsageError(f"refused {STEERS}", hint=f"See {STEERS}.")


def test_the_last_line_behind_the_screens_takes_out_what_steers_and_nothing_else():
    given = [Segment(f"a{STEERS}b"), Segment("│ café ✔"), Segment("\x1b[2J", None, [(1,)])]  # type: ignore[list-item]
    told = NoSteering().apply(given, Color(0, 0, 0))
    assert [segment.text for segment in told] == ["a[31mred]0;title2Jb", "│ café ✔", "\x1b[2J"]


def _steering(app) -> list[str]:
    text = page(app)
    assert text.count("\n") == app.size.height - 1
    return [text[max(0, found.start() - 30) : found.end() + 10] for found in _CONTROL.finditer(text)]
