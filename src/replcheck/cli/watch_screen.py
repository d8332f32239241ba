"""`replcheck watch` on a terminal: the screen, and behind it whatever it shows, which is loaded once it is there."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.live_board import Board, now
from replcheck.cli.streams import is_plain_ascii
from replcheck.errors import UsageError
from replcheck.model.outcome import ExitStatus
from replcheck.tui.app import run_app
from replcheck.tui.feed import Closed, Commands, Offers, Take
from replcheck.tui.options import Options, is_light

if TYPE_CHECKING:
    from rich.console import Console

    from replcheck.cli.watch_session import Session
    from replcheck.report.style import Style

_BEGINNING = "the watch is beginning"
_PATIENCE_S = 90.0


def show(arguments: WatchArguments) -> ExitStatus:
    """Show what the options ask for until the user leaves; raise the error that keeps it from beginning."""
    background = Background(arguments)
    options = Options(
        cluster="",
        ascii_only=is_plain_ascii(os.environ) or not sys.stdout.encoding.startswith("utf"),
        light=is_light(os.environ),
    )
    try:
        status = ExitStatus(run_app(background, background, options))
    finally:
        with _deaf_to_signals():
            background.close()
    if background.error is not None:
        raise background.error
    return status


class Background:
    """Begins to load and to watch when the screen begins to listen; until then nothing can be asked for."""

    def __init__(self, arguments: WatchArguments) -> None:
        self.error: Exception | None = None
        """What kept it from beginning."""
        self._arguments = arguments
        self._board = Board()
        self._session: Session | None = None
        self._mutex = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._begin, name="replcheck beginning", daemon=True)

    def subscribe(self, take: Take) -> None:
        """Hand every update to `take`, and begin."""
        self._board.subscribe(take)
        self._thread.start()

    def close(self) -> None:
        """End what was begun, in order, and wait for that."""
        with self._mutex:
            self._closed = True
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        if self._session is not None:
            self._session.close()

    def _begin(self) -> None:
        try:
            from replcheck.cli.watch_session import open_session

            with self._mutex:
                if not self._closed:
                    self._session = open_session(self._arguments, self._board)
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self.error = error
            self._board.tell(Closed(at=now()))

    @property
    def _commands(self) -> Commands:
        if self._session is None:
            raise UsageError(_BEGINNING)
        return self._session.commands

    def offers(self) -> Offers:
        """Return what can be started now."""
        if self._session is None:
            return Offers(why_no_audit=_BEGINNING, why_no_drill=_BEGINNING)
        return self._session.commands.offers()

    def start_audit(self) -> None:
        """Start the audit that was offered."""
        self._commands.start_audit()

    def pause(self) -> None:
        """Hold the running audit still."""
        self._commands.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._commands.resume()

    def cancel(self) -> None:
        """End the running audit."""
        self._commands.cancel()

    def start_drill(self, backup: str) -> None:
        """Start a drill of one of the backups that were offered."""
        self._commands.start_drill(backup)

    def cancel_drill(self) -> None:
        """End the running drill."""
        self._commands.cancel_drill()

    def print_report(self, run_id: str, console: "Console", style: "Style") -> None:
        """Print the report of a past run."""
        self._commands.print_report(run_id, console, style)


@contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """Let what was begun end in order, so that the history tells of it: a closed terminal may send several of them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
