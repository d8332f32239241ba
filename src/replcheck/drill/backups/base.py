"""Base backups: a directory or tar archives made by pg_basebackup, full or incremental, with their WAL archive."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from replcheck.config.model import BaseBackup
from replcheck.drill.backups.copying import Copier, DirectoryCopy, grows, reading, tree_size
from replcheck.drill.backups.labels import Label, Manifest, parse_label, parse_manifest
from replcheck.drill.backups.physical import PhysicalRestore, PhysicalSource, require_programs, unlabelled, version_of
from replcheck.drill.backups.recognition import not_recognised
from replcheck.drill.backups.source import Restored
from replcheck.drill.backups.supply import archive_of, archive_reaches, require_archive, require_sealed_wal
from replcheck.drill.backups.tarballs import find_in, in_progress, unpack
from replcheck.drill.recovery import scratch_server
from replcheck.drill.scratch import Scratch, check_space, require_not_full
from replcheck.drill.software import ProgramsFor, installed
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment
from replcheck.errors import BackupRefuted, DrillBlocked, ProgramError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target
from replcheck.postgres.base_backups import combine
from replcheck.postgres.compression import COMPRESSIONS, require_decompressor, without_compression
from replcheck.postgres.control import major_of, stored_system_identifier
from replcheck.postgres.programs import Programs

_MANIFEST = "backup_manifest"
_LABEL = "backup_label"
_WRITING = "backup_manifest.tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One backup as it lies there."""

    folder: Path
    name: str
    tar: Path | None
    """Its main archive, None for a directory."""
    label: Label | None
    manifest: Manifest | None
    major: int | None
    taken_at: datetime
    unlabelled: bool
    """Whether neither label nor manifest tell that it is a base backup, though its files could be read."""


class BaseSource(PhysicalSource):
    """All base backups of one table under `backups`."""

    kind = BackupKind.BASE

    def __init__(self, *, name: str, section: BaseBackup, programs: ProgramsFor = installed) -> None:
        self.name = name
        self._config = section
        self._path = Path(section.path)
        self._programs_for = programs
        self._found: list[_Found] | None = None
        """What `copies` found, so that archives are opened and manifests read once."""

    def copies(self) -> Sequence[CopyFacts]:
        """Return the backups there are, the newest first."""
        self._found = None
        found = sorted(self._located(), key=lambda one: one.taken_at, reverse=True)
        return [self._facts(one) for one in found]

    def requirements(self, copy: CopyFacts, target: Target) -> None:
        """Raise DrillBlocked where programs are missing or a backup of the chain is not there."""
        one = self._named(copy.label)
        if one.unlabelled:
            raise unlabelled(one.folder)
        if copy.major is None and grows(one.folder):
            raise in_progress(one.folder)
        programs = require_programs(copy, target, self._programs_for)
        chain = self._chain(one)
        try:
            if len(chain) > 1:
                programs.path("pg_combinebackup")
            for part in chain:
                for archive in _archives(part):
                    require_decompressor(archive)
        except ProgramError as exc:
            raise DrillBlocked(exc.message, code="no_programs", hint=exc.hint) from exc
        require_archive(self._config.wal)
        require_sealed_wal(copy, target, self._config.wal)

    def reaches(self, segment: Segment, segment_bytes: int) -> bool | None:
        """Return whether the archive, or a backup in a folder, goes as far as a WAL file; None where unknown."""
        own = [one.folder / "pg_wal" for one in self._located() if one.tar is None]
        return archive_reaches(self._config.wal, self._config.restore_command, segment, segment_bytes, own=own)

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Copy or unpack, combine, recover and open one backup."""
        programs = require_programs(copy, target, self._programs_for)
        chain = self._chain(self._named(copy.label))
        server = scratch_server(scratch, programs)
        if len(chain) > 1:
            check_space(scratch.directory, _size_combined(chain))
        with stages.enter(Stage.FETCH, copy.size_bytes):
            parts = self._fetch(chain, scratch, Copier(scratch.account, stages))
        with stages.enter(Stage.RESTORE):
            if len(chain) > 1:
                self._combine(parts, scratch, programs, stages)
        archive = archive_of(self._config.wal, self._config.restore_command, scratch)
        self._restore = PhysicalRestore(self.kind, server, scratch, archive=archive, needs_label=True)
        return self._restore.run(target, stages)

    def _fetch(self, chain: Sequence[_Found], scratch: Scratch, copier: Copier) -> list[Path]:
        """Bring the backups of a chain, the oldest first, and return their folders."""
        if len(chain) == 1:
            self._bring(chain[0], scratch.data_dir, scratch.tablespaces_dir, scratch, copier)
            return [scratch.data_dir]
        parts = []
        copier.folder(scratch.spool_dir / "parts")
        for number, one in enumerate(chain):
            folder = copier.folder(scratch.spool_dir / "parts" / str(number))
            self._bring(one, folder / "data", folder / "tablespaces", scratch, copier)
            parts.append(folder / "data")
        return parts

    def _bring(self, one: _Found, target: Path, tablespaces: Path, scratch: Scratch, copier: Copier) -> None:
        with reading(f"backup {one.folder}"):
            if one.tar is None:
                vouched = (
                    {path.split("/")[1] for path in one.manifest.files if path.startswith("pg_tblspc/")}
                    if (one.manifest)
                    else set()
                )
                DirectoryCopy(one.folder, scratch, copier, roots=(one.folder, self._path), vouched=vouched).run(
                    target, tablespaces
                )
            else:
                _unpack_all(one, target, tablespaces, copier)
        if not (target / "global" / "pg_control").is_file():
            raise self._incomplete(one)

    def _combine(self, parts: list[Path], scratch: Scratch, programs: Programs, stages: Stages) -> None:
        stages.parts = tuple(parts)
        oids = sorted(entry.name for entry in (parts[-1] / "pg_tblspc").iterdir())
        mapping = {parts[-1].parent / "tablespaces" / oid: scratch.tablespaces_dir / oid for oid in oids}

        def watch() -> None:
            stages.obey()
            stages.watch()

        try:
            complaint = combine(
                programs, parts, scratch.data_dir, tablespaces=mapping, account=scratch.account, watch=watch
            )
        except ProgramError as exc:
            require_not_full(scratch.directory)
            raise DrillBlocked(
                f"the incremental backups were not combined: {exc.message}",
                code="combine_failed",
                hint=exc.hint or "Try it by hand with pg_combinebackup, in the scratch folder.",
            ) from exc
        if complaint is not None:
            # What is short or missing for want of room is no damage.
            require_not_full(scratch.directory)
            raise BackupRefuted(
                f"the incremental backups cannot be combined: {complaint}",
                code="chain_damaged",
                hint="Check every backup of the chain with pg_verifybackup.",
            )

    def _located(self) -> list[_Found]:
        if self._found is None:
            self._found = self._looked_for()
        return self._found

    def _looked_for(self) -> list[_Found]:
        path = self._path
        with reading(f"backup {path}"):
            if not path.exists():
                raise DrillBlocked(f"there is no {path}", code="backup_not_found", hint="Check the path of the backup.")
            if path.is_file():
                found = _look(path.parent, path.parent.name, path)
                return [found] if found else self._nothing()
            found = _look(path, path.name)
            if found is not None:
                return [found]
            inner = [_look(entry, entry.name) for entry in sorted(path.iterdir()) if entry.is_dir()]
            located = [one for one in inner if one is not None]
            return located if located or not any(path.iterdir()) else self._nothing()

    def _nothing(self) -> list[_Found]:
        unknown = next(iter([*self._path.glob("base.tar.*"), *self._path.glob("*/base.tar.*")]), None)
        if unknown is not None:
            raise DrillBlocked(
                f"{unknown} is compressed in a way that is not known here",
                code="compression_unknown",
                hint=f"Known are {', '.join(COMPRESSIONS)}.",
            )
        raise not_recognised(
            self._path,
            "is no base backup, and no folder with any",
            self.kind,
            hint="A base backup is a directory with PG_VERSION in it, or one with base.tar (also .gz, .lz4, .zst).",
        )

    def _named(self, label: str) -> _Found:
        for one in self._located():
            if one.name == label:
                return one
        raise DrillBlocked(f"backup {label} is not there any more", code="backup_not_found")

    def _chain(self, last: _Found) -> list[_Found]:
        """Return a backup with those it is incremental to, the full one first."""
        chain = [last]
        others = self._located()
        if len(others) == 1 and last.label is not None and last.label.previous is not None:
            others = [one for entry in last.folder.parent.iterdir() if entry.is_dir() and (one := _look(entry, ""))]
        while (label := chain[0].label) is not None and label.previous is not None:
            before = [one for one in others if one.label is not None and one.label.start == label.previous]
            if not before:
                raise BackupRefuted(
                    f"backup {chain[0].name} is incremental to one that started at {label.previous}, which is missing",
                    code="chain_broken",
                    hint="Put all backups of the chain, from the full one on, into one folder.",
                )
            chain.insert(0, before[0])
        return chain

    def _facts(self, one: _Found) -> CopyFacts:
        incremental = one.label is not None and one.label.previous is not None
        form = "directory" if one.tar is None else f"tar{one.tar.suffix.replace('.tar', '')}"
        return CopyFacts(
            label=one.name,
            kind=self.kind,
            format=f"incremental {form}" if incremental else form,
            taken_at=one.taken_at,
            major=one.major,
            size_bytes=self._size(one),
            system_identifier=_system_of(one),
            start_lsn=one.label.start if one.label else None,
            end_lsn=one.manifest.end if one.manifest else None,
            timeline=one.label.timeline if one.label else None,
        )

    def _size(self, one: _Found) -> int:
        with reading(f"backup {one.folder}"):
            if one.label is not None and one.label.previous is not None:
                try:
                    return sum(_size(part) for part in self._chain(one))
                except BackupRefuted:
                    return _size(one)
            return _size(one)

    def _incomplete(self, one: _Found) -> BackupRefuted | DrillBlocked:
        """Return that a backup has no control file, which comes last: it was cut off, unless it still grows."""
        if grows(one.folder):
            return in_progress(one.folder)
        return BackupRefuted(
            f"backup {one.folder} is incomplete: global/pg_control, which is written last, is missing",
            code="incomplete",
            hint="The backup was interrupted; take a new one.",
        )


def _look(folder: Path, name: str, archive: Path | None = None) -> _Found | None:
    """Return the backup in a folder, None where there is none."""
    tar = archive or next((path for path in _tars(folder) if without_compression(path.name) == "base.tar"), None)
    if tar is None and not any((folder / part).exists() for part in ("PG_VERSION", _LABEL, "global")):
        return None
    texts = _texts(folder, tar)
    if archive is not None and not texts and without_compression(archive.name) != "base.tar":
        return None
    label = manifest = None
    try:
        label = parse_label(texts[_LABEL]) if _LABEL in texts else None
    except ValueError:
        label = None
    try:
        path = folder / _MANIFEST
        manifest = parse_manifest(path.read_text("utf-8", errors="replace")) if path.is_file() else None
    except ValueError:
        manifest = None
    version = next((major_of(text) for name, text in texts.items() if name.endswith("PG_VERSION")), None)
    version = version if tar is not None else version_of(folder)
    return _Found(
        folder=folder,
        name=name,
        tar=tar,
        label=label,
        manifest=manifest,
        major=version,
        taken_at=_taken_at(folder, tar, label),
        # Of an archive that somebody else has packed the label is known only once it is unpacked.
        unlabelled=tar is None and version is not None and _LABEL not in texts and not (folder / _MANIFEST).exists(),
    )


def _system_of(one: _Found) -> int | None:
    """Return the cluster that a backup is of: manifests tell it from PostgreSQL 17 on, the control file always."""
    if one.manifest is not None and one.manifest.system_identifier is not None:
        return one.manifest.system_identifier
    return stored_system_identifier(one.folder) if one.tar is None else None


def _texts(folder: Path, tar: Path | None) -> dict[str, str]:
    """Return the label and a version file, by name."""
    if tar is None:
        path = folder / _LABEL
        return {_LABEL: path.read_text("utf-8", errors="replace")} if path.is_file() else {}
    found = find_in(tar, lambda name: name == _LABEL or name.rpartition("/")[2] == "PG_VERSION", limit=2)
    return {name: data.decode("utf-8", errors="replace") for name, data in found.items()}


def _taken_at(folder: Path, tar: Path | None, label: Label | None) -> datetime:
    """Return when a backup ended, as far as its files tell: its manifest is written last."""
    candidates = (folder / _MANIFEST, tar or folder / "global" / "pg_control", folder)
    last = next(path for path in candidates if path.exists())
    written = datetime.fromtimestamp(last.stat().st_mtime, UTC)
    return max(written, label.started_at) if label is not None and label.started_at is not None else written


def _tars(folder: Path) -> list[Path]:
    endings = (".tar", *(f".tar{ending}" for ending in COMPRESSIONS))
    return sorted(path for path in folder.iterdir() if path.name.endswith(endings) and path.is_file())


def _archives(one: _Found) -> list[Path]:
    """Return the archives of a backup: the main one, its tablespaces and its WAL."""
    if one.tar is None:
        return []
    others = [path for path in _tars(one.folder) if _oid_of(path) or without_compression(path.name) == "pg_wal.tar"]
    return [one.tar, *others]


def _oid_of(archive: Path) -> str | None:
    oid = without_compression(archive.name).removesuffix(".tar")
    return oid if oid.isdigit() else None


def _size(one: _Found) -> int:
    packed = sum(path.stat().st_size for path in _archives(one)) if one.tar is not None else tree_size(one.folder)
    return max(packed, one.manifest.size_bytes if one.manifest else 0)


def _size_combined(chain: Sequence[_Found]) -> int:
    """Return how much room the backups of a chain need: they all lie there beside what is made of them.

    That is about as large as the largest of them; of a cluster that has grown since, an incremental one holds the rest.
    """
    sizes = [_size(one) for one in chain]
    return sum(sizes) + max(sizes)


def _unpack_all(one: _Found, target: Path, tablespaces: Path, copier: Copier) -> None:
    assert one.tar is not None  # noqa: S101
    if (one.folder / _WRITING).exists():
        raise in_progress(one.folder)
    copier.folder(target)
    copier.folder(tablespaces)
    unpack(one.tar, target, copier, left_out=lambda path: len(path.parts) == 2 and path.parts[0] == "pg_tblspc")
    copier.folder(target / "pg_wal")
    copier.folder(target / "pg_wal" / "archive_status")
    mapped = _mapped_tablespaces(target)
    for archive in _archives(one)[1:]:
        oid = _oid_of(archive)
        if oid is None:
            unpack(archive, target / "pg_wal", copier)
            continue
        unpack(archive, copier.folder(tablespaces / oid), copier)
        copier.link(copier.folder(target / "pg_tblspc") / oid, tablespaces / oid)
        mapped.discard(oid)
    for oid in sorted(mapped):
        raise BackupRefuted(
            f"tablespace {oid} is missing: there is no {oid}.tar beside {one.tar.name}", code="tablespace_missing"
        )
    if (one.folder / _MANIFEST).is_file():
        copier.copy(one.folder / _MANIFEST, target / _MANIFEST)


def _mapped_tablespaces(target: Path) -> set[str]:
    path = target / "tablespace_map"
    if not path.is_file():
        return set()
    return {
        line.split(" ", 1)[0] for line in path.read_text("utf-8", errors="replace").splitlines() if line[:1].isdigit()
    }
