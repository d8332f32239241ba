"""Draw the pictures of `replcheck watch` for the documents, docs/watch-*.svg, from the recorded feed.

Run by `make screens`. What they show is what real servers told (see `record_screens`); they fetch nothing.
"""

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from replcheck.tui.app import WatchApp
from replcheck.tui.feed import Asked
from replcheck.tui.options import Options
from tests.tui.feeds import Asked as Commands
from tests.tui.feeds import ListFeed
from tests.tui.recordings import until

DOCS = Path(__file__).parents[1] / "docs"
SIZE = (110, 32)
ASKED = Asked(running_copies=3, proven_copies=2, proof_age_s=86400.0, recovery_age_s=300.0)
_FONTS_FROM_ELSEWHERE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_COMMENT = re.compile(r" *<!--.*?-->\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture: what was told until a mark, and the keys that were pressed then."""

    name: str
    mark: str
    chunks: int = 0
    """How many chunks of the next audit were told beyond the mark."""
    keys: Sequence[str] = ()
    light: bool = False
    size: tuple[int, int] = SIZE


PICTURES = (
    Picture(name="overview", mark="drilled"),
    Picture(name="lost", mark="lost"),
    Picture(name="audit", mark="drilled", chunks=60, keys=("2",)),
    Picture(name="relation", mark="diverged", keys=("2", "enter")),
    Picture(name="drill", mark="drilled", keys=("3",)),
    Picture(name="history", mark="back", keys=("4",), light=True),
)


async def draw(picture: Picture) -> str:
    """Return a picture as SVG."""
    told = until(picture.mark, chunks=picture.chunks)
    options = Options(
        cluster="clinic", asked=ASKED, zone=UTC, light=picture.light, clock=lambda: max(one.at for one in told)
    )
    app = WatchApp(ListFeed(told), Commands(), options)
    async with app.run_test(size=picture.size) as pilot:
        await pilot.pause(0.3)
        for key in picture.keys:
            await pilot.press(key)
            await pilot.pause(0.2)
        svg = app.export_screenshot(title=f"replcheck watch: {picture.name}")
    return _COMMENT.sub("", _FONTS_FROM_ELSEWHERE.sub("", svg)).replace("terminal-", f"{picture.name}-")


def main() -> int:
    """Write all pictures; return the exit status."""
    for picture in PICTURES:
        svg = asyncio.run(draw(picture))
        (DOCS / f"watch-{picture.name}.svg").write_text(f"{svg.rstrip()}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
