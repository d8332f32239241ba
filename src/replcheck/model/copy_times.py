"""How many copies of a cluster ran and were proven over a time: a sweep over the changes, by the rule of `copies`.

Time is told apart in four: enough copies, too few, unknown (not proven any more, and nothing speaks against them), and
unwatched. The last two are never counted as good. A gap in the samples is one from its beginning on, which is only
known afterwards: the last sample of all is still trusted for `GAP_S`, as by `copies.standings`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby, pairwise, zip_longest

from replcheck.model.copies import AuditProof
from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.model.spans import GAP_S, NodeSpan

_GAP = timedelta(seconds=GAP_S)
_TELLING = frozenset(NodeState) - {NodeState.UNSURE}


class Coverage(Enum):
    """What is known of a time."""

    ENOUGH = "enough"
    SHORT = "short"
    """Fewer copies than were asked for, whatever is unknown of the others."""
    UNPROVEN = "unproven"
    """It may have been enough: proofs had lapsed, or a node was not seen."""
    UNWATCHED = "unwatched"
    """Nothing looked at any node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time over which the number of copies stayed the same."""

    began_at: datetime
    ended_at: datetime
    coverage: Coverage
    running: int
    """Nodes that were seen to hold the data and to keep up."""
    proven: int

    @property
    def seconds(self) -> float:
        """Return how long it lasted."""
        return (self.ended_at - self.began_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesAsked:
    """How many copies are asked for, and how old a proof may be."""

    nodes: tuple[str, ...]
    """The nodes that may count as copies."""
    running: int
    proven: int
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesOverTime:
    """The copies of a cluster over a time, without a break between the stretches."""

    stretches: tuple[Stretch, ...]

    @property
    def seconds(self) -> float:
        """Return the length of the whole."""
        return sum(stretch.seconds for stretch in self.stretches)

    def spent(self, coverage: Coverage) -> float:
        """Return the seconds of which that is known."""
        return sum(stretch.seconds for stretch in self.stretches if stretch.coverage is coverage)

    @property
    def share(self) -> float:
        """Return the percentage of the time in which there were certainly enough copies."""
        return _percent(self.spent(Coverage.ENOUGH), self.seconds)

    @property
    def share_at_best(self) -> float:
        """Return that percentage as it would be if all that is unknown had been good."""
        return _percent(self.seconds - self.spent(Coverage.SHORT), self.seconds)


def copies_over_time(
    began_at: datetime,
    ended_at: datetime,
    proofs: Iterable[AuditProof],
    spans: Iterable[NodeSpan],
    asked: CopiesAsked,
) -> CopiesOverTime:
    """Return what the samples and proofs show of the time from `began_at` to `ended_at`.

    Proofs and spans from before the time count for what of it they reach into.
    """
    lives = _lives(list(proofs), _trusted(spans, ended_at), asked)
    moments = {began_at, ended_at, *(moment for life in lives for moment in life.changes())}
    borders = sorted(moment for moment in moments if began_at <= moment <= ended_at)
    found = [_stretch(first, second, lives, asked) for first, second in pairwise(borders)]
    return CopiesOverTime(stretches=tuple(_joined(found)))


def _trusted(spans: Iterable[NodeSpan], until: datetime) -> list[NodeSpan]:
    """Return the spans, the last of each node drawn out to `until` where that is not too far to trust it."""
    found = list(spans)
    last: dict[str, int] = {}
    for place, span in enumerate(found):
        if span.node not in last or span.ended_at > found[last[span.node]].ended_at:
            last[span.node] = place
    for place in last.values():
        if found[place].ended_at < until <= found[place].ended_at + _GAP:
            found[place] = replace(found[place], ended_at=until)
    return found


@dataclass(frozen=True, slots=True)
class _Times:
    """Times that do not overlap, in their order; each holds its beginning and not its end."""

    begins: list[datetime]
    ends: list[datetime]

    @classmethod
    def of(cls, pairs: Iterable[tuple[datetime, datetime]]) -> "_Times":
        """Join what overlaps or touches."""
        begins: list[datetime] = []
        ends: list[datetime] = []
        for began_at, ended_at in sorted(pair for pair in pairs if pair[0] < pair[1]):
            if ends and began_at <= ends[-1]:
                ends[-1] = max(ends[-1], ended_at)
            else:
                begins.append(began_at)
                ends.append(ended_at)
        return cls(begins, ends)

    def holds(self, moment: datetime) -> bool:
        place = bisect_right(self.begins, moment) - 1
        return place >= 0 and moment < self.ends[place]


@dataclass(frozen=True, slots=True)
class _Life:
    """One node over all times."""

    watched: _Times
    known: _Times
    """Times in which a look at it told what it is."""
    running: _Times
    proven: _Times
    diverged: _Times
    ruling: _Times
    """Times in which it was the primary, which is held against nobody."""

    @property
    def _all(self) -> tuple[_Times, ...]:
        return (self.watched, self.known, self.running, self.proven, self.diverged, self.ruling)

    def is_refuted(self, moment: datetime) -> bool:
        """Return whether an audit speaks against it."""
        return self.diverged.holds(moment) and not self.ruling.holds(moment)

    def changes(self) -> Iterator[datetime]:
        for times in self._all:
            yield from times.begins
            yield from times.ends


def _lives(proofs: list[AuditProof], spans: list[NodeSpan], asked: CopiesAsked) -> list[_Life]:
    by_node: dict[str, list[NodeSpan]] = {node: [] for node in asked.nodes}
    for span in sorted(spans, key=lambda span: span.began_at):
        by_node.setdefault(span.node, []).append(span)
    replicas = {node: list(_proven_times(node, proofs, own, asked.max_age_s)) for node, own in by_node.items()}
    return [_life(node, proofs, by_node[node], replicas) for node in asked.nodes]


def _life(
    node: str,
    proofs: list[AuditProof],
    spans: list[NodeSpan],
    replicas: dict[str, list[tuple[AuditProof, datetime, datetime]]],
) -> _Life:
    streams = _lasting(spans, {NodeState.STREAMING})
    ruling = _lasting(spans, {NodeState.PRIMARY})
    agreeing = [
        (max(began_at, ruled[0]), min(ended_at, ruled[1]))
        for times in replicas.values()
        for proof, began_at, ended_at in times
        if proof.primary == node and (ruled := _around(proof.proven_at, ruling, proof.system_identifier)) is not None
    ]
    own = [(began_at, ended_at) for _, began_at, ended_at in replicas[node]]
    return _Life(
        watched=_Times.of((run.began_at, run.ended_at) for run in _lasting(spans, frozenset(NodeState))),
        known=_Times.of((run.began_at, run.ended_at) for run in _lasting(spans, _TELLING)),
        running=_Times.of((run.began_at, run.ended_at) for run in (*streams, *ruling)),
        proven=_Times.of([*own, *agreeing]),
        diverged=_Times.of(_diverged_times(node, proofs)),
        ruling=_Times.of((run.began_at, run.ended_at) for run in ruling),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """Spans of one node without a gap between them, all of wanted states and of one cluster."""

    began_at: datetime
    ended_at: datetime
    identifier: str | None
    """Of the system; None where it was never seen. It is the same in all of them."""
    gap_s: float
    """How long before it the sample before it was, as far as there was one."""


def _lasting(spans: Sequence[NodeSpan], states: Container[NodeState]) -> list[_Run]:
    """Return the times in which samples showed a node in these states, bridging gaps of at most `GAP_S`.

    Nobody knows when between two samples a state changed: the earlier one is believed until the later.
    """
    runs: list[_Run] = []
    joins = False
    for span, later in zip_longest(spans, spans[1:]):
        lasts = later is not None and later.began_at - span.ended_at <= _GAP and later.longest_gap_s <= GAP_S
        ended_at = max(span.ended_at, later.began_at) if lasts else span.ended_at
        if span.state in states:
            begun = _Run(span.began_at, ended_at, span.system_identifier, span.longest_gap_s)
            before = runs.pop() if joins and _same_cluster(runs[-1], begun) else begun
            identifier = before.identifier or begun.identifier
            runs.append(replace(before, ended_at=max(before.ended_at, ended_at), identifier=identifier))
        joins = lasts and span.state in states
    return runs


def _same_cluster(one: _Run, other: _Run) -> bool:
    return None in {one.identifier, other.identifier} or one.identifier == other.identifier


def _around(moment: datetime, runs: Sequence[_Run], identifier: str) -> tuple[datetime, datetime] | None:
    """Return the run that shows a node from a moment on, or from at most `GAP_S` later; None where none does."""
    place = bisect_left([run.ended_at for run in runs], moment)
    if place == len(runs) or runs[place].identifier not in {None, identifier}:
        return None
    late = runs[place].began_at >= moment
    if late and (runs[place].began_at - moment > _GAP or runs[place].gap_s > GAP_S):
        return None
    return runs[place].began_at, runs[place].ended_at


def _proven_times(
    node: str, proofs: Iterable[AuditProof], spans: Sequence[NodeSpan], max_age_s: float
) -> Iterator[tuple[AuditProof, datetime, datetime]]:
    """Yield each proof of a replica with the time over which it held."""
    streams = _lasting(spans, {NodeState.STREAMING})
    own = sorted((proof for proof in proofs if proof.node == node), key=lambda proof: proof.finished_at)
    settled = [proof for proof in own if proof.whole or proof.verdict is Verdict.DIVERGED]
    for place, proof in enumerate(settled):
        stream = _around(proof.proven_at, streams, proof.system_identifier)
        if not proof.whole or proof.verdict is not Verdict.CONSISTENT or stream is None:
            continue
        ended_at = min(proof.proven_at + timedelta(seconds=max_age_s), stream[1])
        if place + 1 < len(settled):
            ended_at = min(ended_at, settled[place + 1].finished_at)
        yield proof, max(proof.finished_at, stream[0]), ended_at


def _diverged_times(node: str, proofs: Iterable[AuditProof]) -> Iterator[tuple[datetime, datetime]]:
    """Yield the times over which the newest settled word on a node was that it diverged."""
    own = sorted((proof for proof in proofs if proof.node == node), key=lambda proof: proof.finished_at)
    since: datetime | None = None
    for proof in own:
        if proof.verdict is Verdict.DIVERGED:
            since = since or proof.finished_at
        elif since is not None and proof.whole and proof.verdict is Verdict.CONSISTENT:
            yield since, proof.finished_at
            since = None
    if since is not None:
        yield since, datetime.max.replace(tzinfo=since.tzinfo)


def _stretch(began_at: datetime, ended_at: datetime, lives: Sequence[_Life], asked: CopiesAsked) -> Stretch:
    middle = began_at + (ended_at - began_at) / 2
    running = sum(life.running.holds(middle) for life in lives)
    proven = sum(life.proven.holds(middle) for life in lives)
    may_run = [life for life in lives if life.running.holds(middle) or not life.known.holds(middle)]
    may_be_proven = [life for life in may_run if not life.is_refuted(middle)]
    if not any(life.watched.holds(middle) for life in lives):
        coverage = Coverage.UNWATCHED
    elif running >= asked.running and proven >= asked.proven:
        coverage = Coverage.ENOUGH
    elif len(may_run) < asked.running or len(may_be_proven) < asked.proven:
        coverage = Coverage.SHORT
    else:
        coverage = Coverage.UNPROVEN
    return Stretch(began_at=began_at, ended_at=ended_at, coverage=coverage, running=running, proven=proven)


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    for _, group in groupby(stretches, key=lambda stretch: (stretch.coverage, stretch.running, stretch.proven)):
        same = list(group)
        yield replace(same[0], ended_at=same[-1].ended_at)


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole > 0 else 0.0
