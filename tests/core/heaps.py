"""A model of one relation on several nodes, which answers a comparison's requests as their servers would.

A node is rows by tuple position, blocks that cannot be read, and multixacts. Positions, xids and digests are drawn;
nothing else is known of a row.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

from hypothesis import strategies as st

from replcheck.audit.comparison import (
    Answer,
    BlockRange,
    ChunkFinding,
    Comparison,
    PartsRequest,
    ReplicaFinding,
    Reply,
    Request,
    RowsRequest,
    StreamRequest,
    SweepRequest,
    Unreadable,
    Unstreamable,
    UpdatersRequest,
    WholeRequest,
)
from replcheck.audit.explanation import Ctid, RowVersion
from replcheck.audit.visibility import Unsettled
from replcheck.model.audit import DifferenceKind
from replcheck.postgres.copying import Streamed
from replcheck.postgres.digests import LAST_BLOCK, Digest

PRIMARY = "db1"
LONGEST_COMPARISON = 2_000
"""Requests after which a comparison is taken to be endless."""
OLD_XID = 700
_NOTHING = Digest(0, (0,))
_SEED = 0x9E3779B97F4A7C15

Differences = dict[Ctid, tuple[DifferenceKind, bool]]
"""Position -> (kind, whether it is in flight)."""


def digest_of(*facts: object) -> tuple[int, ...]:
    """Return what a row of these facts hashes to: never the same for two."""
    return (random.Random(repr((_SEED, facts))).getrandbits(64) - (1 << 63),)


@dataclass
class ModelNode:
    """One node's heap as its snapshot sees it."""

    rows: dict[Ctid, RowVersion] = field(default_factory=dict)
    unreadable: set[int] = field(default_factory=set)
    """Blocks at which every read fails."""
    unlistable: set[int] = field(default_factory=set)
    """Blocks that can be digested, but whose rows can no longer be read when they are to be listed."""
    no_file: bool = False
    unseen_by_digests: dict[Ctid, object] = field(default_factory=dict)
    """What rows hold that the digests of this node are blind to."""
    too_wide: bool = False
    """Whether a row exceeds what can be streamed."""
    updaters: dict[int, frozenset[int]] = field(default_factory=dict)

    def put(self, ctid: Ctid, xmin: int = OLD_XID, xmax: int = 0, *, content: object = "") -> None:
        self.rows[ctid] = RowVersion(ctid, xmin, xmax, digest_of(ctid, content))

    def answer(self, request: Request, node: str) -> Answer:
        match request:
            case WholeRequest():
                return self._digests([(0, LAST_BLOCK)])
            case SweepRequest(bounds=bounds):
                edges = [0, *bounds, LAST_BLOCK]
                return self._digests(list(pairwise(edges)))
            case PartsRequest(ranges=ranges, width=width):
                return self._digests([part for blocks in ranges for part in _cut(blocks, width)])
            case RowsRequest(ranges=ranges):
                spans = [(blocks.first, blocks.end) for blocks in ranges]
                damaged = self._damage(spans, self.unreadable | self.unlistable)
                return damaged or tuple(row for ctid, row in self.rows.items() if _within(ctid[0], spans))
            case StreamRequest(ranges=ranges):
                return self._stream([(blocks.first, blocks.end) for blocks in ranges])
            case UpdatersRequest(multixacts=multixacts):
                wanted = multixacts.get(node, frozenset())
                return {number: xids for number, xids in self.updaters.items() if number in wanted}

    def _digests(self, parts: list[tuple[int, int]]) -> Answer:
        assert parts, "a request asks for something"
        damaged = self._damage(parts, self.unreadable)
        if damaged is not None:
            return damaged
        digests = [_NOTHING] * len(parts)
        for ctid, row in self.rows.items():
            number = bisect_right(parts, (ctid[0], LAST_BLOCK)) - 1
            if number >= 0 and ctid[0] < parts[number][1]:
                past = digests[number]
                digests[number] = Digest(past.rows + 1, (past.sums[0] + row.digest[0],))
        return tuple(digests)

    def _stream(self, spans: list[tuple[int, int]]) -> Answer:
        if self.too_wide:
            return Unstreamable()
        rows = sorted(item for item in self.rows.items() if _within(item[0][0], spans))
        blocks: dict[int, bytes] = {}
        for ctid, row in rows:
            content = self.unseen_by_digests.get(ctid, row.digest)
            blocks[ctid[0]] = blocks.get(ctid[0], b"") + repr((ctid, content)).encode()
        return Streamed(filenode=1, in_recovery=False, rows=len(rows), blocks=blocks)

    def _damage(self, spans: list[tuple[int, int]], blocks: set[int]) -> Unreadable | None:
        if self.no_file:
            return Unreadable(sqlstate="58P01")
        bad = next((block for block in sorted(blocks) if _within(block, spans)), None)
        return None if bad is None else Unreadable(sqlstate="XX001", block=bad)


def _cut(blocks: BlockRange, width: int) -> Iterator[tuple[int, int]]:
    if blocks.end == LAST_BLOCK:
        yield blocks.first, LAST_BLOCK
        return
    for first in range(blocks.first, blocks.end, width):
        yield first, min(first + width, blocks.end)


def _within(block: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(first <= block < end for first, end in spans)


@dataclass
class ModelRelation:
    """A relation on a primary and its replicas, with what every comparison of it should show."""

    nodes: dict[str, ModelNode]
    unsettled: dict[str, Unsettled]
    expected: dict[str, Differences]

    @property
    def replicas(self) -> list[str]:
        return [name for name in self.nodes if name != PRIMARY]

    def reply(self, request: Request, asked: Iterable[str] | None = None) -> Reply:
        """Answer for some nodes, in any order; for all where none are named."""
        names = sorted(self.nodes if asked is None else asked, reverse=True)
        return {name: self.nodes[name].answer(request, name) for name in names}


def run(comparison: Comparison, answer: Callable[[Request], Reply]) -> ChunkFinding:
    """Drive a comparison to its end."""
    return run_and_count(comparison, answer)[0]


def run_and_count(comparison: Comparison, answer: Callable[[Request], Reply]) -> tuple[ChunkFinding, int]:
    """Drive a comparison to its end and count its requests."""
    count = 0
    try:
        request = next(comparison)
        while count < LONGEST_COMPARISON:
            count += 1
            request = comparison.send(answer(request))
    except StopIteration as end:
        finding: ChunkFinding = end.value
        return finding, count
    raise AssertionError("the comparison does not come to an end")


def shown(finding: ReplicaFinding) -> Differences:
    """Return the rows of a finding as positions, kinds and whether they are in flight."""
    assert len({row.ctid for row in finding.rows}) == len(finding.rows), "each position is told once"
    return {row.ctid: (row.kind, row.in_flight) for row in finding.rows}


def blocks_of(ranges: Iterable[BlockRange]) -> set[int]:
    """Return the blocks of bounded ranges."""
    return reduce(set.union, (set(range(blocks.first, blocks.end)) for blocks in ranges), set())


CORRUPTIONS = ("lost", "invented", "altered", "altered under a lock")
_XIDS = {"behind": range(5_000, 5_012), "ahead": range(6_000, 6_012)}
EPOCH = 3 << 32
"""Added to the 64-bit xids of unsettled sets: headers hold the lower half."""


@st.composite
def relations(
    draw,
    *,
    replicas: int | None = None,
    last_block: int = 80,
    most_rows: int = 40,
    corrupt: bool = True,
    in_flight: bool = False,
) -> ModelRelation:
    """Draw a relation whose replicas differ in planted positions, and in rows of unsettled transactions.

    `expected` tells for each replica where it must be seen to differ and which of it is in flight.
    """
    count = replicas or draw(st.integers(1, 3))
    names = [f"db{number}" for number in range(2, 2 + count)]
    positions = st.tuples(st.integers(0, last_block), st.integers(1, 4))
    nodes = {name: ModelNode() for name in (PRIMARY, *names)}
    for ctid in draw(st.lists(positions, max_size=most_rows, unique=True)):
        for node in nodes.values():
            node.put(ctid)
    relation = ModelRelation(nodes, {name: Unsettled() for name in names}, {name: {} for name in names})
    if in_flight:
        for name in names:
            behind, ahead = (frozenset(EPOCH + xid for xid in _XIDS[side]) for side in ("behind", "ahead"))
            relation.unsettled[name] = Unsettled(behind=behind, ahead=ahead)
    faults = CORRUPTIONS * corrupt + tuple(IN_FLIGHT) * in_flight
    if faults:
        planted = draw(st.lists(st.tuples(positions, st.sampled_from(faults), st.sampled_from(names)), max_size=12))
        for number, (ctid, fault, name) in enumerate(planted):
            if all(ctid not in found for found in relation.expected.values()):
                _plant(relation, ctid, fault, name, number)
    return relation


def _plant(relation: ModelRelation, ctid: Ctid, fault: str, name: str, number: int) -> None:
    """Make one replica differ at a position; the others keep what the primary has."""
    if fault in IN_FLIGHT:
        _plant_in_flight(relation, ctid, fault, name, number)
        return
    node, others = relation.nodes[name], [node for other, node in relation.nodes.items() if other != name]
    if fault == "lost":
        for other in others:
            other.put(ctid)
        node.rows.pop(ctid, None)
        relation.expected[name][ctid] = (DifferenceKind.MISSING, False)
    elif fault == "invented":
        for other in others:
            other.rows.pop(ctid, None)
        node.put(ctid, content="invented")
        relation.expected[name][ctid] = (DifferenceKind.EXTRA, False)
    else:
        multixact = 90 + number if fault == "altered under a lock" else 0
        for other in relation.nodes.values():
            other.put(ctid, xmax=multixact)
            other.updaters[multixact] = frozenset({OLD_XID})
        node.put(ctid, xmax=multixact, content="altered")
        relation.expected[name][ctid] = (DifferenceKind.CHANGED, False)


IN_FLIGHT: Mapping[str, tuple[str, str, DifferenceKind]] = {
    # what happened: (who holds the row, which part of its header tells, how the replica differs)
    "inserted, behind": ("primary", "xmin behind", DifferenceKind.MISSING),
    "inserted, ahead": ("replica", "xmin ahead", DifferenceKind.EXTRA),
    "deleted, behind": ("replica", "xmax behind", DifferenceKind.EXTRA),
    "deleted, ahead": ("primary", "xmax ahead", DifferenceKind.MISSING),
    "locked and updated, behind": ("replica", "multixact behind", DifferenceKind.EXTRA),
    "locked and updated, ahead": ("primary", "multixact ahead", DifferenceKind.MISSING),
    "replaced, behind": ("both", "xmin behind, xmax behind", DifferenceKind.CHANGED),
    "replaced, ahead": ("both", "xmax ahead, xmin ahead", DifferenceKind.CHANGED),
}


def _plant_in_flight(relation: ModelRelation, ctid: Ctid, fault: str, name: str, number: int) -> None:
    """Let an unsettled transaction touch a row; every other replica sees what the primary does."""
    holder, headers, kind = IN_FLIGHT[fault]
    node, others = relation.nodes[name], [node for other, node in relation.nodes.items() if other != name]
    told = headers.split(", ")
    for side, each_side, header in (("primary", others, told[0]), ("replica", [node], told[-1])):
        for each in each_side:
            each.rows.pop(ctid, None)
            if holder in (side, "both"):
                _put_with_header(each, ctid, header, number)
    for each in relation.nodes.values():
        for side in _XIDS:
            each.updaters[_multixact(side, number)] = frozenset({_XIDS[side][number]})
    relation.expected[name][ctid] = (kind, True)


def _put_with_header(node: ModelNode, ctid: Ctid, header: str, number: int) -> None:
    field_name, side = header.split()
    xid = _XIDS[side][number]
    if field_name == "xmin":
        node.put(ctid, xmin=xid, content=header)
    else:
        node.put(ctid, xmax=_multixact(side, number) if field_name == "multixact" else xid, content=header)


def _multixact(side: str, number: int) -> int:
    return {"behind": 100, "ahead": 200}[side] + number


def requests(last_block: int = 80) -> st.SearchStrategy[tuple[WholeRequest | SweepRequest | PartsRequest, int]]:
    """Draw how a comparison of a whole relation may begin, and the number of its known blocks."""
    known = st.integers(0, last_block + 20)
    bounds = st.lists(st.integers(1, last_block + 10), max_size=8, unique=True).map(
        lambda blocks: tuple(sorted(blocks))
    )
    width = st.sampled_from([1, 16, 40])
    ends = st.lists(st.integers(1, last_block + 10), max_size=4, unique=True).map(sorted)

    def parts(edges: list[int], width: int) -> PartsRequest:
        every = [0, *edges, LAST_BLOCK]
        return PartsRequest(tuple(BlockRange(a, b) for a, b in pairwise(every)), width)

    begin: st.SearchStrategy[WholeRequest | SweepRequest | PartsRequest] = st.one_of(
        st.just(WholeRequest()), bounds.map(SweepRequest), st.builds(parts, ends, width)
    )
    return st.tuples(begin, known)
