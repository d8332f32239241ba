"""What the screens show, folded from updates alone."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from replcheck.events import RunStarted, StageBegan, StageEnded
from replcheck.model.drill import Stage
from replcheck.model.live import NodeState
from replcheck.model.spans import NodeSpan
from replcheck.tui.feed import EventsTaken, Link, LinkChanged, Noted, RunTold, SpansRead, ViewTaken
from replcheck.tui.state import EVENTS_KEPT, LAG_POINTS_KEPT, NOTES_KEPT, Model, fold
from tests.tui import stories

NOW = stories.NOW


def ago(seconds: float):
    return NOW - timedelta(seconds=seconds)


def test_events_are_kept_once_and_newest_first_in_whatever_order_they_come():
    told = stories.events()
    model = fold(Model(), [EventsTaken(at=NOW, events=told[5:]), EventsTaken(at=NOW, events=told)])
    assert model.events == told


def test_an_event_that_comes_again_from_the_history_is_not_told_twice():
    told = replace(stories.events()[0], at=NOW + timedelta(microseconds=1579))
    kept = replace(told, at=NOW + timedelta(microseconds=1000))
    model = fold(Model(), [EventsTaken(at=NOW, events=(told,)), EventsTaken(at=NOW, events=(kept,))])
    assert model.events == (told,)


@given(st.permutations(stories.events()))
def test_the_order_of_telling_changes_nothing(told):
    model = fold(Model(), [EventsTaken(at=NOW, events=(event,)) for event in told])
    assert model.events == stories.events()


def test_memory_stays_bounded_over_days():
    views = [ViewTaken(at=ago(-second), view=stories.view(ago(-second))) for second in range(2000)]
    events = stories.events()
    many = [EventsTaken(at=NOW, events=(replace(events[0], at=ago(second)),)) for second in range(2000)]
    notes = [Noted(at=NOW, text="again")] * 100
    model = fold(Model(), [*views, *many, *notes])
    assert {len(points) for points in model.lags.values()} == {LAG_POINTS_KEPT}
    assert (len(model.events), len(model.notes), model.noted) == (EVENTS_KEPT, NOTES_KEPT, 100)


def test_a_view_that_is_told_again_is_no_new_sample():
    views = [ViewTaken(at=at, view=stories.view(at)) for at in (ago(2), ago(1), ago(1))]
    assert len(fold(Model(), views).lags["db2"]) == 2


def test_a_node_that_does_not_answer_has_no_lag():
    nodes = (stories.node("db1", NodeState.PRIMARY), stories.node("db2", NodeState.LOST, lag_bytes=5))
    model = fold(Model(), [ViewTaken(at=NOW, view=stories.view(nodes=nodes))])
    assert model.lags["db2"][-1].lag_bytes is None


def test_the_past_of_the_curves_is_put_in_front_of_what_was_seen():
    span = NodeSpan(
        node="db2",
        began_at=ago(200),
        ended_at=ago(190),
        samples=10,
        longest_gap_s=1.0,
        state=NodeState.STREAMING,
        system_identifier=stories.SYSTEM,
        timeline=3,
        host="",
        max_lag_bytes=77,
        max_lag_s=0.1,
        replay_paused=False,
        checksum_failures=0,
        data_checksums=True,
    )
    seen = ViewTaken(at=NOW, view=stories.view())
    read = SpansRead(
        at=NOW, since=ago(86400), watch=(), nodes=(span, replace(span, began_at=ago(-1), ended_at=ago(-1)))
    )
    points = fold(Model(), [seen, read, read]).lags["db2"]
    # A sample was taken each second, though only the worst of them is kept.
    assert [point.at for point in points] == [*(ago(number) for number in range(200, 189, -1)), NOW]
    assert points[0].lag_bytes == 77


def test_a_drill_and_an_audit_at_the_same_time_do_not_mix():
    audit, drill = stories.audit(share=0.3), stories.drill(until=Stage.RESTORE)
    mixed = [update for pair in zip(audit, drill * len(audit), strict=False) for update in pair]
    alone = fold(Model(), audit).audit
    assert fold(Model(), mixed[: len(drill) * 2] + audit[len(drill) :]).audit == alone


def test_events_of_other_runs_are_passed_over():
    told = [replace(update, kind="seal") for update in stories.audit(share=0.1) if isinstance(update, RunTold)]
    model = fold(Model(), told)
    assert (model.audit, model.drill) == (None, None)


def test_a_finished_drill_has_its_layers_and_its_time():
    drill = fold(Model(), stories.drill(until=None)).drill
    assert drill is not None
    assert not drill.running
    assert set(drill.stages) == set(Stage)
    assert len(drill.layers) == 7


def test_a_stage_that_is_done_in_parts_takes_as_long_as_all_of_them():
    def told(event):
        return RunTold(at=event.at, kind="drill", event=event)

    began = RunStarted(at=ago(60), run_id="r", kind="drill", cluster="clinic")
    parts = [
        (StageBegan(at=ago(before), stage=Stage.PROVE, total_bytes=None),
         StageEnded(at=ago(before - took), stage=Stage.PROVE, elapsed_s=took, size_bytes=None, ok=took > 5))
        for before, took in ((50, 4.0), (40, 6.0))
    ]  # fmt: skip
    going_on = StageBegan(at=ago(10), stage=Stage.PROVE, total_bytes=None)
    drill = fold(Model(), [told(event) for event in (began, *parts[0], *parts[1], going_on)]).drill
    assert drill is not None
    assert drill.stages[Stage.PROVE].seconds(NOW) == 20.0
    assert not drill.stages[Stage.PROVE].ok


def test_what_is_shown_is_stale_once_nothing_is_watched_any_more():
    model = fold(Model(), stories.healthy())
    assert not model.stale(NOW)
    assert model.stale(NOW + timedelta(seconds=6))
    assert fold(model, [LinkChanged(at=NOW, link=Link.LOST, what="gone")]).stale(NOW)


def test_a_slow_watch_is_not_stale_between_two_of_its_samples():
    model = fold(Model(), [*stories.healthy(), ViewTaken(at=NOW, view=stories.view(), interval_s=20.0)])
    assert not model.stale(NOW + timedelta(seconds=41))
    assert model.stale(NOW + timedelta(seconds=44))


def test_a_recording_is_never_stale():
    model = fold(Model(), [*stories.healthy(), LinkChanged(at=NOW, link=Link.REPLAY)])
    assert not model.stale(NOW + timedelta(days=300))
