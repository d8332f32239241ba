"""Says in words of ours what pydantic refused, of a configuration or of an option, and which problem comes first.

No message quotes a value: a value can be a connection string.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from replcheck.config.model import Configuration
from replcheck.model.units import format_duration, parse_duration

Problem = Mapping[str, Any]
"""One entry of ValidationError.errors()."""
_HINTS = {"waivers": "A waiver needs a reason, the role of who decided it (by) and its last day (until)."}
"""What to write in a section, where a message alone does not tell."""
_UNKNOWN = "extra_forbidden"
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_KINDS = {
    "string": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "tuple": "a list in square brackets",
    "dict": "a table of keys",
    "model": "a table of keys",
    "date": "a day such as 2027-01-31",
}
"""What a key must be, by the first word of the kind of problem."""


def first_told(problems: Sequence[Problem]) -> tuple[str, str]:
    """Return message and hint of what to mend first: a key that is near a known one, for it may explain the others."""
    meant = {index: near for index, problem in enumerate(problems) if (near := _meant(problem))}
    spared = {(*problems[index]["loc"][:-1], near) for index, near in meant.items()}
    left = [problem for problem in problems if not (problem["type"] == "missing" and problem["loc"] in spared)]
    left.sort(key=lambda problem: not _meant(problem))
    first, *others = _of_unions(left)
    message, hint = _told(first)
    more = len(others)
    return f"{message} (and {more} more)" if more else message, hint


def requirement(problem: Problem) -> str:
    """Return what a value must be that was refused, such as `must be at least 1`."""
    kind, context = str(problem["type"]), problem.get("ctx", {})
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {_bound(problem, context[name])}"
    match kind:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be {context['expected']}"
        case "string_pattern_mismatch":
            return "must be a name of letters, digits and . _ - (at most 63)"
        case "string_too_short" | "too_short":
            return "must not be empty" if context["min_length"] == 1 else f"needs at least {context['min_length']}"
        case "union_tag_invalid":
            *others, last = str(context["expected_tags"]).split(", ")
            return f"must be {', '.join(others)} or {last}"
    return f"must be {_KINDS.get(kind.partition('_')[0], 'something else')}"


def _told(problem: Problem) -> tuple[str, str]:
    location = _location(problem)
    key = ".".join(location)
    match problem["type"]:
        case "extra_forbidden":
            near = _meant(problem)
            return f"unknown key {key}", f'Did you mean "{near}"?' if near else _HINTS.get(location[0], "")
        case "missing":
            told = f"{key} is missing"
        case "union_tag_not_found":
            told = f"{key}.kind is missing"
        case "union_tag_invalid":
            told = f"{key}.kind {requirement(problem)}"
        case "too_short" if key == "nodes":
            told = "nodes must name at least the primary"
        case _:
            told = f"{key} {requirement(problem)}".strip()
    return told, _HINTS.get(location[0], "") if location else ""


def _of_unions(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems without those of the other shapes that a key of several may have."""
    unknown = [_location(problem) for problem in problems if problem["type"] == _UNKNOWN]
    kept: dict[tuple[str, ...], Problem] = {}
    for problem in problems:
        place = _location(problem)
        if not any(place == other[:-1] for other in unknown):
            kept.setdefault(place, problem)
    return list(kept.values())


def _location(problem: Problem) -> tuple[str, ...]:
    """Return the path of a key as it is written: without what pydantic calls the shapes that it tried."""
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    if parts[0:1] == ["backups"] and problem["type"] not in {"union_tag_invalid", "union_tag_not_found"}:
        del parts[2:3]
    if parts[:2] == ["drill", "scratch"] and parts[2:3] in (["str"], ["Scratch"]):
        del parts[2]
    return tuple(parts)


def _meant(problem: Problem) -> str:
    if problem["type"] != _UNKNOWN:
        return ""
    *table, key = (str(part) for part in problem["loc"])
    known = [field.alias or name for section in _sections(table) for name, field in section.model_fields.items()]
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.5)), "")


def _bound(problem: Problem, limit: float) -> str:
    *table, key = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
    fields = [field for section in _sections(table) for name, field in section.model_fields.items() if name == key]
    return format_duration(limit) if any(map(_is_duration, fields)) else f"{limit:g}"


def _is_duration(field: FieldInfo) -> bool:
    inner = [note for part in getattr(field.annotation, "__args__", ()) for note in getattr(part, "__metadata__", ())]
    return any(getattr(note, "func", None) is parse_duration for note in (*field.metadata, *inner))


def _sections(location: Sequence[str]) -> list[type[BaseModel]]:
    """Return the shapes that a table may have."""
    sections: list[type[BaseModel]] = [Configuration]
    for part in location:
        sections = [found for section in sections for found in _sections_of(section, part)]
        sections = [found for found in sections if part == _kind(found)] or sections
    return sections


def _kind(section: type[BaseModel]) -> str:
    field = section.model_fields.get("kind")
    return str(getattr(field.annotation, "__args__", ("",))[0]) if field else ""


def _sections_of(section: type[BaseModel], key: str) -> Iterator[type[BaseModel]]:
    named = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
    if key not in named:
        # A name of the user's own (a node, a backup), or of a shape: the section is what its table holds.
        yield section
        return
    pending = [named[key]]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        pending.extend(getattr(annotation, "__args__", ()))
