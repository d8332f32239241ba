"""Which dumps there are at a place, told by their content; what looks like one is never passed over."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from replcheck.drill.backups.recognition import likeness, not_recognised
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.model.drill import BackupKind, CopyFacts
from replcheck.postgres.dumps import (
    Dump,
    DumpDamagedError,
    DumpUnsupportedError,
    NotADumpError,
    examine_dump,
    is_globals,
)

_SUFFIXES = frozenset({".backup", ".bak", ".custom", ".dir", ".dmp", ".dump", ".gz", ".pgdump", ".sql", ".tar"})
"""How dumps are often called: such a file is listed even where its content is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something at the place of the dumps."""

    path: Path
    facts: CopyFacts
    dump: Dump | None
    """None where it cannot be restored."""
    wrong: BackupRefuted | DrillBlocked | None
    """Why not."""


def find_dumps(path: Path, *, globals_file: Path | None) -> list[Found]:
    """Return the dumps at a place, which is one or a folder with several, the newest first.

    Raises DrillBlocked where the place cannot be read, or holds nothing.
    """
    try:
        if not path.exists():
            raise DrillBlocked(f"there is no {path}", code="backup_missing", hint="Check the path of the backup.")
        if path.is_file() or (path / "toc.dat").exists() or list(path.glob("[0-9]*.dat*")):
            return [_found(path)]
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        found = [_found(entry) for entry in entries if not _is_globals(entry, globals_file)]
    except OSError as exc:
        raise DrillBlocked(f"{path} cannot be read: {exc.strerror}", code="backup_unreadable") from exc
    suffixes = _SUFFIXES | {one.path.suffix for one in found if one.dump is not None}
    kept = [one for one in found if one.dump is not None or _looks_like_one(one, suffixes)]
    other = likeness(path, BackupKind.DUMP) if not any(one.dump for one in kept) else ""
    if not kept or other:
        hint = other or "Check the path of the backup."
        raise DrillBlocked(f"there is no dump in {path}", code="backup_missing", hint=hint)
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(kept, key=lambda one: (one.facts.taken_at or oldest, one.path.name), reverse=True)


def _found(path: Path) -> Found:
    try:
        dump = examine_dump(path)
    except DumpDamagedError as error:
        return _useless(path, BackupRefuted(f"{path.name} {error}", code=error.code))
    except NotADumpError as error:
        hint = "Check the path and the kind."
        return _useless(path, not_recognised(path, str(error), BackupKind.DUMP, hint=hint))
    except DumpUnsupportedError as error:
        hint = "Unpack it first, or restore it through a backup of the kind command."
        return _useless(path, DrillBlocked(f"{path.name} {error}", code="format_unsupported", hint=hint))
    facts = CopyFacts(
        label=path.name,
        kind=BackupKind.DUMP,
        format=dump.format.value,
        taken_at=dump.taken_at,
        major=dump.major,
        size_bytes=dump.size_bytes,
    )
    return Found(path=path, facts=facts, dump=dump, wrong=None)


def _useless(path: Path, wrong: BackupRefuted | DrillBlocked) -> Found:
    taken = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    facts = CopyFacts(label=path.name, kind=BackupKind.DUMP, format="unreadable", taken_at=taken)
    return Found(path=path, facts=facts, dump=None, wrong=wrong)


def _looks_like_one(found: Found, suffixes: "frozenset[str] | set[str]") -> bool:
    if found.path.is_dir():
        return any(found.path.glob("*.dat*")) or not any(found.path.iterdir())
    return found.path.suffix in suffixes or found.path.stat().st_size == 0


def _is_globals(path: Path, globals_file: Path | None) -> bool:
    return (globals_file is not None and path.resolve() == globals_file.resolve()) or is_globals(path)
