"""What stands behind the screen of `replcheck watch`: a watch of its own, a recorder's history, or a recording."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.live_board import Board, now
from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.live_commands import LiveCommands, NoCommands
from replcheck.cli.live_feed import WINDOW, ReplayFeed, WatchFeed
from replcheck.cli.nodes import configuration_for
from replcheck.cli.output import events_to
from replcheck.cli.watch_run import prepared
from replcheck.config.model import Configuration
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveRequest
from replcheck.tui.feed import Asked, Commands, Introduced
from replcheck.watch.limits import WatchLimits
from replcheck.watch.replay import read_head

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Session:
    """What was begun: what may be asked of it, and all that is to be ended with it."""

    commands: Commands
    _ending: ExitStack

    def close(self) -> None:
        """End all of it, the last thing that was begun first, and wait for that."""
        self._ending.close()


def open_session(arguments: WatchArguments, board: Board) -> Session:
    """Begin what the options ask for, and tell it to a board; raise the error that keeps it from beginning."""
    configuration = configuration_for(arguments.primary, arguments.replicas, arguments.config)
    with ExitStack() as ending:
        if arguments.replay is not None:
            limits = WatchLimits.of(configuration) if configuration else WatchLimits()
            _replay(arguments.replay, limits, configuration, board)
            return Session(NoCommands(), ending.pop_all())
        writers = ending.enter_context(events_to(arguments.events))
        request, settings = prepared(arguments, configuration, writers, board.note)
        commands = _watch(request, settings, configuration, board, ending)
        return Session(commands, ending.pop_all())


def _watch(
    request: LiveRequest,
    settings: LiveSettings,
    configuration: Configuration | None,
    board: Board,
    ending: ExitStack,
) -> Commands:
    board.tell(_introduced(request.cluster, request.limits, configuration))
    commands = LiveCommands(request, configuration, settings.store, board)
    claims = ClaimsFeed(configuration, settings.store, board)
    settings = replace(
        settings,
        sinks=[*settings.sinks, board.take_live, commands.take, claims.take],
        run_sinks=[*settings.run_sinks, board.audit_event],
        audited=board.audit_over,
        tell=board.note,
    )
    feed = WatchFeed(request, settings, board)
    for part in (feed, commands, claims):
        ending.callback(part.close)
    feed.start()
    claims.start()
    return commands


def _replay(path: Path, limits: WatchLimits, configuration: Configuration | None, board: Board) -> None:
    head = read_head(path)
    # The present of a recording is when it was made: nothing that is told may be later.
    board.tell(replace(_introduced(head.cluster, limits, configuration), at=_BEFORE_ALL))
    ReplayFeed(path=path, limits=limits, board=board).start()


def _introduced(cluster: str, limits: WatchLimits, configuration: Configuration | None) -> Introduced:
    zone = configuration.output.time_zone if configuration else None
    copies = configuration.policy.copies if configuration else None
    asked = Asked(
        running_copies=limits.copies,
        proven_copies=limits.proven,
        proof_age_s=limits.max_proof_age_s,
        lag_bytes=limits.lag_bytes,
        lag_s=limits.lag_s,
        recovery_age_s=limits.recovery_age_s,
        window_s=copies.window if copies and copies.window else WINDOW.total_seconds(),
    )
    return Introduced(at=now(), cluster=cluster, asked=asked, zone=ZoneInfo(zone) if zone else None)
