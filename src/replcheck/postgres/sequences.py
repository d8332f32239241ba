"""Read sequences. A sequence is one row that is overwritten in place, so no snapshot decides what is seen of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from replcheck.errors import StatementFailed
from replcheck.postgres.catalog import Relation
from replcheck.postgres.session import Name, Session

_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceState:
    """What a sequence holds and how it counts."""

    last_value: int
    log_count: int
    """Values that are fetched ahead: the WAL, and so a standby, already stands behind them."""
    called: bool
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycles: bool


async def read_sequences(session: Session, sequences: Sequence[Relation]) -> dict[int, SequenceState | StatementFailed]:
    """Read sequences by oid; one that cannot be read has its error instead."""
    states: dict[int, SequenceState | StatementFailed] = {}
    for start in range(0, len(sequences), _BATCH):
        batch = sequences[start : start + _BATCH]
        try:
            states |= await _read(session, batch)
        except StatementFailed:
            for sequence in batch:
                try:
                    states |= await _read(session, [sequence])
                except StatementFailed as error:
                    states[sequence.oid] = error
    return states


async def _read(session: Session, sequences: Sequence[Relation]) -> dict[int, SequenceState | StatementFailed]:
    one = sql.SQL(
        "SELECT s.tableoid::bigint AS oid, s.last_value, s.log_cnt, s.is_called, p.seqincrement, p.seqmin, p.seqmax,"
        " p.seqcache, p.seqcycle FROM {path} AS s JOIN pg_catalog.pg_sequence AS p ON p.seqrelid = s.tableoid"
    )
    statement = sql.SQL(" UNION ALL ").join(one.format(path=Name(*sequence.raw_path)) for sequence in sequences)
    return {
        oid: SequenceState(
            last_value=last,
            log_count=ahead,
            called=called,
            increment=increment,
            minimum=minimum,
            maximum=maximum,
            cache=cache,
            cycles=cycles,
        )
        for oid, last, ahead, called, increment, minimum, maximum, cache, cycles in await session.fetch(statement)
    }
