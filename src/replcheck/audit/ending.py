"""How an audit ends before its work is done: somebody stops it, its time is over, or it has seen enough.

The lanes are given a moment to settle what they have read, then their statements are cancelled.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from replcheck.audit.shortfalls import FAIL_FAST, STOPPED, TIME_OVER, Shortfall
from replcheck.model.audit import StopCode
from replcheck.model.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One reason to end early."""

    code: StopCode
    what: str
    """One clause for the report."""
    lack: Shortfall
    """Why what is left stays unproven."""
    grace_s: float
    """How long the lanes may take to settle what they have read."""


INTERRUPTED = Ending(code=StopCode.INTERRUPTED, what="the run was stopped", lack=STOPPED, grace_s=1.0)
SEEN_ENOUGH = Ending(
    code=StopCode.FAIL_FAST, what="it ended at the first divergence (--fail-fast)", lack=FAIL_FAST, grace_s=5.0
)


def time_over(budget_s: float) -> Ending:
    """Return the end of a time budget.

    >>> time_over(600).what
    'its time budget of 10min was over'
    """
    what = f"its time budget of {format_duration(budget_s)} was over"
    return Ending(code=StopCode.TIME_BUDGET, what=what, lack=TIME_OVER, grace_s=2.0)


class Halt:
    """Whether an audit is to end early; the first reason stays, but an interrupt comes before every other."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self._event = asyncio.Event()

    @property
    def called(self) -> bool:
        """Return whether the audit is to end."""
        return self.ending is not None

    def call(self, ending: Ending) -> None:
        """Have the audit end."""
        if self.ending is None or ending is INTERRUPTED:
            self.ending = ending
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the audit is to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    async def wait(self) -> Ending:
        """Wait until the audit is to end, and return why."""
        await self._event.wait()
        assert self.ending is not None  # noqa: S101 - the event is set by `call` alone
        return self.ending
