"""Which seal `seal:latest` means for one backup: the newest that it can be restored to, and what stood in the way.

A newer seal is passed over only for what certainly keeps this backup from it. That its WAL is not in the archive yet is
one such reason; but whether that is still excused is judged for every seal that was passed over (see `archiving`), so
that an archive which has stopped is not hidden behind the last seal that it reaches.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from replcheck.drill.archiving import Lack, is_excused, lack_problem
from replcheck.drill.backups.source import BackupSource
from replcheck.drill.choice import can_start
from replcheck.drill.manifest import read_manifest
from replcheck.drill.plan import dump_of
from replcheck.drill.seals import NEWEST, seal_files
from replcheck.drill.wal import Segment, segment_number
from replcheck.errors import DrillError
from replcheck.model.drill import BackupKind, CopyFacts, DrillResult, Problem, Target, TargetKind
from replcheck.model.run import short_id
from replcheck.model.seal import SealManifest, StoredSeal
from replcheck.model.units import format_duration
from replcheck.model.wal import Lsn

_MOST = 100
"""Seals that are looked at: each is a file to be read, and its WAL to be looked for."""
_TOLD = 3
_NEWEST = 5
"""Seals that are held against the end of an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a backup cannot be restored to a seal."""

    why: str
    """One clause."""
    lack: Lack | None = None
    """Where the archive ends before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The seal that was taken, and those that were looked at and not, the newest first."""

    taken: StoredSeal
    passed: tuple[tuple[StoredSeal, Obstacle], ...] = ()

    def notes(self, now: datetime) -> tuple[str, ...]:
        """Return what the reader should know of the choice."""
        newer = [pair for pair in self.passed if pair[0].manifest.seal_id > self.taken.manifest.seal_id]
        told = [
            f"seal:{NEWEST} passed over {short_id(one.manifest.seal_id)}, made {_age(one, now)} ago: {obstacle.why}"
            for one, obstacle in newer[:_TOLD]
        ]
        if len(newer) > _TOLD:
            told.append(f"seal:{NEWEST} passed over {len(newer) - _TOLD:,} more seals")
        return tuple(told)

    def problems(self, now: datetime, delay_s: float) -> tuple[Problem, ...]:
        """Return that the archive lacks what it should have long had, by the oldest of the seals that it lacks."""
        lacks = [obstacle.lack for _, obstacle in self.passed if obstacle.lack is not None]
        overdue = [lack for lack in lacks if not is_excused(lack, now=now, delay_s=delay_s)]
        return (lack_problem(overdue[-1], now=now, delay_s=delay_s),) if overdue else ()


def choose_seal(
    source: BackupSource, label: str | None, folder: Path | None, *, signing_key: Path | None = None
) -> Choice | None:
    """Return the newest seal that one of the backups of a source, or the one named, can be restored to.

    Where there is none, it is the newest of all, so that the drill tells what is in the way; None where there is no
    seal. Raises DrillBlocked where a seal cannot be read or believed.
    """
    seals = (read_manifest(path, signing_key=signing_key) for path in islice(seal_files(folder), _MOST))
    try:
        copies = [copy for copy in source.copies() if label is None or copy.label == label]
    except DrillError:
        copies = []
    return first_without(seals, lambda seal: _obstacle(seal, source, copies))


def overdue_seal(
    result: DrillResult, folder: Path | None, *, delay_s: float, signing_key: Path | None = None
) -> Problem | None:
    """Return that the archive ended before a seal whose WAL it should have long had, whatever was to be restored.

    Only the newest few seals are looked at, of the cluster and timeline that were recovered; what cannot be read says
    nothing here. None where the archive goes as far, or may be late.
    """
    recovery, copy = result.recovery, result.copy
    if recovery is None or copy is None or copy.system_identifier is None:
        return None
    found: Problem | None = None
    for path in islice(seal_files(folder), _NEWEST):
        try:
            seal = read_manifest(path, signing_key=signing_key).manifest
        except DrillError:
            continue
        # A server that came to the end of the archive has begun a timeline of its own behind the one it recovered.
        followed = recovery.timeline - (not recovery.in_recovery)
        here = seal.server.system_identifier == copy.system_identifier
        here &= seal.restore_point.timeline in (followed, recovery.timeline)
        if not here or seal.restore_point.lsn <= recovery.replayed:
            continue
        lack = _unreached(seal, recovery.replayed)
        if not is_excused(lack, now=result.started_at, delay_s=delay_s):
            # The oldest tells best since when.
            found = lack_problem(lack, now=result.started_at, delay_s=delay_s)
    return found


def _unreached(seal: SealManifest, replayed: Lsn) -> Lack:
    """Return the WAL of a seal behind the position that recovery got to: in the file that comes next, or later."""
    size, point = seal.server.segment_bytes, seal.restore_point
    holding = segment_number(Lsn(point.lsn - 1), size)
    missing = min(segment_number(replayed, size) + 1, holding)
    return Lack(
        seal_id=seal.seal_id,
        made_at=point.created_at,
        missing=Segment(number=missing, timeline=point.timeline).name(size),
        owed=missing < holding,
        progress=f"; recovery got to {replayed}",
    )


def first_without(seals: Iterable[StoredSeal], obstacle: Callable[[SealManifest], Obstacle | None]) -> Choice | None:
    """Return the first seal, the newest standing first, that nothing stands in the way of; else the first of all."""
    passed: list[tuple[StoredSeal, Obstacle]] = []
    for seal in seals:
        found = obstacle(seal.manifest)
        if found is None:
            return Choice(taken=seal, passed=tuple(passed))
        passed.append((seal, found))
    return Choice(taken=passed[0][0], passed=tuple(passed[1:])) if passed else None


def _obstacle(seal: SealManifest, source: BackupSource, copies: Sequence[CopyFacts]) -> Obstacle | None:
    """Return what certainly keeps the backups from being restored to a seal; None where nothing is known to."""
    if source.kind is BackupKind.DUMP:
        return _obstacle_of_dumps(seal, copies)
    if not source.kind.physical or not copies:
        return None
    systems = {copy.system_identifier for copy in copies} - {None}
    if systems and seal.server.system_identifier not in systems:
        return Obstacle(why="it is of another database system")
    place = Target(kind=TargetKind.LSN, text="", lsn=seal.restore_point.lsn)
    if not any(can_start(copy, place) for copy in copies):
        return Obstacle(why="the backup ended after it" if len(copies) == 1 else "every backup ended after it")
    lack = _lack(seal, source)
    return Obstacle(why=f"WAL file {lack.missing} is not archived", lack=lack) if lack is not None else None


def _obstacle_of_dumps(seal: SealManifest, copies: Sequence[CopyFacts]) -> Obstacle | None:
    label = dump_of(seal)
    if label is None:
        return Obstacle(why="it was made without a dump")
    if label not in {copy.label for copy in copies}:
        return Obstacle(why=f"its dump {label} is not there")
    return None


def _lack(seal: SealManifest, source: BackupSource) -> Lack | None:
    """Return the WAL file with a seal's restore point, where the source certainly has neither it nor a later one."""
    size, point = seal.server.segment_bytes, seal.restore_point
    holding = Segment(number=segment_number(Lsn(point.lsn - 1), size), timeline=point.timeline)
    before = Segment(number=holding.number - 1, timeline=point.timeline)
    if source.reaches(holding, size) is not False:
        return None
    return Lack(
        seal_id=seal.seal_id,
        made_at=point.created_at,
        missing=holding.name(size),
        owed=source.reaches(before, size) is False,
    )


def _age(seal: StoredSeal, now: datetime) -> str:
    return format_duration(max(0.0, (now - seal.manifest.restore_point.created_at).total_seconds()))
