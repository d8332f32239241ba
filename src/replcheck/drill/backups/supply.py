"""Where the WAL of a physical backup comes from, and what can be told of it before anything is fetched."""

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from replcheck.drill.archive import Archive, CommandArchive, FolderArchive, NoArchive
from replcheck.drill.scratch import Scratch
from replcheck.drill.segments import segment_facts
from replcheck.drill.wal import Segment, contiguous_end, segment_number
from replcheck.errors import DrillBlocked, NotArchived, ReplcheckError
from replcheck.model.drill import CopyFacts, Target
from replcheck.model.wal import Lsn
from replcheck.postgres.programs import server_account

_WHERE_WAL_LIES = "Check --wal, or `wal` of the backup."
_HEADER_BYTES = 64


def archive_of(wal: str | None, restore_command: str | None, scratch: Scratch) -> Archive:
    """Return where a backup's WAL comes from."""
    if restore_command is not None:
        return CommandArchive(restore_command, account=scratch.account, folder=scratch.spool_dir)
    return FolderArchive(Path(wal)) if wal is not None else NoArchive()


def require_archive(wal: str | None) -> None:
    """Raise DrillBlocked where the folder of a WAL archive is not there or cannot be looked at."""
    try:
        found = wal is None or Path(wal).is_dir()
    except OSError:
        found = False
    if not found:
        raise DrillBlocked(
            f"the WAL archive {wal} is not there or cannot be read", code="archive_unreadable", hint=_WHERE_WAL_LIES
        )
    if wal is not None and not FolderArchive(Path(wal)).names():
        raise DrillBlocked(
            f"the WAL archive {wal} holds no WAL file at all", code="archive_empty", hint=_WHERE_WAL_LIES
        )


def require_sealed_wal(copy: CopyFacts, target: Target, wal: str | None) -> None:
    """Raise NotArchived where the files of an archive show that it ends before a seal: nothing need be fetched then.

    What they do not show is left to the recovery: a gap, a damaged file, and WAL that lies in the backup itself.
    """
    if wal is None or target.sealed is None or target.lsn is None or copy.end_lsn is None:
        return
    size = target.sealed.segment_bytes
    end = contiguous_end(FolderArchive(Path(wal)).names(), segment_number(copy.end_lsn, size), segment_bytes=size)
    holding = segment_number(Lsn(target.lsn - 1), size)
    if end is not None and end <= holding and target.system_identifier in (None, copy.system_identifier):
        missing = Segment(number=end, timeline=target.sealed.timeline).name(size)
        raise NotArchived(missing, owed=end < holding)


def archive_reaches(
    wal: str | None, restore_command: str | None, segment: Segment, segment_bytes: int, *, own: Iterable[Path] = ()
) -> bool | None:
    """Return whether an archive goes as far as a segment, or a backup's `own` folder of WAL has it; None where unknown.

    A later file will do: where the archive goes on behind a gap, the gap is for the restore to find.
    """
    if any(_holds(folder, segment, segment_bytes) for folder in own):
        return True
    if restore_command is not None:
        return _brought(restore_command, segment.name(segment_bytes))
    if wal is None:
        return None
    found = (Segment.parse(name, segment_bytes) for name in FolderArchive(Path(wal)).names())
    return any(each is not None and each.number >= segment.number for each in found)


def _holds(folder: Path, wanted: Segment, segment_bytes: int) -> bool:
    """Return whether a data directory's own WAL has a segment: one that was made in advance only has its name."""
    try:
        for path in folder.iterdir():
            segment = Segment.parse(path.name, segment_bytes)
            if segment is None or segment.number != wanted.number:
                continue
            with path.open("rb") as file:
                facts = segment_facts(file.read(_HEADER_BYTES))
            if facts is not None and facts.address == segment.number * segment_bytes:
                return True
    except OSError:
        pass
    return False


def _brought(restore_command: str, name: str) -> bool | None:
    """Return whether a restore_command brings a file; None where it cannot be run."""
    try:
        account = server_account()
        with TemporaryDirectory(prefix="replcheck-wal-") as folder:
            place = Path(folder)
            if account is not None:
                os.chown(place, account.uid, account.gid)
            return CommandArchive(restore_command, account=account, folder=place).fetch(name, place / "wal")
    except (ReplcheckError, OSError):
        return None
