"""Hands on to the screen of `replcheck watch` what is known; loads nothing of what knows it."""

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from replcheck.model.live import Severity
from replcheck.tui.feed import (
    AuditEnded,
    AuditsTold,
    EventsTaken,
    Noted,
    OwedAudit,
    RollingAudit,
    RunTold,
    StandingsTaken,
    Take,
    Update,
    ViewTaken,
)

if TYPE_CHECKING:
    from replcheck.events import Event
    from replcheck.runs.background import Audit
    from replcheck.runs.live import LiveUpdate
    from replcheck.runs.owed import UnderWay
    from replcheck.runs.scrub import ScrubState


class Board:
    """Hands updates to whoever subscribed, what is known already first; used by any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._takes: list[Take] = []
        self._known: dict[type[Update], Update] = {}
        self.history_changed = threading.Event()
        """Set by whoever added to the history: it is read again soon."""

    def subscribe(self, take: Take) -> None:
        """Hand every update to `take` from now on."""
        with self._mutex:
            for update in self._known.values():
                take(update)
            self._takes.append(take)

    def tell(self, update: Update) -> None:
        """Hand on an update."""
        with self._mutex:
            if not isinstance(update, EventsTaken | RunTold | Noted):
                self._known[type(update)] = update
            for take in self._takes:
                take(update)

    def take_live(self, update: "LiveUpdate") -> None:
        """Hand on what is known after a sample."""
        at = update.view.at
        self.tell(ViewTaken(at=at, view=update.view, interval_s=update.interval_s))
        if update.view.proven_copies is not None:
            # Else nobody knows of any proofs, as in a recording: that is not the same as that there are none.
            self.tell(StandingsTaken(at=at, standings=update.standings))
        audits = update.audits
        rolling = _rolling(audits.scrub) if audits.scrub else None
        owed = _owed(audits.owed) if audits.owed else None
        self.tell(AuditsTold(at=at, rolling=rolling, owed=owed))
        if update.events:
            self.tell(EventsTaken(at=at, events=update.events))

    def note(self, text: str) -> None:
        """Hand on a line for people."""
        warns = text.startswith(("warning", "error"))
        self.tell(Noted(at=now(), text=text, severity=Severity.WARNING if warns else Severity.INFO))

    def audit_event(self, event: "Event") -> None:
        """Hand on what an audit tells."""
        self.tell(RunTold(at=event.at, kind="audit", event=event))

    def audit_over(self, audit: "Audit") -> None:
        """Hand on how an audit ended."""
        result = audit.finished.result if audit.finished else None
        problem = audit.error.message if audit.error is not None else ""
        self.tell(AuditEnded(at=now(), result=result, problem=problem))
        self.history_changed.set()


def _owed(audit: "UnderWay") -> OwedAudit:
    return OwedAudit(primary=audit.primary, replicas=audit.replicas, began_at=audit.began_at, share=audit.share)


def _rolling(scrub: "ScrubState") -> RollingAudit:
    waiting = scrub.waiting
    return RollingAudit(
        period_s=scrub.period_s,
        nodes=scrub.nodes if scrub.running else (),
        share=scrub.share,
        resting=scrub.resting,
        deadline=scrub.deadline,
        proven=waiting.proven if waiting else (),
        diverged=waiting.diverged if waiting else (),
        unfit=waiting.unfit if waiting else (),
        again_at=waiting.again_at if waiting else None,
    )


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
