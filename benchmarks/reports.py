"""How long a report of a year takes, and how large it is."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import commands
from benchmarks.measuring import Measure, in_turns, median
from benchmarks.years import Year, write_year
from replcheck.errors import LabError

_MOST_S = 5.0
_MOST_BYTES = 5_000_000


def year_of_reports(root: Path, rounds: int) -> list[Measure]:
    """Measure the page of a year: daily audits, weekly drills, hourly checks, and every second watched."""
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root, prefix="report-") as made:
        folder, year = Path(made), Year()
        write_year(folder / "clinic.db", year)
        sizes: list[int] = []

        def page() -> float:
            spent, size = _page(folder, year)
            sizes.append(size)
            return spent

        series = in_turns(rounds, {"page of a year": page})
    figure = median(series["page of a year"])
    return [
        Measure(
            name="report",
            what="replcheck report --format html of a year of three nodes: 365 audits of 154 relations, 52 drills,"
            f" 8,760 checks, 31 million samples; the page has {max(sizes) / 1e6:.2f} MB (at most 5)",
            unit="s",
            series=series,
            figure=figure,
            figure_is="s",
            reach="at most 5",
            reached=figure <= _MOST_S and max(sizes) <= _MOST_BYTES,
            notes={"size_bytes": max(sizes)},
        )
    ]


def _page(folder: Path, year: Year) -> tuple[float, int]:
    """Return the seconds that one page takes, and its bytes."""
    page = folder / "page.html"
    words = ("--since", year.since.isoformat(), "--until", year.until.isoformat(), "--format", "html")
    command = commands.replcheck("report", "--store", str(folder / "clinic.db"), *words, "--output", str(page))
    ran = commands.run(command)
    if ran.status or not page.exists():
        raise LabError(f"the report failed: {ran.output[-500:]}")
    return ran.seconds, page.stat().st_size
