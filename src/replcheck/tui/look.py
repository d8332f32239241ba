"""Signs, colours and words: what stands for an outcome, a state or a time. A word or sign stands beside every colour.

Colours are names of the theme's, so that dark, light and monochrome terminals are served alike. Where the locale is
ASCII, one filter at the very end exchanges the signs (see `ascii`).
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from replcheck.model.control import Standing
from replcheck.model.live import NodeState, Severity
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.units import format_duration
from replcheck.tui.feed import Asked

GOOD, WARN, BAD, UNSURE, QUIET = "$text-success", "$text-warning", "$text-error", "$unsure", "$quiet"
VALUE, FAINT = "bold", "$faint"
COLOUR = {Outcome.PROVEN: GOOD, Outcome.PARTIAL: WARN, Outcome.REFUTED: BAD, Outcome.UNCHECKED: UNSURE, None: QUIET}
SIGN = {Outcome.PROVEN: "✔", Outcome.PARTIAL: "~", Outcome.REFUTED: "✘", Outcome.UNCHECKED: "?", None: "·"}
SEVERITY_SIGN = {Severity.INFO: "·", Severity.WARNING: "▲", Severity.CRITICAL: "✘"}
SEVERITY_COLOUR = {Severity.INFO: QUIET, Severity.WARNING: WARN, Severity.CRITICAL: BAD}
STATE_OUTCOME = {
    NodeState.PRIMARY: Outcome.PROVEN,
    NodeState.STREAMING: Outcome.PROVEN,
    NodeState.DETACHED: Outcome.PARTIAL,
    NodeState.STARTING: Outcome.PARTIAL,
    NodeState.LOST: Outcome.REFUTED,
    NodeState.UNSEEN: Outcome.UNCHECKED,
    NodeState.STRAYED: Outcome.REFUTED,
    NodeState.FOREIGN: Outcome.REFUTED,
    NodeState.UNSURE: Outcome.UNCHECKED,
}
STATE_SIGN = {
    NodeState.PRIMARY: "◆",
    NodeState.STREAMING: "●",
    NodeState.DETACHED: "▲",
    NodeState.STARTING: "▲",
    NodeState.LOST: "✘",
    NodeState.UNSEEN: "?",
    NodeState.STRAYED: "✘",
    NodeState.FOREIGN: "✘",
    NodeState.UNSURE: "?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the drawing depends on beside the facts."""

    now: datetime
    zone: tzinfo | None = None
    """In which times are shown; None is the machine's."""
    asked: Asked = Asked()  # noqa: RUF009 - frozen

    @property
    def day(self) -> date:
        """Return today."""
        return self.now.astimezone(self.zone).date()

    def clock(self, moment: datetime) -> str:
        """Return the time of day.

        >>> from datetime import UTC
        >>> Look(now=datetime(2026, 3, 1, tzinfo=UTC), zone=UTC).clock(datetime(2026, 3, 1, 12, 5, 9, tzinfo=UTC))
        '12:05:09'
        """
        return f"{moment.astimezone(self.zone):%H:%M:%S}"

    def moment(self, moment: datetime) -> str:
        """Return a time: of day where that was today, with its day where not.

        >>> from datetime import UTC
        >>> Look(now=datetime(2026, 3, 2, tzinfo=UTC), zone=UTC).moment(datetime(2026, 3, 1, 12, 5, tzinfo=UTC))
        '03-01 12:05'
        """
        local = moment.astimezone(self.zone)
        if local.date() == self.day:
            return f"{local:%H:%M:%S}"
        return f"{local:%m-%d %H:%M}" if abs(self.now - moment) < timedelta(days=300) else f"{local:%Y-%m-%d}"

    def full(self, moment: datetime) -> str:
        """Return a time with its day and its offset."""
        return moment.astimezone(self.zone).isoformat(sep=" ", timespec="seconds")

    def ago(self, moment: datetime) -> str:
        """Return how long ago that was."""
        return ago((self.now - moment).total_seconds())


def ago(seconds: float) -> str:
    """Return an age for people, in whole seconds.

    >>> ago(0.2), ago(50.4), ago(4000)
    ('now', '50s ago', '1h 6min ago')
    """
    return f"{age(seconds)} ago" if seconds >= 1 else "now"


def age(seconds: float) -> str:
    """Return a duration in whole seconds, at most two units.

    >>> age(0), age(59.6), age(86400 * 3 + 5)
    ('0s', '59s', '3d')
    """
    return format_duration(int(seconds)) if seconds >= 1 else "0s"


def verdict_mark(verdict: Verdict) -> tuple[str, str]:
    """Return a verdict with its sign, and its colour."""
    return f"{SIGN[verdict.outcome]} {verdict.value}", COLOUR[verdict.outcome]


def standing_mark(standing: Standing) -> tuple[str, str]:
    """Return a standing with its sign, and its colour."""
    return f"{SIGN[standing.outcome]} {standing.value}", COLOUR[standing.outcome]
