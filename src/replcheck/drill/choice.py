"""Which of a source's backups a drill restores: pure, and never one that its target cannot be reached from."""

from collections.abc import Sequence

from replcheck.errors import DrillBlocked
from replcheck.model.drill import CopyFacts, Target
from replcheck.model.wal import Lsn

NO_BACKUP = "no_backup"
NO_SUCH_BACKUP = "no_such_backup"
TOO_YOUNG = "target_before_backup"
_SHOWN = 5


def chosen(copies: Sequence[CopyFacts], label: str | None, target: Target, *, place: str = "") -> CopyFacts:
    """Return the backup to restore: the one named by `label`, else the newest from which the target can be reached.

    `copies` stand newest first; `target` is where a seal lies, for one that is to be reached; `place` is where they
    were looked for. What a backup does not tell of itself keeps it from nothing: the recovery will show. Raises
    DrillBlocked where there is none, or where the one that was named lies behind the target.
    """
    if not copies:
        raise DrillBlocked(
            f"there is no backup{' in ' if place else ''}{place}",
            code=NO_BACKUP,
            hint="Look whether backups are taken, and whether the place is right.",
        )
    if label is not None:
        named = _named(copies, label)
        if _lies_behind(named, target):
            raise DrillBlocked(
                f"backup {label} was taken after the target",
                code=TOO_YOUNG,
                hint="Choose an older backup or a later target: recovery goes forward only.",
            )
        return named
    newest = next((copy for copy in copies if can_start(copy, target)), None)
    if newest is not None:
        return newest
    raise DrillBlocked(
        f"every backup ended after the target; the oldest is {copies[-1].label}",
        code=TOO_YOUNG,
        hint="Choose a later target: recovery goes forward only.",
    )


def can_start(copy: CopyFacts, target: Target) -> bool:
    """Return whether a backup ended before the target, as far as both tell; True where they do not.

    A time decides only where no position does: a backup's clock is not the clock of the commits.
    """
    if target.lsn is not None and _earliest(copy) is not None:
        return not _lies_behind(copy, target)
    if target.time is not None and copy.taken_at is not None:
        return copy.taken_at <= target.time
    return True


def _lies_behind(copy: CopyFacts, target: Target) -> bool:
    """Return whether the positions in the WAL say that a backup is younger than the target."""
    earliest = _earliest(copy)
    return target.lsn is not None and earliest is not None and earliest > target.lsn


def _earliest(copy: CopyFacts) -> Lsn | None:
    """Return the first position that a backup can be recovered to, or else where its recovery starts."""
    return copy.end_lsn if copy.end_lsn is not None else copy.start_lsn


def _named(copies: Sequence[CopyFacts], label: str) -> CopyFacts:
    for copy in copies:
        if copy.label == label:
            return copy
    known = ", ".join(copy.label for copy in copies[:_SHOWN])
    hint = f"There are: {known}."
    if len(copies) == 1:
        hint = f"There is only {known}."
    elif len(copies) > _SHOWN:
        hint = f"The newest are {known}, and there are {len(copies) - _SHOWN:,} more."
    raise DrillBlocked(
        f'there is no backup "{label}"',
        code=NO_SUCH_BACKUP,
        hint=hint,
    )
