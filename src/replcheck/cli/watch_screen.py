"""`replcheck watch` on a terminal: the screen over a watch, a recorder's history, or a recording."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from zoneinfo import ZoneInfo

from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.live_commands import LiveCommands, NoCommands
from replcheck.cli.live_feed import WINDOW, Board, ReplayFeed, WatchFeed
from replcheck.cli.main import is_plain_ascii
from replcheck.config import Configuration
from replcheck.model.outcome import ExitStatus
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveRequest
from replcheck.tui.app import run_app
from replcheck.tui.feed import Asked
from replcheck.tui.options import Options, is_light
from replcheck.watch.limits import WatchLimits
from replcheck.watch.replay import read_head


def show_cluster(request: LiveRequest, settings: LiveSettings, configuration: Configuration | None) -> ExitStatus:
    """Show a cluster until the user leaves."""
    board = Board()
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
    feed.start()
    claims.start()
    try:
        with _leaving_on_signals():
            return ExitStatus(run_app(board, commands, _options(request.cluster, request.limits, configuration)))
    except _Left:
        return ExitStatus.PROVEN
    finally:
        claims.close()
        commands.close()
        feed.close()


class _Left(SystemExit):
    """A signal asked the screen to end; a loop lets no other exception but SystemExit through at once."""


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """End the screen in order at SIGTERM and SIGHUP, so that the terminal and the history are left as at the key q."""

    def leave(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise _Left(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_recording(path: Path, limits: WatchLimits, configuration: Configuration | None) -> ExitStatus:
    """Show a recording; raise UsageError where it is none."""
    head, board = read_head(path), Board()
    ReplayFeed(path=path, limits=limits, board=board).start()
    return ExitStatus(run_app(board, NoCommands(), _options(head.cluster, limits, configuration)))


def _options(cluster: str, limits: WatchLimits, configuration: Configuration | None) -> Options:
    zone = configuration.output.time_zone if configuration else None
    copies = configuration.policy.copies if configuration else None
    window_s = copies.window if copies and copies.window else WINDOW.total_seconds()
    return Options(
        cluster=cluster,
        asked=Asked(
            running_copies=limits.copies,
            proven_copies=limits.proven,
            proof_age_s=limits.max_proof_age_s,
            lag_bytes=limits.lag_bytes,
            lag_s=limits.lag_s,
            recovery_age_s=limits.recovery_age_s,
            window_s=window_s,
        ),
        zone=ZoneInfo(zone) if zone else None,
        ascii_only=is_plain_ascii(os.environ) or not sys.stdout.encoding.startswith("utf"),
        light=is_light(os.environ),
    )
