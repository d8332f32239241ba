"""What is proven of one relation so far: its chunks, the looks at what differed, and the verdict per replica.

Pure: time comes in as seconds of a monotonic clock. The invariants: a chunk counts as proven for a replica only after
a clean comparison under a settled alignment; nothing is called diverged before two independent alignments showed it;
whatever is given up is recorded with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from replcheck.audit import shortfalls
from replcheck.audit.comparison import (
    WHOLE,
    BlockRange,
    ChunkFinding,
    ReplicaFinding,
    UnreadableRange,
    differing_blocks,
)
from replcheck.audit.cross_check import Check, Sampler, pieces
from replcheck.audit.explanation import RowDifference
from replcheck.audit.shortfalls import FINAL_CODES, Shortfall
from replcheck.model.outcome import Verdict, worst_verdict
from replcheck.model.progress import ProvenBlocks, without
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import LAST_BLOCK

MAX_LOOKS = 5
"""Looks at a chunk that differs in another place each time, before it is called inconclusive."""
MAX_LOSSES = 4
"""Times a node may be lost while reading one chunk: a damaged page can crash a server, and must not do so for ever."""
MAX_REPLANS = 20
"""Times a relation may be redefined while it is read."""
MIN_TRIES = 10
"""Times a chunk is tried at the least, however long ago the first was."""
WHOLE_BLOCKS = 512
"""Relations up to this size are read in one statement."""
WHOLE_WEIGHT = 4096
"""If with the values stored outside they are no larger than this, in blocks."""
SMALL_BLOCKS = 16
"""Relations up to this size, values stored outside included, are read several in one round trip."""
_BLOCK_BYTES = 8192
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How often a node failed to answer for a chunk."""

    tries: int = 0
    losses: int = 0
    """How often its connection was lost over it."""
    lack: Shortfall | None = None
    """Why, the last time."""

    def hopeless(self, waited_s: float, budget_s: float) -> bool:
        """Return whether trying again makes no sense."""
        return self.losses >= MAX_LOSSES or (self.tries >= MIN_TRIES and waited_s > budget_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a relation that is to be read on the primary and on the replicas in `needed`."""

    oid: int
    epoch: int
    """Which plan of the relation it belongs to; a chunk of an older plan is void."""
    ranges: tuple[BlockRange, ...]
    sweep: bool = False
    """Read the whole relation in one plain scan, cut into parts on the way."""
    needed: frozenset[str]
    looks: Mapping[str, tuple[ReplicaFinding, ...]] = field(default_factory=dict)
    """Earlier looks that differed, per replica."""
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """Per node that could not answer: how often, and why."""
    first: bool = True
    """False for a chunk that was read before."""
    check: Check = Check.UNDECIDED
    """Whether it is compared in the client too."""
    by_column: bool = False
    """Hash column by column: a row exceeds the server's largest value."""
    alone: bool = False
    """Read it by itself: together with others it brought trouble, and nobody knows whose."""
    last_alignment: int | None = None
    not_before: float = 0.0
    deferred_since: float | None = None
    """When it was first put off."""
    differs_since: float | None = None
    """When it was first seen to differ."""

    def failed(self, node: str, lack: Shortfall, *, lost: bool = False, final: bool = False) -> "Chunk":
        """Return the chunk with one more failure of a node to answer; a `final` one is not worth another try."""
        past = self.trials.get(node, Trial())
        losses = MAX_LOSSES if final else past.losses + int(lost)
        return replace(self, trials={**self.trials, node: Trial(tries=past.tries + 1, losses=losses, lack=lack)})

    @property
    def whole(self) -> bool:
        """Return whether it covers the relation."""
        return self.ranges == (WHOLE,)

    @property
    def plain(self) -> bool:
        """Return whether one digest of the whole relation is all that it asks for, and nothing went wrong with it."""
        special = self.sweep or self.by_column or self.alone or self.check.streamed
        return self.whole and not special and not self.looks and not self.trials

    @property
    def blocks(self) -> BlockRange:
        """Return the smallest range that holds all of its ranges."""
        return BlockRange(self.ranges[0].first, self.ranges[-1].end)


@dataclass(slots=True)
class Tally:
    """What is known of one relation on one replica."""

    rows: list[RowDifference] = field(default_factory=list)
    """Differing rows, seen twice."""
    unlisted: list[tuple[BlockRange, int]] = field(default_factory=list)
    unreadable: list[UnreadableRange] = field(default_factory=list)
    shortfalls: dict[str, Shortfall] = field(default_factory=dict)
    """By code; the first of each."""
    contradicted: list[BlockRange] = field(default_factory=list)
    """Blocks whose rows differ although their digests agree, seen twice."""
    in_flight: int = 0
    """Rows that were still in flight when they were given up."""
    different_definition: str = ""
    """How the relation itself differs, seen twice; empty where it does not."""

    @property
    def diverged(self) -> bool:
        """Return whether a difference was confirmed."""
        return bool(self.rows or self.unlisted or self.unreadable or self.contradicted or self.different_definition)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict, provided that all chunks are settled."""
        if self.diverged:
            return Verdict.DIVERGED
        if not self.shortfalls:
            return Verdict.CONSISTENT
        return worst_verdict([Verdict.CONSISTENT, *(lack.verdict for lack in self.shortfalls.values())])

    @property
    def rows_differing(self) -> int:
        """Return the least number of rows that differ."""
        return len(self.rows) + sum(least for _, least in self.unlisted) + len(self.contradicted)

    def fall_short(self, lack: Shortfall) -> None:
        """Record that something was not proven."""
        self.shortfalls.setdefault(lack.code, lack)


class RelationProof:
    """The proof of one relation on several replicas, from its plan to its verdicts."""

    def __init__(
        self,
        relation: Relation,
        replicas: Iterable[str],
        *,
        known_blocks: int,
        sweep: bool,
        alignment: int = 0,
        newest: int = 0,
        earlier: Sequence[ProvenBlocks] = (),
    ) -> None:
        """Plan the proof; what is proven already, of the same state of the relation, is in `earlier`."""
        self.relation = relation
        self.epoch = 0
        self.replans = 0
        self.tallies = {replica: Tally() for replica in replicas}
        self._refuse_unfit()
        self.planned_under = _first_alignment(relation, alignment, newest)
        """The oldest alignment (by number) under which the relation may be read."""
        self._begin(known_blocks, sweep=sweep)
        self._build_on(earlier)

    def _begin(self, known_blocks: int, *, sweep: bool, in_ranges: bool = False) -> None:
        self.known_blocks = known_blocks
        self.sweep = sweep
        self.started = False
        self.blocks_per_s: float | None = None
        self.in_ranges = in_ranges
        """Whether it is read by block ranges only, because one scan of it took too long."""
        self._open: Counter[str] = Counter()
        self._uncounted = 0
        self._todo: list[tuple[BlockRange, frozenset[str]]] = [(WHOLE, frozenset(self.tallies))]
        self.earlier: tuple[ProvenBlocks, ...] = ()
        """What an earlier run has proven of the relation as it is now."""
        self.earlier_rows = 0
        self._rows: dict[int, int] = {}
        self.rows_known = True

    def _build_on(self, earlier: Sequence[ProvenBlocks]) -> None:
        self.earlier = tuple(earlier)
        if earlier:
            self._todo = _unproven(self.tallies, earlier)
            self.earlier_rows = sum(proof.rows or 0 for proof in earlier)

    @property
    def active(self) -> frozenset[str]:
        """Return the replicas on which the relation can still be proven."""
        return frozenset(name for name, tally in self.tallies.items() if not _hopeless(tally))

    @property
    def weight(self) -> int:
        """Return about how many blocks one reads with the relation, values stored outside included; at least 1."""
        return 1 + self.known_blocks + self.relation.toast_bytes // _BLOCK_BYTES

    @property
    def small(self) -> bool:
        """Return whether the relation can be read together with others."""
        return self.weight <= SMALL_BLOCKS and not self.in_ranges

    @property
    def unread(self) -> bool:
        """Return whether some part of the relation was never given out."""
        return bool(self._todo)

    @property
    def untouched(self) -> bool:
        """Return whether nothing of the relation was given out yet, nor proven by an earlier run."""
        return self._todo == [(WHOLE, frozenset(self.tallies))]

    @property
    def diverged(self) -> bool:
        """Return whether a difference was confirmed on some replica."""
        return any(tally.diverged for tally in self.tallies.values())

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to read."""
        return all(self.finished_for(replica) for replica in self.active) and (not self._todo or not self.active)

    def finished_for(self, replica: str) -> bool:
        """Return whether nothing is left to read on one replica."""
        return self._open[replica] == 0 and not any(replica in wanted for _, wanted in self._todo)

    @property
    def blocks_left(self) -> int:
        """Return how many of the known blocks were never read."""
        ends = ((part.first, min(part.end, self.known_blocks)) for part, _ in self._todo)
        return sum(max(0, end - first) for first, end in ends)

    @property
    def rows(self) -> int | None:
        """Return the primary's rows, None where some chunk of it could not be read, or was not yet."""
        if not self.rows_known or self._todo or self._uncounted:
            return None
        return self.earlier_rows + sum(self._rows.values())

    @property
    def rows_listed(self) -> int:
        """Return the most differing rows that are recorded of a replica."""
        return max(len(tally.rows) for tally in self.tallies.values())

    @property
    def chunks(self) -> int:
        """Return the number of chunks that were read."""
        return len(self._rows)

    def fresh(self, blocks_wanted: int) -> Chunk | None:
        """Return the next part that was never read, None where all were."""
        chunk = self._next(blocks_wanted)
        if chunk is not None:
            self.started = True
            self._account(chunk, +1)
        return chunk

    def _next(self, blocks_wanted: int) -> Chunk | None:
        while self._todo and not self._todo[0][1] & self.active:
            self.rows_known = False
            self._todo.pop(0)
        if not self._todo:
            return None
        part, wanted = self._todo.pop(0)
        little = self.known_blocks <= WHOLE_BLOCKS and self.weight <= WHOLE_WEIGHT
        whole = part == WHOLE and not self.in_ranges and (self.sweep or little)
        end = part.end
        if not whole and part.first < self.known_blocks:
            end = min(part.first + blocks_wanted, self.known_blocks, part.end)
        if end < part.end:
            self._todo.insert(0, (BlockRange(end, part.end), wanted))
        return Chunk(
            oid=self.relation.oid,
            epoch=self.epoch,
            ranges=(BlockRange(part.first, end),),
            sweep=whole and self.sweep and self.known_blocks > WHOLE_BLOCKS,
            needed=wanted & self.active,
            first=wanted == frozenset(self.tallies),
        )

    def read_in_ranges(self) -> None:
        """Give up reading the relation in one scan and begin again by block ranges; it is never scanned whole again.

        Differences that were confirmed stay: the relation is the same, and the audit may end before it is read again.
        """
        self.epoch += 1
        for tally in self.tallies.values():
            tally.in_flight = 0
        self._begin(self.known_blocks, sweep=False, in_ranges=True)

    def _forget_differences(self) -> None:
        for tally in self.tallies.values():
            tally.rows.clear()
            tally.unlisted.clear()
            tally.unreadable.clear()
            tally.contradicted.clear()
            tally.in_flight = 0

    def replan(self, relation: Relation, *, known_blocks: int, sweep: bool, alignment: int, newest: int) -> None:
        """Begin again with a new definition; what was proven of the old one is void, what differed is forgotten."""
        self.replans += 1
        self.planned_under = _first_alignment(relation, alignment, newest)
        self.relation = relation
        self._refuse_unfit()
        self.epoch += 1
        self._forget_differences()
        self._begin(known_blocks, sweep=sweep)

    def _refuse_unfit(self) -> None:
        if self.relation.filter_lack:
            for tally in self.tallies.values():
                tally.fall_short(shortfalls.filter_unfit(self.relation.filter_lack))

    def give_up(self, replica: str, lack: Shortfall) -> None:
        """Record that what is left of the relation will not be proven on a replica; nothing where nothing is left."""
        if not self.finished_for(replica):
            self.tallies[replica].fall_short(lack)

    def proven(self, chunk: Chunk, shown: Mapping[str, ReplicaFinding]) -> dict[tuple[tuple[int, int], ...], list[str]]:
        """Return which blocks of a chunk a settled finding proves, and for which replicas, before `absorb` takes it in.

        Of a large relation nothing is proven beyond its known blocks: it may have grown by the next run.
        """
        if chunk.epoch != self.epoch:
            return {}
        last = LAST_BLOCK if self.known_blocks <= WHOLE_BLOCKS else self.known_blocks
        read = [(part.first, min(part.end, last)) for part in chunk.ranges if part.first < last]
        blocks: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for replica in sorted(chunk.needed & self.active & shown.keys()):
            if shown[replica].seen and not shown[replica].unreadable_everywhere:
                differing = [(part.first, part.end) for part in differing_blocks(shown[replica])]
                blocks.setdefault(tuple(without(read, differing)), []).append(replica)
        return {ranges: replicas for ranges, replicas in blocks.items() if ranges}

    def absorb(
        self, chunk: Chunk, finding: ChunkFinding, *, alignment: int, now: float, budget_s: float
    ) -> list[Chunk]:
        """Take in what a chunk showed under a settled alignment; return what is to be read again, under another one.

        A chunk of an older plan changes nothing. `budget_s` bounds how long rows may stay in flight.
        """
        if chunk.epoch != self.epoch:
            return []
        self._count(chunk, finding)
        again: list[Chunk] = []
        unasked, unanswered = set(), set()
        for replica in sorted(chunk.needed & self.active):
            shown = finding.replicas.get(replica)
            if shown is None:
                unasked.add(replica)
            elif not shown.seen:
                unanswered.add(replica)
            elif not shown.clean:
                if shown.unreadable_everywhere:
                    self.tallies[replica].fall_short(shortfalls.UNREADABLE)
                if shown.rows or shown.unlisted or shown.unreadable or shown.contradicted:
                    again += self._look_again(chunk, replica, shown, now, budget_s)
        again += self._ask_again(chunk, finding, unasked, unanswered, now, budget_s)
        settled = [replace(rest, last_alignment=alignment, not_before=_retry_at(rest, now)) for rest in again]
        self._account(chunk, -1)
        for rest in settled:
            self._account(rest, +1)
        return settled

    def _ask_again(
        self, chunk: Chunk, finding: ChunkFinding, unasked: set[str], unanswered: set[str], now: float, budget_s: float
    ) -> list[Chunk]:
        since = chunk.deferred_since if chunk.deferred_since is not None else now
        left = set(unasked)
        for replica in sorted(unanswered):
            trial = chunk.trials.get(replica, Trial())
            if trial.hopeless(now - since, budget_s):
                self.tallies[replica].fall_short(trial.lack or shortfalls.UNANSWERED)
            else:
                left.add(replica)
        first = chunk.first and finding.digest is None
        return [replace(chunk, needed=frozenset(left), first=first, deferred_since=since)] if left else []

    def draw(self, chunk: Chunk, finding: ChunkFinding, sampler: Sampler) -> tuple[Chunk, list[Chunk]]:
        """Draw from a chunk what is to be compared in the client too, once, or count what that showed.

        Call it with a settled finding before `absorb`, which takes the chunk that is returned. The chunks that were
        drawn are to be read like any that comes back.
        """
        if chunk.epoch != self.epoch or finding.digest is None:
            return chunk, []
        if chunk.check is Check.DRAWN and sampler.count(finding):
            return replace(chunk, check=Check.COUNTED), []
        if chunk.check is not Check.UNDECIDED or not sampler.share:
            return chunk, []
        needed = self.active & chunk.needed
        drawn = [
            Chunk(
                oid=chunk.oid,
                epoch=chunk.epoch,
                ranges=part,
                needed=needed,
                first=False,
                check=Check.DRAWN,
                by_column=chunk.by_column,
            )
            for part in pieces(chunk.ranges, self.known_blocks)
            if finding.digest.rows and needed and sampler.draw()
        ]
        for part in drawn:
            self._account(part, +1)
        return replace(chunk, check=Check.DECIDED), drawn

    def put_off(self, chunk: Chunk, node: str, *, now: float, budget_s: float) -> list[Chunk]:
        """Take back a chunk that `node`, the primary, could not read now; return it for later, or give it up.

        It is given up, for every replica that still needs it, once it was tried often enough for `budget_s` seconds, or
        the node was lost too often.
        """
        if chunk.epoch != self.epoch:
            return []
        since = chunk.deferred_since if chunk.deferred_since is not None else now
        trial = chunk.trials[node]
        if trial.hopeless(now - since, budget_s):
            self.refuse(chunk, trial.lack or shortfalls.UNANSWERED)
            return []
        later = replace(chunk, deferred_since=since)
        return [replace(later, not_before=_retry_at(later, now))]

    def halve(self, chunk: Chunk) -> list[Chunk]:
        """Cut a chunk that takes too long; nothing where it can't be cut."""
        if chunk.epoch != self.epoch:
            return []
        if chunk.ranges[-1].open_ended:
            return self._cut_growth(chunk)
        blocks = list(chunk.ranges)
        if sum(map(len, blocks)) < 2:
            return []
        middle = sum(map(len, blocks)) // 2
        first: list[BlockRange] = []
        second: list[BlockRange] = []
        for part in blocks:
            taken = max(0, min(len(part), middle - sum(map(len, first))))
            first += [BlockRange(part.first, part.first + taken)] if taken else []
            second += [BlockRange(part.first + taken, part.end)] if taken < len(part) else []
        self._account(chunk, +1)
        return [replace(chunk, ranges=tuple(half)) for half in (first, second)]

    def _cut_growth(self, chunk: Chunk) -> list[Chunk]:
        """Cut what lies beyond the known blocks: the relation has grown, nobody knows how far."""
        tail = chunk.ranges[-1]
        edge = 2 * max(tail.first, self.known_blocks, WHOLE_BLOCKS)
        if edge >= LAST_BLOCK:
            return []
        known = (*chunk.ranges[:-1], BlockRange(tail.first, edge))
        self._account(chunk, +1)
        return [replace(chunk, ranges=known), replace(chunk, ranges=(BlockRange(edge, LAST_BLOCK),))]

    def refuse(self, chunk: Chunk, lack: Shortfall) -> None:
        """Give a chunk up for every replica that needs it, and say why."""
        if chunk.epoch == self.epoch:
            for replica in chunk.needed & self.active:
                self.tallies[replica].fall_short(lack)
        self.drop(chunk)

    def drop(self, chunk: Chunk) -> None:
        """Take a chunk back for good; whoever calls this has recorded why."""
        if chunk.epoch == self.epoch:
            self.rows_known = self.rows_known and not chunk.first
            self._account(chunk, -1)

    def _account(self, chunk: Chunk, change: int) -> None:
        self._uncounted += change if chunk.first else 0
        for replica in chunk.needed:
            self._open[replica] += change

    def _count(self, chunk: Chunk, finding: ChunkFinding) -> None:
        if chunk.first and finding.digest is not None:
            self._rows[chunk.blocks.first] = finding.digest.rows
        elif chunk.first and finding.digest is None and any(f.seen for f in finding.replicas.values()):
            self.rows_known = False

    def _look_again(
        self, chunk: Chunk, replica: str, shown: ReplicaFinding, now: float, budget_s: float
    ) -> list[Chunk]:
        tally = self.tallies[replica]
        earlier = chunk.looks.get(replica, ())
        confirmed = [look for look in (confirm(past, shown) for past in earlier) if look.unexplained]
        if confirmed:
            _record(tally, confirmed[-1])
            return []
        since = chunk.differs_since if chunk.differs_since is not None else now
        looks = (*earlier, shown) if shown.unexplained else earlier
        if len(looks) >= MAX_LOOKS:
            tally.fall_short(shortfalls.UNSTEADY)
            return []
        if now - since > budget_s:
            tally.in_flight += shown.in_flight
            tally.fall_short(shortfalls.STILL_IN_FLIGHT if not shown.unexplained else shortfalls.UNSTEADY)
            return []
        return [
            replace(
                chunk,
                ranges=differing_blocks(shown),
                sweep=False,
                needed=frozenset({replica}),
                looks={replica: looks},
                trials={},
                first=False,
                differs_since=since,
            )
        ]


def confirm(earlier: ReplicaFinding, now: ReplicaFinding) -> ReplicaFinding:
    """Return what of the present look's unexplained differences an earlier look showed too."""
    known = {row.ctid for row in earlier.rows if not row.in_flight}
    vague = [] if earlier.doubtful else [blocks for blocks, _ in earlier.unlisted]
    damaged = [(part.node, part.blocks) for part in earlier.unreadable]
    return ReplicaFinding(
        rows=tuple(
            row
            for row in now.rows
            if not row.in_flight and (row.ctid in known or any(blocks.holds(row.ctid) for blocks in vague))
        ),
        unlisted=tuple(
            (blocks, least)
            for blocks, least in (() if now.doubtful else now.unlisted)
            if any(blocks.overlaps(other) for other in vague) or any(blocks.holds(ctid) for ctid in known)
        ),
        unreadable=tuple(
            part
            for part in now.unreadable
            if any(part.node == node and part.blocks.overlaps(blocks) for node, blocks in damaged)
        ),
        contradicted=tuple(
            blocks
            for blocks in (() if now.doubtful or earlier.doubtful else now.contradicted)
            if any(blocks.overlaps(other) for other in earlier.contradicted)
        ),
    )


def _unproven(replicas: Iterable[str], earlier: Sequence[ProvenBlocks]) -> list[tuple[BlockRange, frozenset[str]]]:
    """Return the parts of a relation that an earlier run has not proven, each with the replicas that still need it."""
    left = {name: [(0, LAST_BLOCK)] for name in replicas}
    for proof in earlier:
        for name in proof.replicas:
            if name in left:
                left[name] = without(left[name], proof.ranges)
    edges = sorted({edge for parts in left.values() for part in parts for edge in part})
    todo: list[tuple[BlockRange, frozenset[str]]] = []
    for first, end in pairwise(edges):
        wanted = frozenset(name for name, parts in left.items() if any(low <= first < high for low, high in parts))
        if todo and todo[-1] == (BlockRange(todo[-1][0].first, first), wanted):
            todo[-1] = (BlockRange(todo[-1][0].first, end), wanted)
        elif wanted:
            todo.append((BlockRange(first, end), wanted))
    return todo


def _record(tally: Tally, confirmed: ReplicaFinding) -> None:
    """Keep what is new: blocks that are read once more, in ranges or in the client too, show again what they hold."""
    known = {row.ctid for row in tally.rows}
    beyond = [blocks for blocks, _ in tally.unlisted]
    tally.rows += [
        row for row in confirmed.rows if row.ctid not in known and not any(blocks.holds(row.ctid) for blocks in beyond)
    ]
    for blocks, least in confirmed.unlisted:
        more = least - sum(blocks.holds(ctid) for ctid in known)
        if more > 0 and not any(blocks.overlaps(other) for other in beyond):
            tally.unlisted.append((blocks, more))
    damaged = [(part.node, part.blocks) for part in tally.unreadable]
    tally.unreadable += [
        part
        for part in confirmed.unreadable
        if not any(part.node == node and part.blocks.overlaps(blocks) for node, blocks in damaged)
    ]
    held = list(tally.contradicted)
    tally.contradicted += [
        blocks for blocks in confirmed.contradicted if not any(blocks.overlaps(other) for other in held)
    ]


def _retry_at(chunk: Chunk, now: float) -> float:
    since = [moment for moment in (chunk.deferred_since, chunk.differs_since) if moment is not None]
    waited = now - min(since) if since else 0.0
    return now + min(_LAST_RETRY_S, _FIRST_RETRY_S + waited / 4)


def _hopeless(tally: Tally) -> bool:
    if not tally.shortfalls and not tally.different_definition:
        return False
    return bool(tally.different_definition) or any(lack.code in FINAL_CODES for lack in tally.shortfalls.values())


def _first_alignment(relation: Relation, alignment: int, newest: int) -> int:
    """Return the first alignment that sees the rows of a relation listed under `alignment`.

    Where the file node of the listing's snapshot is not the newest, the relation was rewritten since: no snapshot sees
    its rows for certain but those taken after the listing, of alignments beyond the `newest` begun by then.
    """
    return alignment if relation.filenode in (0, relation.filenode_now) else newest + 1
