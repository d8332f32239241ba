"""What the demo claims, checked against what was found: each function returns what is wrong, nothing where all holds.

Pure but for the draw. A demo that shows a wrong verdict must not end as if it had shown a right one.
"""

import secrets
from collections.abc import Sequence

from replcheck.lab.planted import PlantedFault
from replcheck.model.audit import AuditResult, CtidRange
from replcheck.model.demo import RowLookedUp, UsualChecksRead
from replcheck.model.drill import DrillResult, DrillVerdict, LayerName
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.seal import SealManifest
from replcheck.report.drill_words import drill_sentence
from replcheck.report.verdict import outcome_of, sentence

_STREAMING = "streaming"


def drawn(nodes: Sequence[str]) -> tuple[str, int]:
    """Draw a node by lot, and a number that chooses its row."""
    return secrets.choice(nodes), secrets.randbelow(2**31)


def wrong_with_copies(result: AuditResult) -> list[str]:
    """Return what keeps an audit from having proven every standby."""
    if outcome_of(result) is not Outcome.PROVEN:
        return [f"the standbys should be consistent copies, but the audit says: {sentence(result)}"]
    return [] if result.rows else ["the audit compared no row"]


def wrong_with_silence(usual: UsualChecksRead) -> list[str]:
    """Return which of the usual checks noticed the fault after all."""
    wrong = []
    if usual.state != _STREAMING:
        wrong.append(f"{usual.node} should stream again, but its state is {usual.state or 'unknown'}")
    if usual.checksum_failures:
        wrong.append(f"a page checksum failed on {usual.node}")
    if usual.rows != usual.primary_rows:
        wrong.append(f"{usual.relation} has {usual.rows} rows on {usual.node} and {usual.primary_rows} on the primary")
    return wrong


def wrong_with_finding(result: AuditResult, planted: PlantedFault) -> list[str]:
    """Return how the audit's finding is not exactly the fault that was planted."""
    if outcome_of(result) is not Outcome.REFUTED:
        return [f"{planted.node} was broken, but the audit says: {sentence(result)}"]
    wrong = []
    if len(result.divergences) != 1 or not _is_planted(result, planted):
        wrong.append(
            f"the audit should find exactly one difference, of {planted.relation} on {planted.node}"
            f" at ctid ({planted.block},{planted.offset})"
        )
    if result.odd_node != planted.node:
        wrong.append(f"the node that stands alone is {planted.node}, not {result.odd_node or 'nobody'}")
    wrong += [
        f"{replica.node.name} is whole, but the audit calls it {replica.verdict.value}"
        for replica in result.replicas
        if replica.node.name != planted.node and replica.verdict is not Verdict.CONSISTENT
    ]
    return wrong


def wrong_with_row(looked: RowLookedUp, broken: str) -> list[str]:
    """Return how the row itself contradicts the audit."""
    if looked.odd == (broken,):
        return []
    return [f"the row should differ on {broken} alone, but it differs on: {', '.join(looked.odd) or 'no node'}"]


def wrong_with_restore(result: DrillResult, seal: SealManifest) -> list[str]:
    """Return what keeps a trial restore from having proven every row of the seal."""
    if result.verdict is not DrillVerdict.RESTORED:
        return [f"the backup should be proven, but the drill says: {drill_sentence(result)}"]
    wrong = []
    [layer] = [layer for layer in result.layers if layer.name is LayerName.SEAL]
    if layer.rows != seal.rows or not seal.rows:
        wrong.append(f"the seal has {seal.rows} rows, and the drill compared {layer.rows}")
    if result.scratch is None or not result.scratch.removed:
        wrong.append("the scratch copy was not removed")
    return wrong


def wrong_with_refutation(result: DrillResult, file: str) -> list[str]:
    """Return how the drill of a damaged backup did not name what is damaged, and where."""
    if result.verdict is not DrillVerdict.FAILED:
        return [f"the backup was damaged, but the drill says: {drill_sentence(result)}"]
    told = [problem.what for layer in result.layers for problem in layer.problems]
    told += [problem.what for problem in result.problems]
    return [] if any(file in what for what in told) else [f"no problem that was found names the damaged file {file}"]


def _is_planted(result: AuditResult, planted: PlantedFault) -> bool:
    [found] = result.divergences
    if planted.block is None or planted.offset is None:
        return False
    place = CtidRange(
        first_block=planted.block,
        first_offset=planted.offset,
        last_block=planted.block,
        last_offset=planted.offset,
    )
    expected = (planted.database, planted.relation, planted.node, planted.kind, planted.rows, (place,))
    return expected == (found.database, found.relation, found.node, found.kind, found.count, found.ranges)
