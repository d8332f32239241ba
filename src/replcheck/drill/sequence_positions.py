"""Sequences of a seal: where each stood before and after the restore point, and whether a copy's lies in between."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from replcheck.audit.sequences import Bracket, judge
from replcheck.errors import StatementFailed
from replcheck.model.seal import SealedSequence, SequencePosition
from replcheck.postgres.catalog import Relation
from replcheck.postgres.sequences import SequenceState, read_sequences
from replcheck.postgres.session import Session


async def read_positions(session: Session, sequences: Sequence[Relation]) -> Mapping[int, SequencePosition]:
    """Return where sequences stand, by oid; one that cannot be read is absent."""
    states = await read_sequences(session, sequences)
    return {oid: _position(state) for oid, state in states.items() if not isinstance(state, StatementFailed)}


def judge_position(sealed: SealedSequence, copy: SequencePosition, *, dumped: bool) -> Bracket:
    """Tell whether a copy's sequence stands where the primary's went through.

    A physical copy may stand behind the values that were logged ahead. A dump is taken later, so its sequences may
    stand anywhere up to where they were when it had ended.
    """
    last = sealed.after_dump if dumped and sealed.after_dump is not None else sealed.after
    return judge(_state(sealed.before), _state(copy), _state(last))


def _position(state: SequenceState) -> SequencePosition:
    return SequencePosition(**{field.name: getattr(state, field.name) for field in fields(SequencePosition)})


def _state(position: SequencePosition) -> SequenceState:
    return SequenceState(**{field.name: getattr(position, field.name) for field in fields(SequenceState)})
