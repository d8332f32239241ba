"""`python -m benchmarks`: measure the figures that the README promises, and write them down with the machine's size.

Each figure compares two things that take turns in one run. Everything that is measured is checked on the way: an audit
that does not say what it must say ends the run with status 1.
"""

import argparse
import compileall
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.commands import ROOT
from benchmarks.machine import this_machine
from benchmarks.scenarios import SCENARIOS, Setup
from replcheck.errors import ReplcheckError
from replcheck.lab.cluster import remove_abandoned, remove_root
from replcheck.lab.state import default_root


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for, and return the exit status."""
    given = _parser().parse_args(arguments)
    setup = Setup(
        root=(given.dir or default_root().with_name("replcheck-bench")).absolute(),
        rows=given.rows,
        memory_rows=tuple(given.memory_rows),
        relations=given.relations,
        rounds=given.rounds,
        seconds=given.seconds,
        scale=given.scale,
        records=given.records,
    )
    remove_abandoned(setup.root)
    compileall.compile_dir(ROOT / "src", quiet=1)  # as pip does when it installs
    machine = this_machine()
    said = {name: value for name, value in vars(given).items() if name not in ("dir", "results", "only")}
    failed = False
    for name in given.only or SCENARIOS:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        try:
            measures = SCENARIOS[name](setup)
        except ReplcheckError as error:
            failed = True
            print(f"benchmarks: {name}: {error.message}. {error.hint}", file=sys.stderr, flush=True)
            continue
        for measure in measures:
            print(results.told(measure), flush=True)
        folder = given.results or results.FOLDER
        table = folder / "RESULTS.md" if given.results else results.TABLE
        results.write(folder, table, machine, said, measures)
    remove_root(setup.root)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="this scenario; may be repeated")
    parser.add_argument("--rows", type=int, default=4_000_000, help="of the large table (4000000)")
    parser.add_argument(
        "--memory-rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 10_000_000], help="sizes for memory"
    )
    parser.add_argument("--relations", type=int, default=5_000, help="of the many small ones (5000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured (5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run of pgbench (20)")
    parser.add_argument("--scale", type=int, default=5, help="of pgbench: its accounts fit into the buffers (5)")
    parser.add_argument("--records", type=int, default=100_000, help="of the chain of evidence (100000)")
    parser.add_argument("--dir", type=Path, help="the folder of clusters")
    parser.add_argument("--results", type=Path, help="the folder for results (benchmarks/results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
