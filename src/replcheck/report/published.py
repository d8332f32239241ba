"""The JSON schemas that replcheck publishes: of its reports, of its events and of its configuration.

Those of reports are the files beside this module; the others are made from the types that they describe.
"""

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from replcheck import events
from replcheck.config.schema import configuration_schema
from replcheck.errors import UsageError
from replcheck.events import Event
from replcheck.model.live import ClusterEvent
from replcheck.model.plain import snake_case
from replcheck.model.shape import properties_schema
from replcheck.report.cluster_events import cluster_events_schema

_SUFFIX = ".schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_GENERATED = {
    "cluster_events": "what happened to watched clusters, as history events tells it",
    "config": "the configuration file",
    "events": "a line of --events",
}


def schema_names() -> list[str]:
    """Return the names of all schemas."""
    return sorted([*_files(), *_GENERATED])


def schema_titles() -> dict[str, str]:
    """Return each schema's name with what it describes, in one line."""
    return {name: _title(name) for name in schema_names()}


def schema_text(name: str) -> str:
    """Return a schema as text, with a line break at its end; raise UsageError where there is none of that name."""
    files = _files()
    if name in files:
        return files[name].rstrip("\n") + "\n"
    if name not in _GENERATED:
        raise UsageError("there is no schema of this name", hint=f"There are: {', '.join(schema_names())}.")
    return json.dumps(_generated(name), indent=2) + "\n"


def _generated(name: str) -> dict[str, Any]:
    match name:
        case "config":
            return configuration_schema()
        case "cluster_events":
            return {"$schema": _DIALECT, **cluster_events_schema()}
        case _:
            return events_schema()


def events_schema() -> dict[str, Any]:
    """Return the schema of one line of an event stream: any of the events that there are."""
    definitions: dict[str, Any] = {}
    choices = [_event_schema(kind, definitions) for kind in (*_event_kinds(), ClusterEvent)]
    return {
        "$schema": _DIALECT,
        "title": "replcheck event",
        "description": "One line of an event stream. Events and keys may be added.",
        "oneOf": choices,
        "$defs": dict(sorted(definitions.items())),
    }


def _event_kinds() -> Iterator[type[Event]]:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    return (kind for kind in kinds if kind is not Event)


def _event_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    properties = {"event": {"const": snake_case(kind.__name__)}, **properties_schema(kind, definitions)}
    return {
        "title": kind.__name__,
        "description": (kind.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _title(name: str) -> str:
    if name in _GENERATED:
        return _GENERATED[name]
    schema: Mapping[str, Any] = json.loads(_files()[name])
    told = str(schema.get("description") or schema.get("title") or name)
    return told.partition(". ")[0].rstrip(".")


def _files() -> dict[str, str]:
    folder = resources.files("replcheck.report").joinpath("schemas")
    return {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(_SUFFIX)
    }
