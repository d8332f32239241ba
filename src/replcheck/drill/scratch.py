"""The directory in which a drill restores: private, marked as ours, and removed whatever happens.

Nothing is ever restored into a folder that was not empty, and nothing is deleted or signalled whose marker does not
name the very folder it lies in. What a killed drill left is found by its marker and removed by the next one.
"""

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self

from replcheck.errors import DrillBlocked
from replcheck.model.units import format_size
from replcheck.postgres import processes
from replcheck.postgres.processes import ProcessState
from replcheck.postgres.programs import Account, can_enter
from replcheck.postgres.server import SOCKET_PATH_LIMIT, make_private_folder

MARKER = "replcheck-drill.json"
_ROOT_MARKER = ".made-by-replcheck-drill"
"""A file that tells a folder of scratch directories that we made from one that was there before."""
_KIND = "replcheck drill"
_FORMAT = 1
_RESERVE_BYTES = 64 * 1024**2
"""What must stay free beside the copy: recovery writes WAL, and a full file system harms others."""
_FULL_BYTES = 1024**2
_REMOVE_ATTEMPTS = 25
"""A program that a killed drill had started ends by itself once its files are gone, and writes until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """One scratch directory, 0700, owned by the account that its server runs under."""

    directory: Path
    account: Account | None
    """Whom the server runs as, None for the caller."""
    run_id: str

    @property
    def server_dir(self) -> Path:
        """Return the folder of the scratch server: data directory, configuration, socket and log."""
        return self.directory / "server"

    @property
    def data_dir(self) -> Path:
        """Return the scratch server's data directory."""
        return self.server_dir / "data"

    @property
    def spool_dir(self) -> Path:
        """Return the folder for what is neither data directory nor configuration, such as unpacked WAL."""
        return self.directory / "spool"

    @property
    def tablespaces_dir(self) -> Path:
        """Return the folder that takes the place of every tablespace's own."""
        return self.directory / "tablespaces"

    @property
    def socket_dir(self) -> Path:
        """Return where the scratch server's socket lies: within, or in a short folder where the path is too long."""
        return ScratchState.load_from(self.directory).socket_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """What a command of the user's was asked to provide outside a scratch directory; holds no secret."""

    variables: Mapping[str, str]
    """What the destroy command is told by its environment; of a connection string what anybody may see."""
    destroy: str
    """SHA-256 of the destroy command, which tells whether a configuration still has the same."""
    where: str = ""
    """Where the server is, as it may be shown; empty where it was not handed over yet."""
    process: ProcessState | None = None
    """The command that provides it, while that is at work."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what a marker says; raise TypeError where it is something else."""
        process = data.get("process")
        return cls(**{**data, "process": ProcessState(**process) if process is not None else None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchState:
    """What the marker of a scratch directory says."""

    directory: Path
    socket_dir: Path
    run_id: str
    backup: str
    """Name of the backup that was to be restored."""
    kept: bool
    """Whether it was left on purpose."""
    created_by: ProcessState
    provided: Provided | None = None
    """What must be destroyed outside, before the directory may go; None where nothing is."""

    @property
    def abandoned(self) -> bool:
        """Return whether whoever made it is gone and it was not left on purpose."""
        return not self.kept and not self.created_by.alive

    def save(self) -> None:
        """Write the marker file in one step."""
        path = self.directory / MARKER
        data = {"kind": _KIND, "format": _FORMAT} | asdict(self)
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, default=str, indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load_from(cls, directory: Path) -> Self:
        """Read the marker of a folder; raise ValueError where there is none of ours, or it names another folder."""
        path = directory / MARKER
        try:
            status = path.lstat()
            data: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if status.st_uid != os.geteuid() or data.pop("kind") != _KIND or data.pop("format") != _FORMAT:
                raise ValueError(path)
            maker = ProcessState(**data.pop("created_by"))
            given = data.pop("provided", None)
            state = cls(
                directory=Path(data.pop("directory")),
                socket_dir=Path(data.pop("socket_dir")),
                created_by=maker,
                provided=Provided.of(given) if given is not None else None,
                **data,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"{directory} is no scratch directory of ours") from exc
        if state.directory.resolve() != directory.resolve():
            raise ValueError(f"{directory} is a copy of the scratch directory {state.directory}")
        return state


def default_root() -> Path:
    """Return the folder that holds scratch directories unless another is configured."""
    if os.geteuid() == 0:
        return Path("/var/lib/replcheck-drill")
    state = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if (home := os.environ.get("HOME")) else "")
    if state and os.access(_nearest_existing(Path(state)), os.W_OK | os.X_OK):
        return Path(state) / "replcheck" / "drill"
    return Path(gettempdir()) / f"replcheck-drill-{os.geteuid()}"


def make_scratch(
    root: Path, *, run_id: str, backup: str, account: Account | None, needed_bytes: int | None = None
) -> Scratch:
    """Make an empty scratch directory under `root`, which is made where it is missing.

    Raise DrillBlocked where `root` holds anything that is not a drill's, other users can change it, the account cannot
    reach it, or its file system has too little room for `needed_bytes` (None: not known).
    """
    root = root.absolute()
    made_here = _make_root(root)
    try:
        if account is not None and not can_enter(root, account):
            raise DrillBlocked(
                f"folder {root} cannot be reached by {account.name}, whom scratch servers run as",
                code="scratch_unreachable",
                hint="Choose a folder that everybody can pass through.",
            )
        check_space(root, needed_bytes)
        return _make(root, run_id, backup, account)
    except BaseException:
        if made_here:
            remove_root(root)
        raise


def check_space(folder: Path, needed_bytes: int | None) -> None:
    """Raise DrillBlocked where a file system has no room for so many bytes; None is not known and passes."""
    if needed_bytes is None:
        return
    usage = os.statvfs(_nearest_existing(folder))
    free = usage.f_bavail * usage.f_frsize
    if free < needed_bytes + _RESERVE_BYTES:
        raise DrillBlocked(
            f"there is no room for the copy in {folder}: it needs {format_size(needed_bytes + _RESERVE_BYTES)},"
            f" and {format_size(free)} are free",
            code="no_space",
            hint="Choose a folder on another file system with --scratch, or as drill.scratch.",
        )


def require_not_full(folder: Path) -> None:
    """Raise DrillBlocked where a file system is full: whatever failed there then failed for that."""
    usage = os.statvfs(_nearest_existing(folder))
    if usage.f_bavail * usage.f_frsize < _FULL_BYTES:
        raise DrillBlocked(
            f"the file system of {folder} is full",
            code="no_space",
            hint="Make room there, or choose a folder on another file system with --scratch, or as drill.scratch.",
        )


def keep(scratch: Scratch) -> None:
    """Note that a scratch directory is left on purpose; only `replcheck drill --clean` removes it then."""
    replace(ScratchState.load_from(scratch.directory), kept=True).save()


def note_provided(scratch: Scratch, provided: Provided | None) -> None:
    """Note what a command is about to provide outside, or None once it is destroyed; raise DrillBlocked if it cannot.

    Whoever finds the directory then knows of it, whatever becomes of us.
    """
    try:
        replace(ScratchState.load_from(scratch.directory), provided=provided).save()
    except (OSError, ValueError) as exc:
        raise DrillBlocked(
            f"nothing can be noted in the scratch directory {scratch.directory}", code="scratch_unusable"
        ) from exc


def find_provided(root: Path, *, kept: bool = False) -> list[ScratchState]:
    """Return the directories of drills that are gone and had something provided; with `kept`, also on purpose."""
    found = [state for state in find_scratch(root) if state.provided is not None]
    return [state for state in found if state.abandoned or (kept and not _in_use(state))]


def find_scratch(root: Path) -> Iterator[ScratchState]:
    """Yield the scratch directories of this user's under a folder, by name: in use, kept, or left by a crash."""
    for marker in sorted(root.glob(f"*/{MARKER}")):
        with suppress(ValueError):
            yield ScratchState.load_from(marker.parent)


def remove_abandoned(root: Path, *, kept: bool = False) -> list[Path]:
    """Remove what drills that are gone left under a folder and return it; with `kept`, also what was left on purpose.

    A directory whose drill still runs is never touched, nor one that is needed to destroy what was provided outside.
    """
    gone = [state for state in find_scratch(root) if state.abandoned or (kept and not _in_use(state))]
    gone = [state for state in gone if state.provided is None]
    for state in gone:
        _remove(state)
    return [state.directory for state in gone]


def remove_scratch(scratch: Scratch) -> None:
    """Stop the scratch server, if there is one, and delete the directory; nothing is assumed about its state.

    Raise DrillBlocked where what was provided outside is not destroyed: the directory is left for the next drill then.
    """
    state = ScratchState.load_from(scratch.directory)
    if state.provided is not None:
        raise DrillBlocked(
            f"{scratch.directory} is left, so that the next drill knows of it",
            code="destroy_failed",
            hint='Try "replcheck drill --clean" with the same configuration.',
        )
    _remove(state)


def require_drills_folder(root: Path) -> None:
    """Raise DrillBlocked where a folder holds what is no drill's: it was hardly meant. What is missing passes."""
    try:
        stranger = next((entry.name for entry in root.iterdir() if not _is_ours(entry)), None)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise DrillBlocked(
            f"folder {root} cannot be looked at: {(exc.strerror or 'unknown error').lower()}", code="scratch_unusable"
        ) from exc
    if stranger is not None:
        raise DrillBlocked(
            f"folder {root} is not a drill's: it holds {stranger}",
            code="scratch_not_empty",
            hint="Name the folder that drills were given with --scratch, or as drill.scratch.",
        )


def remove_root(root: Path) -> None:
    """Remove the folder of scratch directories where it is empty and was made by `make_scratch`."""
    with suppress(OSError):
        if {entry.name for entry in root.iterdir()} == {_ROOT_MARKER}:
            (root / _ROOT_MARKER).unlink()
            root.rmdir()


def _in_use(state: ScratchState) -> bool:
    """Return whether the drill that made a directory still works in it; one that was kept is done with it."""
    return not state.kept and state.created_by.alive


def _make_root(root: Path) -> bool:
    """Make or check the folder that holds scratch directories; return whether it is new."""
    new = False
    try:
        if not root.exists():
            mode = 0o711 if os.geteuid() == 0 else 0o700
            root.mkdir(mode=mode, parents=True)
            root.chmod(mode)
            (root / _ROOT_MARKER).touch(mode=0o600)
            new = True
        status = root.stat()
        strangers = [entry.name for entry in root.iterdir() if not _is_ours(entry)]
    except OSError as exc:
        raise DrillBlocked(
            f"folder {root} cannot be used for scratch servers: {exc.strerror}",
            code="scratch_unusable",
            hint="Choose a folder that can be written to with --scratch, or as drill.scratch.",
        ) from exc
    if strangers:
        raise DrillBlocked(
            f"folder {root} is not empty and not a drill's: it holds {strangers[0]}",
            code="scratch_not_empty",
            hint="Choose an empty folder, or one that does not exist yet, with --scratch or as drill.scratch.",
        )
    if status.st_uid not in (os.geteuid(), 0) or (status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX):
        raise DrillBlocked(
            f"folder {root} is not safe: other users can change it",
            code="scratch_unsafe",
            hint="Choose a folder of your own with --scratch, or as drill.scratch.",
        )
    return new


def _is_ours(entry: Path) -> bool:
    if entry.name in (_ROOT_MARKER, "lost+found"):
        return True
    try:
        ScratchState.load_from(entry)
    except ValueError:
        # A directory whose maker was killed before it wrote the marker holds nothing.
        return entry.is_dir() and not entry.is_symlink() and not any(entry.iterdir())
    return True


def _make(root: Path, run_id: str, backup: str, account: Account | None) -> Scratch:
    directory = root / f"drill-{run_id}"
    try:
        make_private_folder(directory, account)
    except OSError as exc:
        raise DrillBlocked(
            f"scratch directory {directory} cannot be made: {exc.strerror}",
            code="scratch_unusable",
            hint="Choose a folder that can be written to with --scratch, or as drill.scratch.",
        ) from exc
    maker = ProcessState.of(os.getpid(), "drill")
    assert maker is not None, "this very process is alive"  # noqa: S101
    state = ScratchState(
        directory=directory,
        socket_dir=_socket_dir(directory),
        run_id=run_id,
        backup=backup,
        kept=False,
        created_by=maker,
    )
    state.save()
    make_private_folder(state.socket_dir, account)
    if state.socket_dir.parent != directory:
        (state.socket_dir / MARKER).write_text(str(directory), encoding="utf-8")
    scratch = Scratch(directory=directory, account=account, run_id=run_id)
    for folder in (scratch.spool_dir, scratch.tablespaces_dir):
        make_private_folder(folder, account)
    return scratch


def _socket_dir(directory: Path) -> Path:
    own = directory / "sockets"
    longest = own / ".s.PGSQL.65535"
    fits = len(os.fsencode(longest)) <= SOCKET_PATH_LIMIT
    return own if fits else Path(gettempdir()) / f"rcd-{secrets.token_hex(6)}"


def _remove(state: ScratchState) -> None:
    """Delete one scratch directory; its marker is read again first, and goes last."""
    state = ScratchState.load_from(state.directory)
    data_dir = state.directory / "server" / "data"
    if data_dir.is_dir():
        processes.kill_all_in(data_dir)
        processes.remove_shared_memory(data_dir)
    if state.socket_dir.parent != state.directory and _is_marked_socket_dir(state):
        shutil.rmtree(state.socket_dir)
    for entry in state.directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove_tree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    (state.directory / MARKER).unlink()
    state.directory.rmdir()


def _is_marked_socket_dir(state: ScratchState) -> bool:
    try:
        return (state.socket_dir / MARKER).read_text("utf-8") == str(state.directory)
    except OSError:
        return False


def _remove_tree(folder: Path) -> None:
    """Remove a folder, again where something that was about to end still wrote to it; links are never followed."""
    for attempt in range(_REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=attempt < _REMOVE_ATTEMPTS - 1)
        if not folder.exists():
            return
        time.sleep(0.2)


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())
