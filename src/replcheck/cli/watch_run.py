"""`replcheck watch` from its options to its exit status: 0 where it was ended in order, 3 where it could not watch."""

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.display import Display
from replcheck.cli.nodes import configuration_for
from replcheck.cli.output import events_to
from replcheck.cli.streams import to_stdout
from replcheck.config.model import Configuration, History
from replcheck.errors import UsageError
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import ExitStatus
from replcheck.model.units import format_duration
from replcheck.report.style import Style
from replcheck.report.watch_lines import cluster_event_document, event_line, state_lines, summary_line
from replcheck.runs.following import Source, run_or_follow
from replcheck.runs.live import LiveSettings, LiveSink, LiveUpdate, Tell, recorder_lock_file, run_live
from replcheck.runs.live_config import LiveFlags, LiveRequest, live_request
from replcheck.runs.lock import is_held
from replcheck.runs.replaying import replayed
from replcheck.runs.sinks import JsonLines
from replcheck.store import Keep, default_path
from replcheck.watch.limits import WatchLimits

_STATE_EVERY_S = 60.0
_FIRST_ANSWERS_S = 3.0
"""How long the first answers of all nodes are waited for before the state is told."""


def watch_and_tell(arguments: WatchArguments) -> ExitStatus:
    """Watch until a signal comes, as the options ask; raise the error that keeps it from watching."""
    configuration = configuration_for(arguments.primary, arguments.replicas, arguments.config)
    with events_to(arguments.events) as writers:
        if arguments.replay is not None:
            return _replay(arguments.replay, configuration, arguments, writers)
        return _watch(arguments, configuration, writers)


def history_file(arguments: WatchArguments, configuration: Configuration | None, cluster: str) -> Path | None:
    """Return the file of the history; None where none is wanted or the environment names no place for it."""
    if arguments.no_store:
        return None
    if arguments.store is not None:
        return arguments.store
    if configuration is None:
        # Two clusters whose nodes are spelled out have one name, and would be taken for one another.
        return None
    if configuration.output.store is not None:
        return Path(configuration.output.store)
    return default_path(cluster, os.environ)


def keep_of(configuration: Configuration | None) -> Keep:
    """Return how long the history keeps what lies beside the records."""
    history = configuration.history if configuration else History()
    return Keep(samples_s=history.keep_samples, events_s=history.keep_events, parts_s=history.keep_details)


def prepared(
    arguments: WatchArguments, configuration: Configuration | None, writers: Sequence[JsonLines], tell: Tell
) -> tuple[LiveRequest, LiveSettings]:
    """Return what to watch and how, with `writers` as the only readers; raise UsageError where that makes no sense."""
    request = live_request(_flags(arguments), configuration)
    for note in request.notes:
        tell(note)
    store = history_file(arguments, configuration, request.cluster)
    if store is None and not arguments.no_store:
        lack = "neither XDG_STATE_HOME nor HOME is set" if configuration else "spelled-out nodes have no history"
        tell(f"warning: nothing of what is seen is kept: {lack} (name one with --store, or use --no-store)")
    _check_scrub(request, store, tell)
    if arguments.record is not None and store is not None and is_held(recorder_lock_file(store, request.cluster)):
        tell("note: a recorder is at work already: this watch writes its samples to the recording only")
        store = None
    settings = LiveSettings(
        store=store,
        keep=keep_of(configuration),
        sinks=[_json(writer) for writer in writers],
        run_sinks=writers,
        recording=arguments.record,
        tell=tell,
    )
    return request, settings


def _watch(arguments: WatchArguments, configuration: Configuration | None, writers: Sequence[JsonLines]) -> ExitStatus:
    display = Display(quiet=True)
    request, settings = prepared(arguments, configuration, writers, display.note)
    settings = replace(settings, sinks=[_lines(arguments, configuration), *settings.sinks])
    if arguments.headless:
        run_live(request, settings)
        return display.heard(ExitStatus.PROVEN)
    told = SourceNotes(display.note)
    run_or_follow(request, settings, source=told.take)
    return display.heard(ExitStatus.UNCHECKED if told.lost else ExitStatus.PROVEN)


class SourceNotes:
    """Tells where the lines come from when that changes, and when nothing comes any more."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._before: Source | None = None

    @property
    def lost(self) -> bool:
        """Return whether nothing is watched now."""
        return self._before is Source.LOST

    def take(self, source: Source, why: str) -> None:
        """Take a change of the source."""
        before, self._before = self._before, source
        if source is Source.LOST:
            self._tell(f"warning: nothing is watched: {why}")
        elif source is Source.RECORDER and before is not source:
            self._tell("note: a recorder is at work: what it writes is read")
        elif source is Source.OWN and before is not None:
            self._tell("note: the recorder has ended: this process watches now")


def _replay(
    path: Path, configuration: Configuration | None, arguments: WatchArguments, writers: Sequence[JsonLines]
) -> ExitStatus:
    limits = WatchLimits.of(configuration) if configuration else WatchLimits()
    sinks = [_lines(arguments, configuration), *(_json(writer) for writer in writers)]
    last: LiveUpdate | None = None
    for update in replayed(path, limits):
        last = update
        for sink in sinks:
            sink(update)
    if last is not None and not to_stdout(arguments.events):
        _print(state_lines(last.view, last.standings, _style(configuration)))
    return ExitStatus.PROVEN


def _flags(arguments: WatchArguments) -> LiveFlags:
    return LiveFlags(
        primary=arguments.primary,
        replicas=arguments.replicas,
        interval=arguments.interval,
        scrub=arguments.scrub,
        audits=arguments.audits,
    )


def _check_scrub(request: LiveRequest, store: Path | None, tell: Tell) -> None:
    if request.scrub_s is None:
        return
    if store is None:
        raise UsageError(
            "a rolling audit needs a history: what it has proven must outlive it", hint="Name its file with --store."
        )
    age_s = request.limits.max_proof_age_s
    if request.scrub_s > age_s:
        tell(
            f"note: everything is proven once in {format_duration(request.scrub_s)}, and a proof counts for"
            f" {format_duration(age_s)} only (policy.consistency.max_age)"
        )


def _lines(arguments: WatchArguments, configuration: Configuration | None) -> LiveSink:
    """Return what prints lines: what happens, and the state at the beginning and, with --plain, each minute."""
    if to_stdout(arguments.events):
        return lambda _: None
    style = _style(configuration)
    every_s = None if arguments.headless or arguments.replay is not None else _STATE_EVERY_S
    told_at: datetime | None = None

    def take(update: LiveUpdate) -> None:
        nonlocal told_at
        view, ending = update.view, any(event.kind is EventKind.WATCH_ENDED for event in update.events)
        lines = [event_line(event, style) for event in update.events]
        young = (view.at - view.watched_since).total_seconds() < _FIRST_ANSWERS_S
        awaited = young and any(node.state is NodeState.UNSEEN for node in view.nodes)
        if told_at is None and not ending and not awaited:
            lines += state_lines(view, update.standings, style)
            told_at = view.at
        elif every_s is not None and told_at is not None and (view.at - told_at).total_seconds() >= every_s:
            lines.append(summary_line(view, update.standings, style))
            told_at = view.at
        _print(lines)

    return take


def _json(writer: JsonLines) -> LiveSink:
    def take(update: LiveUpdate) -> None:
        for event in update.events:
            writer.write(cluster_event_document(event))

    return take


def _print(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more: end in order, as at a signal.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)


def _style(configuration: Configuration | None) -> Style:
    zone = configuration.output.time_zone if configuration else None
    return Style(ascii_only=not sys.stdout.encoding.startswith("utf"), zone=ZoneInfo(zone) if zone else None)
