"""What a period's report says of the chain of evidence: how it stood at the newest check, and how to verify it."""

from replcheck.model.control import ControlName, ControlResult, Standing
from replcheck.model.outcome import Outcome
from replcheck.report.paper import Block, Code, Moment, Notice, Pairs, Prose, Section, Verbatim, Words, words
from replcheck.report.papers.promises import control_mark
from replcheck.report.period_facts import PeriodFacts

_WHAT = (
    "Every end of a run is appended to a chain of records, each of which names the one before it; where a key is"
    " configured it is signed. Whoever has an exported chain and the public key can tell, without replcheck and the"
    " database, whether a record was changed, removed, put in or moved. Keep the head elsewhere: a chain in which it"
    " is missing was cut off."
)
_UNKNOWN = "The newest check knew no chain of evidence: that nobody changed this history afterwards is not shown."
_COMMANDS = (
    "replcheck evidence verify --reports",
    "replcheck evidence export --output clinic.jsonl",
    "replcheck evidence verify --file clinic.jsonl --public-key clinic.key.pub",
)


def evidence_section(facts: PeriodFacts) -> Section:
    """Return how the chain stood, its head, and the commands that verify it."""
    control = next((one for one in facts.controls if one.name is ControlName.EVIDENCE), None)
    pairs = _pairs(facts, control)
    blocks: list[Block] = [Prose(words(_WHAT))]
    blocks.append(Pairs(pairs=pairs) if pairs else Notice(outcome=Outcome.UNCHECKED, words=words(_UNKNOWN)))
    blocks.append(Verbatim(_COMMANDS))
    return Section(anchor="evidence", title="The chain of evidence", blocks=tuple(blocks))


def _pairs(facts: PeriodFacts, control: ControlResult | None) -> tuple[tuple[str, Words], ...]:
    pairs: list[tuple[str, Words]] = []
    if control is not None and control.standing is not Standing.NOT_ASKED:
        pairs += [("Standing", words(control_mark(control))), ("Measured", words(control.measured))]
    if facts.evidence_head:
        pairs.append(("Head", words("SHA-256 ", Code(facts.evidence_head))))
    if pairs and facts.controls_at is not None:
        pairs.append(("At the check of", words(Moment(facts.controls_at))))
    return tuple(pairs)
