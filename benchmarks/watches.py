"""What a watch costs: its own process, the servers that are sampled, and memory over a day."""

import asyncio
import json
import os
import pty
import subprocess
import termios
import time
import tracemalloc
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import commands
from replcheck.errors import LabError
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import EventKind, Sample
from replcheck.model.node import NodeTarget
from replcheck.postgres.sampling import open_sampling_session
from replcheck.watch.limits import WatchLimits
from replcheck.watch.sampler import Sampler
from replcheck.watch.scene import Watched
from replcheck.watch.topology import FoldState, begin, fold

_LIMITS = WatchLimits(copies=3, recovery_age_s=300)
_DAY_S = 86_400
_SHOWN = b"Overview"
"""A word of every first picture."""
_LINES, _COLUMNS = 24, 80
_PLAN = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE sample"


@dataclass
class Taker:
    """Folds what a sampler brings, and counts."""

    state: FoldState
    samples: int = 0
    last: Sample | None = None
    lost_at: float | None = None

    def take(self, sample: Sample) -> None:
        """Fold one sample in."""
        self.state, told = fold(self.state, sample, _LIMITS)
        self.samples += 1
        self.last = sample
        if any(event.kind is EventKind.PRIMARY_LOST for event in told):
            self.lost_at = time.monotonic()


def targets_of(cluster: LabCluster) -> list[NodeTarget]:
    """Return the nodes of a cluster, by the role of the audits."""
    return [NodeTarget(name=name, dsn=cluster.audit_dsn(name)) for name in cluster.nodes]


def begun(cluster: LabCluster) -> FoldState:
    """Return the state of a watch of a cluster that begins."""
    return begin("bench", [Watched(name=name) for name in cluster.nodes])


def processor_share(cluster: LabCluster, seconds: float) -> tuple[float, Sample]:
    """Return the share of one core, in percent, that sampling and folding take for some time, and a whole sample."""
    return asyncio.run(_processor_share(cluster, seconds))


async def _processor_share(cluster: LabCluster, seconds: float) -> tuple[float, Sample]:
    taker, stop = Taker(begun(cluster)), asyncio.Event()
    running = asyncio.create_task(Sampler(targets_of(cluster)).run(taker.take, stop))
    await asyncio.sleep(2)  # connections are made once
    used, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    share = (time.process_time() - used) / (time.monotonic() - began)
    stop.set()
    await running
    if taker.last is None or len(taker.last.answers) < len(cluster.nodes):
        raise RuntimeError("a node did not answer")
    return share * 100, taker.last


def server_times_ms(cluster: LabCluster, times: int) -> dict[str, tuple[float, ...]]:
    """Return how long each node takes to answer a sample, by its own clock, in milliseconds."""
    return asyncio.run(_server_times_ms(cluster, times))


async def _server_times_ms(cluster: LabCluster, times: int) -> dict[str, tuple[float, ...]]:
    found = {}
    for target in targets_of(cluster):
        session = await open_sampling_session(target)
        plans: list[Any] = [(await session.fetch(_PLAN))[0][0] for _ in range(times)]
        await session.close()
        read = [json.loads(plan) if isinstance(plan, bytes | str) else plan for plan in plans]
        found[target.name] = tuple(float(plan[0]["Execution Time"]) for plan in read)
    return found


def detection_s(cluster: LabCluster, rounds: int) -> tuple[float, ...]:
    """Return how long it took each time from the end of a killed primary until its loss was told."""
    return tuple(asyncio.run(_detection_s(cluster, number)) for number in range(rounds))


async def _detection_s(cluster: LabCluster, number: int) -> float:
    taker, stop = Taker(begun(cluster)), asyncio.Event()
    running = asyncio.create_task(Sampler(targets_of(cluster)).run(taker.take, stop))
    # The kill comes at another moment of the interval each time.
    await asyncio.sleep(2 + number * 0.37 % 1)
    await asyncio.to_thread(cluster.primary.kill)
    killed = time.monotonic()
    while taker.lost_at is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    stop.set()
    await running
    await asyncio.to_thread(cluster.primary.start)
    return taker.lost_at - killed


def first_picture_s(cluster: LabCluster) -> float:
    """Return how long it takes from the start of the program until a terminal has its first picture of a watch."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (_LINES, _COLUMNS))
    with TemporaryDirectory(prefix="replcheck-bench-") as home:
        config = Path(home) / "replcheck.toml"
        nodes = "".join(f"{target.name} = {{ dsn = {json.dumps(target.dsn)} }}\n" for target in targets_of(cluster))
        config.write_text(f'cluster = "bench"\n[nodes]\n{nodes}')
        environment = {"TERM": "xterm-256color", "HOME": home, "REPLCHECK_CONFIG": str(config)}
        began = time.perf_counter()
        process = subprocess.Popen(
            commands.replcheck("watch", "--no-store"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=commands.users_environment() | environment,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            return _first_shown(ours) - began
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _first_shown(terminal: int) -> float:
    shown = b""
    while _SHOWN not in shown:
        try:
            shown += os.read(terminal, 1 << 16)
        except OSError as error:  # what the other side left when it closed
            raise LabError("the watch ended without a picture") from error
    return time.perf_counter()


def memory_of_a_day(cluster: LabCluster, like: Sample) -> tuple[float, ...]:
    """Fold a day of samples that write and are archived, and return the memory held after each quarter, in kB."""
    state, held = begun(cluster), []
    tracemalloc.start()
    for second in range(_DAY_S):
        state, _ = fold(state, _later(like, second), _LIMITS)
        if second % (_DAY_S // 4) == _DAY_S // 4 - 1:
            held.append(tracemalloc.get_traced_memory()[0] / 1024)
    tracemalloc.stop()
    return tuple(held)


def _later(like: Sample, second: int) -> Sample:
    """Return a sample as it would be later, when more was written and every transaction is a new one."""
    passed = timedelta(seconds=second)
    answers = tuple(
        replace(
            answer,
            at=answer.at + passed,
            server_at=answer.server_at + passed,
            insert_lsn=None
            if answer.insert_lsn is None
            else type(answer.insert_lsn)(answer.insert_lsn + 1000 * second),
            next_xid=None if answer.next_xid is None else answer.next_xid + second,
            oldest_xid=None if answer.oldest_xid is None else answer.oldest_xid + second,
        )
        for answer in like.answers
    )
    return Sample(at=like.at + passed, answers=answers)
