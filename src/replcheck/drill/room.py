"""The folder in which drills make their scratch directories: one drill at a time, checked before anything is fetched.

The lock is the folder's own and goes with its holder. Where a file system knows no locks there is none: it keeps two
drills from sharing the room, no verdict rests on it.
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from replcheck.config.model import CommandBackup
from replcheck.drill import scratch as directories
from replcheck.drill.provided import destroy_provided
from replcheck.drill.scratch import Scratch
from replcheck.errors import DrillBlocked, ProgramError
from replcheck.postgres.programs import Account, server_account


@dataclass(slots=True, kw_only=True)
class FolderRoom:
    """Makes scratch directories under one folder; implements the trial's Room."""

    root: Path
    _lock: int | None = field(default=None, init=False)

    def clean(self, *, kept: bool = False) -> list[Path]:
        """Remove what drills that are gone left, with `kept` also what was left on purpose, and return it.

        Raise DrillBlocked where another drill, or another clean-up, is at work there: two would be in each other's way.
        """
        self._hold()
        try:
            return directories.remove_abandoned(self.root, kept=kept)
        finally:
            self._let_go()

    def destroy(self, commands: Mapping[str, CommandBackup], *, kept: bool = False) -> list[str]:
        """Have what drills that are gone had provided outside destroyed, and return why that failed, a clause each.

        `commands` are the backups of the kind `command` of the configuration, by name. Raises DrillBlocked as `clean`.
        """
        self._hold()
        try:
            states = directories.find_provided(self.root, kept=kept)
            return [why for state in states if (why := destroy_provided(state, commands.get(state.backup)))]
        finally:
            self._let_go()

    def check(self, needed_bytes: int | None) -> None:
        """Raise DrillBlocked where another drill is at work there, or there is too little room."""
        self._hold()
        directories.check_space(self.root, needed_bytes)

    def open(self, *, run_id: str, backup: str) -> Scratch:
        """Make a scratch directory; raise DrillBlocked where that cannot be done."""
        self._hold()
        scratch = directories.make_scratch(self.root, run_id=run_id, backup=backup, account=_account())
        try:
            self._hold()
        except DrillBlocked:
            directories.remove_scratch(scratch)
            raise
        return scratch

    def keep(self, scratch: Scratch) -> None:
        """Note that a scratch directory is left on purpose."""
        directories.keep(scratch)
        self._let_go()

    def remove(self, scratch: Scratch) -> None:
        """Stop what runs in a scratch directory, remove it, and the folder too where it was made for it."""
        try:
            directories.remove_scratch(scratch)
        finally:
            directories.remove_root(self.root)
            self._let_go()

    def _hold(self) -> None:
        """Take the folder's lock where the folder exists, unless it is held already."""
        if self._lock is not None:
            return
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise DrillBlocked(
                f"another drill is at work in {self.root}",
                code="scratch_in_use",
                hint="Wait for it to end, or name another folder with --scratch.",
            ) from error
        except OSError:
            os.close(descriptor)
        else:
            self._lock = descriptor

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                os.close(lock)


def _account() -> Account | None:
    try:
        return server_account()
    except ProgramError as error:
        raise DrillBlocked(error.message, code="no_account", hint=error.hint) from error
