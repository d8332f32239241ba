"""The comparison of one chunk between the primary and its replicas, as a generator without I/O.

It yields requests and is sent replies: what each node answered. A node that was lost or cancelled is absent from the
reply and counts as not looked at from then on. Whoever drives the generator decides how nodes are asked.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from replcheck.audit.digest import added
from replcheck.audit.explanation import Ctid, RowDifference, RowVersion, explain, questionable_multixacts
from replcheck.audit.visibility import Unsettled
from replcheck.postgres.copying import Streamed
from replcheck.postgres.digests import LAST_BLOCK, Digest

LISTED_BLOCKS = 16
"""Blocks whose rows are listed at once; also the width of the parts that a chunk is digested in."""
_LISTED_AT_ONCE = 32
_TAIL_BLOCKS = 16_384
_SPLIT = 8
_UNREADABLE_LIMIT = 16
"""Unreadable ranges told apart in one chunk; a missing file would otherwise cost a statement a block."""
_NO_FILE = "58P01"
"""SQLSTATE of a file that is not there."""


@dataclass(frozen=True, slots=True, order=True)
class BlockRange:
    """Heap blocks `first` to `end` - 1; without an upper bound where `end` is LAST_BLOCK."""

    first: int
    end: int

    @property
    def open_ended(self) -> bool:
        """Return whether the range has no upper bound."""
        return self.end == LAST_BLOCK

    def __len__(self) -> int:
        return self.end - self.first

    def cut(self, width: int) -> "list[BlockRange]":
        """Return parts of at most `width` blocks; a range without an upper bound is not cut."""
        if self.open_ended:
            return [self]
        return [BlockRange(first, min(first + width, self.end)) for first in range(self.first, self.end, width)]

    def overlaps(self, other: "BlockRange") -> bool:
        """Return whether the two share a block."""
        return self.first < other.end and other.first < self.end

    def holds(self, ctid: Ctid) -> bool:
        """Return whether a tuple position lies inside."""
        return self.first <= ctid[0] < self.end


WHOLE = BlockRange(0, LAST_BLOCK)


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """Digest the whole relation in one plain scan."""


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """Digest the whole relation in one plain scan, cut at each of `bounds` (block numbers)."""

    bounds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartsRequest:
    """Digest ranges, each in parts of `width` blocks; one without an upper bound is a single part."""

    ranges: tuple[BlockRange, ...]
    width: int

    @property
    def parts(self) -> list[BlockRange]:
        """Return the parts in the order of the answer's digests."""
        return [part for blocks in self.ranges for part in blocks.cut(self.width)]


@dataclass(frozen=True, slots=True)
class RowsRequest:
    """List the rows of a few small ranges."""

    ranges: tuple[BlockRange, ...]


@dataclass(frozen=True, slots=True)
class UpdatersRequest:
    """Tell the updating members of multixact ids, per node."""

    multixacts: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Stream the rows of ranges to the client."""

    ranges: tuple[BlockRange, ...]


Request = WholeRequest | SweepRequest | PartsRequest | RowsRequest | UpdatersRequest | StreamRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A node cannot read what was asked for because its files are damaged."""

    sqlstate: str
    block: int | None = None


@dataclass(frozen=True, slots=True)
class Unstreamable:
    """A node cannot send a row that is as large."""


Answer = (
    tuple[Digest, ...] | tuple[RowVersion, ...] | Mapping[int, frozenset[int]] | Unreadable | Streamed | Unstreamable
)
Reply = Mapping[str, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRange:
    """Blocks that `node` cannot read."""

    node: str
    blocks: BlockRange
    sqlstate: str
    block: int | None
    readers: int = 0
    """How many other nodes could read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFinding:
    """What one chunk showed of one replica, against the primary."""

    seen: bool = True
    """False where the replica, or the primary, could not be asked to the end."""
    rows: tuple[RowDifference, ...] = ()
    unlisted: tuple[tuple[BlockRange, int], ...] = ()
    """Ranges that differ but were not listed, with the least number of rows that differ."""
    doubtful: bool = False
    """Whether unsettled transactions could explain what was not listed."""
    unreadable: tuple[UnreadableRange, ...] = ()
    """Ranges that one node cannot read while another can."""
    unreadable_everywhere: bool = False
    """Whether there are ranges that no node can read."""
    contradicted: tuple[BlockRange, ...] = ()
    """Blocks whose rows differ in the client, although the servers' digests of them agree."""

    @property
    def clean(self) -> bool:
        """Return whether every row matched."""
        differs = self.rows or self.unlisted or self.unreadable or self.contradicted
        return self.seen and not (differs or self.unreadable_everywhere)

    @property
    def in_flight(self) -> int:
        """Return the least number of rows that an unsettled transaction explains, or could."""
        listed = sum(row.in_flight for row in self.rows)
        beyond = sum(least for _, least in self.unlisted) + len(self.contradicted)
        return listed + (beyond if self.doubtful else 0)

    @property
    def differing(self) -> int:
        """Return the least number of rows, and of unreadable ranges, that nothing explains."""
        beyond = 0 if self.doubtful else sum(least for _, least in self.unlisted) + len(self.contradicted)
        return sum(not row.in_flight for row in self.rows) + beyond + len(self.unreadable)

    @property
    def unexplained(self) -> bool:
        """Return whether anything differs that no unsettled transaction explains."""
        return self.differing > 0


def differing_blocks(shown: ReplicaFinding) -> tuple[BlockRange, ...]:
    """Return the blocks in which a replica differs, adjacent ones joined: those that are to be read again."""
    ranges = [BlockRange(block, block + 1) for block in {row.ctid[0] for row in shown.rows}]
    ranges += [blocks for blocks, _ in shown.unlisted]
    ranges += [part.blocks for part in shown.unreadable]
    ranges += shown.contradicted
    return tuple(joined(ranges))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFinding:
    """What one chunk showed."""

    digest: Digest | None
    """The primary's, None where it could not read the chunk whole."""
    replicas: Mapping[str, ReplicaFinding]
    streamed_rows: int | None = None
    """Rows of the primary that were streamed from every node; None where they were not."""
    too_wide: bool = False
    """Whether they could not be, because of a row that exceeds what COPY can send."""


@dataclass(slots=True)
class _Notes:
    """What a comparison has gathered so far."""

    primary: str
    replicas: tuple[str, ...]
    unsettled: Mapping[str, Unsettled]
    rows_left: int
    seen: set[str] = field(default_factory=set)
    rows: dict[str, list[RowDifference]] = field(default_factory=dict)
    unlisted: dict[str, list[tuple[BlockRange, int]]] = field(default_factory=dict)
    unreadable: list[UnreadableRange] = field(default_factory=list)
    suspected: dict[str, list[BlockRange]] = field(default_factory=dict)

    def hear(self, reply: Reply) -> None:
        self.seen &= reply.keys()

    def suspect(self, parts: Sequence[BlockRange], differing: "Differing") -> None:
        for replica, numbers in differing.items():
            self.suspected[replica] = [parts[number] for number in sorted(numbers)]

    def unaccounted(self, replica: str) -> list[tuple[BlockRange, int]]:
        """Return the parts whose digests differed although nothing in them was found to differ."""
        return [
            (part, 1)
            for part in self.suspected.get(replica, ())
            if not any(part.holds(row.ctid) for row in self.rows.get(replica, ()))
            and not any(part.overlaps(other) for other, _ in self.unlisted.get(replica, ()))
            and not any(part.overlaps(other.blocks) for other in self.unreadable)
        ]

    @property
    def present(self) -> list[str]:
        return [replica for replica in self.replicas if replica in self.seen]


Comparison = Generator[Request, Reply, ChunkFinding]


def compare(
    request: WholeRequest | SweepRequest | PartsRequest,
    *,
    primary: str,
    unsettled: Mapping[str, Unsettled],
    known_blocks: int,
    rows_limit: int,
) -> Comparison:
    """Compare one chunk and return what it showed of each replica in `unsettled`.

    `known_blocks` is the relation's size in blocks, the larger of the nodes', for cutting it where it differs.
    `rows_limit` bounds the rows listed per replica; what lies beyond is counted by range.
    """
    notes = _Notes(primary, tuple(unsettled), unsettled, rows_limit, seen={primary, *unsettled})
    reply = yield request
    notes.hear(reply)
    parts = _parts_of(request)
    digest = _digest_of(reply.get(primary))
    differing = _differing_parts(notes, reply)
    if _damaged(reply):
        bounded, tail = cut_at(joined(parts), known_blocks)
        yield from _examine(notes, tuple(bounded), LISTED_BLOCKS)
    else:
        notes.suspect(parts, differing)
        suspects = [parts[number] for number in sorted(_any_of(differing))]
        bounded, tail = cut_at(suspects, known_blocks)
        # A piece that was cut off has no digest of its own yet.
        if set(bounded) <= set(suspects) and all(len(part) <= LISTED_BLOCKS for part in bounded):
            yield from _list_in_batches(notes, bounded, _named_parts(parts, differing))
        else:
            yield from _examine(notes, tuple(joined(bounded)), LISTED_BLOCKS)
    if tail is not None:
        yield from _examine_tail(notes, tail)
    return _finding(notes, digest)


def _parts_of(request: WholeRequest | SweepRequest | PartsRequest) -> list[BlockRange]:
    if isinstance(request, PartsRequest):
        return request.parts
    edges = [0, *request.bounds, LAST_BLOCK] if isinstance(request, SweepRequest) else [0, LAST_BLOCK]
    return [BlockRange(first, end) for first, end in pairwise(edges)]


def cut_at(ranges: Iterable[BlockRange], known_blocks: int) -> tuple[list[BlockRange], BlockRange | None]:
    """Part the last range where the known blocks end, if it has no upper bound of its own."""
    bounded: list[BlockRange] = []
    tail = None
    for blocks in ranges:
        if not blocks.open_ended:
            bounded.append(blocks)
            continue
        if blocks.first < known_blocks:
            bounded.append(BlockRange(blocks.first, known_blocks))
        tail = BlockRange(max(blocks.first, known_blocks), LAST_BLOCK)
    return bounded, tail


def joined(ranges: Iterable[BlockRange]) -> list[BlockRange]:
    """Return the ranges in order, those that touch or overlap as one."""
    runs: list[BlockRange] = []
    for blocks in sorted(ranges):
        if runs and blocks.first <= runs[-1].end:
            runs[-1] = BlockRange(runs[-1].first, max(runs[-1].end, blocks.end))
        else:
            runs.append(blocks)
    return runs


Differing = Mapping[str, frozenset[int]]
"""Per replica that was read: the numbers of the parts that differ from the primary's."""


def _differing_parts(notes: _Notes, reply: Reply) -> Differing:
    there = reply.get(notes.primary)
    if not isinstance(there, tuple):
        return {}
    answers = {replica: reply[replica] for replica in notes.present}
    return {
        replica: frozenset(n for n, pair in enumerate(zip(there, here, strict=True)) if pair[0] != pair[1])
        for replica, here in answers.items()
        if isinstance(here, tuple)
    }


def _any_of(differing: Differing) -> frozenset[int]:
    return frozenset[int]().union(*differing.values())


def _named_parts(parts: Sequence[BlockRange], differing: Differing) -> Mapping[str, frozenset[BlockRange]]:
    return {replica: frozenset(parts[number] for number in numbers) for replica, numbers in differing.items()}


def _examine(notes: _Notes, ranges: tuple[BlockRange, ...], width: int) -> Generator[Request, Reply, None]:
    """Digest ranges in small parts and list the rows of those that differ."""
    if not ranges or not notes.present or notes.primary not in notes.seen:
        return
    request = PartsRequest(ranges, width)
    reply = yield request
    notes.hear(reply)
    if _damaged(reply) and _divisible(notes, ranges):
        for group in _split(ranges):
            yield from _examine(notes, group, min(width, LISTED_BLOCKS))
        return
    _note_unreadable(notes, reply, ranges)
    parts, differing = request.parts, _differing_parts(notes, reply)
    yield from _list_in_batches(
        notes, [parts[number] for number in sorted(_any_of(differing))], _named_parts(parts, differing)
    )


def _examine_tail(notes: _Notes, blocks: BlockRange) -> Generator[Request, Reply, None]:
    """Go through what lies beyond the known blocks, a stretch at a time, for as long as it differs.

    Where the file of a node is gone and the others have no row there, that is all there is to find.
    """
    reply = yield PartsRequest((blocks,), LISTED_BLOCKS)
    notes.hear(reply)
    gone = any(answer.sqlstate == _NO_FILE for answer in _damaged(reply).values())
    if gone and not any(_rows_in(answer) for answer in reply.values()):
        _note_unreadable(notes, reply, (blocks,))
        return
    while notes.present and notes.primary in notes.seen:
        stretch = BlockRange(blocks.first, blocks.first + _TAIL_BLOCKS)
        yield from _examine(notes, (stretch,), LISTED_BLOCKS)
        blocks = BlockRange(stretch.end, LAST_BLOCK)
        reply = yield PartsRequest((blocks,), LISTED_BLOCKS)
        notes.hear(reply)
        _note_unreadable(notes, reply, (blocks,))
        if not _any_of(_differing_parts(notes, reply)):
            return


def _list_in_batches(
    notes: _Notes, parts: Sequence[BlockRange], differing: Mapping[str, frozenset[BlockRange]]
) -> Generator[Request, Reply, None]:
    """List the rows of small parts; what lies beyond the limit is only told as differing, where its digest did."""
    for start in range(0, len(parts), _LISTED_AT_ONCE):
        batch = parts[start : start + _LISTED_AT_ONCE]
        if notes.rows_left > 0:
            yield from _list(notes, tuple(batch))
            continue
        for replica in notes.present:
            beyond = [(part, 1) for part in batch if part in differing.get(replica, frozenset())]
            notes.unlisted.setdefault(replica, []).extend(beyond)


def _list(notes: _Notes, ranges: tuple[BlockRange, ...]) -> Generator[Request, Reply, None]:
    if not notes.present or notes.primary not in notes.seen:
        return
    reply = yield RowsRequest(ranges)
    notes.hear(reply)
    if _damaged(reply) and _divisible(notes, ranges):
        for group in _split(ranges):
            yield from _examine(notes, group, 1)
        return
    _note_unreadable(notes, reply, ranges)
    rows = {node: _row_versions(answer) for node, answer in reply.items() if not isinstance(answer, Unreadable)}
    if notes.primary not in rows:
        return
    updaters = yield from _ask_updaters(notes, rows)
    lone = lone_nodes(rows)
    for replica in notes.present:
        if replica in rows and notes.primary in notes.seen:
            known = {**updaters.get(notes.primary, {}), **updaters.get(replica, {})}
            found = explain(rows[notes.primary], rows[replica], notes.unsettled[replica], known)
            marked = [_marked(row, lone.get(row.ctid)) for row in found]
            notes.rows.setdefault(replica, []).extend(marked)
            notes.rows_left -= len(marked)


def _ask_updaters(
    notes: _Notes, rows: Mapping[str, Sequence[RowVersion]]
) -> Generator[Request, Reply, dict[str, Mapping[int, frozenset[int]]]]:
    wanted: dict[str, frozenset[int]] = {}
    for replica in notes.present:
        if replica in rows:
            ids = questionable_multixacts(rows[notes.primary], rows[replica], notes.unsettled[replica])
            for node in (notes.primary, replica):
                wanted[node] = wanted.get(node, frozenset()) | ids
    wanted = {node: ids for node, ids in wanted.items() if ids}
    if not wanted:
        return {}
    reply = yield UpdatersRequest(wanted)
    notes.seen -= wanted.keys() - reply.keys()
    return {node: answer for node, answer in reply.items() if isinstance(answer, Mapping)}


def lone_nodes(rows: Mapping[str, Sequence[RowVersion]]) -> dict[Ctid, str]:
    """Return, for each position where exactly one of three or more nodes differs from all others, that node."""
    if len(rows) < 3:
        return {}
    digests = {node: {row.ctid: row.digest for row in listed} for node, listed in rows.items()}
    positions = {ctid for by_ctid in digests.values() for ctid in by_ctid}
    lone: dict[Ctid, str] = {}
    for ctid in positions:
        groups: dict[tuple[int, ...] | None, list[str]] = {}
        for node, by_ctid in digests.items():
            groups.setdefault(by_ctid.get(ctid), []).append(node)
        single = [members[0] for members in groups.values() if len(members) == 1]
        if len(groups) == 2 and len(single) == 1:
            lone[ctid] = single[0]
    return lone


def _marked(row: RowDifference, lone: str | None) -> RowDifference:
    return RowDifference(ctid=row.ctid, kind=row.kind, in_flight=row.in_flight, lone=lone)


def _divisible(notes: _Notes, ranges: Sequence[BlockRange]) -> bool:
    bounded = not any(blocks.open_ended for blocks in ranges)
    return bounded and sum(map(len, ranges)) > 1 and len(notes.unreadable) < _UNREADABLE_LIMIT


def _split(ranges: Sequence[BlockRange]) -> list[tuple[BlockRange, ...]]:
    """Cut ranges into at most `_SPLIT` groups of about as many blocks each."""
    step = max(1, -(-sum(map(len, ranges)) // _SPLIT))
    groups: list[list[BlockRange]] = [[]]
    room = step
    for blocks in ranges:
        first = blocks.first
        while first < blocks.end:
            if room == 0:
                groups.append([])
                room = step
            end = min(blocks.end, first + room)
            groups[-1].append(BlockRange(first, end))
            room -= end - first
            first = end
    return [tuple(group) for group in groups if group]


def _damaged(reply: Reply) -> dict[str, Unreadable]:
    return {node: answer for node, answer in reply.items() if isinstance(answer, Unreadable)}


def _note_unreadable(notes: _Notes, reply: Reply, ranges: Sequence[BlockRange]) -> None:
    for node, answer in _damaged(reply).items():
        readers = len(reply) - len(_damaged(reply))
        notes.unreadable += [
            UnreadableRange(node=node, blocks=blocks, sqlstate=answer.sqlstate, block=answer.block, readers=readers)
            for blocks in ranges
        ]


def _finding(notes: _Notes, digest: Digest | None) -> ChunkFinding:
    asked = {notes.primary, *notes.present}
    nowhere = [
        part
        for part in notes.unreadable
        if asked <= {other.node for other in notes.unreadable if other.blocks.overlaps(part.blocks)}
    ]
    return ChunkFinding(
        digest=digest,
        replicas={
            replica: ReplicaFinding(
                seen=replica in notes.seen and notes.primary in notes.seen,
                rows=tuple(notes.rows.get(replica, ())),
                unlisted=(*notes.unlisted.get(replica, ()), *notes.unaccounted(replica)),
                doubtful=len(notes.unsettled[replica]) > 0,
                unreadable=tuple(
                    part for part in notes.unreadable if part.node in (replica, notes.primary) and part not in nowhere
                ),
                unreadable_everywhere=bool(nowhere),
            )
            for replica in notes.replicas
        },
    )


def _rows_in(answer: Answer) -> int:
    digest = _digest_of(answer)
    return digest.rows if digest is not None else 0


def _digest_of(answer: Answer | None) -> Digest | None:
    if not isinstance(answer, tuple) or not all(isinstance(part, Digest) for part in answer):
        return None
    return added(part for part in answer if isinstance(part, Digest))


def _row_versions(answer: Answer) -> tuple[RowVersion, ...]:
    return tuple(row for row in answer if isinstance(row, RowVersion)) if isinstance(answer, tuple) else ()
