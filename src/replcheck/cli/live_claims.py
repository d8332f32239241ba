"""What the policy promises, for the screen of `replcheck watch`: read again now and then, and when things happen."""

import threading
from pathlib import Path

from replcheck.cli.live_board import Board, now
from replcheck.config.model import Configuration
from replcheck.errors import ReplcheckError
from replcheck.model.control import Standing
from replcheck.model.live import ClusterView
from replcheck.runs.claims import ClaimFound, find_claims
from replcheck.runs.live import LiveUpdate
from replcheck.tui.feed import Claim, ClaimsTaken

_EVERY_S = 10.0
_SOON_S = 1.0
"""How long is waited after something happened: it seldom happens alone."""
_PATIENCE_S = 10.0


class ClaimsFeed:
    """Evaluates the policy in a thread of its own; that it cannot be evaluated is told once."""

    def __init__(self, configuration: Configuration | None, store: Path | None, board: Board) -> None:
        self._configuration, self._store, self._board = configuration, store, board
        self._view: ClusterView | None = None
        self._happened = threading.Event()
        self._ending = threading.Event()
        self._claims: tuple[Claim, ...] | None = None
        """As they were found last; None before that."""
        self._problem = ""
        self._thread = threading.Thread(target=self._read, name="replcheck claims", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, update: LiveUpdate) -> None:
        """Take the newest view; what happens is evaluated soon."""
        first, self._view = self._view is None, update.view
        if first or update.events:
            self._happened.set()

    def close(self) -> None:
        """End, and wait for that."""
        self._ending.set()
        self._happened.set()
        self._thread.join(_PATIENCE_S)

    def _read(self) -> None:
        while not self._ending.is_set():
            self._read_once()
            if self._configuration is None:
                return
            if self._happened.wait(_EVERY_S):
                self._ending.wait(_SOON_S)
            self._happened.clear()

    def _read_once(self) -> None:
        try:
            self._claims, problem = self._found(), ""
        except ReplcheckError as error:
            problem = f"the policy cannot be evaluated: {error.message}"
        except Exception as defect:  # noqa: BLE001 - the screen stays, and says that nothing is known of its claims
            problem = f"the policy cannot be evaluated: internal error: {type(defect).__name__}"
        self._board.tell(ClaimsTaken(at=now(), claims=self._claims, problem=problem))
        if problem and problem != self._problem:
            self._board.note(f"warning: {problem}")
        self._problem = problem

    def _found(self) -> tuple[Claim, ...]:
        if self._configuration is None:
            return ()
        return tuple(claim_of(one) for one in find_claims(self._configuration, self._store, self._view, now()))


def claim_of(found: ClaimFound) -> Claim:
    """Return a control as the screen shows it."""
    latest = found.over_time or found.now
    return Claim(
        name=latest.name.value,
        sentence=latest.claim,
        now=found.now.standing,
        window=found.over_time.standing if found.over_time else Standing.NOT_ASKED,
        measured=latest.measured,
        problems=latest.problems,
        as_of=latest.as_of,
    )
