"""Renders a paper as Markdown (CommonMark, with the tables of GitHub's): for tickets, wikis and version control.

Names stand in code spans and every other text is escaped, so that no name of a relation becomes markup. A picture has
no place here: its table says the same.
"""

import re
from collections.abc import Iterator, Sequence

from replcheck.model.names import printable
from replcheck.report.paper import (
    Block,
    Code,
    Figure,
    Group,
    Inline,
    Items,
    Link,
    Mark,
    Moment,
    Notice,
    Pairs,
    Paper,
    Prose,
    Strong,
    Table,
    Verbatim,
    Words,
)
from replcheck.report.style import Style

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#])")
_BEGINS_A_BLOCK = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")


def paper_markdown(paper: Paper, style: Style) -> str:
    """Return the whole paper as text, with a line break at its end."""
    parts = [
        f"# {escaped(paper.title)}",
        f"{_mark(paper.mark, style, upper=paper.mark.is_loud)}: {_line(paper.summary, style)}",
        _list([(Strong(f"{term}:"), " ", *told) for term, told in paper.facts], style, ordered=False),
    ]
    for section in paper.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += _blocks(section.blocks, style, level=3)
    parts.append(f"*Written by {escaped(paper.made_by)}. Times are local, with their offset from UTC.*")
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    r"""Return a text as Markdown that reads as the text.

    >>> print(escaped("a_b <script> 1 * 2"))
    a\_b \<script\> 1 \* 2
    """
    return _SPECIAL.sub(r"\\\1", printable(text))


def code_span(text: str) -> str:
    """Return a text letter by letter, within more backticks than it holds itself.

    >>> code_span("a"), code_span("a`b"), code_span("`")
    ('`a`', '``a`b``', '`` ` ``')
    """
    shown = printable(text) or " "
    longest = max((len(found) for found in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _blocks(blocks: Sequence[Block], style: Style, *, level: int) -> Iterator[str]:
    for block in blocks:
        yield from _block(block, style, level)


def _block(block: Block, style: Style, level: int) -> Iterator[str]:
    match block:
        case Prose():
            yield _paragraph(block.words, style)
        case Notice():
            sign = f"{style.sign(block.outcome)} " if block.outcome else ""
            yield f"> {sign}{_line(block.words, style)}"
        case Items():
            yield _list(block.items, style, ordered=block.ordered)
        case Pairs():
            yield _list([(Strong(f"{term}:"), " ", *told) for term, told in block.pairs], style, ordered=False)
        case Verbatim():
            yield "\n".join(f"    {printable(line)}" for line in block.lines)
        case Table():
            yield from _table(block, style)
        case Figure():
            yield f"*{escaped(block.caption)} {escaped(block.drawing.description)}*"
            yield from _table(block.table, style)
        case Group():
            yield f"{'#' * level} {escaped(block.title)}"
            yield from _blocks(block.blocks, style, level=min(level + 1, 6))


def _table(table: Table, style: Style) -> Iterator[str]:
    yield f"{escaped(table.caption)}:"
    if not table.rows:
        yield "None."
        return
    lines = [
        _row([escaped(column.title) for column in table.columns]),
        _row(["---:" if column.numeric else "---" for column in table.columns]),
        *(_row([_cell(cell, style) for cell in row]) for row in table.rows),
    ]
    yield "\n".join(lines)
    if table.more:
        yield f"{table.more:,} more are left out here; the JSON report has them all."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(words: Words, style: Style) -> str:
    # A table's cell ends at a bar wherever it stands, also within a code span (GitHub Flavored Markdown, Tables).
    return "".join(
        _inline(part, style).replace("|", r"\|") if isinstance(part, Code) else _inline(part, style) for part in words
    )


def _list(items: Sequence[Words], style: Style, *, ordered: bool) -> str:
    marks = (f"{number}." if ordered else "-" for number in range(1, len(items) + 1))
    return "\n".join(f"{mark} {_line(item, style)}" for mark, item in zip(marks, items, strict=True))


def _paragraph(words: Words, style: Style) -> str:
    return _BEGINS_A_BLOCK.sub(r"\1\\\2", _line(words, style))


def _line(words: Words, style: Style) -> str:
    return "".join(_inline(part, style) for part in words)


def _inline(part: Inline, style: Style) -> str:
    match part:
        case str():
            return escaped(part)
        case Mark():
            return _mark(part, style)
        case Code():
            return code_span(part.text)
        case Strong():
            return f"**{escaped(part.text)}**"
        case Moment():
            return style.time(part.at)
        case Link():
            # Every reader of Markdown makes the addresses of headings in a way of its own.
            return escaped(part.text)


def _mark(mark: Mark, style: Style, *, upper: bool = False) -> str:
    word = escaped(mark.word.upper() if upper else mark.word)
    return f"**{escaped(style.sign(mark.outcome))} {word}**" if mark.outcome else word
