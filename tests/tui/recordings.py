"""Recorded feeds: updates as JSON lines, with marks between them that name what was going on."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from replcheck import events
from replcheck.model.audit import AuditResult
from replcheck.model.drill import DrillResult
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.plain import plain_object, snake_case
from replcheck.model.run import Failure, RunRecord, RunStart
from replcheck.model.shape import from_plain
from replcheck.report.history import PastRun, RunState
from replcheck.tui import feed
from replcheck.tui.feed import AuditEnded, DrillEnded, RunsRead, RunTold, Update

RECORDED = Path(__file__).parents[1] / "data" / "screens.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a recording."""

    name: str


def _named(module: Any, base: type) -> dict[str, Any]:
    found = vars(module).values()
    return {snake_case(kind.__name__): kind for kind in found if isinstance(kind, type) and issubclass(kind, base)}


_UPDATES, _EVENTS = _named(feed, Update), _named(events, events.Event)


def written(updates: Iterable[Update | Mark]) -> Iterator[str]:
    """Yield a line each."""
    for update in updates:
        if isinstance(update, Mark):
            yield json.dumps({"mark": update.name}) + "\n"
            continue
        plain = plain_object(update)
        if isinstance(update, RunTold):
            plain["event"] = {"event": snake_case(type(update.event).__name__), **plain_object(update.event)}
        yield json.dumps({"update": snake_case(type(update).__name__), **plain}, separators=(",", ":")) + "\n"


def read(path: Path = RECORDED) -> list[Update | Mark]:
    """Return what was recorded."""
    return [_read(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def until(mark: str, path: Path = RECORDED, *, chunks: int = 0) -> list[Update]:
    """Return what was recorded until a mark, and then until so many chunks more were read."""
    found: list[Update] = []
    passed = False
    for update in read(path):
        if isinstance(update, Mark):
            passed = passed or update.name == mark
        else:
            found.append(update)
            chunks -= passed and isinstance(update, RunTold) and isinstance(update.event, events.ChunkCompared)
        if passed and chunks <= 0:
            return found
    raise LookupError(mark)


def _read(document: dict[str, Any]) -> Update | Mark:
    if "mark" in document:
        return Mark(name=document["mark"])
    kind: type[Update] = _UPDATES[document["update"]]
    at = from_plain(feed.Update, {"at": document["at"]}).at
    if kind is RunTold:
        event = document["event"]
        return RunTold(at=at, kind=document["kind"], event=from_plain(_EVENTS[event["event"]], event))
    if kind is RunsRead:
        return RunsRead(at=at, runs=tuple(map(_past, document["runs"])), problem=document["problem"])
    if kind is AuditEnded:
        audited = from_plain(AuditResult, document["result"]) if document["result"] else None
        return AuditEnded(at=at, result=audited, problem=document["problem"])
    if kind is DrillEnded:
        drilled = from_plain(DrillResult, document["result"]) if document["result"] else None
        return DrillEnded(at=at, result=drilled, problem=document["problem"])
    return from_plain(kind, document)


def _past(document: dict[str, Any]) -> PastRun:
    return PastRun(run=_run(document["run"]), state=RunState(document["state"]))


def _run(document: dict[str, Any]) -> RunStart:
    start = from_plain(RunStart, document)
    if "outcome" not in document:
        return start
    return RunRecord(
        **{name: getattr(start, name) for name in start.__slots__},
        finished_at=from_plain(datetime, document["finished_at"]),
        outcome=Outcome(document["outcome"]),
        verdict=document["verdict"],
        exit_status=ExitStatus(document["exit_status"]),
        summary=document["summary"],
        failure=from_plain(Failure, document["failure"]) if document["failure"] else None,
    )
