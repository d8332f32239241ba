"""What was promised, beside what was proven of it, when, and what cannot be proven; and where it bears."""

from collections.abc import Collection, Iterable

from replcheck.model.control import ControlName, ControlResult, Measure, Standing, Unit
from replcheck.model.outcome import Outcome, worst
from replcheck.model.run import short_id
from replcheck.model.units import format_duration, format_percent, format_size
from replcheck.report.checks_made import age_words, failed_sentence, limited_sentence, never_words, old_sentence
from replcheck.report.paper import (
    Block,
    Code,
    Group,
    Inline,
    Items,
    Mark,
    Moment,
    Notice,
    Pairs,
    Paper,
    Prose,
    Section,
    Table,
    Words,
    columns,
    joined_words,
    known,
    table,
    words,
)
from replcheck.report.period_facts import ControlTally, PeriodFacts
from replcheck.report.requirements import (
    CITES_OLD,
    EDITIONS,
    OLD_REFERENCES,
    REQUIREMENTS,
    UNPROVABLE,
    Requirement,
    cites_replaced_edition,
    requirements_of,
)
from replcheck.report.verdict import counted, joined

_RUNS_SHOWN = 6
_NO_POLICY = (
    "No check of a policy is in this history, so nothing is known of what was promised. Write a [policy] into the"
    " configuration and run replcheck check: its controls then stand here."
)
_NOT_WHOLE = (
    "No check of the whole policy came to a result in this period, so nothing is known of all that was promised."
)
_NEVER_MET = "What is not looked at is not measured, and never counts as met."


def claims_paper(facts: PeriodFacts) -> Paper:
    """Lay out the promises alone."""
    return Paper(
        title=f"Promises of {facts.cluster}, beside what was proven",
        mark=standing_mark(facts),
        summary=_controls_sentence(facts),
        facts=(
            ("Period", words(Moment(facts.since), " to ", Moment(facts.until))),
            ("Checked", checked_words(facts)),
            ("Watched", words(f"{format_percent(facts.watched.share)} of the period")),
        ),
        sections=(promises_section(facts), unprovable_section(), requirements_section(facts.controls)),
        made_by=f"replcheck {facts.tool_version}",
    )


def standing_mark(facts: PeriodFacts) -> Mark:
    """Return where the controls stand together, by the worst of them; no outcome where nobody asked for any.

    Where the chain of evidence is broken, or belies the history, nothing that the history says can be relied on,
    whatever the controls found.
    """
    if facts.evidence is not None and facts.evidence.problem:
        return Mark(outcome=Outcome.REFUTED, word="the chain of evidence is broken")
    if facts.altered:
        return Mark(outcome=Outcome.REFUTED, word="the history was changed after it was recorded")
    asked = [control for control in facts.controls if control.outcome is not None]
    for outcome, word in _WORST_FIRST:
        count = sum(control.outcome is outcome for control in asked)
        if count:
            told = f"{_many(count, len(asked))} {word} at the last check"
            return _until_the_end(_throughout(Mark(outcome=outcome, word=told), facts, len(asked)), facts)
    if facts.checks.happened and not facts.controls:
        return Mark(outcome=Outcome.UNCHECKED, word=never_words(facts.checks))
    return Mark(outcome=None, word="no control was asked for")


def _many(count: int, of: int) -> str:
    if count < of:
        return f"{count} of {of} controls"
    return {1: "the only control", 2: "both controls"}.get(of, f"all {of} controls")


def _throughout(mark: Mark, facts: PeriodFacts, asked: int) -> Mark:
    """Return a mark that is no better than the period: what was not met in between was not met."""
    broken = sum(tally.last_not_met_at is not None for tally in facts.tallies)
    # Where the last check is old, or others failed since, the headline says that instead.
    if mark.outcome is not Outcome.PROVEN or not broken or facts.checks.are_old:
        return mark
    which = "but" if asked == 1 else f"{broken} of them"
    return Mark(outcome=Outcome.PARTIAL, word=f"{mark.word}, {which} not at all times")


def _until_the_end(mark: Mark, facts: PeriodFacts) -> Mark:
    """Return a mark that says no more of the end of the period than is known: a check is of its own time."""
    checks = facts.checks
    later = f"{counted(checks.failed_since, 'later one')} failed" if checks.failed_since else ""
    if not checks.are_old or checks.age_s is None:
        return Mark(outcome=mark.outcome, word=f"{mark.word}; {later}") if later else mark
    whole = " as a whole" if facts.rechecked else ""
    told = (
        f"{mark.word}, and not checked{whole} for {format_duration(checks.age_s)} since{f': {later}' if later else ''}"
    )
    return Mark(outcome=worst([Outcome.UNCHECKED, *filter(None, [mark.outcome])]), word=told)


_WORST_FIRST = (
    (Outcome.REFUTED, "breached"),
    (Outcome.UNCHECKED, "unchecked"),
    (Outcome.PARTIAL, "at risk or waived"),
    (Outcome.PROVEN, "met"),
)


def promises_section(facts: PeriodFacts) -> Section:
    """Return each promise with what was measured, under which limit, by which runs, and what it does not prove."""
    asked = [control for control in facts.controls if control.standing is not Standing.NOT_ASKED]
    blocks: list[Block] = []
    if not facts.controls:
        blocks.append(
            Notice(outcome=Outcome.UNCHECKED, words=words(_NOT_WHOLE if facts.checks.happened else _NO_POLICY))
        )
    elif facts.controls_at is not None:
        told = words("Each control as the last check of the whole policy found it, of ", *checked_words(facts))
        blocks.append(Prose(words(*told, f"{_rechecked_words(facts)}.")))
    for sentence in (old_sentence(facts.checks), failed_sentence(facts.checks)):
        blocks += [Notice(outcome=Outcome.UNCHECKED, words=words(sentence))] if sentence else []
    if limited := limited_sentence(facts.checks):
        blocks.append(Prose(words(limited)))
    if asked:
        blocks.append(overview(asked, facts))
    blocks += [promise(control, _tally(facts, control.name)) for control in asked]
    blocks += not_asked(facts.controls)
    if facts.checks_left_out:
        older = f"{counted(facts.checks_left_out, 'older check')} that did not prove everything are in no count above."
        blocks.append(Notice(outcome=Outcome.UNCHECKED, words=words(older)))
    return Section(anchor="promises", title="What was promised, and what was proven", blocks=tuple(blocks))


def checked_words(facts: PeriodFacts) -> Words:
    """Return when the policy was last checked as a whole, and how long before the end of the period that was."""
    if facts.controls_at is None:
        return words("never as a whole" if facts.checks.happened else "never")
    return words(Moment(facts.controls_at), age_words(facts.checks))


def not_asked(controls: Iterable[ControlResult], left_out: Collection[ControlName] = ()) -> list[Block]:
    """Return the words for the controls that nobody asked for, and for those that a check was told to leave out."""
    unasked = [control.name for control in controls if control.standing is Standing.NOT_ASKED]
    left = [name.value for name in unasked if name in left_out]
    missing = [name.value for name in unasked if name not in left_out]
    told = [f"The policy also asks for {joined(left)}, which this check was told to leave out."] if left else []
    told += [f"Nobody asked for {joined(missing)}."] if missing else []
    return [Prose(words(" ".join([*told, _NEVER_MET])))] if told else []


def requirements_section(controls: Iterable[ControlResult]) -> Section:
    """Return which controls bear on which requirement, and what each asks besides that nobody measured."""
    by_name = {control.name: control for control in controls}
    shown = table(
        "Requirements, the controls that bear on them, and what no control measures",
        columns("Requirement", "What it asks for", "Measured for it", "What it asks besides, not measured here"),
        (
            (
                words(f"{one.framework} ", Code(one.reference), f" {one.title}"),
                words(f"{one.asks[0].upper()}{one.asks[1:]}."),
                _measured_for(one, by_name),
                words(f"{one.beyond[0].upper()}{one.beyond[1:]}."),
            )
            for one in REQUIREMENTS
        ),
    )
    older = table(
        "Where the controls of replaced editions stand now",
        columns("Until then", "ISO/IEC 27001:2022"),
        ((words(reference.old), words(reference.now)) for reference in OLD_REFERENCES),
    )
    told = (
        "Measurements support an assessment and do not replace it: whether a requirement is fulfilled is"
        " for an assessor to say."
    )
    return Section(
        anchor="requirements",
        title="Which requirements this bears on",
        blocks=(Prose(words(told)), shown, Prose(words(EDITIONS)), older),
    )


def unprovable_section() -> Section:
    """Return what no measurement of a database can prove."""
    return Section(
        anchor="unprovable",
        title="What cannot be proven",
        blocks=(Items(items=tuple(words(sentence) for sentence in UNPROVABLE)),),
    )


def _controls_sentence(facts: PeriodFacts) -> Words:
    asked = [control for control in facts.controls if control.standing is not Standing.NOT_ASKED]
    if not asked:
        return words("No control was asked for: nothing that was promised could be proven.")
    told = []
    for standing in Standing:
        names = [control.name.value for control in asked if control.standing is standing]
        told += [f"{joined(names)} {'is' if len(names) == 1 else 'are'} {standing.value}"] if names else []
    return words(f"{'; '.join(told)}.".capitalize())


def overview(asked: Iterable[ControlResult], facts: PeriodFacts | None = None) -> Table:
    """Return a row for each control; with `facts` of a period also when it was found so."""
    return table(
        "Promises at a glance",
        columns("Control", "Promised", "Standing", "Measured", "Limit", *(["Checked"] if facts else [])),
        (
            (
                words(Code(control.name.value)),
                words(control.claim),
                words(control_mark(control)),
                known(control.measured),
                known(control.limit),
                *([_checked_at(control, facts)] if facts else []),
            )
            for control in asked
        ),
    )


def _checked_at(control: ControlResult, facts: PeriodFacts) -> Words:
    at = facts.checked_at(control.name)
    return words(Moment(at)) if at is not None else known(None)


def _rechecked_words(facts: PeriodFacts) -> str:
    """Return which controls stand as a later check found them, as a clause; empty where none does."""
    names = [name.value for name in ControlName if name in facts.rechecked]
    return f"; {joined(names)} as a later check of some controls did" if names else ""


def control_mark(control: ControlResult) -> Mark:
    """Return the mark of one control."""
    return Mark(outcome=control.outcome, word=control.standing.value)


def promise(control: ControlResult, tally: ControlTally | None = None) -> Group:
    """Return one promise with all that is known of it; `tally` is where it stood over a period."""
    pairs: list[tuple[str, Words]] = [
        ("Promised", words(f"“{control.claim}”")),
        ("Standing", words(control_mark(control))),
        ("Measured", known(control.measured)),
        ("Limit", known(control.limit)),
    ]
    if control.problems:
        pairs.append(("Why not met", words("; ".join(control.problems))))
    if control.measures:
        pairs.append(("In numbers", joined_words((_measure(one, control) for one in control.measures), "; ")))
    if control.waiver is not None:
        waiver = control.waiver
        told = f"{waiver.reason}; decided by {waiver.by}, until {waiver.until.isoformat()}"
        pairs.append(("Waived", words(told)))
    if control.as_of is not None:
        pairs.append(("Proven as of", words(Moment(control.as_of))))
    if tally is not None:
        pairs.append(("Over the period", _tally_words(tally)))
    if control.runs:
        pairs.append(("Rests on", _runs(control.runs)))
    pairs.append(("Bears on", words(joined([one.reference for one in requirements_of(control.name)]) or "none")))
    blocks: list[Block] = [Pairs(pairs=tuple(pairs))]
    if cites_replaced_edition(control.claim):
        blocks.append(Notice(outcome=Outcome.PARTIAL, words=words(CITES_OLD)))
    if control.not_proven:
        blocks.append(Prose(words("This does not prove:")))
        blocks.append(Items(items=tuple(words(_sentence(text)) for text in control.not_proven)))
    return Group(title=f"Control {control.name.value}", blocks=tuple(blocks), anchor=f"control-{control.name.value}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if not text.endswith(".") else text


def _measure(one: Measure, control: ControlResult) -> Words:
    subject = f" of {one.subject}" if one.subject else ""
    name = one.name.replace("_", " ")
    parts: list[Inline] = [f"{name}{subject}: {_value(one.value, one.unit)}"]
    if one.limit is not None:
        parts.append(f" ({one.bound.value} {_value(one.limit, one.unit)})")
    # Where a control could not be checked, a number beyond its limit may be for want of samples: it judges nothing.
    if one.standing is not Standing.MET and control.standing is not Standing.UNCHECKED:
        parts += [" ", Mark(outcome=one.standing.outcome, word=one.standing.value)]
    return tuple(parts)


def _value(value: float | None, unit: Unit) -> str:
    if value is None:
        return "not measured"
    match unit:
        case Unit.SECONDS:
            return format_duration(value)
        case Unit.BYTES:
            return format_size(round(value))
        case Unit.PERCENT:
            return format_percent(value)
        case Unit.COUNT:
            return f"{value:,.0f}"


def _tally(facts: PeriodFacts, name: ControlName) -> ControlTally | None:
    return next((tally for tally in facts.tallies if tally.name is name), None)


def _tally_words(tally: ControlTally) -> Words:
    counts = [(standing, tally.standings.get(standing, 0)) for standing in Standing if standing.outcome is not None]
    total = sum(count for _, count in counts)
    told = ", ".join(f"{standing.value} in {count:,}" for standing, count in counts if count)
    parts: list[Inline] = [f"of {counted(total, 'check')}: {told}"]
    if tally.last_not_met_at is not None:
        parts += ["; last not met ", Moment(tally.last_not_met_at)]
    return tuple(parts)


def _runs(runs: tuple[str, ...]) -> Words:
    shown = joined_words(words(Code(short_id(run))) for run in runs[:_RUNS_SHOWN])
    rest = len(runs) - _RUNS_SHOWN
    noun = "run " if len(runs) == 1 else "runs "
    return (noun, *shown, f" and {rest:,} more") if rest > 0 else (noun, *shown)


def _measured_for(requirement: Requirement, by_name: dict[ControlName, ControlResult]) -> Words:
    return joined_words((_one_measured(name, by_name.get(name)) for name in requirement.controls), "; ")


def _one_measured(name: ControlName, control: ControlResult | None) -> Words:
    if control is None or control.standing is Standing.NOT_ASKED:
        return words(Mark(outcome=None, word=f"{name.value}: not asked"))
    return words(Mark(outcome=control.outcome, word=f"{name.value}: {control.standing.value}"))
