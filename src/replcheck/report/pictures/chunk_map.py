"""The chunk map of an audit: every relation as a bar of its chunks on every replica, and what became of each.

A stored audit keeps how many chunks a relation had and where rows differ, not where each chunk began: the cells cut a
relation evenly, so a difference stands about where it lies.
"""

from collections.abc import Sequence
from itertools import islice

from replcheck.model.audit import AuditResult, DifferenceKind, Divergence, RelationReplica, RelationReport
from replcheck.model.names import qualified
from replcheck.model.outcome import Verdict
from replcheck.report.pictures.drawing import Canvas, Drawing, shortened
from replcheck.report.verdict import counted

WIDTH = 760
_LEFT, _RIGHT = 268.0, 640.0
_BAR, _BETWEEN, _ROW_GAP = 9.0, 3.0, 9.0
_MOST_CELLS = 62
_LARGEST, _MOST_ROWS = 12, 40
_SQUARE, _PITCH, _SQUARE_LINES = 7.0, 9.3, 12
_LEGEND = 26.0
_BLOCK_BYTES = 8192
_WORDS = {
    Verdict.CONSISTENT: "matched",
    Verdict.DIVERGED: "differs",
    Verdict.INCONCLUSIVE: "not proven",
    Verdict.UNCHECKED: "not checked",
}


def chunk_map(result: AuditResult, *, name: str = "chunk-map") -> Drawing:
    """Draw the relations that are not proven and the largest of those that are; the others are one square each."""
    shown = relations_drawn(result)
    rest = [relation for relation in result.relations if relation not in shown]
    drawn = _Map(result, shown, rest)
    drawn.legend()
    for relation in shown:
        drawn.relation(relation)
    if rest:
        drawn.rest()
    return drawn.canvas.finished(name=name, title="Chunk map", description=_description(result, shown, rest))


def relations_drawn(result: AuditResult) -> list[RelationReport]:
    """Return the relations that have a bar of their own: first those that are not consistent, then by size."""
    ordered = sorted(result.relations, key=lambda found: (found.verdict is Verdict.CONSISTENT, -found.size_bytes))
    doubtful = sum(found.verdict is not Verdict.CONSISTENT for found in ordered)
    return ordered[: min(max(_LARGEST, doubtful), _MOST_ROWS)]


class _Map:
    def __init__(self, result: AuditResult, shown: Sequence[RelationReport], rest: Sequence[RelationReport]) -> None:
        self._result = result
        self._rest = rest
        self._per_square = -(-len(rest) // (_SQUARE_LINES * self._in_line())) or 1
        squares = -(-len(rest) // self._per_square)
        lines = -(-squares // self._in_line())
        height = _LEGEND + sum(_height(relation) + _ROW_GAP for relation in shown) + (lines * _PITCH + 8 if rest else 0)
        self.canvas = Canvas(WIDTH, round(height))
        self._y = _LEGEND

    @staticmethod
    def _in_line() -> int:
        return int((_RIGHT - _LEFT) // _PITCH)

    def legend(self) -> None:
        x = _LEFT
        for verdict, word in _WORDS.items():
            self.canvas.rect(x, 4, 10, 10, kind=f"cell {verdict.outcome.value}")
            self.canvas.text(x + 14, 13, word, kind="small")
            x += 32 + 6.4 * len(word)

    def relation(self, relation: RelationReport) -> None:
        full = f"{relation.database}.{qualified(relation.schema, relation.name)}"
        middle = self._y + _height(relation) / 2 + 4
        self.canvas.text(0, middle, shortened(full, 29), kind="mono")
        rows = "–" if relation.rows is None else counted(relation.rows, "row")
        self.canvas.text(_RIGHT + 8, middle, rows, kind="small")
        for replica in relation.replicas:
            self.canvas.text(_LEFT - 6, self._y + _BAR - 1, shortened(replica.node, 12), kind="small", anchor="end")
            self._bar(relation, replica, full)
            self._y += _BAR + _BETWEEN
        self._y += _ROW_GAP - (_BETWEEN if relation.replicas else -_BAR)

    def _bar(self, relation: RelationReport, replica: RelationReplica, full: str) -> None:
        cells = min(max(relation.chunks, 1), _MOST_CELLS)
        verdicts = cell_verdicts(relation, replica, self._result.divergences, cells)
        width = (_RIGHT - _LEFT) / cells
        gap = min(1.5, width / 4) if cells > 1 else 0
        for cell, verdict in enumerate(verdicts):
            tip = f"{full} on {replica.node}: {_WORDS[verdict]}"
            kind = f"cell {verdict.outcome.value}"
            self.canvas.rect(_LEFT + cell * width, self._y, width - gap, _BAR, kind=kind, tip=tip)

    def rest(self) -> None:
        each = "" if self._per_square == 1 else f", {self._per_square} a square"
        self.canvas.text(0, self._y + 8, f"{counted(len(self._rest), 'more relation')}{each}", kind="small")
        ordered = iter(self._rest)
        square = 0
        while group := list(islice(ordered, self._per_square)):
            line, place = divmod(square, self._in_line())
            verdict = next((found.verdict for found in group if found.verdict is not Verdict.CONSISTENT), None)
            kind = f"cell {(verdict or Verdict.CONSISTENT).outcome.value}"
            x, y = _LEFT + place * _PITCH, self._y + line * _PITCH
            tip = ", ".join(f"{found.database}.{qualified(found.schema, found.name)}" for found in group[:3])
            self.canvas.rect(x, y, _SQUARE, _SQUARE, kind=kind, tip=tip)
            square += 1


def cell_verdicts(
    relation: RelationReport, replica: RelationReplica, divergences: Sequence[Divergence], cells: int
) -> list[Verdict]:
    """Return what became of each of so many even parts of a relation on a replica.

    Differences without a position (of a sequence, of a file that cannot be read) are everywhere: which part they are in
    is not known.
    """
    if replica.verdict is not Verdict.DIVERGED:
        return [replica.verdict] * cells
    full = qualified(relation.schema, relation.name)
    found = [
        divergence
        for divergence in divergences
        if (divergence.database, divergence.relation, divergence.node) == (relation.database, full, replica.node)
        and divergence.kind is not DifferenceKind.INDEX
    ]
    spans = [span for divergence in found for span in _blocks(divergence)]
    if not spans or replica.capped or any(not _blocks(divergence) for divergence in found):
        return [Verdict.DIVERGED] * cells
    blocks = max(-(-relation.size_bytes // _BLOCK_BYTES), *(last + 1 for _, last in spans))
    touched = {cell for first, last in spans for cell in range(first * cells // blocks, last * cells // blocks + 1)}
    return [Verdict.DIVERGED if cell in touched else Verdict.CONSISTENT for cell in range(cells)]


def _blocks(divergence: Divergence) -> list[tuple[int, int]]:
    if divergence.block is not None:
        return [(divergence.block, divergence.block)]
    return [(found.first_block, found.last_block) for found in divergence.ranges]


def _height(relation: RelationReport) -> float:
    return max(len(relation.replicas), 1) * (_BAR + _BETWEEN) - _BETWEEN


def _description(result: AuditResult, shown: Sequence[RelationReport], rest: Sequence[RelationReport]) -> str:
    counts = {verdict: sum(found.verdict is verdict for found in result.relations) for verdict in Verdict}
    told = ", ".join(f"{count:,} {verdict.value}" for verdict, count in counts.items() if count) or "none"
    text = f"Of {counted(len(result.relations), 'relation')}: {told}. {counted(len(shown), 'has', 'have')} a bar for"
    text = f"{text} each replica, cut evenly into at most {_MOST_CELLS} cells."
    return f"{text} The other {counted(len(rest), 'relation')} are squares." if rest else text
