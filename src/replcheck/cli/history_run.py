"""`replcheck history` from its options to their exit status: 0, or 3 where anything lacks."""

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from replcheck.cli.answers import printed
from replcheck.cli.display import Display
from replcheck.cli.options import Ending, Format
from replcheck.cli.stored import find_source
from replcheck.errors import UsageError
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.report.cluster_events import cluster_events_json, print_cluster_events
from replcheck.report.history import history_json, print_history, print_run, run_json
from replcheck.report.style import Style
from replcheck.report.verdict import counted
from replcheck.runs.history import find_run, known_kinds, list_events, list_runs, moment_of
from replcheck.store import RunFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Which runs a list shows, as it was asked."""

    limit: int
    since: str | None
    endings: tuple[Ending, ...]
    kind: str | None


def list_history(config: Path | None, store: Path | None, listed: Listed, form: Format) -> ExitStatus:
    """Print the list of runs."""
    source, now = find_source(config, store), datetime.now(UTC)
    _require_kind(listed.kind, source.store)
    wanted = RunFilter(
        since=moment_of(listed.since, flag="--since", now=now, zone=source.zone) if listed.since else None,
        kind=listed.kind,
        outcomes=frozenset(Outcome(ending.value) for ending in listed.endings if ending is not Ending.UNENDED),
        unended=Ending.UNENDED in listed.endings,
    )
    found = list_runs(source.store, wanted, limit=listed.limit)

    def draw(console: Console, style: Style) -> None:
        print_history(found.runs, console, style, now=now)

    status = printed(history_json(found.runs, store=str(source.store)) if form is Format.JSON else draw, source)
    for run_id in found.damaged:
        Display(quiet=True).note(f"warning: the record of run {run_id} is damaged and left out")
    return ExitStatus.UNCHECKED if found.damaged else status


def _require_kind(kind: str | None, store: Path) -> None:
    """Raise UsageError for a kind of runs that there is none of: an empty list would read as no such run."""
    known = sorted(known_kinds(store)) if kind is not None else []
    if kind is None or kind in known:
        return
    near = difflib.get_close_matches(kind.lower(), known, n=1, cutoff=0.5)
    raise UsageError(
        f'--kind "{printable(kind)}" is no kind of run',
        hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
    )


def show_events(
    config: Path | None, store: Path | None, since: str | None, until: str | None, limit: int, form: Format
) -> ExitStatus:
    """Print what happened while the cluster was watched; with a history named alone, of all clusters in it."""
    source, now = find_source(config, store), datetime.now(UTC)
    found, damaged = list_events(
        source.store,
        source.configuration.cluster if source.configuration else None,
        since=moment_of(since, flag="--since", now=now, zone=source.zone) if since else None,
        until=moment_of(until, flag="--until", now=now, zone=source.zone) if until else None,
        limit=limit,
    )

    def draw(console: Console, style: Style) -> None:
        print_cluster_events(found, console, style)

    text = cluster_events_json(found, store=str(source.store))
    status = printed(text if form is Format.JSON else draw, source)
    if damaged:
        Display(quiet=True).note(f"warning: {counted(damaged, 'damaged event')} left out")
        return ExitStatus.UNCHECKED
    return status


def show_run(config: Path | None, store: Path | None, name: str, form: Format) -> ExitStatus:
    """Print the record of one run."""
    source, now = find_source(config, store), datetime.now(UTC)
    past = find_run(source.store, name)

    def draw(console: Console, style: Style) -> None:
        print_run(past, console, style, now=now)

    return printed(run_json(past) if form is Format.JSON else draw, source)
