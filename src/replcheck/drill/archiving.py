"""Whether an archive that ends before the target is excused. Pure.

A WAL file is archived once it is full, or once a switch ends it (pg_switch_wal, archive_timeout). So right after a seal
its WAL cannot be in the archive, and that says nothing against it. But an archive that has stopped looks the same, and
must not be excused for ever. Which file is missing tells more than the age of the seal alone:

- Of the files before the one that holds the restore point each was full when the seal was made: the archiver owes it,
  and is given `drill.archive_delay` from then on.
- The file that holds the restore point may still be filling, where the primary writes little. It is given a day, or
  `drill.archive_delay` where that is longer; who lets commits wait for longer than that would lose them.

After that it counts against the backup, whichever seal the drill stands on: also where the seal was passed over for an
older one that the archive does reach. A gap or a damaged file before the seal is never excused.

Of other targets less is known. A time is reached only by a later commit, whose file may still be filling: it is given
as long. When a position was written, if ever, nobody can tell, so an archive that ends before it refutes nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from replcheck.drill.verdict import NOT_REACHED
from replcheck.errors import DrillBlocked, NotArchived
from replcheck.model.drill import Blame, Problem, Target
from replcheck.model.run import short_id
from replcheck.model.units import format_duration

NOT_ARCHIVED = "seal_not_archived"
BEHIND = "archive_behind"
TARGET_NOT_ARCHIVED = "target_not_archived"
IN_FUTURE = "target_in_future"
_FILLING_S = 24 * 3600.0
"""How long a file may take to fill."""
_ARCHIVE_NOW = "have it archived now, on the primary: SELECT pg_switch_wal();"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """The WAL of a seal that is not in the archive, which is whole up to there."""

    seal_id: str
    made_at: datetime
    missing: str
    """The file."""
    in_part: bool = False
    """Whether a part of it is there."""
    owed: bool
    """Whether it was full when the seal was made."""
    progress: str = ""
    """How far recovery got, to be put behind a message; empty where it was not tried."""


def allowed_s(lack: Lack, delay_s: float) -> float:
    """Return for how many seconds after its seal a file may be missing."""
    return delay_s if lack.owed else max(delay_s, _FILLING_S)


def is_excused(lack: Lack, *, now: datetime, delay_s: float) -> bool:
    """Return whether the file may come yet."""
    return (now - lack.made_at).total_seconds() <= allowed_s(lack, delay_s)


def lack_problem(lack: Lack, *, now: datetime, delay_s: float) -> Problem:
    """Return what it means that the WAL of a seal is missing."""
    age, seal = format_duration(max(0.0, (now - lack.made_at).total_seconds())), short_id(lack.seal_id)
    if is_excused(lack, now=now, delay_s=delay_s):
        return Problem(
            code=NOT_ARCHIVED,
            what=f"seal {seal}, made {age} ago, is not archived yet: {_lacking(lack.missing, in_part=lack.in_part)}"
            f"{lack.progress}",
            blame=Blame.ENVIRONMENT,
            hint=f"Wait until its WAL is archived, or {_ARCHIVE_NOW}",
        )
    limit = format_duration(allowed_s(lack, delay_s))
    why = f"drill.archive_delay allows {limit}" if lack.owed else f"a file that is still filling is given {limit}"
    return Problem(
        code=BEHIND,
        what=f"the archive has stopped or is behind: {_lacking(lack.missing, in_part=lack.in_part)} {age} after seal"
        f" {seal} was made; {why}{lack.progress}",
        blame=Blame.BACKUP,
        hint="Look at pg_stat_archiver on the primary; where it writes little, set archive_timeout there.",
    )


def require_past(target: Target, now: datetime) -> None:
    """Raise DrillBlocked where the target is a time to come: no commit can be later, and nothing need be fetched."""
    if target.time is not None and target.time > now:
        ahead = format_duration((target.time - now).total_seconds())
        raise DrillBlocked(
            f"the target {target.text} lies {ahead} in the future",
            code=IN_FUTURE,
            hint="Check the time and its offset from UTC; latest restores all that is archived.",
        )


def early_end_problem(target: Target, found: NotArchived, *, now: datetime, delay_s: float) -> Problem:
    """Return what it means that an archive, whole as far as it goes, ends before a time or a position."""
    lacks = _lacking(found.missing, in_part=found.in_part) + found.progress
    if target.time is None:
        return Problem(
            code=TARGET_NOT_ARCHIVED,
            what=f"the archive ends before {target.text}, which is not archived yet, or was never written: {lacks}",
            blame=Blame.ENVIRONMENT,
            hint=f"Check the position; where it is right, {_ARCHIVE_NOW}",
        )
    age_s, limit_s = max(0.0, (now - target.time).total_seconds()), max(delay_s, _FILLING_S)
    if age_s <= limit_s:
        return Problem(
            code=TARGET_NOT_ARCHIVED,
            what=f"no commit later than {target.text}, {format_duration(age_s)} ago, is archived yet: {lacks}",
            blame=Blame.ENVIRONMENT,
            hint=f"A time is reached only by a later commit: where there was one, {_ARCHIVE_NOW}",
        )
    return Problem(
        code=NOT_REACHED,
        what=f"the archive holds no commit later than {target.text}, {format_duration(age_s)} ago: {lacks}",
        blame=Blame.BACKUP,
        hint="Look at pg_stat_archiver on the primary. A time is reached only by a later commit: where nothing was"
        " committed since, drill to latest.",
    )


def _lacking(missing: str, *, in_part: bool) -> str:
    return f"WAL file {missing} is {'there in part only' if in_part else 'not there'}"
