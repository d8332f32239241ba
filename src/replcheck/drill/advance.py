"""Whether a drill recovered to a newer point than the last one of the same backup source. Pure.

An archiver that does nothing looks perfect (`archive_command = '/bin/true'`); only restoring shows it. So a drill to
the end of the archive must come farther than the last did. What is compared is the position in the WAL, not the clock
of the commits: a primary whose clock was set, or that failed over to a server with another clock, is no loss.

- A point that lies before the last drill's, or on an older timeline: commits that could be restored then cannot be
  restored now. That is always told, and the drill is not all proven. It may be meant, where the primary itself was
  taken back to an earlier time.
- The very same point: nothing was archived since. A primary on which nothing is written at all makes no WAL, so this
  alone is no alarm: it is noted. It is one where a seal shows that the primary went on (see `archiving`), or where
  `drill.max_age` limits the age of the newest commit.
- A farther point without a newer commit: a primary that only makes checkpoints, or whose backups alone are newer. It
  is noted.

Targets other than `latest` lie in the past on purpose and say nothing of the archive's end. A dump has no position: its
age is compared.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from replcheck.model.drill import BackupKind, Blame, DrillResult, Problem, TargetKind
from replcheck.model.run import short_id
from replcheck.model.wal import Lsn

WENT_BACK = "point_went_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How far one drill got."""

    run_id: str
    drilled_at: datetime
    timeline: int | None = None
    replayed: Lsn | None = None
    commit_at: datetime | None = None
    """Of the newest commit that was replayed, or when a dump was begun; None where it is not known."""

    @property
    def drill(self) -> str:
        """Return the drill, for a sentence."""
        return f"drill {short_id(self.run_id)}"


def point_of(result: DrillResult) -> Point | None:
    """Return how far a drill got; None where it tells nothing of the newest that can be restored."""
    if result.target.kind is not TargetKind.LATEST or result.copy is None:
        return None
    if result.recovery is not None and result.recovery.reached:
        facts = result.recovery
        return Point(
            run_id=result.run_id,
            drilled_at=result.started_at,
            timeline=facts.timeline,
            replayed=facts.replayed,
            commit_at=facts.last_commit_at,
        )
    if result.copy.kind is BackupKind.DUMP and result.recovery_time_s is not None:
        return Point(run_id=result.run_id, drilled_at=result.started_at, commit_at=result.copy.taken_at)
    return None


def is_comparable(before: DrillResult, now: DrillResult) -> bool:
    """Return whether an earlier drill was of the same cluster and kind of backup, as far as both tell."""
    if before.copy is None or now.copy is None or before.copy.kind is not now.copy.kind:
        return False
    return None in (systems := {before.copy.system_identifier, now.copy.system_identifier}) or len(systems) == 1


def went_back(now: Point, before: Point) -> Problem | None:
    """Return that a drill did not come as far as an earlier one; None where it did."""
    if now.replayed is None or before.replayed is None or now.timeline is None or before.timeline is None:
        older = now.commit_at is not None and before.commit_at is not None and now.commit_at < before.commit_at
        what = f"the newest dump, of {_told(now.commit_at)}, is older than that of {before.drill}, of"
        return _problem(f"{what} {_told(before.commit_at)}") if older else None
    if now.timeline >= before.timeline and now.replayed >= before.replayed:
        return None
    return _problem(
        f"recovery got to {_place(now)}, and {before.drill} had come to {_place(before)}: what was committed between"
        " cannot be restored any more"
    )


def standing_still(now: Point, before: Point) -> str:
    """Return a note where a drill came no farther than an earlier one, or to no newer commit; empty where it did."""
    if now.replayed is None:
        same = now.commit_at is not None and now.commit_at == before.commit_at
        return f"no dump is newer than that of {before.drill}" if same else ""
    since = f"since {before.drill} of {_told(before.drilled_at)}"
    if (now.timeline, now.replayed) == (before.timeline, before.replayed):
        return f"nothing was archived {since}: nothing was written on the primary, or the archiver has stopped"
    if now.commit_at is not None and now.commit_at == before.commit_at:
        return f"nothing was committed {since}, as far as the archive tells"
    return ""


def _problem(what: str) -> Problem:
    return Problem(
        code=WENT_BACK,
        what=what,
        blame=Blame.ENVIRONMENT,
        hint="Look for WAL or backups that were lost; it may be meant where the primary was taken back in time.",
        partial=True,
    )


def _place(point: Point) -> str:
    commit = f" (newest commit of {_told(point.commit_at)})" if point.commit_at is not None else ""
    return f"{point.replayed} on timeline {point.timeline}{commit}"


def _told(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds") if moment is not None else "unknown age"
