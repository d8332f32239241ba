"""To which second the archive could restore, as far as the primary tells, and the events of archiving.

What is archived is known to the end of the last WAL file that the archive command took, or to what a pg_receivewal has
flushed. Everything committed before that point is safe as far as the server knows. It cannot know more: an
`archive_command` that throws files away succeeds like any other, and only a trial restore tells the two apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from replcheck.model.live import (
    Archiver,
    ClusterEvent,
    EventKind,
    NodeAnswer,
    RecoveryPoint,
    Severity,
)
from replcheck.model.units import format_duration
from replcheck.model.wal import Lsn, file_end
from replcheck.watch.latch import OFF, Edge, Latch, duration_s, often, step
from replcheck.watch.limits import WatchLimits
from replcheck.watch.marks import reached
from replcheck.watch.scene import Scene
from replcheck.watch.senders import wal_receivers

_OFF = "archive_mode is off, and no pg_receivewal is connected"
_NONE_ARCHIVED = "no WAL file of this timeline is known to be archived"
_UNKNOWN = RecoveryPoint(at=None, age_s=None, reason="no primary has answered yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """What is known of the archive."""

    archived_to: Lsn | None = None
    """All WAL before it is archived, as far as the primary tells."""
    timeline: int | None = None
    """The timeline that the position is of."""
    point: RecoveryPoint = _UNKNOWN
    unknown_since: datetime | None = None
    """Since when the point is unknown though a primary answered; None while it is known."""
    over: Latch = OFF
    failing: Latch = OFF


def recovery_state(state: RecoveryState, scene: Scene) -> RecoveryState:
    """Return what is known of the archive after a sample."""
    memory = scene.memories.get(scene.primary or "")
    answer = memory.answer if memory is not None else None
    if answer is None or answer.insert_lsn is None:
        return state
    if state.timeline != scene.timeline:
        limit = scene.switch_lsn if state.timeline is not None else None
        kept = state.archived_to if limit is None or state.archived_to is None else min(state.archived_to, limit)
        state = replace(state, archived_to=kept, timeline=scene.timeline)
    archived_to = _archived_to(answer, state.archived_to)
    point = _point(archived_to, answer, scene, state.point)
    unknown_since = None if point.at is not None else state.unknown_since or scene.at
    return replace(state, archived_to=archived_to, point=point, unknown_since=unknown_since)


def _archived_to(answer: NodeAnswer, known: Lsn | None) -> Lsn | None:
    ends = [sender.flushed_lsn for sender in wal_receivers(answer) if sender.flushed_lsn is not None]
    archiver = answer.archiver
    if archiver is not None and archiver.mode != "off" and archiver.last_archived:
        end = file_end(archiver.last_archived, answer.wal_segment_size)
        if end is not None and int(archiver.last_archived[:8], 16) == answer.timeline:
            ends.append(end)
    if answer.archived_lsn is not None:
        ends.append(answer.archived_lsn)
    return max([*ends, *([known] if known is not None else [])], default=None)


def _point(archived_to: Lsn | None, answer: NodeAnswer, scene: Scene, before: RecoveryPoint) -> RecoveryPoint:
    off = answer.archiver is None or answer.archiver.mode == "off"
    if off and not any(wal_receivers(answer)):
        # What was archived by then still is.
        age_s = None if before.at is None else (scene.at - before.at).total_seconds()
        return RecoveryPoint(at=before.at, age_s=age_s, reason=_OFF)
    if archived_to is None:
        return RecoveryPoint(at=None, age_s=None, reason=_NONE_ARCHIVED)
    has = reached(scene.marks, archived_to)
    if has.at is None:
        return RecoveryPoint(at=None, age_s=None, reason="the watch began after the last archived WAL file was full")
    silent = "" if scene.primary_answers else "the primary does not answer"
    if has.complete:
        age_s = 0.0 if scene.primary_answers else (scene.at - has.at).total_seconds()
        return RecoveryPoint(at=has.at if age_s else scene.at, age_s=age_s, reason=silent)
    return RecoveryPoint(
        at=has.at, age_s=max(0.0, (scene.at - has.at).total_seconds()), reason=silent or _why_late(answer)
    )


def _why_late(answer: NodeAnswer) -> str:
    archiver = answer.archiver
    return f"archiving {archiver.last_failed} fails" if archiver is not None and is_failing(archiver) else ""


def is_failing(archiver: Archiver) -> bool:
    """Return whether the last attempt to archive a file failed."""
    if archiver.mode == "off" or archiver.last_failed_at is None:
        return False
    return archiver.last_archived_at is None or archiver.last_failed_at > archiver.last_archived_at


def recovery_events(
    state: RecoveryState, scene: Scene, limits: WatchLimits
) -> tuple[RecoveryState, list[ClusterEvent]]:
    """Return what is to be told of the recovery point and of archiving after a sample."""
    events: list[ClusterEvent] = []
    if limits.recovery_age_s is not None and (state.point.age_s is not None or state.unknown_since is not None):
        before = state.over
        latch, edge = step(before, _is_over(state, scene, limits.recovery_age_s), scene.at)
        events += _point_event(state, before, latch, edge, scene)
        state = state if latch is before else replace(state, over=latch)
    if scene.primary is not None and scene.primary in scene.fresh:
        answer = scene.memories[scene.primary].answer
        if answer is not None and answer.archiver is not None:
            before = state.failing
            latch, edge = step(before, is_failing(answer.archiver), scene.at)
            events += _archive_event(answer.archiver, before, latch, edge, scene)
            state = state if latch is before else replace(state, failing=latch)
    return state, events


def _is_over(state: RecoveryState, scene: Scene, limit_s: float) -> bool:
    """Return whether the recovery point is too old; one that turns unknown is no better than it was."""
    if state.point.age_s is not None:
        return state.point.age_s > limit_s
    return state.over.told or _unknown_s(state, scene) > limit_s


def _unknown_s(state: RecoveryState, scene: Scene) -> float:
    """Return for how long there has been something that may not be archived, in seconds.

    A primary that writes nothing leaves nothing to archive; one that does not archive at all is late by that alone.
    """
    since = [state.unknown_since or scene.at]
    if state.point.reason != _OFF:
        since += [scene.marks[0].at if scene.marks else scene.at]
    return (scene.at - max(since)).total_seconds()


def is_told_unknown(point: RecoveryPoint, watched_s: float, limit_s: float) -> bool:
    """Return whether a watch of this length must have told that the point it ended with is unknown."""
    return point.age_s is None and point.reason in {_OFF, _NONE_ARCHIVED} and watched_s > limit_s


def _point_event(
    state: RecoveryState, before: Latch, latch: Latch, edge: Edge | None, scene: Scene
) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        point, unknown_since = state.point, state.unknown_since
        because = f" ({point.reason})" if point.reason else ""
        if unknown_since is not None:
            lasted = format_duration((scene.at - unknown_since).total_seconds())
            what = f"to which second the archive could restore has been unknown for {lasted}"
        else:
            what = f"the archive is {format_duration(point.age_s or 0)} behind"
        yield ClusterEvent(
            kind=EventKind.RECOVERY_POINT_OVER,
            severity=Severity.WARNING,
            at=scene.at,
            node=None,
            what=f"{what}{because}{often(latch)}",
            began_at=unknown_since or point.at,
            seconds=point.age_s,
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(before, scene.at)
        yield ClusterEvent(
            kind=EventKind.RECOVERY_POINT_BACK,
            severity=Severity.INFO,
            at=scene.at,
            node=None,
            what=f"the archive is back within the limit after {format_duration(seconds)}{often(before)}",
            began_at=before.since,
            seconds=seconds,
        )


def _archive_event(
    archiver: Archiver, before: Latch, latch: Latch, edge: Edge | None, scene: Scene
) -> Iterator[ClusterEvent]:
    if edge is Edge.BEGAN:
        yield ClusterEvent(
            kind=EventKind.ARCHIVE_FAILING,
            severity=Severity.WARNING,
            at=scene.at,
            node=scene.primary,
            what=f"{scene.primary} fails to archive WAL file {archiver.last_failed}{often(latch)}",
            detail=archiver.last_failed or "",
        )
    elif edge is Edge.ENDED:
        seconds = duration_s(before, scene.at)
        yield ClusterEvent(
            kind=EventKind.ARCHIVE_WORKING,
            severity=Severity.INFO,
            at=scene.at,
            node=scene.primary,
            what=f"{scene.primary} archives WAL again after {format_duration(seconds)}{often(before)}",
            began_at=before.since,
            seconds=seconds,
            detail=archiver.last_archived or "",
        )
