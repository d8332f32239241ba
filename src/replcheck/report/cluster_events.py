"""What happened to clusters, from the history: for people as lines, newest first, and for machines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from replcheck.model.live import ClusterEvent, Severity
from replcheck.model.names import printable
from replcheck.model.plain import Plain, plain_object
from replcheck.model.shape import properties_schema
from replcheck.report.style import Style, line
from replcheck.report.verdict import counted

EVENTS_SCHEMA = "replcheck/cluster_events/1"
_COLOURS = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """Something that happened to a cluster."""

    cluster: str
    event: ClusterEvent


def cluster_events_json(events: Sequence[PastEvent], *, store: str) -> str:
    """Return events as text, in ASCII, with a line break at its end."""
    told: list[Plain] = [{"cluster": past.cluster, **plain_object(past.event)} for past in events]
    document: dict[str, Plain] = {
        "schema": EVENTS_SCHEMA,
        "kind": "cluster_events",
        "store": store,
        "events": told,
    }
    return json.dumps(document, indent=2) + "\n"


def cluster_events_schema() -> dict[str, Any]:
    """Return the schema of that document, without its dialect."""
    definitions: dict[str, Any] = {}
    properties = {"cluster": {"type": "string"}, **properties_schema(ClusterEvent, definitions)}
    event = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    parts = {
        "schema": {"const": EVENTS_SCHEMA},
        "kind": {"const": "cluster_events"},
        "store": {"type": "string"},
        "events": {"type": "array", "items": event},
    }
    return {
        "title": "replcheck events of clusters",
        "description": "What happened to watched clusters, newest first: `replcheck history events --format json`.",
        "type": "object",
        "properties": parts,
        "required": list(parts),
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def print_cluster_events(events: Sequence[PastEvent], console: Console, style: Style) -> None:
    """Print events, newest first, each on a line of its own; the cluster is named where there are several."""
    if not events:
        line(console, "no event matches", indent=0)
        return
    several = len({past.cluster for past in events}) > 1
    for past in events:
        event = past.event
        text = Text(f"{style.time(event.at)}  ")
        text.append(f"{event.severity.value:8}", style=_COLOURS[event.severity])
        text.append(f"  {printable(past.cluster)}" if several else "")
        text.append(f"  {printable(event.what)}")
        console.print(text, soft_wrap=True)
    console.print()
    line(console, counted(len(events), "event"), indent=0)
