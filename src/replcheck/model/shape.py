"""Reads plain JSON back into the shared nouns, and describes them as JSON schema: both follow a fact's own types.

The counterpart of `plain`. Reading is strict: what does not fit is refused with its path and never guessed, since a
verdict may rest on it. Keys that a type does not know are passed over: newer versions add some.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import MAXYEAR, MINYEAR, date, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from replcheck.model.plain import aware_moment
from replcheck.model.wal import Lsn

Fact = TypeVar("Fact")
_MOST = 2**64
"""No count, size or time of a server's reaches this; without a bound, arithmetic with it would."""
_YEARS = (MINYEAR, MAXYEAR)
_Reader = Callable[[object], object]
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
    try:
        return cast(Fact, _reader(cast(Hashable, kind))(value))
    except _Misfit as misfit:
        raise ValueError(misfit.told(at)) from None


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
    if _is_either(kind):
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


class _Misfit(ValueError):
    """What does not fit; its path is put together from the inside outwards, only where it is needed."""

    def __init__(self, what: str, *path: object) -> None:
        super().__init__(what)
        self.what = what
        self.path = [str(part) for part in path]

    def within(self, part: object) -> "_Misfit":
        self.path.insert(0, str(part))
        return self

    def told(self, at: str) -> str:
        return f"{'.'.join(([at] if at else []) + self.path) or 'the whole'} {self.what}"


@cache
def _reader(kind: Any) -> _Reader:
    """Return what reads values of a kind; made once, since a history holds many of each."""
    if kind in _SIMPLE:
        return _simple_reader(kind)
    if _is_either(kind):
        return _optional_reader(get_args(kind))
    if get_origin(kind) is tuple:
        return _tuple_reader(kind)
    if get_origin(kind) is Mapping:
        return _mapping_reader(get_args(kind)[1])
    if is_dataclass(kind):
        return _object_reader(cast(type, kind))
    return _word_reader(kind)


def _simple_reader(kind: type) -> _Reader:
    if kind in (int, float):
        return _number_reader(kind)

    def read(value: object) -> object:
        if type(value) is not kind:
            raise _Misfit(f"is no {_SIMPLE[kind]}")
        return value

    return read


def _number_reader(kind: type) -> _Reader:
    def read(value: object) -> object:
        # JSON has one kind of number, and Python counts bool among the integers.
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise _Misfit(f"is no {_SIMPLE[kind]}")
        # Not a number is beyond every bound, and so is infinity.
        if not -_MOST < value < _MOST:  # type: ignore[operator]
            raise _Misfit("is out of range")
        return float(cast(float, value)) if kind is float else value

    return read


def _optional_reader(kinds: tuple[Any, ...]) -> _Reader:
    [kind] = [kind for kind in kinds if kind is not NoneType]
    inner, may_be_none = _reader(kind), NoneType in kinds

    def read(value: object) -> object:
        return None if value is None and may_be_none else inner(value)

    return read


def _tuple_reader(kind: Any) -> _Reader:
    inner, length = _reader(_item(kind)), _length(kind)

    def read(value: object) -> object:
        if not isinstance(value, list):
            raise _Misfit("is no array")
        if length not in {None, len(value)}:
            raise _Misfit(f"has {len(value)} items, not {length}")
        found: list[object] = []
        try:
            found.extend(map(inner, value))
        except _Misfit as misfit:
            raise misfit.within(len(found)) from None
        return tuple(found)

    return read


def _mapping_reader(kind: Any) -> _Reader:
    inner = _reader(kind)

    def read(value: object) -> object:
        found = {}
        for name, item in _mapping(value).items():
            try:
                found[name] = inner(item)
            except _Misfit as misfit:
                raise misfit.within(name) from None
        return found

    return read


def _object_reader(kind: type) -> _Reader:
    # A fact may hold its own kind, so that its fields are looked at no sooner than a value is read.
    plan: list[tuple[str, Any, _Reader, bool]] = []

    def read(value: object) -> object:
        held = _mapping(value)
        if not plan:
            plan.extend(_field_plan(kind))
        given: dict[str, object] = {}
        for name, as_it_is, inner, required in plan:
            found = held.get(name, MISSING)
            if type(found) is as_it_is:
                given[name] = found
            elif found is not MISSING:
                try:
                    given[name] = inner(found)
                except _Misfit as misfit:
                    raise misfit.within(name) from None
            elif required:
                raise _Misfit("is missing", name)
        return kind(**given)

    return read


def _field_plan(kind: type) -> Iterator[tuple[str, Any, _Reader, bool]]:
    """Yield the name of each field, the type of values taken as they are, what reads others, and whether it must be."""
    for field in fields(kind):
        hint = _hints(kind)[field.name]
        parts = [part for part in get_args(hint) if part is not NoneType] if _is_either(hint) else [hint]
        as_it_is = parts[0] if len(parts) == 1 and parts[0] in (bool, str) else None
        yield field.name, as_it_is, _reader(hint), field.default is MISSING and field.default_factory is MISSING


def _is_either(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _word_reader(kind: Any) -> _Reader:
    made = _MADE.get(kind) or _words_of(kind).__getitem__

    def read(value: object) -> object:
        if isinstance(value, str):
            try:
                return made(value)
            except (ValueError, KeyError):
                pass
        raise _Misfit(f"is no {kind.__name__}")

    return read


def _words_of(kind: type[Enum]) -> dict[object, Enum]:
    return {member.value: member for member in kind}


def _moment(text: str) -> datetime:
    moment = aware_moment(text)
    if not _YEARS[0] < moment.year < _YEARS[1]:
        raise ValueError("a time that cannot be told in other zones")
    return moment


_MADE: Mapping[type, Callable[[str], object]] = {datetime: _moment, date: date.fromisoformat, Lsn: Lsn.parse}


def _mapping(value: object) -> Mapping[str, object]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise _Misfit("is no object")
    return cast(Mapping[str, object], value)


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
