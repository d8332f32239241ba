"""What is drawn says what is so: a sign or word beside every colour, and nothing good of what nobody knows."""

from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.content import Content

from replcheck.events import RunFinished
from replcheck.model.control import Standing
from replcheck.model.drill import LayerName
from replcheck.model.live import TAKES_WRITES, NodeState, RecoveryPoint
from replcheck.model.outcome import Outcome
from replcheck.tui.ascii import in_ascii
from replcheck.tui.audit_fold import fold_audit
from replcheck.tui.audit_state import AuditModel, Rank, RelationProgress
from replcheck.tui.draw.audit import headline, relation_layout, relation_row
from replcheck.tui.draw.banner import alarm
from replcheck.tui.draw.charts import lag_charts
from replcheck.tui.draw.chunk_map import AuditMap, Tone, relation_tones
from replcheck.tui.draw.claims import claim_lamps, claims_now
from replcheck.tui.draw.details import claim_details, node_details
from replcheck.tui.draw.drill import drill_headline, layer_layout, layer_row, problem_lines, stage_lines
from replcheck.tui.draw.glance import glance, tiles
from replcheck.tui.draw.history import trend
from replcheck.tui.draw.overview import event_layout, event_row, node_layout, node_row, watch_strip
from replcheck.tui.draw.own_audits import own_audit_lines, told_shortly
from replcheck.tui.draw.relation import relation_details
from replcheck.tui.draw.spark import lag_curve
from replcheck.tui.draw.table import Column, laid_out, styled
from replcheck.tui.drill_state import fold_drill
from replcheck.tui.feed import (
    Asked,
    AuditsTold,
    ClaimsTaken,
    Link,
    LinkChanged,
    RollingAudit,
    SpansRead,
    StandingsTaken,
    ViewTaken,
)
from replcheck.tui.look import Look
from replcheck.tui.state import LagPoint, Model, fold
from tests.tui import stories

NOW = stories.NOW
LOOK = Look(now=NOW, zone=UTC, asked=stories.ASKED)


def model(*updates) -> Model:
    return fold(Model(), [*stories.healthy(), *updates])


def outcomes(shown: Model, look: Look = LOOK):
    return {tile.title: tile.outcome for tile in tiles(shown, look)}


def viewed(**more) -> ViewTaken:
    return ViewTaken(at=NOW, view=stories.view(**more))


def text(content: Content) -> str:
    return content.plain


def nodes(shown: Model):
    assert shown.view is not None
    return shown.view.nodes


def alarmed(shown: Model) -> str:
    found = alarm(shown, LOOK)
    return found.text if found is not None else ""


def folded(events) -> AuditModel:
    found = fold_audit(None, list(events))
    assert found is not None
    return found


def test_all_figures_of_a_healthy_cluster_are_good():
    assert set(outcomes(model()).values()) == {Outcome.PROVEN}


def test_no_figure_is_good_once_nothing_is_watched():
    lost = model(LinkChanged(at=NOW, link=Link.LOST, what="history gone"))
    assert set(outcomes(lost).values()) == {Outcome.UNCHECKED}
    late = replace(LOOK, now=NOW + timedelta(seconds=30))
    assert set(outcomes(model(), late).values()) == {Outcome.UNCHECKED}


def test_no_figure_is_good_before_anything_was_seen():
    assert not set(outcomes(Model()).values()) & {Outcome.PROVEN}


def test_fewer_copies_than_asked_for_are_told():
    assert outcomes(fold(Model(), stories.degraded()))["running copies"] is Outcome.REFUTED


def test_a_lost_copy_is_told_where_nobody_asked_for_a_number():
    shown = tiles(fold(Model(), stories.degraded()), replace(LOOK, asked=Asked()))
    assert (shown[0].outcome, shown[0].note) == (Outcome.PARTIAL, "db3 lost")


def test_two_primaries_are_no_copies_to_count():
    assert outcomes(fold(Model(), stories.split_brain()))["running copies"] is Outcome.REFUTED


def test_no_proven_copy_is_never_good():
    none = {name: replace(held, proven=False) for name, held in stories.standings().items()}
    shown = model(StandingsTaken(at=NOW, standings=none))
    assert outcomes(shown, replace(LOOK, asked=Asked()))["proven copies"] is Outcome.UNCHECKED
    assert outcomes(shown)["proven copies"] is Outcome.UNCHECKED


def test_too_few_proven_copies_are_a_breach_only_where_the_others_cannot_be_copies():
    held = {
        name: replace(one, proven=False, refuted=name != "db1", diverged=name != "db1")
        for name, one in stories.standings().items()
    }
    shown = model(StandingsTaken(at=NOW, standings=held))
    assert outcomes(shown)["proven copies"] is Outcome.REFUTED


def test_an_unknown_recovery_point_is_unchecked_where_one_is_asked_for():
    unknown = viewed(recovery_point=RecoveryPoint(at=None, age_s=None, reason="archiving is off"))
    assert outcomes(model(unknown))["recovery point"] is Outcome.UNCHECKED


def test_the_recovery_point_goes_with_the_clock_while_nothing_is_left_to_archive():
    idle = viewed(recovery_point=RecoveryPoint(at=NOW - timedelta(hours=1), age_s=0.0))
    assert tiles(model(idle), LOOK)[3].value == "14:41:02"


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("tall", [False, True])
def test_the_figures_fill_the_width_and_no_more(width, tall):
    lines = glance(tiles(model(), LOOK), width, tall=tall)
    assert len(lines) == (5 if tall else 3)
    assert all(line.cell_length <= width for line in lines)


COLUMNS = st.lists(
    st.builds(
        lambda least, extra, keep: (least, least + extra, keep),
        st.integers(1, 12),
        st.integers(0, 30),
        st.integers(1, 9),
    ),
    max_size=8,
)


@given(COLUMNS, st.integers(5, 200))
def test_a_table_is_never_wider_than_its_room(columns, width):
    last = Column(key="last", title="", least=15, most=10_000, cut=True)
    wanted = [
        Column(key=str(number), title="", least=least, most=most, keep=keep)
        for number, (least, most, keep) in enumerate(columns)
    ]
    line = laid_out([*wanted, last], width).row({"last": "x" * 500})
    assert line.cell_length <= width


@pytest.mark.parametrize("width", [56, 76, 196])
def test_every_node_fits_its_line_and_says_its_state_in_words(width):
    shown = fold(Model(), stories.degraded())
    for node in nodes(shown):
        line = node_row(node_layout(width), shown, node, LOOK)
        assert line.cell_length <= width
        assert node.state.value in text(line)


def test_why_a_node_is_lost_can_be_read_at_eighty_columns():
    shown = fold(Model(), stories.degraded())
    line = node_row(node_layout(76), shown, nodes(shown)[2], LOOK)
    assert "connection refused, for 2min 3s" in text(line)


def test_a_node_that_nobody_watches_is_not_called_proven():
    shown = model(LinkChanged(at=NOW, link=Link.LOST))
    line = text(node_row(node_layout(120), shown, nodes(shown)[1], LOOK))
    assert "? streaming" in line
    assert "proven" not in line


def test_a_curve_shows_the_worst_of_each_part_and_where_nothing_was_known():
    points = [
        LagPoint(at=NOW - timedelta(seconds=second), lag_bytes=lag, state=NodeState.STREAMING)
        for second, lag in ((39, 0), (25, 1 << 20), (24, 5), (12, None))
    ]
    drawn = lag_curve(points, now=NOW, span_s=40, width=4, limit=None)
    assert text(drawn) == "▁█× "


def test_a_time_as_the_primary_is_no_time_without_an_answer():
    points = [
        LagPoint(at=NOW - timedelta(seconds=25), lag_bytes=None, state=NodeState.PRIMARY),
        LagPoint(at=NOW - timedelta(seconds=15), lag_bytes=None, state=NodeState.LOST),
        LagPoint(at=NOW - timedelta(seconds=5), lag_bytes=0, state=NodeState.STREAMING),
    ]
    assert text(lag_curve(points, now=NOW, span_s=30, width=3, limit=None)) == " ×▁"


def test_a_chart_shows_nothing_where_nothing_was_seen():
    points = (LagPoint(at=NOW, lag_bytes=0, state=NodeState.STREAMING),)
    shown = replace(fold(Model(), [viewed()]), lags={"db2": points, "db3": points})
    [*_, ground] = [text(line) for line in lag_charts(shown, LOOK, 120, 6, span_s=300)]
    assert ground.count("▁") == 2


def test_lag_over_its_limit_is_drawn_otherwise():
    def styles(limit):
        points = [LagPoint(at=NOW, lag_bytes=2 << 20, state=NodeState.STREAMING)]
        return [span.style for span in lag_curve(points, now=NOW, span_s=10, width=1, limit=limit).spans]

    assert styles(1 << 20) != styles(4 << 20)


def test_charts_have_as_many_lines_as_there_is_room():
    lines = lag_charts(fold(Model(), stories.degraded()), LOOK, 196, 8, span_s=300)
    assert len(lines) == 8
    assert all(line.cell_length <= 196 for line in lines)


@pytest.mark.parametrize("width", [56, 76, 196])
def test_every_claim_is_a_lamp_that_is_named(width):
    lines = claim_lamps(stories.claims(), width, 9)
    told = "\n".join(text(line) for line in lines)
    assert all(claim.name in told for claim in stories.claims())


def test_claims_without_room_are_counted():
    lines = claim_lamps(stories.claims(), 56, 2)
    assert len(lines) == 2
    assert "and 7 more" in text(lines[1])


GONE = LinkChanged(at=NOW, link=Link.LOST, what="history gone")
UNEVALUATED = ClaimsTaken(at=NOW, claims=stories.claims(), problem="the policy cannot be evaluated: no such file")


@pytest.mark.parametrize("update", [GONE, UNEVALUATED])
def test_no_claim_is_met_once_nothing_is_watched_or_it_cannot_be_evaluated(update):
    shown = claims_now(model(update), LOOK)
    assert {claim.now for claim in shown} == {Standing.UNCHECKED, Standing.WAIVED}
    assert Standing.MET not in {claim.window for claim in shown}
    assert "✔" not in "".join(text(line) for line in claim_lamps(shown, 76, 9))


def test_no_claim_is_met_once_no_sample_comes_or_before_the_first_one():
    late = replace(LOOK, now=NOW + timedelta(seconds=30))
    before = fold(Model(), [ClaimsTaken(at=NOW, claims=stories.claims())])
    for shown in (claims_now(model(), late), claims_now(before, LOOK)):
        assert Standing.MET not in {claim.now for claim in shown}
    assert claims_now(model(), LOOK) == stories.claims()


def test_a_claim_that_was_broken_in_the_window_stays_so_when_nothing_is_watched():
    assert claims_now(model(GONE), LOOK)[0].window is Standing.BREACHED


def test_all_about_a_claim_says_why_nothing_is_known_of_it():
    told = "\n".join(text(line) for line in claim_details(model(UNEVALUATED), LOOK, "copies"))
    assert "✔" not in told
    assert "the policy cannot be evaluated: no such file" in told
    never = replace(UNEVALUATED, claims=None)
    assert "cannot be evaluated" in text(claim_details(fold(Model(), [never]), LOOK)[0])


def test_all_about_a_node_calls_nothing_good_once_nothing_is_watched():
    told = "\n".join(text(line) for line in node_details(model(GONE), "db2", LOOK))
    assert "? streaming" in told
    assert "? not watched" in told


@pytest.mark.parametrize(
    ("rests", "words", "shortly"),
    [
        ({"proven": ("db2", "db3")}, "all is proven for now", "rests"),
        ({"proven": ("db2",), "diverged": ("db3",)}, "db3 diverged, db2 proven for now", "waits"),
        ({"unfit": ("db2", "db3")}, "db2 and db3 cannot be audited now", "waits"),
        ({"again_at": NOW + timedelta(seconds=60)}, "settled not everything, the next begins at 14:42:02", "waits"),
        ({}, "it begins soon", "waits"),
    ],
)
def test_why_the_rolling_audit_proves_nothing_is_told_as_it_is(rests, words, shortly):
    rolling = RollingAudit(period_s=86400.0, nodes=(), share=0.0, **rests)
    told = AuditsTold(at=NOW, rolling=rolling)
    assert words in "".join(text(line) for line in own_audit_lines(model(told), LOOK))
    assert told_shortly(model(told), LOOK) == f"rolling audit {shortly}"
    assert own_audit_lines(model(told, GONE), LOOK) == []
    assert told_shortly(model(told, GONE), LOOK) == ""


def test_a_claim_that_was_broken_in_the_window_says_so_though_it_holds_now():
    told = "\n".join(text(line) for line in claim_details(model(), LOOK, "copies"))
    assert "✔ met" in told
    assert "✘ breached" in told


def test_a_time_without_a_watch_shows_as_a_gap_and_is_never_rounded_away():
    read = stories.watched()
    almost = replace(read.watch[0], began_at=read.since, ended_at=NOW - timedelta(seconds=120))
    shown = model(SpansRead(at=NOW, since=read.since, watch=(almost,)))
    assert text(watch_strip(shown, LOOK, 76)).endswith(" 99.9%")
    whole = replace(almost, ended_at=NOW)
    assert "100%" in text(watch_strip(model(SpansRead(at=NOW, since=read.since, watch=(whole,))), LOOK, 76))


def test_the_worst_is_told_first_in_the_line_of_alarm():
    both = [*stories.split_brain(), LinkChanged(at=NOW, link=Link.LOST, what="disk i/o error")]
    assert "disk i/o error" in alarmed(fold(Model(), both))
    assert "split brain" in alarmed(fold(Model(), stories.split_brain()))
    assert alarmed(model()) == ""


def test_a_split_brain_names_the_old_primary_too():
    strayed = stories.node("db1", NodeState.STRAYED, reason=f"{TAKES_WRITES} on timeline 3, and the cluster is on 4")
    left = stories.node("db3", NodeState.STRAYED, reason="it follows timeline 3")
    nodes = (strayed, stories.node("db2", NodeState.PRIMARY, timeline=4), left)
    told = alarmed(model(viewed(nodes=nodes, primary=None, split_brain=True)))
    assert told == "split brain: db1 and db2 both take writes"


def test_an_event_of_a_name_that_steers_terminals_does_not():
    event = replace(stories.events()[0], what="lag of \x1b[2Jdb3")
    assert "\x1b" not in text(event_row(event_layout(76), event, LOOK))


def test_no_cell_of_a_table_steers_the_terminal():
    for cell in ("a\x1b[2Jb", ("a\x1b[2Jb", "bold")):
        assert "\x1b" not in text(styled(cell))


def relation(**more) -> RelationProgress:
    return RelationProgress(database="d", relation="s.t", size_bytes=100 * 8192, number=0, blocks=100, **more)


def test_a_map_of_a_relation_shows_the_worst_of_each_part():
    shown = relation(proven=((0, 55), (80, 100)), in_flight=((55, 60),), diverged=((85, 86),))
    tones = relation_tones(shown, 10)
    assert tones[:5] == [Tone.PROVEN] * 5
    assert (tones[5], tones[6], tones[8]) == (Tone.IN_FLIGHT, Tone.NOT_YET, Tone.DIVERGED)


def test_a_map_has_no_more_cells_than_the_relation_has_blocks():
    assert len(relation_tones(relation(), 400)) == 100


def test_a_part_of_a_finished_relation_that_was_not_compared_is_no_proof():
    done = relation(proven=((0, 50),), rank=Rank.UNCHECKED)
    assert Tone.PROVEN not in relation_tones(done, 10)[5:]


@pytest.mark.parametrize("count", [3, 154, 1500])
def test_a_map_that_was_kept_up_to_date_is_that_of_a_new_drawing(count):
    events = list(stories.audit_events(NOW, 1.0, "clinic.chart", count))
    kept, shown, step = AuditMap(), folded(events[:1]), max(1, len(events) // 40)
    for at in range(1, len(events), step):
        shown = fold_audit(shown, events[at : at + step]) or shown
        assert list(kept.tones(shown, 300)) == list(AuditMap().tones(shown, 300))
    assert Tone.DIVERGED in kept.tones(shown, 300)
    assert Tone.NOT_YET not in kept.tones(shown, 300)


def test_a_cell_of_relations_of_which_only_some_are_proven_is_not_shown_as_proven():
    told = [event for event in stories.audit_events(NOW, 1.0, "", 1500) if not isinstance(event, RunFinished)]
    half = folded(event for event in told[: len(told) // 2])
    # One cell alone holds everything.
    assert list(AuditMap().tones(half, 1)) == [Tone.PARTLY]


def test_no_cell_of_a_consistent_audit_is_other_than_proven():
    done = folded(stories.audit_events(NOW, 1.0, "", 154))
    assert set(AuditMap().tones(done, 300)) == {Tone.PROVEN}


def test_a_diverged_relation_is_told_down_to_its_blocks():
    done = folded(stories.audit_events(NOW, 1.0, "clinic.chart", 154))
    told = "\n".join(text(line) for line in relation_details(done, done.relations["records", "clinic.chart"], 76))
    assert "8,200" in told
    assert "3 rows differ" in told


def test_a_drill_of_which_only_the_first_stage_began_this_very_second_is_drawn():
    told = list(stories.drill_events(None))[:2]
    drill = fold_drill(None, [replace(event, at=NOW + timedelta(milliseconds=400)) for event in told])
    assert drill is not None
    assert "find the backup" in "\n".join(text(line) for line in stage_lines(drill, LOOK, 76))


def test_whatever_a_run_has_told_can_be_drawn_in_the_second_in_which_it_tells_it():
    """The present is told in whole seconds, and so is a little older than what was told last."""
    drilled, audited = list(stories.drill_events(None)), list(stories.audit_events(NOW, 1.0, "clinic.chart", 12))
    for told in (drilled[:count] for count in range(1, len(drilled) + 1)):
        drill = fold_drill(None, told)
        assert drill is not None
        look = replace(LOOK, now=told[-1].at - timedelta(milliseconds=400))
        drawn = [*drill_headline(drill, look, 76), *stage_lines(drill, look, 76), *problem_lines(drill, 76)]
        drawn += [layer_row(layer_layout(76), name, drill.layers.get(name), drill) for name in LayerName]
        assert all(cell_len(text(line)) <= 76 for line in drawn[1:])
    for told in (audited[:count] for count in range(1, len(audited) + 1)):
        audit = folded(told)
        look = replace(LOOK, now=told[-1].at - timedelta(milliseconds=400))
        rows = [relation_row(relation_layout(audit.replicas, 76), one) for one in audit.relations.values()]
        # The last line of the headline is cut by its widget.
        assert [line for line in (*headline(audit, look, 76)[:-1], *rows) if cell_len(text(line)) > 76] == []


def test_a_verdict_that_has_no_room_says_that_there_is_more():
    done = folded(stories.audit_events(NOW, 1.0, "", 154))
    ended = replace(done, summary="every row was compared and matched " * 9)
    lines = [text(line) for line in headline(ended, LOOK, 76)]
    assert len(lines) == 4
    assert lines[1].endswith(" …")
    assert max(map(cell_len, lines)) <= 76


def test_a_trend_shows_each_day_of_a_month():
    lines = [text(line) for line in trend(stories.past_runs(), LOOK, 76)]
    audit = next(line for line in lines if line.startswith("audit"))
    assert audit[9:39].count("✔") == 25
    assert "✘" in audit[9:39]


def test_every_part_of_a_node_is_told_where_it_is_known():
    told = "\n".join(text(line) for line in node_details(model(), "db1", LOOK))
    for part in ("18.6", "5C/A3F01288", "db3: physical, active, keeps 48MB", "18,240", "4h 12min ago"):
        assert part in told


@given(st.text(max_size=40))
def test_ascii_takes_as_many_cells(sample):
    drawn = in_ascii(sample)
    assert drawn.isascii()
    assert len(drawn) == cell_len(sample) or not sample.isprintable()


def test_standings_have_a_sign_each():
    signs = {text(line)[2:3] for line in claim_lamps(stories.claims(), 40, 9)}
    assert {"✔", "~", "?"} <= signs
    assert len({standing.outcome for standing in Standing}) == 5


def test_a_copy_that_diverged_is_told_across_the_screen_and_never_called_proven():
    held = stories.standings()
    held["db3"] = replace(
        held["db3"], proven=False, refuted=True, diverged=True, reason="a later audit found it diverged"
    )
    shown = model(StandingsTaken(at=NOW, standings=held))
    assert "db3 diverged" in alarmed(shown)
    assert outcomes(shown)["proven copies"] is Outcome.PARTIAL
    assert "✘ diverged" in text(node_row(node_layout(76), shown, nodes(shown)[2], LOOK))


def test_a_primary_that_was_never_seen_is_not_said_to_be_gone():
    def states(*found: NodeState) -> str:
        names = ("db1", "db2", "db3")
        view = viewed(nodes=tuple(stories.node(name, state) for name, state in zip(names, found, strict=True)))
        return alarmed(model(view))

    assert states(NodeState.UNSEEN, NodeState.UNSEEN, NodeState.STARTING) == "no node has answered yet"
    assert states(NodeState.UNSURE, NodeState.STREAMING, NodeState.STREAMING) == "no primary is seen"
    assert "nobody takes writes" in states(NodeState.LOST, NodeState.STREAMING, NodeState.STREAMING)


@pytest.mark.parametrize("state", NodeState)
def test_every_state_of_a_node_has_a_sign_and_an_outcome(state):
    shown = model(viewed(nodes=(stories.node("db1", state, reason="so it is"),)))
    assert state.value in text(node_row(node_layout(76), shown, nodes(shown)[0], LOOK))
