"""The paper of a period: what was claimed, what was measured and what was not, first in words, then in full."""

from collections.abc import Iterable
from datetime import tzinfo

from replcheck.model.control import Standing
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_duration, format_percent
from replcheck.report.checks_made import checks_sentence, failed_sentence, never_words, old_sentence
from replcheck.report.paper import (
    Block,
    Group,
    Items,
    Link,
    Moment,
    Pairs,
    Paper,
    Prose,
    Section,
    Verbatim,
    Words,
    words,
)
from replcheck.report.papers.evidence import evidence_section
from replcheck.report.papers.promises import (
    checked_words,
    promises_section,
    requirements_section,
    standing_mark,
    unprovable_section,
)
from replcheck.report.papers.record import copies_section, lag_section, record_section
from replcheck.report.papers.runs import (
    audits_section,
    audits_sentence,
    drills_section,
    drills_sentence,
    events_section,
)
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.verdict import counted, joined

_GLOSSARY = (
    ("proven copy", ("a node whose every row was compared with the primary's, whose proof is young enough, and which"
     " streamed in every sample since")),
    ("audit", ("one comparison of every row of the replicas with the primary, under snapshots that see the same"
     " transactions; it only reads")),
    ("drill", "one trial restore of a backup on a server of its own, with the copy examined and removed"),
    ("seal", "the digests of the primary at a named restore point, with which a restored copy can be compared"),
    ("recovery point", "the last moment to which the archive could restore"),
    ("recovery time", "from the first byte fetched until the restored copy can be used"),
)  # fmt: skip


def period_paper(facts: PeriodFacts, zone: tzinfo | None = None) -> Paper:
    """Lay out a period; `zone` is the one in which days begin, None that of the machine."""
    return Paper(
        title=f"Evidence of {facts.cluster}",
        mark=standing_mark(facts),
        summary=words(_summary(facts)),
        facts=tuple(_facts(facts)),
        sections=(
            _in_words(facts),
            promises_section(facts),
            requirements_section(facts.controls),
            record_section(facts, zone),
            copies_section(facts, zone),
            lag_section(facts, zone),
            audits_section(facts),
            drills_section(facts, zone),
            events_section(facts),
            evidence_section(facts),
            unprovable_section(),
            _method(facts),
        ),
        made_by=f"replcheck {facts.tool_version}",
    )


def _facts(facts: PeriodFacts) -> Iterable[tuple[str, Words]]:
    whole_s = (facts.until - facts.since).total_seconds()
    yield "Cluster", words(facts.cluster)
    yield "From", words(Moment(facts.since))
    yield "To", words(Moment(facts.until), f" ({format_duration(whole_s)})")
    yield "Nodes", words(joined(facts.asked.copies.nodes) or "none was seen")
    yield "Controls checked", checked_words(facts)
    yield "Written", words(Moment(facts.made_at))


def _summary(facts: PeriodFacts) -> str:
    gaps = facts.watched.gaps
    told = f"Something watched the cluster {format_percent(facts.watched.share)} of this time"
    if gaps:
        told += f" and nothing did for {format_duration(facts.watched.unwatched_s)}"
    enough = f"There were certainly enough proven copies {format_percent(facts.copies.share)} of it."
    return f"{told}. {enough} {audits_sentence(facts.audits)} {drills_sentence(facts.drills)}"


def _in_words(facts: PeriodFacts) -> Section:
    groups = (
        Group(title="What was claimed", blocks=(_claimed(facts),)),
        Group(title="What was measured", blocks=(Items(items=tuple(_measured(facts))),)),
        Group(title="What was not measured", blocks=(Items(items=tuple(_not_measured(facts))),)),
    )
    return Section(anchor="in-words", title="In plain words", blocks=groups)


def _claimed(facts: PeriodFacts) -> Block:
    asked = [control for control in facts.controls if control.standing is not Standing.NOT_ASKED]
    if not asked:
        return Prose(words(f"Nothing that replcheck knows of: {never_words(facts.checks)}."))
    return Items(
        items=tuple(
            words(f"“{control.claim}” (", Link(control.name.value, f"control-{control.name.value}"), ")")
            for control in asked
        )
    )


def _measured(facts: PeriodFacts) -> Iterable[Words]:
    yield words(audits_sentence(facts.audits))
    yield words(drills_sentence(facts.drills))
    seen = facts.watched
    if seen.samples:
        yield words(f"{seen.samples:,} samples of the nodes, over {format_percent(seen.share)} of the period.")
        yield words(f"Enough proven copies {format_percent(facts.copies.share)} of the period.")
    if sentence := checks_sentence(facts.checks):
        yield words(sentence)


def _not_measured(facts: PeriodFacts) -> Iterable[Words]:
    seen = facts.watched
    if seen.gaps:
        yield words(
            f"{format_duration(seen.unwatched_s)} in {counted(len(seen.gaps), 'gap')}, in which nothing was watching: ",
            Link("the gaps", "record"),
            ".",
        )
    if not facts.audits.runs:
        yield words("Whether the replicas are copies: no audit began in the period.")
    if not facts.drills:
        yield words("Whether a backup comes back: none was restored in the period.")
    for sentence in (old_sentence(facts.checks), failed_sentence(facts.checks)):
        if sentence:
            yield words(sentence)
    unchecked = [control.name.value for control in facts.controls if control.standing is Standing.UNCHECKED]
    if unchecked:
        yield words(f"Asked for, and could not be checked: {joined(unchecked)}.")
    missing = [control.name.value for control in facts.controls if control.standing is Standing.NOT_ASKED]
    if missing:
        yield words(f"Nobody asked for {joined(missing)}.")
    if facts.evidence is None or facts.evidence.outcome is not Outcome.PROVEN:
        yield words("That nobody changed the history afterwards: ", Link("the chain of evidence", "evidence"), ".")
    broken = len(facts.audits.unread) + len(facts.unread)
    if broken:
        yield words(f"{counted(broken, 'run')} whose record or report cannot be read or believed.")
    yield words("What no measurement of a database can tell: ", Link("what cannot be proven", "unprovable"), ".")


def _method(facts: PeriodFacts) -> Section:
    told = (
        "This report is made from the history that replcheck keeps of its runs and samples, and from nothing else."
        " A stored result is believed only where its content leads to the verdict that was recorded, and where it"
        " is the one that the run's record in the chain of evidence covers. The same figures"
        " for machines, and the record of each run:"
    )
    since, until = facts.since.isoformat(), facts.until.isoformat()
    commands = (f"replcheck report --since {since} --until {until} --format json", "replcheck history show RUN")
    glossary = Pairs(pairs=tuple((term.capitalize(), words(f"{meaning}.")) for term, meaning in _GLOSSARY))
    blocks: tuple[Block, ...] = (
        Prose(words(told)),
        Verbatim(commands),
        Group(title="Words", blocks=(glossary,)),
    )
    return Section(anchor="method", title="How this was made, and how to check it", blocks=blocks)
