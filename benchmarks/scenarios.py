"""What is measured: each scenario makes its cluster, measures side by side, and returns its figures."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from benchmarks import checks, commands, evidence, restores, subjects, watches, writers
from benchmarks.measuring import Measure, in_turns, median, timed
from benchmarks.reports import year_of_reports
from replcheck.errors import LabError

_DRILLED_ROWS = 4_000_000
"""Rows with their index make more than 500 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How large and how often."""

    root: Path
    """The folder of clusters."""
    rows: int
    memory_rows: tuple[int, ...]
    relations: int
    rounds: int
    seconds: float
    """How long pgbench runs each time."""
    scale: int
    """Of pgbench, in 100,000 accounts."""
    records: int = 100_000
    """Of the chain of evidence."""


def _bare_python() -> float:
    """Return how long an interpreter takes that does nothing: what all others here start with."""
    return commands.run([sys.executable, "-c", "pass"]).seconds


def _seconds(
    series: Mapping[str, tuple[float, ...]],
    label: str,
    *,
    name: str,
    what: str,
    most: float,
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> Measure:
    """Return the measure of something whose time itself is the figure: the median of what has the label in a series."""
    figure = median(series[label])
    return Measure(
        name=name,
        what=what,
        unit="s",
        series=series,
        figure=figure,
        figure_is="s",
        reach=f"at most {most:g}",
        reached=figure <= most,
        notes=notes,
    )


def against_reladiff(setup: Setup) -> list[Measure]:
    """Measure a clean audit of a primary and one standby against reladiff on the same two."""
    if not commands.RELADIFF.exists():
        raise LabError(f"{commands.RELADIFF} is missing", hint="Run it by: make bench")
    with subjects.cluster_of(setup.root) as cluster:
        subjects.add_records(cluster, 1, setup.rows)
        commands.audit(cluster, ["standby1"])
        series = in_turns(
            setup.rounds,
            {
                "replcheck": lambda: commands.audit(cluster, ["standby1"]).seconds,
                "reladiff": lambda: commands.reladiff(cluster, "standby1").seconds,
            },
        )
    figure = median(series["reladiff"]) / median(series["replcheck"])
    return [
        Measure(
            name="reladiff",
            what=f"an audit of {setup.rows:,} equal rows on a primary and a standby, against reladiff on the same two",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times as fast as reladiff",
            reach="at least 5",
            reached=figure >= 5,
            notes={"reladiff": commands.run([str(commands.RELADIFF), "--version"]).output.strip()},
        )
    ]


def against_bare_digest(setup: Setup) -> list[Measure]:
    """Measure a clean audit against the bare digest query, run once on each node at the same time."""
    with subjects.cluster_of(setup.root) as cluster:
        cluster.primary.execute("create table nothing ()", dbname=subjects.DATABASE)
        subjects.add_records(cluster, 1, setup.rows)
        commands.bare_digest(cluster, ["standby1"])
        series = in_turns(
            setup.rounds,
            {
                "audit": lambda: commands.audit(cluster, ["standby1"]).seconds,
                "bare": timed(lambda: commands.bare_digest(cluster, ["standby1"])),
                "nothing": lambda: commands.audit(cluster, ["standby1"], "--table", "nothing").seconds,
            },
        )
    figure = median(series["audit"]) / median(series["bare"])
    return [
        Measure(
            name="digest",
            what=f"an audit of {setup.rows:,} rows on a primary and a standby, start of the program and preflight"
            " included, against the digest query alone, once on each at the same time",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times the bare query",
            reach="at most 1.15",
            reached=figure <= 1.15,
            notes={"nothing": "an audit of one empty table: what every audit takes"},
        )
    ]


def with_hidden_differences(setup: Setup) -> list[Measure]:
    """Measure an audit of a standby with 100 broken rows against one of a clean standby of the same primary."""
    with subjects.cluster_of(setup.root, standbys=2) as cluster:
        subjects.add_records(cluster, 1, setup.rows)
        broken = subjects.hide_differences(cluster, "standby2", 100, seed=1)
        commands.audit(cluster, ["standby1"])
        series = in_turns(
            setup.rounds,
            {
                "clean": lambda: commands.audit(cluster, ["standby1"]).seconds,
                "broken": lambda: commands.audit(cluster, ["standby2"], verdict="diverged").seconds,
            },
        )
    figure = median(series["broken"]) / median(series["clean"])
    return [
        Measure(
            name="hidden",
            what=f"an audit that finds {broken} changed rows, each in another page, among {setup.rows:,}, against an"
            " audit of the same rows unchanged",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times the clean audit",
            reach="at most 1.2",
            reached=figure <= 1.2,
        )
    ]


def client_memory(setup: Setup) -> list[Measure]:
    """Measure the peak memory of the client over tables of different sizes."""
    series: dict[str, tuple[float, ...]] = {}
    with subjects.cluster_of(setup.root) as cluster:
        there = 0
        for rows in sorted(setup.memory_rows):
            subjects.add_records(cluster, there + 1, rows)
            there = rows
            peaks = [commands.audit(cluster, ["standby1"]).peak_bytes / (1 << 20) for _ in range(setup.rounds)]
            series[f"{rows:,} rows"] = tuple(peaks)
    figure = max(max(values) for values in series.values())
    return [
        Measure(
            name="memory",
            what="the largest resident set of the audit's process, as the kernel counts it",
            unit="MB",
            series=series,
            figure=figure,
            figure_is="MB at most",
            reach="flat, at most 150",
            reached=figure <= 150,
        )
    ]


def many_relations(setup: Setup) -> list[Measure]:
    """Measure an audit of many small relations on three nodes against the same digests sent bare."""
    replicas = ["standby1", "standby2"]
    tables = [f"small_{number}" for number in range(1, setup.relations + 1)]
    with subjects.cluster_of(setup.root, standbys=2) as cluster:
        subjects.add_small_relations(cluster, setup.relations)
        commands.bare_digests(cluster, replicas, tables)
        series = in_turns(
            setup.rounds,
            {
                "audit": lambda: commands.audit(cluster, replicas).seconds,
                "bare": timed(lambda: commands.bare_digests(cluster, replicas, tables)),
            },
        )
    figure = median(series["audit"]) / median(series["bare"])
    return [
        Measure(
            name="relations",
            what=f"an audit of {setup.relations:,} tables of 20 rows on three nodes, against the digest of each sent"
            " bare to each node, over as many connections as the audit has lanes",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times the bare statements",
            reach="at most 3",
            reached=figure <= 3,
        )
    ]


def workload(setup: Setup) -> list[Measure]:
    """Measure what pgbench still achieves while audits run without end, at each pace, against none."""
    with subjects.cluster_of(setup.root) as cluster:
        subjects.add_records(cluster, 1, setup.rows)
        return writers.beside_audits(cluster, rounds=setup.rounds, seconds=setup.seconds, scale=setup.scale)


def sealing(setup: Setup) -> list[Measure]:
    """Measure a seal of one large table against the bare digest query, run once on the primary."""
    with subjects.cluster_of(setup.root, standbys=0) as cluster:
        restores.allow_seals(cluster)
        subjects.add_records(cluster, 1, setup.rows)
        commands.bare_digest(cluster, [])
        series = in_turns(
            setup.rounds,
            {
                "seal": lambda: restores.seal(cluster, cluster.directory / "seals").seconds,
                "bare": timed(lambda: commands.bare_digest(cluster, [])),
            },
        )
    figure = median(series["seal"]) / median(series["bare"])
    return [
        Measure(
            name="seal",
            what=f"a seal of {setup.rows:,} rows over two connections, start of the program included, against the"
            " digest query alone",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times the bare query",
            reach="at most 1.15",
            reached=figure <= 1.15,
        )
    ]


def drilling(setup: Setup) -> list[Measure]:
    """Measure a whole drill of a base backup against copying, recovering and checking it by hand."""
    with restores.restorable(setup.root, max(setup.rows, _DRILLED_ROWS)) as subject:
        size = subject.size_bytes
        subject.by_hand()
        series = in_turns(
            setup.rounds,
            {"drill": lambda: subject.drill().seconds, "by hand": timed(subject.by_hand)},
        )
    figure = median(series["drill"]) / median(series["by hand"])
    return [
        Measure(
            name="drill",
            what=f"a drill of a base backup of {size >> 20:,} MB to a seal, all layers of proof included, against"
            " copying, recovering and pg_amcheck by hand",
            unit="s",
            series=series,
            figure=figure,
            figure_is="times the work by hand",
            reach="at most 1.5",
            reached=figure <= 1.5,
        )
    ]


def long_chain(setup: Setup) -> list[Measure]:
    """Measure the verification of a long chain of evidence, against the thirty lines of the documentation."""
    with TemporaryDirectory(prefix="replcheck-bench-") as folder:
        path, keys = evidence.write_chain(Path(folder), setup.records)
        size = path.stat().st_size
        peak = evidence.verify(path, keys).peak_bytes
        series = in_turns(
            setup.rounds,
            {
                "verify": lambda: evidence.verify(path, keys).seconds,
                "thirty lines": lambda: evidence.verify_by_the_page(path, keys).seconds,
            },
        )
    figure = median(series["verify"])
    return [
        Measure(
            name="evidence",
            what=f"replcheck evidence verify of an exported chain of {setup.records:,} signed records"
            f" ({size >> 20:,} MB), start of the program included, and the program of the documentation on the same",
            unit="s",
            series=series,
            figure=figure,
            figure_is="s",
            reach="at most 10",
            reached=figure <= 10,
            notes={"peak_mb": peak >> 20},
        )
    ]


def checking(setup: Setup) -> list[Measure]:
    """Measure a check with nothing due, of three nodes and a history of many runs."""
    runs = 100_000
    with subjects.cluster_of(setup.root, standbys=2) as cluster:
        store = cluster.directory / "history.db"
        rows = checks.make_history(store, cluster, runs, now=checks.now())
        config = checks.configuration(cluster.directory, cluster, store)
        checks.check(config)
        series = in_turns(
            max(5, setup.rounds),
            {
                "check": lambda: checks.check(config).seconds,
                "nagios": lambda: (
                    commands.run(commands.replcheck("check", "--config", str(config), "--format", "nagios")).seconds
                ),
                "python -c pass": _bare_python,
            },
        )
    return [
        _seconds(
            series,
            "check",
            name="check",
            what=f"replcheck check with nothing due: eight controls over 30 days, a look at three nodes, and a history"
            f" of {runs:,} runs",
            most=1,
            notes={"rows": rows, "nagios": "a plugin's line, answered from the history alone"},
        )
    ]


def help_text(setup: Setup) -> list[Measure]:
    """Measure how long `replcheck --help` takes, against an interpreter that does nothing."""
    series = in_turns(
        max(5, setup.rounds),
        {
            "replcheck --help": lambda: commands.run([sys.executable, "-m", "replcheck", "--help"]).seconds,
            "python -c pass": _bare_python,
        },
    )
    return [
        _seconds(
            series,
            "replcheck --help",
            name="help",
            what="replcheck --help, from the shell",
            most=0.25,
        )
    ]


def sampling(setup: Setup) -> list[Measure]:
    """Measure what a watch of three nodes costs the machine it runs on and the servers, and how soon it sees a loss."""
    with subjects.cluster_of(setup.root, standbys=2) as cluster:
        shares, like = zip(*(watches.processor_share(cluster, 60) for _ in range(setup.rounds)), strict=True)
        times = watches.server_times_ms(cluster, 200)
        detections = watches.detection_s(cluster, max(5, setup.rounds))
        held = watches.memory_of_a_day(cluster, like[0])
    share, slowest = median(shares), max(median(values) for values in times.values())
    growth = held[-1] / held[0]
    return [
        Measure(
            name="sampler",
            what="sampling three nodes once a second and folding what they tell, for a minute each time",
            unit="% of one core",
            series={"watch": shares},
            figure=share,
            figure_is="% of one core",
            reach="at most 0.5",
            reached=share <= 0.5,
        ),
        Measure(
            name="sample",
            what="one sample, in the server",
            unit="ms",
            series=times,
            figure=slowest,
            figure_is="ms on the slowest node",
            reach="less than 1",
            reached=slowest < 1,
        ),
        Measure(
            name="detection",
            what="from the end of a killed primary until its loss is told, at the default interval",
            unit="s",
            series={"killed": detections},
            figure=max(detections),
            figure_is="s at most",
            reach="at most 2",
            reached=max(detections) <= 2,
        ),
        Measure(
            name="watch-memory",
            what="memory that the fold holds over a day of samples that all differ, after each quarter of it",
            unit="kB",
            series={f"{hours} h": (kilobytes,) for hours, kilobytes in zip((6, 12, 18, 24), held, strict=True)},
            figure=growth,
            figure_is="times as much after 24 hours as after 6",
            reach="flat",
            reached=growth < 1.1,
        ),
    ]


def first_pictures(setup: Setup) -> list[Measure]:
    """Measure how soon the screen is there, bare Python and the library of the screen beside it."""
    library = [sys.executable, "-c", "import textual.app, textual.widgets"]
    with subjects.cluster_of(setup.root, standbys=2) as cluster:
        watches.first_picture_s(cluster)
        series = in_turns(
            max(5, setup.rounds),
            {
                "first picture": lambda: watches.first_picture_s(cluster),
                "import of the library": lambda: commands.run(library).seconds,
                "python -c pass": _bare_python,
            },
        )
    return [
        _seconds(
            series,
            "first picture",
            name="picture",
            what="replcheck watch of three nodes on a terminal, from its start to the first picture",
            most=0.5,
        )
    ]


def reporting(setup: Setup) -> list[Measure]:
    """Measure how long the page of a year takes, and how large it is."""
    return year_of_reports(setup.root, setup.rounds)


SCENARIOS: Mapping[str, Callable[[Setup], list[Measure]]] = {
    "help": help_text,
    "check": checking,
    "digest": against_bare_digest,
    "reladiff": against_reladiff,
    "hidden": with_hidden_differences,
    "relations": many_relations,
    "memory": client_memory,
    "workload": workload,
    "seal": sealing,
    "drill": drilling,
    "evidence": long_chain,
    "sampler": sampling,
    "picture": first_pictures,
    "report": reporting,
}
"""By the name that `--only` takes."""
