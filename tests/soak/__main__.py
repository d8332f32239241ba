"""`python -m tests.soak`: audit random histories until enough were audited, and tell what was found.

Each audit is told in a line that begins with its name; `--replay 42/7` makes the cluster of history 42 again and
repeats its seventh audit, `--replay 42` all of them. Ends with 0 where every audit said what it had to say, else with
1. Ctrl-C ends it after the audits that are running, with the summary so far.
"""

import argparse
import json
import multiprocessing
import queue
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import this_machine
from replcheck.lab.cluster import remove_abandoned
from tests import labs
from tests.soak.records import AuditRecord, Summary
from tests.soak.workers import work

_RESULTS = Path("build/soak")
_PATIENCE_S = 120.0
"""How long a worker may take to end its audit and to remove its cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asked for."""

    audits: int
    seed: int
    jobs: int
    minutes: float | None
    replay: tuple[int, int | None] | None
    results: Path


def main() -> int:
    """Run the soak and return its exit status."""
    asked = _asked()
    soak = _Soak(asked)
    soak.run()
    machine = this_machine()
    lines = soak.summary.lines(seconds=soak.seconds, machine=machine.lines())
    print("\n".join(["", *lines, f"results         {asked.results}"]))
    with asked.results.open("a", encoding="utf-8") as file:
        document = soak.summary.document(seconds=soak.seconds, machine=machine.document())
        file.write(json.dumps({"summary": document | {"seed": asked.seed, "jobs": asked.jobs}}) + "\n")
    return int(bool(soak.summary.problems) or not soak.enough)


class _Soak:
    """Workers in processes of their own, and the summary of what they tell."""

    def __init__(self, asked: Asked) -> None:
        self.summary = Summary()
        self._asked = asked
        self._began = time.monotonic()
        self._context = multiprocessing.get_context("spawn")
        self._told = self._context.Queue()
        self._stop = self._context.Event()
        self._next = self._context.Value("q", asked.seed)
        self._running: dict[int, str] = {}
        """The audit that each worker is at."""
        self._mourned: set[int] = set()

    @property
    def seconds(self) -> float:
        """Return for how long it has run."""
        return time.monotonic() - self._began

    @property
    def enough(self) -> bool:
        """Return whether as many audits were made as were asked for."""
        over = self._asked.minutes is not None and self.seconds > self._asked.minutes * 60
        return over or self.summary.audits >= self._asked.audits or self._asked.replay is not None

    def run(self) -> None:
        """Let the workers audit until it is enough, or a signal comes."""
        root = labs.clusters_root()
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        workers = [self._worker(root) for _ in range(self._asked.jobs)]
        try:
            self._listen(workers)
        finally:
            self._stop.set()
            for worker in workers:
                worker.join(timeout=_PATIENCE_S)
                worker.kill()
                worker.join()
            remove_abandoned(root)
            labs.leave(root)

    def _listen(self, workers: list[Any]) -> None:
        while any(worker.is_alive() for worker in workers) or not self._told.empty():
            try:
                self._take(*self._told.get(timeout=0.5))
            except queue.Empty:
                self._look_after(workers)
            if self._asked.replay is None and self.enough:
                self._stop.set()
        self._look_after(workers)

    def _on_signal(self, *_: Any) -> None:
        print("ending after the audits that are running", flush=True)
        self._stop.set()

    def _worker(self, root: Path) -> Any:
        arguments = (root, self._asked.replay, self._next, self._told, self._stop)
        worker = self._context.Process(target=work, args=arguments)
        worker.start()
        return worker

    def _take(self, kind: str, pid: int, what: Any) -> None:
        if kind == "begun":
            self._running[pid] = what
        elif kind == "failed":
            self.summary.fail(self._running.get(pid, "a worker"), what)
            print(f"PROBLEM {self._running.get(pid, '')}: {what}", flush=True)
        elif kind == "ended":
            self._running.pop(pid, None)
        elif not self._stop.is_set() or what.verdict != "interrupted":
            self._add(what)

    def _add(self, record: AuditRecord) -> None:
        self.summary.add(record)
        print(record.line(), flush=True)
        for problem in record.problems:
            print(f"           {problem}", flush=True)
        with self._asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.document()) + "\n")

    def _look_after(self, workers: list[Any]) -> None:
        for worker in workers:
            if not worker.is_alive() and worker.exitcode != 0 and worker.pid not in self._mourned:
                self._mourned.add(worker.pid)
                name = self._running.pop(worker.pid, "a worker")
                self.summary.fail(name, f"the process of the audit ended with status {worker.exitcode}, or it hung")


def _asked() -> Asked:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--audits", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--seed", type=int, help="of the first history; the next has the next number (drawn)")
    parser.add_argument("--jobs", type=int, default=1, help="histories that are played at the same time (1)")
    parser.add_argument("--minutes", type=float, help="end after so many minutes, even with fewer audits")
    parser.add_argument("--replay", metavar="SEED[/AUDIT]", help="one history, or one audit of it")
    parser.add_argument("--results", type=Path, help="file for one JSON line an audit (build/soak/SEED.jsonl)")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 1_000_000) if given.seed is None else given.seed
    replay = None
    if given.replay is not None:
        history, _, audit = given.replay.partition("/")
        replay = (int(history), int(audit) if audit else None)
        seed = replay[0]
    results = given.results or _RESULTS / f"{seed}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    print(f"soak with seed {seed}; repeat one audit with: make soak SOAK_ARGS='--replay SEED/AUDIT'", flush=True)
    return Asked(audits=given.audits, seed=seed, jobs=given.jobs, minutes=given.minutes, replay=replay, results=results)


if __name__ == "__main__":
    sys.exit(main())
