"""What a report of a period says of the chain of evidence: how it stands, and how whoever doubts it can verify it."""

from collections.abc import Iterator

from replcheck.model.evidence import EvidenceState
from replcheck.model.outcome import Outcome
from replcheck.model.run import RunRecord, short_id
from replcheck.report.paper import Block, Code, Mark, Moment, Notice, Pairs, Prose, Section, Verbatim, Words, words
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.verdict import counted, joined

_WHAT = (
    "Every end of a run is appended to a chain of records, each of which names the one before it; where a key is"
    " configured it is signed. Whoever has an exported chain and the public key can tell, without replcheck and the"
    " database, whether a record was changed, removed, put in or moved. Keep the head elsewhere: a chain in which it"
    " is missing was cut off."
)
_COMMANDS = (
    "replcheck evidence verify --reports",
    "replcheck evidence export --output clinic.jsonl",
    "replcheck evidence verify --file clinic.jsonl --public-key clinic.key.pub",
)
STANDINGS = {
    Outcome.PROVEN: "whole",
    Outcome.PARTIAL: "unvouched",
    Outcome.REFUTED: "broken",
    Outcome.UNCHECKED: "not begun",
}
"""How a chain stands, in a word."""


def evidence_section(facts: PeriodFacts) -> Section:
    """Return how the chain stands, its head, and the commands that verify it."""
    state = facts.evidence
    blocks: list[Block] = [Prose(words(_WHAT))]
    if state is None:
        told = f"How the chain stands is not known: {facts.evidence_problem or 'it was not looked at'}."
        blocks.append(Notice(outcome=Outcome.UNCHECKED, words=words(told)))
    elif state.head is None:
        told = "There is no chain yet: that nobody changed this history afterwards is not shown."
        blocks.append(Notice(outcome=Outcome.UNCHECKED, words=words(told)))
    else:
        if state.problem:
            blocks.append(Notice(outcome=Outcome.REFUTED, words=words(f"The chain is broken: {state.problem}.")))
        if facts.altered:
            blocks.append(Notice(outcome=Outcome.REFUTED, words=words(altered_sentence(facts))))
        blocks.append(Pairs(pairs=tuple(_pairs(facts, state))))
    blocks.append(Verbatim(_COMMANDS))
    return Section(anchor="evidence", title="The chain of evidence", blocks=tuple(blocks))


def altered_sentence(facts: PeriodFacts) -> str:
    """Return which runs are not as they were recorded; there must be one."""
    many = len(facts.altered) > 1
    told = f"{counted(len(facts.altered), 'run')} of the period {'are' if many else 'is'} not as recorded"
    return f"{told}: {joined([short_id(run_id) for run_id in facts.altered])}."


def compared_words(facts: PeriodFacts) -> str:
    """Return how many of the period's runs were held against their records, and how many have none."""
    ended = sum(isinstance(past.run, RunRecord) for past in facts.runs)
    told = f"{counted(ended - facts.without_record, 'run')} of the period with what was recorded of them"
    if not facts.without_record:
        return told
    rest = counted(facts.without_record, "run has", "runs have")
    away = _archived(facts.evidence)
    told = f"{told}; {rest} no record here, and nothing here vouches for that"
    return f"{told} ({counted(away, 'record')} of the chain in archives)" if away else told


def _archived(state: EvidenceState | None) -> int:
    """Return how many records of the chain, which are numbered from 1, were moved out of the history."""
    if state is None or state.head is None or state.problem:
        return 0  # what is missing from a broken chain lies in no archive that is known of
    return state.head.sequence - state.records


def _pairs(facts: PeriodFacts, state: EvidenceState) -> Iterator[tuple[str, Words]]:
    yield "Standing", words(Mark(outcome=state.outcome, word=STANDINGS[state.outcome]), " on ", Moment(facts.made_at))
    yield "Records", words(f"{state.records:,}")
    yield "Verified", _verified(state)
    yield "Compared", words(compared_words(facts))
    if state.outcome is Outcome.PARTIAL:
        yield "Not vouched for", words(_unvouched(state))
    if state.oldest_at is not None and state.newest_at is not None:
        yield "From", words(Moment(state.oldest_at), " to ", Moment(state.newest_at))
    if state.head is not None:
        yield "Head", words("SHA-256 ", Code(state.head.sha256), f", record {state.head.sequence:,}")
    if facts.evidence_head and facts.controls_at is not None:
        yield "Head at the last check", words("SHA-256 ", Code(facts.evidence_head), ", of ", Moment(facts.controls_at))


def _unvouched(state: EvidenceState) -> str:
    found = state.unsigned
    if found is None or (state.signed == 0 and not state.rested):
        return state.partial or "without a verified signature anybody could have written it all"
    told = f"{counted(found.count, 'record')} without a signature, the first is record {found.first:,}"
    if found.behind_signed is None:
        return f"{told}: anybody who could write to the history could have made them"
    return f"{told}; record {found.behind_signed:,} stands behind signed ones: made without the key, or forged"


def _verified(state: EvidenceState) -> Words:
    told = f"{counted(state.verified, 'record')} for this report, {state.signed:,} with a verified signature"
    if not state.rested or state.rested_at is None:
        return words(told)
    rest = f"; {counted(state.rested, 'older one rests', 'older ones rest')} on a signed verification of "
    return words(told, rest, Moment(state.rested_at))
