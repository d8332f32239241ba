"""Answer a comparison's requests from a lane's sessions: every node is asked for the same thing at the same time.

A difference is data; what could not be read is told apart here: damaged files are an answer, everything else is trouble
that the caller decides about.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replcheck.audit.comparison import (
    Answer,
    BlockRange,
    ChunkFinding,
    Comparison,
    PartsRequest,
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
from replcheck.audit.explanation import RowVersion
from replcheck.errors import NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.postgres.catalog import Relation
from replcheck.postgres.copying import stream_ranges
from replcheck.postgres.digests import (
    Digest,
    PartDigests,
    RowHash,
    digest_ranges,
    digest_sweep,
    digest_together,
    digest_whole,
    list_rows,
    multixact_updaters,
    together,
)
from replcheck.postgres.failures import is_corruption, is_too_wide
from replcheck.postgres.session import Session

TOO_LATE_SQLSTATE = "57014"
"""query_canceled, as a server says it whose time limit is over."""


class HeapRewritten(StatementFailed):
    """The relation has another file node than planned: an old snapshot would see nothing of its rows."""


class RoleChanged(NodeLost):
    """The node was promoted, or demoted, under the snapshot."""


@dataclass(slots=True, kw_only=True)
class Readers:
    """The sessions a comparison is answered from, and what went wrong with them."""

    relation: Relation
    how: RowHash
    sessions: Mapping[str, Session]
    primary: str
    late: Callable[[], bool] = lambda: False
    """Whether the snapshots are too old for another statement."""
    ready: Mapping[str, PartDigests] = field(default_factory=dict)
    """What nodes have answered already for the whole relation."""
    troubles: dict[str, NodeError] = field(default_factory=dict)
    """The first trouble of each node; it is not asked again for this chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAhead:
    """What nodes answered when they were asked for several small relations at once."""

    answers: Mapping[str, Sequence[PartDigests]] = field(default_factory=dict)
    """By node, in the order of the relations."""
    troubles: Mapping[str, NodeError] = field(default_factory=dict)
    """Of nodes that answered nothing; with which of the relations the trouble is, nobody can say."""

    def of(self, number: int) -> dict[str, PartDigests]:
        """Return what each node answered for one of the relations."""
        return {name: parts[number] for name, parts in self.answers.items()}


async def read_ahead(
    relations: Sequence[Relation], how: RowHash, sessions: Mapping[str, Session], primary: str
) -> ReadAhead:
    """Digest several small relations on every node at the same time, in one round trip each."""
    statement = sessions[primary].rendered(together(relations, how))

    async def digests(session: Session) -> list[PartDigests] | NodeError:
        try:
            return await digest_together(session, statement)
        except NodeError as error:
            return error

    found = await asyncio.gather(*(digests(session) for session in sessions.values()))
    by_node = dict(zip(sessions, found, strict=True))
    return ReadAhead(
        answers={name: answer for name, answer in by_node.items() if not isinstance(answer, NodeError)},
        troubles={name: answer for name, answer in by_node.items() if isinstance(answer, NodeError)},
    )


async def drive(comparison: Comparison, readers: Readers) -> ChunkFinding:
    """Run a comparison to its end."""
    try:
        request = comparison.send(await _ask(next(comparison), readers, first=True))
        while True:
            request = comparison.send(await _ask(request, readers, first=False))
    except StopIteration as finished:
        finding: ChunkFinding = finished.value
        return finding


async def _ask(request: Request, readers: Readers, *, first: bool) -> Reply:
    if not first and readers.late():
        readers.troubles[readers.primary] = StatementCancelled(
            "the snapshots grew too old", node=readers.primary, sqlstate=TOO_LATE_SQLSTATE
        )
    names = [name for name in readers.sessions if name not in readers.troubles]
    if readers.primary in readers.troubles:
        return {}
    asked = [_answer(request, name, readers) for name in names]
    if isinstance(request, WholeRequest) and readers.ready.keys() >= set(names):
        answers = [await answer for answer in asked]  # nothing is waited for
    else:
        answers = await asyncio.gather(*asked)
    return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}


async def _answer(request: Request, name: str, readers: Readers) -> Answer | None:
    try:
        return await _asked(request, name, readers)
    except StatementCancelled as error:
        readers.troubles[name] = error
    except StatementFailed as error:
        known = _telling(error, request, readers)
        if known is not None:
            return known
        readers.troubles[name] = error
    except NodeError as error:
        readers.troubles[name] = error
    return None


async def _asked(request: Request, name: str, readers: Readers) -> Answer:
    session, relation, how = readers.sessions[name], readers.relation, readers.how
    match request:
        case WholeRequest():
            return _digests(readers.ready.get(name) or await digest_whole(session, relation, how), name, readers)
        case SweepRequest(bounds=bounds):
            return _digests(await digest_sweep(session, relation, how, bounds), name, readers)
        case PartsRequest(ranges=ranges, width=width):
            return _digests(await digest_ranges(session, relation, how, _pairs(ranges), width), name, readers)
        case RowsRequest(ranges=ranges):
            filenode, rows = await list_rows(session, relation, how, _pairs(ranges))
            _same_heap(filenode, name, readers)
            return tuple(RowVersion((row.block, row.offset), row.xmin, row.xmax, row.sums) for row in rows)
        case StreamRequest(ranges=ranges):
            streamed = await stream_ranges(session, relation, _pairs(ranges))
            _same_heap(streamed.filenode, name, readers)
            _same_role(streamed.in_recovery, name, readers)
            return streamed
        case UpdatersRequest(multixacts=multixacts):
            return await multixact_updaters(session, sorted(multixacts.get(name, ())))


def _telling(error: StatementFailed, request: Request, readers: Readers) -> Answer | None:
    """Return what a refusal says of the rows, None where it says nothing of them."""
    if isinstance(request, StreamRequest):
        # Its digest was read, so the row is not damaged: it is too wide for COPY.
        return Unstreamable() if is_too_wide(error) else None
    if is_corruption(error) and (readers.how.by_column or not is_too_wide(error)):
        return Unreadable(sqlstate=error.sqlstate, block=error.block)
    return None


def _pairs(ranges: Iterable[BlockRange]) -> list[tuple[int, int]]:
    return [(blocks.first, blocks.end) for blocks in ranges]


def _digests(parts: PartDigests, name: str, readers: Readers) -> tuple[Digest, ...]:
    _same_heap(parts.filenode, name, readers)
    _same_role(parts.in_recovery, name, readers)
    return parts.digests


def _same_role(in_recovery: bool, name: str, readers: Readers) -> None:
    if in_recovery == (name == readers.primary):
        raise RoleChanged(f'node "{name}" changed its role in the middle of the audit', node=name)


def _same_heap(filenode: int | None, name: str, readers: Readers) -> None:
    if filenode != readers.relation.filenode_now:
        raise HeapRewritten(f'a relation was rewritten on node "{name}" while it was read', node=name, sqlstate="55000")
