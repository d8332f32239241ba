"""Reads plain JSON back into the shared nouns, and describes them as JSON schema: both follow a fact's own types.

The counterpart of `plain`. Reading is strict: what does not fit is refused with its path and never guessed, since a
verdict may rest on it. Keys that a type does not know are passed over: newer versions add some.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from replcheck.model.wal import Lsn

Fact = TypeVar("Fact")
_SIMPLE: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}


def from_plain(kind: type[Fact], value: object, *, at: str = "") -> Fact:
    """Return the fact of which `value` is the plain form; raise ValueError with the path where it is none.

    Reads what `to_plain` writes: dataclasses, enums, LSNs, aware times, tuples, mappings and what JSON has itself.

    >>> from_plain(tuple[int, ...], [1, 2])
    (1, 2)
    >>> from_plain(tuple[int, ...], [1, "2"], at="rows")
    Traceback (most recent call last):
    ValueError: rows.1 is no integer
    """
    return cast(Fact, _read(kind, value, at))


def json_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a fact's plain form; those of dataclasses and enums go into `definitions` by name.

    >>> json_schema(int | None, {})
    {'type': ['integer', 'null']}
    """
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if kind is Lsn:
        return {"type": "string", "pattern": "^[0-9A-F]+/[0-9A-F]+$"}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if kind is date:
        return {"type": "string", "format": "date"}
    if get_origin(kind) in (Union, UnionType):
        return _either([json_schema(part, definitions) for part in get_args(kind)])
    if get_origin(kind) is tuple:
        length = _length(kind)
        fixed = {"minItems": length, "maxItems": length} if length is not None else {}
        return {"type": "array", "items": json_schema(_item(kind), definitions), **fixed}
    if get_origin(kind) is Mapping:
        return {"type": "object", "additionalProperties": json_schema(get_args(kind)[1], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # holds the place, for facts that hold their own kind
        definitions[kind.__name__] = _named_schema(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def properties_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of each field of a dataclass, by name."""
    return {name: json_schema(hint, definitions) for name, hint in _hints(kind).items()}


def _named_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    properties = properties_schema(kind, definitions)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    if all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _read(kind: Any, value: object, at: str) -> object:
    if kind in _SIMPLE:
        return _simple(kind, value, at)
    if get_origin(kind) in (Union, UnionType):
        return _first_fit(get_args(kind), value, at)
    if get_origin(kind) is tuple:
        return tuple(
            _read(_item(kind), item, _below(at, number)) for number, item in enumerate(_items(kind, value, at))
        )
    if get_origin(kind) is Mapping:
        return {name: _read(get_args(kind)[1], item, _below(at, name)) for name, item in _mapping(value, at).items()}
    if is_dataclass(kind):
        return _object(cast(type, kind), value, at)
    return _word(kind, value, at)


def _simple(kind: type, value: object, at: str) -> object:
    # JSON has one kind of number, and Python counts bool among the integers.
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{_place(at)} is no {_SIMPLE[kind]}")
    return value


def _first_fit(kinds: tuple[Any, ...], value: object, at: str) -> object:
    if value is None and NoneType in kinds:
        return None
    [kind] = [kind for kind in kinds if kind is not NoneType]
    return _read(kind, value, at)


def _object(kind: type, value: object, at: str) -> object:
    held = _mapping(value, at)
    given: dict[str, object] = {}
    for field in fields(kind):
        if field.name in held:
            given[field.name] = _read(_hints(kind)[field.name], held[field.name], _below(at, field.name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_below(at, field.name)} is missing")
    return kind(**given)


def _word(kind: Any, value: object, at: str) -> object:
    if isinstance(value, str):
        try:
            if kind is datetime:
                return _moment(value)
            if kind is date:
                return date.fromisoformat(value)
            return Lsn.parse(value) if kind is Lsn else kind(value)
        except ValueError:
            pass
    raise ValueError(f"{_place(at)} is no {kind.__name__}")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its offset")
    return moment


def _mapping(value: object, at: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{_place(at)} is no object")  # noqa: TRY004 - of the data, not of an argument
    return value


def _items(kind: Any, value: object, at: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{_place(at)} is no array")  # noqa: TRY004 - of the data, not of an argument
    if _length(kind) not in {None, len(value)}:
        raise ValueError(f"{_place(at)} has {len(value)} items, not {_length(kind)}")
    return value


def _item(kind: Any) -> Any:
    items = {item for item in get_args(kind) if item is not Ellipsis}
    if len(items) != 1:
        raise TypeError(f"{kind} is no tuple of one kind")
    return items.pop()


def _length(kind: Any) -> int | None:
    return None if Ellipsis in get_args(kind) else len(get_args(kind))


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _below(at: str, part: object) -> str:
    return f"{at}.{part}" if at else str(part)


def _place(at: str) -> str:
    return at or "the whole"
