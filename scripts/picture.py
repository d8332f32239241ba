"""Play the demo and put what it told into the documents: the picture docs/demo.svg and the text in README.md.

Run by `make picture`. The text stands between two marks of the README; everything else of it stays as it is.
"""

import io
import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from replcheck.model.demo import ClusterStarted, Part, PartBegun, Scene
from replcheck.report.story import Storyteller
from replcheck.report.style import Style
from replcheck.runs.demo import run_demo

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "demo.svg"
BEGIN, END = "<!-- demo begin: written by `make picture` -->", "<!-- demo end -->"
WIDTH = 88
_FIRST_SHOWN, _FIRST_LEFT_OUT = Part.FIRST_AUDIT, Part.NEW_COPY
_COMMENT = re.compile(r" *<!--.*?-->\n")
_FONTS_FROM_ELSEWHERE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def main() -> int:
    """Write both, unless a claim of the demo did not hold; return the exit status."""
    scenes: list[Scene] = []
    ended = run_demo(narrate=scenes.append)
    if ended.problems:
        sys.stderr.write("".join(f"picture: {problem}\n" for problem in ended.problems))
        return 3
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture_of(scenes), encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.stderr.write(f"picture: README.md lacks the marks {BEGIN} and {END}\n")
        return 3
    README.write_text(f"{before}{BEGIN}\n{block_of(scenes)}\n{END}{after}", encoding="utf-8")
    return 0


def picture_of(scenes: Sequence[Scene]) -> str:
    """Return the middle of the story as a picture of a terminal, which fetches nothing from anywhere."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, highlight=False, force_terminal=True, color_system="truecolor"
    )
    teller = Storyteller(console, Style())
    begins = [scene.part if isinstance(scene, PartBegun) else None for scene in scenes]
    first, end = begins.index(_FIRST_SHOWN), begins.index(_FIRST_LEFT_OUT) if _FIRST_LEFT_OUT in begins else -1
    for scene in scenes[:first]:
        teller(scene)
    console.export_text(clear=True)  # told all the same, so that the parts are numbered as in the demo
    for scene in scenes[first:end]:
        teller(scene)
    form = _FONTS_FROM_ELSEWHERE.sub("", CONSOLE_SVG_FORMAT)
    picture = console.export_svg(title="replcheck demo", theme=MONOKAI, code_format=form, unique_id="demo") + "\n"
    return _COMMENT.sub("", picture)


def block_of(scenes: Sequence[Scene]) -> str:
    """Return the whole story as text, with where and when it was told."""
    page = io.StringIO()
    teller = Storyteller(Console(file=page, width=WIDTH, highlight=False, no_color=True), Style())
    for scene in scenes:
        teller(scene)
    text = "".join(f"    {line}".rstrip() + "\n" for line in page.getvalue().splitlines())
    version = next(scene.version for scene in scenes if isinstance(scene, ClusterStarted))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    where = f"{len(os.sched_getaffinity(0))} cores and {memory:.0f} GB of memory, Python {platform.python_version()}"
    return f"Real output, of {datetime.now(UTC):%Y-%m-%d}, on {where}, PostgreSQL {version}:\n\n{text}"


if __name__ == "__main__":
    sys.exit(main())
