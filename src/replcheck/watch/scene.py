"""What is remembered of each node, and the scene of one moment that states and events are judged from.

Pure. A result of a node that is not newer than the last one of that node is passed over, so that no order of samples
tells anything twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from replcheck.model.live import NodeAnswer, NodeSilence, NodeView, Sample, Sender, WalMark
from replcheck.model.node import NodeRole
from replcheck.model.wal import Lsn
from replcheck.watch.marks import Marks, mark_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A node as the configuration names it."""

    name: str
    zone: str | None = None
    hosts: frozenset[str] = frozenset()
    """Addresses that its own connections may come from, as far as the configuration tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A time in which one start of a server was a primary throughout: a primary never turns back without a restart."""

    started_at: datetime
    certain_from: datetime
    """When its first answer as a primary was there."""
    certain_until: datetime
    """When it was last asked with that answer."""

    def overlaps(self, other: "Reign") -> bool:
        """Return whether both were primaries at one moment for certain."""
        return max(self.certain_from, other.certain_from) < min(self.certain_until, other.certain_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMemory:
    """One node as its results so far tell."""

    node: Watched
    answer: NodeAnswer | None = None
    """Its last."""
    silence: NodeSilence | None = None
    """Where its last result was none."""
    silent_since: datetime | None = None
    timeline: int | None = None
    """The last one it told."""
    reign: Reign | None = None
    """Where its last answer was one of a primary."""
    wrote_at: datetime | None = None
    """Its last answer as a primary, whatever it told since."""
    wrote: WalMark | None = None
    """How far it had written by its last answer as a primary in this watch."""
    received_at: datetime | None = None
    """When its received position last moved."""
    left: NodeView | None = None
    """What an earlier watch showed of it, until it answers in this one."""
    rebuilt: bool = False
    """Whether its last answer shows that it was made anew since the one before."""

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.node.name

    @property
    def is_primary(self) -> bool:
        """Return whether it answers now, and as a primary."""
        return self.silence is None and self.answer is not None and self.answer.role is NodeRole.PRIMARY

    @property
    def position(self) -> Lsn | None:
        """Return how far its data went by its last answer."""
        if self.answer is None:
            return self.left.lsn if self.left else None
        return self.answer.insert_lsn if self.answer.role is NodeRole.PRIMARY else self.answer.replayed_lsn

    @property
    def started_at(self) -> datetime | None:
        """Return when its server had been started by its last answer."""
        if self.answer is None:
            return self.left.started_at if self.left else None
        return self.answer.started_at

    @property
    def received_lsn(self) -> Lsn | None:
        """Return how far it had received WAL by its last answer."""
        if self.answer is None:
            return self.left.received_lsn if self.left else None
        return self.answer.received_lsn

    @property
    def last_at(self) -> datetime | None:
        """Return when its last result came."""
        if self.silence is not None:
            return self.silence.at
        return self.answer.at if self.answer else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """From whom a standby streams, as the sender shows it."""

    upstream: str
    sender: Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSender:
    """A standby that streams and that the configuration does not name."""

    name: str
    upstream: str
    sender: Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is known at the moment of one sample."""

    at: datetime
    memories: Mapping[str, NodeMemory]
    """Of the configured nodes, in their order."""
    before: Mapping[str, NodeMemory]
    """The same before this sample."""
    fresh: frozenset[str]
    """Nodes that answered in this sample."""
    identifier: str | None
    twins: Mapping[str, str]
    """Nodes that are the same server as another one, by name."""
    primary: str | None
    """The primary that others are compared with: the last one known, silent or not."""
    primaries: frozenset[str]
    """That one, the one before this sample, and one that was just taken over from."""
    timeline: int | None
    """Its timeline."""
    switch_lsn: Lsn | None
    """Where that timeline left the one before, where known."""
    marks: Marks
    links: Mapping[str, Link]
    found: tuple[FoundSender, ...]
    """Standbys that a sender shows and nobody configured."""
    rivals: tuple[str, ...] = ()
    """Nodes that are primaries at once for certain; none where fewer than two are."""

    @property
    def primary_answers(self) -> bool:
        """Return whether the primary answered and has not been silent since."""
        return self.primary is not None and self.memories[self.primary].is_primary

    def shows(self, node: NodeView) -> bool:
        """Return whether who tells of a node answered in this sample: itself, or the one whose sender shows it."""
        return (node.node if node.configured else node.upstream) in self.fresh

    def belongs(self, name: str) -> bool:
        """Return whether a node's last answer was one of this cluster, and of no server that has another name too."""
        answer = self.memories[name].answer
        return answer is not None and answer.system_identifier == self.identifier and name not in self.twins


def remember(memories: Mapping[str, NodeMemory], sample: Sample) -> tuple[dict[str, NodeMemory], frozenset[str]]:
    """Return what is known of each node after a sample, and which answered in it."""
    known = dict(memories)
    fresh = set()
    for answer in sample.answers:
        memory = known.get(answer.node)
        if memory is not None and _is_news(memory, answer.at):
            known[answer.node] = _answered(memory, answer)
            fresh.add(answer.node)
    for silence in sample.silences:
        memory = known.get(silence.node)
        if memory is not None and _is_news(memory, silence.at):
            since = memory.silent_since or silence.at
            known[silence.node] = replace(memory, silence=silence, silent_since=since)
            fresh.discard(silence.node)
    return known, frozenset(fresh)


def _is_news(memory: NodeMemory, at: datetime) -> bool:
    return memory.last_at is None or at > memory.last_at


def _answered(memory: NodeMemory, answer: NodeAnswer) -> NodeMemory:
    primary = answer.role is NodeRole.PRIMARY
    moved = memory.received_at is None or answer.received_lsn != memory.received_lsn
    return NodeMemory(
        node=memory.node,
        answer=answer,
        timeline=memory.timeline if answer.timeline is None else answer.timeline,
        reign=_reign(memory, answer) if primary else None,
        wrote_at=answer.at if primary else memory.wrote_at,
        wrote=memory.wrote if answer.insert_lsn is None else mark_of(answer, answer.insert_lsn),
        received_at=answer.at if moved else memory.received_at,
        rebuilt=_is_rebuilt(memory, answer),
    )


def _reign(memory: NodeMemory, answer: NodeAnswer) -> Reign:
    asked_at = answer.at - timedelta(seconds=answer.elapsed_s)
    reign = memory.reign
    if reign is None or reign.started_at != answer.started_at:
        return Reign(started_at=answer.started_at, certain_from=answer.at, certain_until=asked_at)
    return replace(reign, certain_until=asked_at)


def _is_rebuilt(memory: NodeMemory, answer: NodeAnswer) -> bool:
    """Return whether all WAL that a node has begins where it was last seen, or later.

    One that only comes back still has what it replays from, which lies before where it stopped. A base backup begins in
    a new file, or at the very beginning of one that nothing is written to yet (PostgreSQL source, do_pg_backup_start
    and ReserveXLogSwitch): that is where a standby of an idle primary stands. A server that ran on while nobody could
    see it has recycled its old files, and was never copied over.
    """
    if answer.started_at == memory.started_at:
        return False
    position = memory.position
    return position is not None and answer.oldest_wal is not None and answer.oldest_wal >= position


def elect_identifier(memories: Iterable[NodeMemory], last: str | None) -> str | None:
    """Return the system identifier of the cluster: that of most nodes, of a primary, the one it had, in this order.

    The one it had does not come first: a node that belongs elsewhere may have been the first to answer.
    """
    answers = [memory.answer for memory in memories if memory.answer is not None]
    found = [answer.system_identifier for answer in answers]
    of_primaries = {answer.system_identifier for answer in answers if answer.role is NodeRole.PRIMARY}
    return max(found, key=lambda each: (found.count(each), each in of_primaries, each == last), default=last)


def find_twins(memories: Iterable[NodeMemory]) -> dict[str, str]:
    """Return the nodes that are one and the same start of a server as one named before them."""
    first: dict[tuple[str, datetime, int], str] = {}
    twins = {}
    for memory in memories:
        answer = memory.answer
        if answer is None or memory.silence is not None:
            continue
        key = (answer.system_identifier, answer.started_at, answer.own_port)
        if key in first:
            twins[memory.name] = first[key]
        first.setdefault(key, memory.name)
    return twins
