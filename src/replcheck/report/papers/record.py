"""What was watched over a period, and what was not: the line of time, the copies, lag and recovery point."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo

from replcheck.model.copy_times import Coverage, Stretch
from replcheck.model.live import ClusterEvent, NodeState, Severity
from replcheck.model.outcome import Outcome
from replcheck.model.run import AUDIT_KINDS, RunRecord
from replcheck.model.spans import GAP_S, WatchSpan
from replcheck.model.units import format_duration, format_percent
from replcheck.report.divisions import Division, divisions
from replcheck.report.history import PastRun, RunState
from replcheck.report.paper import (
    Block,
    Figure,
    Moment,
    Notice,
    Prose,
    Section,
    Words,
    columns,
    known,
    table,
    words,
)
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.pictures.over_time import (
    Curve,
    Frame,
    Happening,
    Lane,
    Limit,
    Reading,
    copies_over_time_drawn,
    lag_over_time,
    line_of_time,
)
from replcheck.report.verdict import counted
from replcheck.report.watched import Watched

_GAPS_SHOWN = 100
_NODES_DRAWN = 4
_LANES = {"audits": AUDIT_KINDS, "drills": {"drill"}, "seals": {"seal"}, "checks": {"check"}}
_COVERED = (Coverage.ENOUGH, Coverage.UNPROVEN, Coverage.SHORT, Coverage.UNWATCHED)


def frame_of(facts: PeriodFacts, zone: tzinfo | None) -> Frame:
    """Return the time that the pictures of a period cover."""
    gaps = tuple((gap.began_at, gap.ended_at) for gap in facts.watched.gaps)
    return Frame(since=facts.since, until=facts.until, gaps=gaps, zone=zone)


def record_section(facts: PeriodFacts, zone: tzinfo | None) -> Section:
    """Return everything that happened on one line of time, and each time in which nothing was watching."""
    lanes = tuple(_lanes(facts))
    drawing = line_of_time(frame_of(facts, zone), lanes)
    counts = table(
        "What the record holds",
        columns("What", "Count", "First", "Last", numeric=("Count",)),
        (
            (
                words(lane.name),
                words(f"{len(lane.happenings):,}"),
                words(Moment(lane.happenings[0].at)) if lane.happenings else known(None),
                words(Moment(lane.happenings[-1].at)) if lane.happenings else known(None),
            )
            for lane in lanes
        ),
    )
    caption = "Dots and strokes are runs and events; the hatched parts of the first lane are times nobody watched."
    blocks: list[Block] = [*_watched_words(facts), Figure(caption=caption, drawing=drawing, table=counts)]
    if facts.watched.gaps:
        blocks.append(_gap_table(facts))
    return Section(anchor="record", title="What the record holds, and its gaps", blocks=tuple(blocks))


def copies_section(facts: PeriodFacts, zone: tzinfo | None) -> Section:
    """Return how many copies ran and were proven over the period."""
    copies, asked = facts.copies, facts.asked.copies
    drawing = copies_over_time_drawn(frame_of(facts, zone), copies.stretches, asked=asked.proven, most=len(asked.nodes))
    rule = (
        f"A copy counts as proven from the end of a whole audit that found it consistent, for as long as every sample"
        f" shows it streaming, at most {format_duration(asked.max_age_s)} after that audit began, and never over a gap"
        f" of more than {format_duration(GAP_S)} between samples. The primary counts once a proven replica agrees with"
        f" it."
    )
    source = (
        "as the policy asks"
        if facts.asked.from_policy
        else "which nobody asked for: it is taken here because no policy is in this history"
    )
    told = (
        f"There were certainly {counted(asked.proven, 'proven copy', 'proven copies')} or more, and"
        f" {counted(asked.running, 'running one', 'running ones')} or more, {format_percent(copies.share)} of the time,"
        f" {source}."
        f" Had all that is unknown been good, it would have been {format_percent(copies.share_at_best)}."
    )
    shown = table(
        "Share of the time with enough proven copies",
        columns(
            *("When", "Enough", "Not proven", "Too few", "Nothing watching", "Fewest proven"),
            numeric=("Enough", "Not proven", "Too few", "Nothing watching", "Fewest proven"),
        ),
        (_copies_row(part, copies.stretches) for part in divisions(facts.since, facts.until, zone)),
    )
    caption = "Proven copies as bars, running copies as a line; the strip below the axis tells each time apart."
    blocks = (Prose(words(told)), Prose(words(rule)), Figure(caption=caption, drawing=drawing, table=shown))
    return Section(anchor="copies", title="Proven copies over time", blocks=blocks)


def lag_section(facts: PeriodFacts, zone: tzinfo | None) -> Section:
    """Return the worst lag of each node and the worst age of the recovery point over the period."""
    curves = lag_curves(facts)
    recovery = _recovery_curve(facts)
    limits = [
        *_limit("limit", facts.asked.recovery_limit_s, "limit"),
        *_limit("at risk from", facts.asked.recovery_warn_s, "warn"),
    ]
    shown_curves = curves[:_NODES_DRAWN]
    drawing = lag_over_time(frame_of(facts, zone), shown_curves, recovery, limits)
    names = [curve.name for curve in shown_curves]
    shown = table(
        "The worst of each time",
        columns("When", *names, "Recovery point", numeric=(*names, "Recovery point")),
        _worst_rows(facts, [*shown_curves, recovery], divisions(facts.since, facts.until, zone)),
    )
    told = (
        "Lag is how old what a standby shows is. The age of the recovery point is how much would be lost if only the"
        " archive were left, as far as the primary tells; that the archive really restores is proven by drills alone."
    )
    caption = "Each column is the worst that was seen in it; the scale is logarithmic."
    blocks: list[Block] = [Prose(words(told)), Figure(caption=caption, drawing=drawing, table=shown)]
    rest = len(curves) - len(shown_curves)
    if rest > 0:
        blocks.append(Prose(words(f"{counted(rest, 'more node is', 'more nodes are')} not drawn.")))
    return Section(anchor="lag", title="Lag and recovery point over time", blocks=tuple(blocks))


def lag_curves(facts: PeriodFacts) -> list[Curve]:
    """Return the lag of each node that was a standby, those that were most of the time first."""
    by_node: dict[str, list[Reading]] = {}
    for span in facts.node_spans:
        if span.state in {NodeState.STREAMING, NodeState.DETACHED}:
            reading = Reading(began_at=span.began_at, ended_at=span.ended_at, seconds=span.max_lag_s)
            by_node.setdefault(span.node, []).append(reading)
    lengths = {node: sum((r.ended_at - r.began_at).total_seconds() for r in own) for node, own in by_node.items()}
    ordered = sorted(by_node, key=lambda node: (-lengths[node], node))
    return [Curve(name=node, readings=tuple(by_node[node])) for node in ordered]


def _recovery_curve(facts: PeriodFacts) -> Curve:
    readings = (
        Reading(began_at=span.began_at, ended_at=span.ended_at, seconds=span.max_recovery_age_s)
        for span in facts.watch_spans
    )
    return Curve(name="recovery point", readings=tuple(readings))


def _limit(word: str, seconds: float | None, kind: str) -> Iterable[Limit]:
    return () if seconds is None else (Limit(word=word, seconds=seconds, kind=kind),)


def _worst_rows(facts: PeriodFacts, curves: Sequence[Curve], parts: Sequence[Division]) -> Iterable[tuple[Words, ...]]:
    """Yield a row for each part; the last curve is the recovery point, which may be unknown at times."""
    worst = [_worst_by_part(curve.readings, parts) for curve in curves]
    ends = [part.end for part in parts]
    unknown = {place for span in facts.watch_spans if span.recovery_unknown for place in _places(span, parts, ends)}
    for place, part in enumerate(parts):
        cells = [known(None if place not in own else format_duration(own[place])) for own in worst]
        if place in unknown and place in worst[-1]:
            cells[-1] = words(f"{format_duration(worst[-1][place])}, at times unknown")
        yield words(part.word), *cells


def _worst_by_part(readings: Iterable[Reading], parts: Sequence[Division]) -> dict[int, float]:
    """Return the worst known reading within each part, by the part's place; without those that have none."""
    worst: dict[int, float] = {}
    ends = [part.end for part in parts]
    for reading in readings:
        if reading.seconds is not None:
            for place in _places(reading, parts, ends):
                worst[place] = max(worst.get(place, 0.0), reading.seconds)
    return worst


def _places(time: Reading | WatchSpan, parts: Sequence[Division], ends: Sequence[datetime]) -> Iterable[int]:
    """Yield the places of the parts that a time reaches into."""
    for place in range(bisect_right(ends, time.began_at), len(parts)):
        if parts[place].begin > time.ended_at:
            return
        yield place


def _copies_row(part: Division, stretches: Sequence[Stretch]) -> tuple[Words, ...]:
    inside = [(stretch, _overlap_s(stretch, part)) for stretch in stretches]
    inside = [(stretch, seconds) for stretch, seconds in inside if seconds > 0]
    whole = sum(seconds for _, seconds in inside) or 1.0
    shares = [
        sum(seconds for stretch, seconds in inside if stretch.coverage is coverage) / whole for coverage in _COVERED
    ]
    seen = [stretch.proven for stretch, _ in inside if stretch.coverage is not Coverage.UNWATCHED]
    return (
        words(part.word),
        *(words(format_percent(100 * share)) for share in shares),
        known(min(seen) if seen else None),
    )


def _overlap_s(stretch: Stretch, part: Division) -> float:
    return (min(stretch.ended_at, part.end) - max(stretch.began_at, part.begin)).total_seconds()


def _watched_words(facts: PeriodFacts) -> Iterable[Block]:
    seen = facts.watched
    if not seen.samples:
        told = (
            "Nothing watched this cluster in the period: there is not one sample of it. What follows of copies, lag and"
            " the recovery point is unknown, not good. Run replcheck watch --headless as a service."
        )
        yield Notice(outcome=Outcome.UNCHECKED, words=words(told))
        return
    apart = f" at most {format_duration(seen.longest_gap_s)} apart while it did" if seen.longest_gap_s else ""
    share = f"Something watched {format_percent(seen.share)} of the period"
    yield Prose(words(f"{share}: {seen.samples:,} samples,{apart or ' one alone'}."))
    if seen.gaps:
        yield Notice(outcome=Outcome.UNCHECKED, words=(*_gap_words(seen), _NEVER_GOOD))


_NEVER_GOOD = ". Nothing is known of that, and it never counts as good."


def _gap_words(seen: Watched) -> Words:
    longest = max(seen.gaps, key=lambda gap: gap.seconds)
    length = format_duration(longest.seconds)
    if len(seen.gaps) == 1:
        return words(f"Nothing was watching for {length} from ", Moment(longest.began_at), " on")
    return words(
        f"Nothing was watching {len(seen.gaps):,} times, together for {format_duration(seen.unwatched_s)}; the longest"
        f" time, {length}, began ",
        Moment(longest.began_at),
    )


def _gap_table(facts: PeriodFacts) -> Block:
    longest_first = sorted(facts.watched.gaps, key=lambda gap: -gap.seconds)
    return table(
        "Times in which nothing was watching, the longest first",
        columns("From", "To", "How long", numeric=("How long",)),
        (
            (words(Moment(gap.began_at)), words(Moment(gap.ended_at)), words(format_duration(gap.seconds)))
            for gap in longest_first
        ),
        limit=_GAPS_SHOWN,
    )


def _lanes(facts: PeriodFacts) -> Iterable[Lane]:
    for name, kinds in _LANES.items():
        own = [past for past in facts.runs if past.run.kind in kinds]
        if own or name in {"audits", "drills"}:
            yield Lane(name=name, happenings=tuple(_run_happening(past) for past in own))
    yield Lane(name="events", happenings=tuple(_event_happening(event) for event in facts.events if _matters(event)))


def _run_happening(past: PastRun) -> Happening:
    run = past.run
    if isinstance(run, RunRecord):
        return Happening(at=run.started_at, outcome=run.outcome, tip=f"{run.kind}: {run.verdict}")
    word = "did not end" if past.state is RunState.LOST else "has no end yet"
    return Happening(at=run.started_at, outcome=Outcome.UNCHECKED, tip=f"{run.kind}: {word}")


def _matters(event: ClusterEvent) -> bool:
    return event.severity is not Severity.INFO


def _event_happening(event: ClusterEvent) -> Happening:
    return Happening(at=event.at, outcome=event_outcome(event.severity), tip=event.what)


def event_outcome(severity: Severity) -> Outcome | None:
    """Return the outcome whose colour an event has."""
    return {Severity.CRITICAL: Outcome.REFUTED, Severity.WARNING: Outcome.PARTIAL}.get(severity)


def span_of(began_at: datetime | None, ended_at: datetime) -> Words:
    """Return the words for a time from one moment to another."""
    return words(Moment(began_at), " to ", Moment(ended_at)) if began_at else words(Moment(ended_at))
