"""The audits that whoever watches makes of its own accord, as far as they got: shown, and kept for other processes.

What is kept is true only while the one who keeps it is alive: who reads it asks for the recorder's lock first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from replcheck.model.plain import Plain, to_plain
from replcheck.model.shape import from_plain
from replcheck.runs.owed import UnderWay
from replcheck.runs.scrub import ScrubState

NAME = "audits"
"""Under which they are kept in the history."""
_KEEP_EVERY_S = 5.0
"""How often they are kept at most while only their progress changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAudits:
    """What a watch proves on its own."""

    scrub: ScrubState | None = None
    """None where no rolling audit was asked for."""
    owed: UnderWay | None = None
    """None while no audit runs that is owed because of what happened."""


def read_back(document: Plain) -> OwnAudits:
    """Return what was kept; none where nothing was, or by another version."""
    try:
        return from_plain(OwnAudits, document) if isinstance(document, dict) else OwnAudits()
    except ValueError:
        return OwnAudits()


class AuditsKeeper:
    """Keeps them when they change; what they have read changes all the time, and is kept now and then."""

    def __init__(self, keep: Callable[[Plain], None], clock: Callable[[], float]) -> None:
        self._keep, self._clock = keep, clock
        self._kept: OwnAudits | None = None
        self._at = 0.0

    def take(self, audits: OwnAudits) -> None:
        """Take how they stand."""
        if audits == self._kept:
            return
        now = self._clock()
        if self._kept is None or _shape(audits) != _shape(self._kept) or now - self._at >= _KEEP_EVERY_S:
            self._kept, self._at = audits, now
            self._keep(to_plain(audits))


def _shape(audits: OwnAudits) -> OwnAudits:
    """Return them without their progress."""
    return OwnAudits(
        scrub=replace(audits.scrub, share=0.0) if audits.scrub else None,
        owed=replace(audits.owed, share=0.0) if audits.owed else None,
    )
