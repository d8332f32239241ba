"""Reads a configuration file and turns what is wrong with it into one line for people.

No message quotes a value: a value can be a connection string.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from replcheck.config.model import Configuration
from replcheck.config.parsing import parsed
from replcheck.errors import ConfigurationError

_HINTS = {"waivers": "A waiver needs a reason, the role of who decided it (by) and its last day (until)."}
"""What to write in a section, where a message alone does not tell."""


def read(path: Path) -> Configuration:
    """Read one file; raise ConfigurationError naming the file and the line or the key's path."""
    return _validated(parsed(path), path)


def _validated(tree: dict[str, Any], path: Path) -> Configuration:
    try:
        configuration = Configuration.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=True)
    else:
        _check_time_zone(configuration, path)
        return configuration
    # Outside the handler, since a validation error may quote what it refused.
    message, hint = _told(problems[0])
    hint = hint or _HINTS.get(str(problems[0]["loc"][0]) if problems[0]["loc"] else "", "")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise ConfigurationError(f"{path}: {message}{more}", hint=hint)


def _told(problem: Mapping[str, Any]) -> tuple[str, str]:
    location = tuple(str(part) for part in problem["loc"] if part != "[key]")
    key = ".".join(location)
    match problem["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _known_keys(location[:-1]), n=1, cutoff=0.5)
            return f"unknown key {key}", f'Did you mean "{near[0]}"?' if near else ""
        case "missing":
            return f"{key} is missing", ""
        case "literal_error":
            return f"{key} must be {problem['ctx']['expected']}", ""
        case "value_error":
            return f"{key} {problem['ctx']['error']}".strip(), ""
        case "string_pattern_mismatch":
            return f"{key} must be a name of letters, digits and . _ - (at most 63)", ""
        case "string_too_short" if problem["ctx"]["min_length"] == 1:
            return f"{key} must not be empty", ""
        case "too_short" if key == "nodes":
            return "nodes must name at least the primary", ""
    told = str(problem["msg"])
    return f"{key}: {told[:1].lower()}{told[1:]}", ""


def _known_keys(location: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] | None = Configuration
    for part in location:
        section = next(iter(_section_of(section, part)), None) if section else None
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _section_of(section: type[BaseModel], key: str) -> Iterator[type[BaseModel]]:
    named = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
    if key not in named:
        # A name of the user's own (a node, a backup): the section is what its table holds.
        yield section
        return
    pending = [named[key]]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        pending.extend(getattr(annotation, "__args__", ()))


def _check_time_zone(configuration: Configuration, path: Path) -> None:
    name = configuration.output.time_zone
    if name is None:
        return
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{path}: output.time_zone is no zone that this machine knows",
            hint="Use an IANA name such as Asia/Kolkata, and install the tzdata package where zones are missing.",
        ) from error
