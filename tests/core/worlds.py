"""Made-up lives of a cluster: what truly happens to its servers, and the samples that a watch would take of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from replcheck.model.live import NodeAnswer, NodeSilence, Sample, SilenceCode
from replcheck.model.wal import Lsn
from tests.core.watched import BEGUN, detached, primary, sample, second, silence, standby

NAMES = ("db1", "db2", "db3")
ACTIONS = ("wait", "kill", "start", "promote", "rebuild", "refuse", "hang", "pause", "write")


@dataclass
class Server:
    """One server as it really is."""

    name: str
    role: str
    timeline: int = 1
    lsn: int = 1_000
    upstream: str | None = None
    up: bool = True
    silent: SilenceCode | None = None
    paused: bool = False
    started_at: datetime = BEGUN - timedelta(days=1)
    promoted_lsn: int | None = None


@dataclass
class World:
    """A cluster over time; every step takes a second."""

    servers: dict[str, Server] = field(
        default_factory=lambda: {
            "db1": Server("db1", "primary"),
            "db2": Server("db2", "standby", upstream="db1"),
            "db3": Server("db3", "standby", upstream="db1"),
        }
    )
    at: int = 0
    timelines: int = 1
    reigns: list[tuple[str, int, float]] = field(default_factory=list)
    """Every promotion there was: node, timeline, when."""
    both_at: list[int] = field(default_factory=list)
    """Seconds at which two servers took writes."""

    def act(self, action: str, name: str) -> None:
        """Do something to a server, where it makes sense."""
        server = self.servers[name]
        self.at += 1
        if action == "kill":
            server.up = False
        elif action == "start" and (not server.up or server.silent):
            server.up, server.silent, server.started_at = True, None, second(self.at - 0.4)
            server.promoted_lsn = None
        elif action == "promote" and server.up and server.role == "standby":
            self._promote(server)
        elif action == "rebuild":
            self._rebuild(server)
        elif action == "refuse" and server.up:
            server.silent = SilenceCode.REFUSED
        elif action == "hang" and server.up:
            server.silent = SilenceCode.TIMEOUT
        elif action == "pause" and server.up and server.role == "standby":
            server.paused = not server.paused
        self._live(write=action == "write")

    def _promote(self, server: Server) -> None:
        self.timelines += 1
        server.role, server.timeline, server.upstream, server.paused = "primary", self.timelines, None, False
        server.promoted_lsn = server.lsn
        self.reigns.append((server.name, self.timelines, self.at))

    def _rebuild(self, server: Server) -> None:
        sources = [other for other in self.servers.values() if other.up and other.role == "primary" and other != server]
        if sources:
            source = max(sources, key=lambda other: other.timeline)
            server.role, server.upstream = "standby", source.name
            server.timeline, server.lsn = source.timeline, source.lsn
            server.up, server.silent, server.started_at = True, None, second(self.at - 0.4)
            server.paused, server.promoted_lsn = False, None

    def _live(self, *, write: bool) -> None:
        for server in self.servers.values():
            if server.up and server.role == "primary":
                server.lsn += 10 if write else 0
        for server in self.servers.values():
            source = self.servers.get(server.upstream or "")
            if server.up and source and source.up and source.role == "primary" and source.timeline == server.timeline:
                server.lsn = server.lsn if server.paused else source.lsn
        if sum(server.up and server.role == "primary" for server in self.servers.values()) > 1:
            self.both_at.append(self.at)

    def look(self) -> Sample:
        """Return what a watch would see now."""
        return sample(self.at, *(self._result(server) for server in self.servers.values()))

    def _result(self, server: Server) -> NodeAnswer | NodeSilence:
        if not server.up or server.silent:
            return silence(self.at, server.name, server.silent or SilenceCode.UNREACHABLE)
        known: dict[str, Any] = {"started_at": server.started_at, "timeline": server.timeline}
        if server.role == "primary":
            promoted = None if server.promoted_lsn is None else Lsn(server.promoted_lsn)
            return primary(self.at, server.name, lsn=server.lsn, promoted_lsn=promoted, **known)
        source = self.servers.get(server.upstream or "")
        streams = source is not None and source.up and source.timeline == server.timeline
        if streams:
            return standby(self.at, server.name, lsn=server.lsn, replay_paused=server.paused, **known)
        return detached(self.at, server.name, lsn=server.lsn, started_at=server.started_at)


@dataclass(frozen=True)
class Life:
    """A world's life with all samples of it."""

    world: World
    samples: tuple[Sample, ...]


@st.composite
def lives(draw: st.DrawFn, *, most: int = 40) -> Life:
    """Return lives of up to that many seconds."""
    world, samples = World(), [World().look()]
    for action, name in draw(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(NAMES)), max_size=most)):
        world.act(action, name)
        samples.append(world.look())
    return Life(world, tuple(samples))


@st.composite
def received(draw: st.DrawFn, life: Life) -> list[Sample]:
    """Return the samples as they may arrive: some lost, some in parts, some twice, some late."""
    arrived = []
    for whole in life.samples:
        fate = draw(st.sampled_from(("whole", "whole", "whole", "lost", "parts", "twice")))
        if fate == "parts":
            arrived += [replace(whole, silences=()), replace(whole, answers=())]
        elif fate != "lost":
            arrived += [whole] * (2 if fate == "twice" else 1)
    for _ in range(draw(st.integers(0, 5)) if len(arrived) > 1 else 0):
        at = draw(st.integers(0, len(arrived) - 2))
        arrived[at], arrived[at + 1] = arrived[at + 1], arrived[at]
    return [each for each in arrived if each.answers or each.silences]
