"""What lies at a place that is no backup of the kind that was asked for: told by its content, to say what to type.

A place that is not recognised as the kind refutes nothing, since the path or the kind may be mistyped. Only what is
certainly of that kind, and damaged or cut off, speaks against a backup.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from replcheck.errors import DrillBlocked
from replcheck.model.drill import BackupKind
from replcheck.model.names import printable
from replcheck.postgres.compression import without_compression
from replcheck.postgres.dumps import DumpDamagedError, DumpUnsupportedError, NotADumpError, examine_dump

NOT_RECOGNISED = "not_recognised"
_BARMAN = (
    "This is Barman's: configure it as a backup of kind base with the path {data}"
    ' and restore_command = "barman get-wal {server} %f > %p", or of kind command around barman recover.'
)
_ENTRIES = 50
"""How many entries of a folder are looked at."""


def not_recognised(path: Path, what: str, kind: BackupKind, *, hint: str) -> DrillBlocked:
    """Return that a place is not recognised as a kind of backup; `hint` is told where nothing better is known."""
    return DrillBlocked(f"{path} {what}", code=NOT_RECOGNISED, hint=likeness(path, kind) or hint)


def likeness(path: Path, kind: BackupKind) -> str:
    """Return what a place looks like instead of that kind, and how to drill it; empty where like nothing known."""
    with suppress(OSError):
        barman = _barman(path)
        if barman:
            return barman
        found = _kind_of(path)
        if found is not None and found is not kind:
            return f"It looks like a backup of the kind {found.value}: --from {_written(found, path)}"
        if path.is_dir() and {"archive", "backup"} <= {entry.name for entry in path.iterdir()}:
            return "It looks like a repository of pgBackRest: name its stanza, --from pgbackrest:STANZA"
    return ""


def _kind_of(path: Path) -> BackupKind | None:
    if path.is_file():
        if without_compression(path.name) == "base.tar":
            return BackupKind.BASE
        return BackupKind.DUMP if _is_dump(path) else None
    if not path.is_dir():
        return None
    places = [path, *(entry for entry in _entries(path) if entry.is_dir())]
    for place in places:
        if (place / "PG_VERSION").is_file():
            labelled = (place / "backup_label").exists() or (place / "backup_manifest").exists()
            return BackupKind.BASE if labelled else BackupKind.SNAPSHOT
        if any(without_compression(entry.name) == "base.tar" for entry in _entries(place)):
            return BackupKind.BASE
    return BackupKind.DUMP if any(map(_is_dump, (path, *_entries(path)))) else None


def _is_dump(path: Path) -> bool:
    try:
        examine_dump(path)
    except (DumpDamagedError, DumpUnsupportedError, NotADumpError, OSError):
        return False
    return True


def _barman(path: Path) -> str:
    """Say how to drill what Barman keeps (Barman manual, Backup catalog); empty where it is none of its places."""
    for place in (path, *_entries(path)):
        if (place / "backup.info").is_file() and (place / "data").is_dir():
            return _BARMAN.format(data=printable(str(place / "data")), server=printable(place.parent.parent.name))
        if (place / "base").is_dir() and (place / "wals").is_dir():
            newest = max((entry for entry in _entries(place / "base") if (entry / "data").is_dir()), default=None)
            data = newest / "data" if newest is not None else place / "base" / "ID" / "data"
            return _BARMAN.format(data=printable(str(data)), server=printable(place.name))
    return ""


def _entries(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        return
    for number, entry in enumerate(sorted(path.iterdir())):
        if number == _ENTRIES:
            return
        yield entry


def _written(kind: BackupKind, path: Path) -> str:
    return f"{kind.value}:{printable(str(path))}"
