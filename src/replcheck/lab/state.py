"""Where the lab's clusters live and what they are made of, kept in a marker file in each cluster's folder.

The marker is written before anything else is made and removed last, so that whatever a crash leaves can be found. Its
own path stands in it: a folder that was copied or moved is not ours, and nothing in it is deleted or signalled.
"""

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self

from replcheck.errors import LabError
from replcheck.postgres.processes import ProcessState

MARKER = "replcheck-lab.json"
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
"""What clusters and nodes may be called."""
_ROOT_MARKER = ".made-by-replcheck-lab"
"""A file that tells a folder of clusters that we made from one that was there before."""
_KIND = "replcheck lab"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node as it was made."""

    name: str
    port: int
    upstream: str | None
    """The node it was copied from and streams from, None for the first primary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultState:
    """A fault that was done to a node and not healed yet."""

    fault: str
    node: str
    cure: str
    """Name of the cure that heals it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """Everything needed to find a cluster again."""

    name: str
    directory: Path
    socket_dir: Path
    major: int
    checksums: bool
    nodes: tuple[NodeState, ...] = ()
    faults: tuple[FaultState, ...] = ()
    load: ProcessState | None = None
    """The background workload, None where none was started."""
    created_by: ProcessState | None = None
    """The process that made the cluster, where the cluster must not outlive it."""

    def save(self) -> None:
        """Write the marker file in one step."""
        path = self.directory / MARKER
        data = {"kind": _KIND, "format": _FORMAT} | asdict(self)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(data, default=str, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load_from(cls, directory: Path) -> Self:
        """Read the marker of a folder; raise LabError where there is none, or it belongs to another folder."""
        path = directory / MARKER
        try:
            if path.stat().st_uid != os.geteuid():
                raise LabError(f"the lab cluster in {directory} belongs to another user")
            data = json.loads(path.read_text("utf-8"))
            return cls._from_json(data, directory)
        except FileNotFoundError as exc:
            raise LabError(
                f"there is no lab cluster in {directory}",
                hint="List the clusters with: replcheck lab status. Make one with: replcheck lab up",
            ) from exc
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise LabError(
                f"marker file {path} is not one of a lab cluster in that folder",
                hint="Nothing in it was touched; remove the folder yourself if you know that it is a lab's.",
            ) from exc

    @classmethod
    def _from_json(cls, data: dict[str, Any], directory: Path) -> Self:
        if data.pop("kind") != _KIND or data.pop("format") != _FORMAT:
            raise ValueError(MARKER)
        nodes = tuple(NodeState(**node) for node in data.pop("nodes"))
        load = data.pop("load")
        created_by = data.pop("created_by")
        state = cls(
            name=data["name"],
            directory=Path(data["directory"]),
            socket_dir=Path(data["socket_dir"]),
            major=int(data["major"]),
            checksums=bool(data["checksums"]),
            nodes=nodes,
            faults=tuple(FaultState(**fault) for fault in data["faults"]),
            load=ProcessState(**load) if load else None,
            created_by=ProcessState(**created_by) if created_by else None,
        )
        names = (state.name, *(node.name for node in state.nodes))
        if state.directory.resolve() != directory.resolve() or not all(NAME.fullmatch(name) for name in names):
            raise ValueError(state.directory)
        return state

    def changed(self, **changes: Any) -> Self:
        """Return the state with changes, saved."""
        state = replace(self, **changes)
        state.save()
        return state


def default_root() -> Path:
    """Return the folder that holds this user's clusters unless another is named.

    For root a place that the servers' account can reach; otherwise the user's state folder, or one in the folder for
    temporary files where there is no home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/replcheck-lab")
    state = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if (home := os.environ.get("HOME")) else "")
    if state and os.access(_nearest_existing(Path(state)), os.W_OK | os.X_OK):
        return Path(state) / "replcheck" / "lab"
    return Path(gettempdir()) / f"replcheck-lab-{os.geteuid()}"


def make_root(root: Path) -> None:
    """Make the folder that holds clusters, closed to other users but passable for the servers' account."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        if not root.is_dir():
            root.mkdir(mode=mode, parents=True)
            root.chmod(mode)
            (root / _ROOT_MARKER).touch(mode=0o600)
        status = root.stat()
    except OSError as exc:
        raise LabError(f"folder {root} cannot be made: {exc.strerror}", hint="Choose another one with --dir.") from exc
    if status.st_uid not in (os.geteuid(), 0) or (status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX):
        raise LabError(
            f"folder {root} is not safe: other users can change it", hint="Choose a folder of your own with --dir."
        )


def remove_root(root: Path) -> None:
    """Remove the folder of clusters where it is empty and was made by `make_root`, and the empty one it lies in."""
    try:
        if {entry.name for entry in root.iterdir()} != {_ROOT_MARKER}:
            return
        (root / _ROOT_MARKER).unlink()
        root.rmdir()
        if root == default_root() and root.parent.name == "replcheck":
            root.parent.rmdir()
    except OSError:
        return


def find_states(root: Path) -> Iterator[LabState]:
    """Yield the clusters in a folder, whole or left by a crash, by name."""
    for marker in sorted(root.glob(f"*/{MARKER}")):
        try:
            yield LabState.load_from(marker.parent)
        except LabError:
            continue


def remove_files(state: LabState) -> None:
    """Delete a cluster's folders; everything of it must have been stopped.

    The marker is read again first, and goes last.
    """
    directory = LabState.load_from(state.directory).directory
    if state.socket_dir.parent != directory and is_marked_socket_dir(state.socket_dir, directory):
        shutil.rmtree(state.socket_dir)
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _remove_tree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    (directory / MARKER).unlink()
    directory.rmdir()


def _remove_tree(folder: Path) -> None:
    """Remove a folder, again where something that was about to end still wrote to it."""
    for last in (False, False, True):
        shutil.rmtree(folder, ignore_errors=not last)
        if not folder.exists():
            return
        time.sleep(0.2)


def mark_socket_dir(socket_dir: Path, directory: Path) -> None:
    """Leave a sign in a socket folder outside the cluster's own that it belongs to the cluster."""
    (socket_dir / MARKER).write_text(str(directory), encoding="utf-8")


def is_marked_socket_dir(socket_dir: Path, directory: Path) -> bool:
    """Return whether a socket folder carries the sign of a cluster."""
    try:
        return (socket_dir / MARKER).read_text("utf-8") == str(directory)
    except OSError:
        return False


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())
