"""What the screen of `replcheck watch` may ask for: audits and trial restores in threads of their own."""

import threading
from pathlib import Path

from rich.console import Console

from replcheck.audit.gate import USER
from replcheck.cli.live_board import Board, now
from replcheck.cli.report_run import print_stored
from replcheck.cli.stored import Source
from replcheck.config.model import Configuration
from replcheck.errors import ReplcheckError, UsageError
from replcheck.model.live import ClusterView
from replcheck.report.style import Style
from replcheck.runs.background import Audit, Bench, fit_targets
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.drill import FinishedDrill, run_drills
from replcheck.runs.drill_request import DrillFlags, DrillRequest, drill_request
from replcheck.runs.history import read_report
from replcheck.runs.live import LiveUpdate
from replcheck.runs.live_config import LiveRequest
from replcheck.tui.feed import DrillEnded, Offer, Offers, RunTold

_PATIENCE_S = 90.0


class LiveCommands:
    """Starts and ends runs beside a watch, one audit and one drill at a time."""

    def __init__(
        self,
        request: LiveRequest,
        configuration: Configuration | None,
        store: Path | None,
        board: Board,
    ) -> None:
        self._request, self._configuration, self._store = request, configuration, store
        self._board = board
        self._view: ClusterView | None = None
        self._audit: Audit | None = None
        self._drill: _Drill | None = None
        self._bench = Bench(
            request=request.audit, store=store, tell=board.note, sinks=[board.audit_event], ended=board.audit_over
        )

    def take(self, update: LiveUpdate) -> None:
        """Take the newest view: what can be audited follows from it."""
        self._view = update.view

    def offers(self) -> Offers:
        """Return what can be started now."""
        targets = fit_targets(self._view, self._request.targets) if self._view else ()
        names = ", ".join(target.name for target in targets[1:])
        audit = (
            Offer(name=self._request.cluster, sentence=f"Every row of {names} is compared with {targets[0].name}.")
            if targets
            else None
        )
        backups = sorted(self._configuration.backups) if self._configuration else []
        return Offers(
            audit=audit,
            drills=tuple(
                Offer(name=name, sentence=f"Backup {name} is restored in a scratch folder, proven and removed.")
                for name in backups
            ),
            why_no_audit="" if audit else "no primary with a streaming replica is seen",
            why_no_drill="" if backups else "no backup is configured",
        )

    def start_audit(self) -> None:
        """Audit all that can be audited now."""
        targets = fit_targets(self._view, self._request.targets) if self._view else ()
        if not targets:
            raise UsageError("no audit can start: no primary with a streaming replica is seen")
        if self._audit is not None and not self._audit.over:
            raise UsageError("an audit is running already")
        self._audit = self._bench.begin(targets)

    def pause(self) -> None:
        """Hold the audit still."""
        self._running_audit().reins.hold(USER, "paused")

    def resume(self) -> None:
        """Let it go on."""
        self._running_audit().reins.release(USER)

    def cancel(self) -> None:
        """End the audit; what it has proven is kept."""
        self._running_audit().reins.cancel()

    def start_drill(self, backup: str) -> None:
        """Restore a configured backup."""
        if self._drill is not None and self._drill.running:
            raise UsageError("a drill is running already")
        request = drill_request(DrillFlags(backup=backup), self._configuration)
        self._drill = _Drill(request, self._store, self._board)

    def cancel_drill(self) -> None:
        """End the drill and remove what it made."""
        if self._drill is None or not self._drill.running:
            raise UsageError("no drill is running here")
        self._drill.wish.ask()

    def print_report(self, run_id: str, console: Console, style: Style) -> None:
        """Print the report of a past run."""
        if self._store is None:
            raise UsageError("no history is kept")
        source = Source(store=self._store, configuration=self._configuration)
        print_stored(read_report(self._store, run_id).result, console, style, source)

    def close(self) -> None:
        """End what runs, and wait for it: a drill removes its copy first."""
        if self._audit is not None:
            self._audit.end()
        if self._drill is not None:
            self._drill.end()

    def _running_audit(self) -> Audit:
        if self._audit is None or self._audit.over:
            raise UsageError("no audit is running here")
        return self._audit


class _Drill:
    def __init__(self, request: DrillRequest, store: Path | None, board: Board) -> None:
        self.wish = StopWish(board.note, "the drill")
        self._request, self._store, self._board = request, store, board
        self._thread = threading.Thread(target=self._run, name="replcheck drill", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self.wish.ask()
        self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        problem, done = "", list[FinishedDrill]()
        try:
            done = run_drills(
                self._request,
                sinks=[lambda event: self._board.tell(RunTold(at=event.at, kind="drill", event=event))],
                store=self._store,
                tell=self._board.note,
                wish=self.wish,
            )
        except ReplcheckError as error:
            problem = error.message
        except Exception as defect:  # noqa: BLE001 - the screen stays, and says that the drill failed
            problem = f"internal error: {type(defect).__name__}"
        last = done[-1] if done else None
        if last is not None and last.error is not None:
            problem = last.error.message
        self._board.tell(DrillEnded(at=now(), result=last.result if last else None, problem=problem))
        self._board.history_changed.set()


class NoCommands:
    """Nothing can be started from a recording."""

    def offers(self) -> Offers:
        """Return that nothing can be started."""
        why = "this is a recording"
        return Offers(why_no_audit=why, why_no_drill=why)

    def start_audit(self) -> None:
        """Refuse."""
        raise _RECORDING

    pause = resume = cancel = cancel_drill = start_audit

    def start_drill(self, backup: str) -> None:  # noqa: ARG002 - none can be started
        """Refuse."""
        raise _RECORDING

    def print_report(self, run_id: str, console: Console, style: Style) -> None:  # noqa: ARG002 - there is none
        """Refuse."""
        raise _RECORDING


_RECORDING = UsageError("this is a recording: nothing can be started or read from it")
