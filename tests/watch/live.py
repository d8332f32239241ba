"""A watch on real servers that runs beside a test: samples, events and views as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from replcheck.lab.cluster import LabCluster
from replcheck.model.live import ClusterEvent, ClusterView, EventKind, NodeAnswer, NodeSilence, NodeView, Sample
from replcheck.model.node import NodeTarget
from replcheck.watch.limits import WatchLimits
from replcheck.watch.sampler import Sampler
from replcheck.watch.scene import Watched
from replcheck.watch.topology import FoldState, begin, fold

INTERVAL_S = 0.3


@dataclass
class Seen:
    """An event with when it was told: after how many samples, and at what time of the monotonic clock."""

    event: ClusterEvent
    sample: int
    clock: float


@dataclass
class LiveWatch:
    """What a watch has seen so far."""

    state: FoldState
    limits: WatchLimits
    samples: list[Sample] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.state, told = fold(self.state, sample, self.limits)
        self.seen += [Seen(event, len(self.samples), time.monotonic()) for event in told]
        self.changed.set()

    @property
    def view(self) -> ClusterView:
        assert self.state.view is not None
        return self.state.view

    def node(self, name: str) -> NodeView:
        return next(node for node in self.view.nodes if node.node == name)

    def kinds(self, node: str | None = None) -> list[EventKind]:
        return [seen.event.kind for seen in self.seen if node in (None, seen.event.node)][0 if node else 1 :]

    def results(self, name: str) -> list[NodeAnswer | NodeSilence]:
        results: list[NodeAnswer | NodeSilence] = []
        for sample in self.samples:
            results += [*sample.answers, *sample.silences]
        return [result for result in results if result.node == name]

    async def until(self, holds: Callable[[], bool], *, timeout_s: float = 30) -> None:
        """Wait for more samples until a condition holds."""
        async with asyncio.timeout(timeout_s):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def told(self, kind: EventKind, node: str | None = None, *, timeout_s: float = 30) -> Seen:
        """Wait for an event and return it."""

        def found() -> list[Seen]:
            return [each for each in self.seen if each.event.kind is kind and node in (None, each.event.node)]

        await self.until(lambda: bool(found()), timeout_s=timeout_s)
        return found()[-1]

    async def settled(self, samples: int = 3) -> None:
        """Wait for some more samples."""
        target = len(self.samples) + samples
        await self.until(lambda: len(self.samples) >= target)


def targets_of(cluster: LabCluster) -> list[NodeTarget]:
    """Return the nodes of a cluster as the auditing role reaches them."""
    return [NodeTarget(name=name, dsn=cluster.audit_dsn(name)) for name in cluster.nodes]


@asynccontextmanager
async def watching(
    targets: list[NodeTarget],
    *,
    limits: WatchLimits | None = None,
    interval_s: float = INTERVAL_S,
    patience_s: float | None = None,
) -> AsyncIterator[LiveWatch]:
    """Watch some nodes while the context lasts, from when all of them gave a result."""
    watch = LiveWatch(begin("lab", [Watched(name=target.name) for target in targets]), limits or WatchLimits())
    stop = asyncio.Event()
    running = asyncio.create_task(Sampler(targets, interval_s, patience_s=patience_s).run(watch.take, stop))
    try:
        await watch.until(lambda: all(watch.results(target.name) for target in targets))
        yield watch
    finally:
        stop.set()
        await running
