"""Turns the shared nouns into what JSON knows: one way for events, reports and records alike."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache

from replcheck.model.wal import Lsn

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
_PLAIN_ALREADY = frozenset({type(None), bool, int, float, str})
"""Exactly these: what is derived of them, a word or a position in the WAL, is written in its own way."""


def to_plain(value: object) -> Plain:
    """Return the value as JSON has it: times in UTC, enums by their word, LSNs as PostgreSQL writes them.

    Raises TypeError for what is no fact (a connection, a function), rather than writing its `repr`.

    >>> to_plain((Lsn.parse("0/10"), None, 1.5))
    ['0/10', None, 1.5]
    """
    if type(value) in _PLAIN_ALREADY:
        return value  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in _field_names(type(value))}
    match value:
        case Enum():
            return to_plain(value.value)
        case Lsn():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return utc_text(value)
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case set() | frozenset():
            return sorted((to_plain(item) for item in value), key=repr)
    raise TypeError(f"{type(value).__name__} is no plain fact")


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def plain_object(fact: object) -> dict[str, Plain]:
    """Return a dataclass as a JSON object; raise TypeError for anything else."""
    plain = to_plain(fact)
    if not isinstance(plain, dict):
        raise TypeError(f"{type(fact).__name__} is no object")
    return plain


def utc_text(moment: datetime) -> str:
    """Return an aware time as machines read it.

    >>> utc_text(datetime(2026, 3, 1, 12, 0, 0, 5000, tzinfo=UTC))
    '2026-03-01T12:00:00.005Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def aware_moment(text: str) -> datetime:
    """Return the time of a text as machines read it; raise ValueError where it is none, or tells no time zone.

    >>> aware_moment("2026-03-01T12:00:00.005Z").isoformat()
    '2026-03-01T12:00:00.005000+00:00'
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it tells no time zone")
    return moment


def snake_case(name: str) -> str:
    """Return a class name as a JSON word.

    >>> snake_case("ChunkCompared")
    'chunk_compared'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
