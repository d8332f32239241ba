"""The screens under a pilot: keys, states, sizes; and nothing that comes in ends the app."""

import asyncio
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC
from functools import partialmethod

import pytest

from replcheck.events import HeldStill
from replcheck.model.drill import Stage
from replcheck.model.live import EventKind, Severity
from replcheck.model.outcome import Outcome
from replcheck.tui.app import WatchApp, run_app
from replcheck.tui.feed import (
    AuditsTold,
    Closed,
    EventsTaken,
    Introduced,
    Link,
    LinkChanged,
    Noted,
    Offers,
    OwedAudit,
    RollingAudit,
    RunsRead,
    RunTold,
    ViewTaken,
)
from replcheck.tui.options import Options
from replcheck.tui.screens.audit import AuditScreen
from replcheck.tui.screens.facts import FactsScreen
from replcheck.tui.screens.overview import OverviewScreen
from replcheck.tui.widgets.rows import RowList
from tests.tui import stories
from tests.tui.feeds import Asked, ListFeed

SMALL, LARGE = (80, 24), (200, 60)
PATIENCE_S = 60


@asynccontextmanager
async def shown(updates=(), *, size=SMALL, commands=None, **options):
    feed = ListFeed(updates)
    given = Options(cluster="clinic", asked=stories.ASKED, zone=UTC, clock=lambda: stories.NOW, **options)
    app = WatchApp(feed, commands or Asked(), given)
    async with app.run_test(size=size, notifications=True) as pilot:
        # The first picture and the first tick are two things: what was told is there after both.
        await until(pilot, lambda: app._drawn_second)
        await pilot.pause()
        yield app, pilot, feed


def page(app) -> str:
    """Return what stands on the terminal, line by line."""
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    assert (len(lines), {strip.cell_length for strip in lines}) == (height, {width})
    return "\n".join(strip.text.rstrip() for strip in lines)


async def told(app, pilot, feed, *updates):
    feed.tell(*updates)
    app._tick()
    await pilot.pause()


async def until(pilot, condition, *, seconds=PATIENCE_S):
    async with asyncio.timeout(seconds):
        while not condition():
            await pilot.pause(0.02)


@pytest.mark.parametrize("size", [(60, 16), SMALL, (120, 40), LARGE])
@pytest.mark.parametrize("light", [False, True])
async def test_the_overview_tells_nodes_claims_and_events_at_every_size(size, light):
    async with shown(stories.healthy(), size=size, light=light) as (app, _, _):
        text = page(app)
        for part in (
            "clinic",
            "3 of 3" if size[1] < 36 else "running copies",
            "db3",
            "recovery-point",
            "EVENTS",
            "Quit",
        ):
            assert part in text


async def test_before_the_first_sample_it_says_that_it_waits():
    async with shown() as (app, _, _):
        assert "connecting" in page(app)
        assert "waiting for the first sample" in page(app)


async def test_a_lost_node_is_told_with_its_reason():
    async with shown(stories.degraded()) as (app, _, _):
        assert "connection refused" in page(app)
        assert "✘ lost" in page(app)


async def test_two_primaries_are_told_across_the_screen():
    async with shown(stories.split_brain()) as (app, _, _):
        assert "split brain: db1 and db2 both take writes" in page(app)


async def test_a_lost_store_leaves_what_was_last_seen_and_calls_none_of_it_good():
    async with shown(stories.healthy()) as (app, pilot, feed):
        await told(app, pilot, feed, LinkChanged(at=stories.NOW, link=Link.LOST, what="disk i/o error"))
        text = page(app)
        assert "disk i/o error" in text
        assert "as of 14:41:02" in text
        assert "✔" not in text
        await told(app, pilot, feed, LinkChanged(at=stories.NOW, link=Link.SAMPLING))
        assert "✔ proven" in page(app)


@pytest.mark.parametrize("size", [(10, 4), (59, 30), (80, 15)])
async def test_too_small_a_terminal_is_told_and_nothing_else(size):
    async with shown(stories.healthy(), size=size) as (app, pilot, _):
        text = page(app)
        assert f"{size[0]}x{size[1]}" in text.replace("\n", "")
        assert "NODES" not in text
        await pilot.resize_terminal(*SMALL)
        await until(pilot, lambda: "NODES" in page(app))


async def test_any_resizing_on_any_screen_leaves_it_whole():
    updates = [*stories.healthy(), *stories.audit(), *stories.drill()]
    async with shown(updates) as (app, pilot, _):
        for key in "1234":
            await pilot.press(key)
            for size in ((200, 60), (61, 17), (3, 2), (80, 24), (140, 36)):
                await pilot.resize_terminal(*size)
                await until(pilot, lambda size=size: app.size == size)
                page(app)


@pytest.mark.parametrize(("key", "name"), [("1", "overview"), ("2", "audit"), ("3", "drill"), ("4", "history")])
async def test_each_screen_has_its_key_and_its_help(key, name):
    async with shown(stories.healthy()) as (app, pilot, _):
        await pilot.press(key)
        await pilot.press("question_mark")
        await until(pilot, lambda: f"Help: {name}" in page(app))
        assert "proven: consistent, restored, met" in page(app)
        await pilot.press("escape")
        await until(pilot, lambda: "Help:" not in page(app))


async def test_the_names_of_the_screens_can_be_clicked():
    async with shown(stories.healthy()) as (app, pilot, _):
        at = page(app).splitlines()[0].index("4 History")
        await pilot.click(offset=(at + 2, 0))
        await until(pilot, lambda: "TREND" in page(app))


async def test_a_click_chooses_a_row_and_one_on_the_chosen_row_opens_it():
    async with shown([*stories.healthy(), *stories.audit(share=1.0)]) as (app, pilot, _):
        await pilot.press("2")
        await until(pilot, lambda: "✘ diverged" in page(app))
        rows = app.screen.query(RowList).first()
        await pilot.click(rows, offset=(3, 2))
        await until(pilot, lambda: rows.cursor == 1)
        assert "blocks diverged" not in page(app)
        await pilot.click(rows, offset=(3, 1))
        await until(pilot, lambda: rows.cursor == 0)
        await pilot.click(rows, offset=(3, 1))
        await until(pilot, lambda: "blocks diverged" in page(app))


async def test_keys_can_be_clicked_where_they_are_named():
    async with shown(stories.healthy()) as (app, pilot, _):
        at = page(app).splitlines()[-1].index("Claims")
        await pilot.click(offset=(at, SMALL[1] - 1))
        await until(pilot, lambda: "What was promised" in page(app))


async def test_keys_tell_by_a_tooltip_what_they_do():
    async with shown(stories.healthy()) as (app, pilot, _):
        at = page(app).splitlines()[-1].index("Claims")
        await pilot.hover(offset=(at, SMALL[1] - 1))
        assert app.screen.query_one("KeyBar").tooltip == "What was promised, and whether it holds"


async def test_every_key_in_sight_has_a_label_and_a_tooltip():
    updates = [*stories.healthy(), *stories.audit(), *stories.drill()]
    async with shown(updates) as (app, pilot, _):
        for key in "1234":
            await pilot.press(key)
            await pilot.pause()
            for active in app.screen.active_bindings.values():
                if active.binding.show:
                    assert active.binding.description
                    assert active.binding.tooltip


async def test_the_palette_finds_what_the_screen_can_do():
    async with shown([*stories.healthy(), *stories.audit()]) as (app, pilot, _):
        await pilot.press("2")
        await pilot.press("ctrl+p")
        await pilot.press(*"canc")
        await until(pilot, lambda: "End the audit" in page(app))


async def test_enter_tells_all_about_a_node_and_goes_on_doing_so():
    async with shown(stories.degraded(), size=(120, 40)) as (app, pilot, feed):
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: "last answer" in page(app))
        assert "│ why " in page(app)
        await told(app, pilot, feed, ViewTaken(at=stories.NOW, view=stories.view()))
        await until(pilot, lambda: "│ why " not in page(app))


async def test_the_cursor_stays_on_its_event_when_newer_ones_come():
    async with shown(stories.healthy()) as (app, pilot, feed):
        await pilot.press("tab", "down", "down")
        rows = app.screen.query_one("#events")
        assert rows.has_focus
        before = app.model.events[rows.cursor]
        newer = stories.event(EventKind.NODE_FOUND, 0, "db9", "db9 was found", Severity.INFO)
        await told(app, pilot, feed, EventsTaken(at=stories.NOW, events=(newer,)))
        assert app.model.events[rows.cursor] == before
        await pilot.press("home")
        assert rows.cursor == 0


async def test_an_audit_is_begun_only_after_a_question():
    commands = Asked()
    async with shown(stories.healthy(), commands=commands) as (app, pilot, _):
        await pilot.press("2", "a")
        await until(pilot, lambda: "Every row of every relation" in page(app))
        await pilot.press("n")
        assert commands.calls == []
        await pilot.press("a")
        await pilot.press("y")
        await until(pilot, lambda: commands.calls == ["start_audit"])


async def test_a_running_audit_can_be_held_released_and_ended():
    commands = Asked()
    async with shown([*stories.healthy(), *stories.audit()], commands=commands) as (app, pilot, feed):
        await pilot.press("2")
        await pilot.press("space")
        await until(pilot, lambda: commands.calls == ["pause"])
        held = HeldStill(at=stories.NOW, reason="paused")
        await told(app, pilot, feed, RunTold(at=stories.NOW, kind="audit", event=held))
        assert "holding still: paused" in page(app)
        await pilot.press("space")
        await until(pilot, lambda: commands.calls == ["pause", "resume"])
        await pilot.press("x")
        await pilot.press("y")
        await until(pilot, lambda: commands.calls[-1] == "cancel")


async def test_what_cannot_be_done_now_is_not_offered():
    commands = Asked()
    async with shown(stories.healthy(), commands=commands) as (app, pilot, _):
        for key, words in (("2", ("Pause", "Go on", "Cancel")), ("3", ("Cancel",))):
            await pilot.press(key)
            await pilot.press("space", "x")
            keys = page(app).splitlines()[-1]
            assert not [word for word in words if word in keys]
        assert commands.calls == []


async def test_where_nothing_can_be_started_it_says_why():
    commands = Asked(offered=Offers(why_no_audit="this is a recording", why_no_drill="this is a recording"))
    async with shown(commands=commands) as (app, pilot, _):
        for key in "23":
            await pilot.press(key)
            await until(pilot, lambda: "this is a recording" in page(app))
        await pilot.press("d", "a")
        assert commands.calls == []


ROLLING = RollingAudit(period_s=7 * 86400.0, nodes=("db2", "db3"), share=0.43, resting="it is ahead of its time")
OWED = OwedAudit(primary="db2", replicas=("db3",), began_at=stories.NOW, share=0.12)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_audits_that_a_recorder_makes_are_told_with_their_progress(size):
    told = AuditsTold(at=stories.NOW, rolling=ROLLING, owed=OWED)
    async with shown([*stories.healthy(), told], size=size) as (app, pilot, feed):
        await until(pilot, lambda: "auditing 12%" in page(app) or "because of what happened: 12%" in page(app))
        await pilot.press("2")
        await until(pilot, lambda: "audit of db3 against db2, because of what happened: 12%" in page(app))
        assert "rolling audit of db2 and db3: 43%, resting: it is ahead of its time" in " ".join(page(app).split())
        await told_over(app, pilot, feed)


async def told_over(app, pilot, feed):
    await told(app, pilot, feed, AuditsTold(at=stories.NOW))
    assert "because of what happened" not in page(app)
    assert "rolling audit" not in page(app)


async def test_an_audit_that_ended_is_shown_with_what_was_audited_since():
    async with shown([*stories.healthy(), *stories.audit(share=1.0)]) as (app, pilot, feed):
        await pilot.press("2")
        await told(app, pilot, feed, AuditsTold(at=stories.NOW, owed=OWED))
        await until(pilot, lambda: "▶ audit of db3 against db2, because of what happened: 12%" in page(app))
        later = stories.record("scrub", stories.NOW, 60, Outcome.PROVEN, "consistent", "all is proven")
        runs = RunsRead(at=stories.NOW, runs=(later,))
        await told(app, pilot, feed, AuditsTold(at=stories.NOW), runs)
        await until(pilot, lambda: "✔ consistent  a later scrub" in page(app))


@pytest.mark.parametrize(("key", "label"), [("2", "a Audit now"), ("3", "d Drill now")])
async def test_what_can_be_started_from_now_on_is_named_among_the_keys(key, label):
    commands = Asked(offered=Offers(why_no_audit="the watch is beginning", why_no_drill="the watch is beginning"))
    async with shown(stories.healthy(), commands=commands) as (app, pilot, feed):
        await pilot.press(key)
        await until(pilot, lambda: "the watch is beginning" in page(app))
        assert label not in page(app).splitlines()[-1]
        commands.offered = Asked().offered
        await told(app, pilot, feed, LinkChanged(at=stories.NOW, link=Link.SAMPLING))
        await until(pilot, lambda: label in page(app).splitlines()[-1])


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_diverged_relation_comes_first_and_opens_down_to_its_blocks(size):
    async with shown([*stories.healthy(), *stories.audit(share=1.0)], size=size) as (app, pilot, _):
        await pilot.press("2")
        await until(pilot, lambda: "✘ diverged" in page(app))
        await pilot.press("enter")
        await until(pilot, lambda: "blocks diverged" in page(app))
        assert "8,200" in page(app)


async def test_relations_are_found_and_sorted():
    async with shown([*stories.healthy(), *stories.audit()]) as (app, pilot, _):
        await pilot.press("2")
        await pilot.press("slash")
        await pilot.press(*"visit_1")
        await until(pilot, lambda: page(app).count("clinic.visit_1") >= 1 and "clinic.room" not in page(app))
        await pilot.press("escape")
        await until(pilot, lambda: "clinic.room" in page(app))
        await pilot.press("s")
        await until(pilot, lambda: "billing.clinic.allergy" in page(app) or "clinic.allergy" in page(app))


@pytest.mark.parametrize("until_stage", [Stage.FETCH, None])
async def test_a_drill_is_told_stage_by_stage_and_layer_by_layer(until_stage):
    async with shown([*stories.healthy(), *stories.drill(until=until_stage)]) as (app, pilot, _):
        await pilot.press("3")
        await until(pilot, lambda: "STAGES" in page(app))
        text = page(app)
        assert "fetch it" in text
        assert ("▶ running" if until_stage else "✔ proven") in text
        assert ("waits" if until_stage else "passed") in text


async def test_a_drill_is_begun_and_ended_after_questions():
    commands = Asked()
    async with shown(stories.healthy(), commands=commands) as (app, pilot, feed):
        await pilot.press("3", "d")
        await pilot.press("y")
        await until(pilot, lambda: commands.calls == ["start_drill nightly"])
        await told(app, pilot, feed, *stories.drill())
        await pilot.press("x")
        await pilot.press("y")
        await until(pilot, lambda: commands.calls[-1] == "cancel_drill")


async def test_a_past_run_opens_as_its_report():
    commands = Asked(report="CONSISTENT  every row was compared and matched")
    async with shown(stories.healthy(), commands=commands) as (app, pilot, _):
        await pilot.press("4", "down", "enter")
        await until(pilot, lambda: "every row was compared and matched" in page(app))
        assert commands.calls == [f"report {stories.past_runs()[1].run.run_id}"]
        await pilot.press("escape")
        await until(pilot, lambda: "TREND" in page(app))


async def test_a_report_that_is_not_there_is_told():
    async with shown(stories.healthy()) as (app, pilot, _):
        await pilot.press("4", "enter")
        await until(pilot, lambda: "has no report" in page(app))


async def test_a_defect_of_a_report_leaves_the_screen_and_is_told(monkeypatch):
    commands = Asked()
    monkeypatch.setattr(commands, "print_report", lambda *_: 1 / 0)
    async with shown(stories.healthy(), commands=commands) as (app, pilot, _):
        await pilot.press("4", "enter")
        await until(pilot, lambda: "internal error: ZeroDivisionError" in page(app))


async def test_an_unreadable_history_is_told():
    problem = RunsRead(at=stories.NOW, runs=(), problem="history cannot be read: it is of a newer version")
    async with shown([problem]) as (app, pilot, _):
        await pilot.press("4")
        await until(pilot, lambda: "it is of a newer version" in page(app))


async def test_a_note_is_told_and_nothing_of_it_is_taken_for_markup():
    async with shown(stories.healthy()) as (app, pilot, feed):
        await told(app, pilot, feed, Noted(at=stories.NOW, text="held [bold]still[/] \x1b[2J"))
        await until(pilot, lambda: "held [bold]still[/]" in page(app))


async def test_leaving_asks_while_something_runs():
    async with shown([*stories.healthy(), *stories.audit()]) as (app, pilot, _):
        await pilot.press("q")
        await until(pilot, lambda: "ends when you leave" in page(app))
        await pilot.press("n")
        await until(pilot, lambda: "ends when you leave" not in page(app))
        assert app.is_running


async def test_leaving_asks_nothing_while_nothing_runs():
    async with shown(stories.healthy()) as (app, pilot, _):
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
        assert app.return_code == 0


async def test_what_comes_before_a_screen_is_made_or_after_it_is_taken_down_harms_nothing():
    async with shown(stories.healthy()) as (app, pilot, feed):
        overview = app.screen
        overview.show(app.model, app.look())
        for screen in (OverviewScreen(), AuditScreen(), FactsScreen("", lambda _: [])):
            screen.redraw() if isinstance(screen, FactsScreen) else app.draw(screen)
        await overview.query("*").remove()
        feed.tell(*stories.degraded())
        app._tick()
        await pilot.press("2")
        await until(pilot, lambda: "No audit was started" in page(app))


async def test_the_cluster_and_its_limits_may_be_known_after_the_first_picture():
    async with shown(stories.healthy()) as (app, pilot, feed):
        asked = replace(stories.ASKED, proven_copies=9)
        await told(app, pilot, feed, Introduced(at=stories.NOW, cluster="hospital", asked=asked, zone=UTC))
        assert "hospital" in page(app).splitlines()[0]
        assert "9 are asked for" in page(app)


async def test_a_feed_that_will_never_tell_anything_ends_the_screen():
    async with shown(stories.healthy()) as (app, pilot, feed):
        feed.tell(Closed(at=stories.NOW))
        await until(pilot, lambda: not app.is_running)


async def test_the_first_picture_waits_for_no_feed():
    class Late(ListFeed):
        seen = ""

        def subscribe(self, take):
            self.seen = page(app)
            super().subscribe(take)

    feed = Late(stories.healthy())
    app = WatchApp(feed, Asked(), Options(cluster="clinic", clock=lambda: stories.NOW))
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: "3 of 3" in page(app))
        assert "waiting for the first sample" in feed.seen


@pytest.fixture
def without_terminal(monkeypatch):
    monkeypatch.setattr(WatchApp, "run_async", partialmethod(WatchApp.run_async, headless=True))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["on_load", "on_mount", "on_ready"])
def test_a_signal_while_the_app_begins_ends_it(moment, number, without_terminal, monkeypatch):
    then = getattr(WatchApp, moment, lambda _: None)

    def asked(app):
        signal.raise_signal(number)
        return then(app)

    monkeypatch.setattr(WatchApp, moment, asked, raising=False)
    before = signal.getsignal(number)
    assert run_app(ListFeed(), Asked(), Options(cluster="clinic")) == 0
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_the_key_does_even_where_no_exception_would_get_through(number, without_terminal):
    class Deaf(ListFeed):
        def subscribe(self, take):
            super().subscribe(take)
            with suppress(BaseException):
                signal.raise_signal(number)

    assert run_app(Deaf(stories.healthy()), Asked(), Options(cluster="clinic")) == 0


def test_a_defect_is_handed_to_the_caller_and_nothing_of_it_is_printed(without_terminal, capsys):
    broken = ViewTaken(at=stories.NOW, view="secret")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        run_app(ListFeed([broken]), Asked(), Options(cluster="clinic"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
async def test_an_ascii_locale_gets_nothing_but_ascii(key):
    updates = [*stories.degraded(), *stories.audit(), *stories.drill()]
    async with shown(updates, size=LARGE, ascii_only=True) as (app, pilot, _):
        await pilot.press(key)
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        drawn = [strip.apply_filter(found, app.screen.styles.background) for found in app.get_line_filters()
                 for strip in app.screen._compositor.render_strips(app.size)]  # fmt: skip
        assert "".join(strip.text for strip in drawn[-LARGE[1] :]).isascii()


async def test_an_ascii_locale_reads_the_name_of_a_key_that_has_no_sign_there():
    async with shown(stories.healthy(), ascii_only=True) as (app, _, _):
        [keys] = [line for line in page(app).splitlines() if "Quit" in line]
        assert "enter Open" in keys
        assert keys.count("? ") == 1


async def test_without_colour_every_sign_is_still_there(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with shown([*stories.degraded(), *stories.audit()]) as (app, pilot, _):
        assert app.no_color
        for sign in ("◆ primary", "✘ lost", "▲212MB", "› db1"):
            assert sign in page(app)
        await pilot.press("2")
        await until(pilot, lambda: "✘ diverged" in page(app))


async def test_dark_and_light_change_by_a_key():
    async with shown(stories.healthy()) as (app, pilot, _):
        await pilot.press("t")
        assert app.theme == "replcheck-light"
        await pilot.press("t")
        assert app.theme == "replcheck-dark"


async def test_every_theme_that_is_offered_can_draw_every_screen():
    async with shown([*stories.degraded(), *stories.audit(), *stories.drill()]) as (app, pilot, _):
        for theme in app.available_themes:
            app.theme = theme
            for key in "1234":
                await pilot.press(key)
                page(app)
