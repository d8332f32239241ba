"""A cluster of the lab that belongs to one run, and goes with it unless it is to be kept."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from replcheck.drill.scratch import remove_abandoned
from replcheck.errors import LabError
from replcheck.lab.cluster import LabCluster, remove, remove_root
from replcheck.lab.state import find_states

_NEEDED_BYTES = 2 << 30


def scratch_root(cluster_folder: Path) -> Path:
    """Return where the drills of a run restore: within its cluster, so that the copy goes with it."""
    return cluster_folder / "drill"


def remove_leftovers(root: Path, name: str) -> None:
    """Remove what runs of that name left that were killed; the lab's clusters and those of running ones stay."""
    for state in find_states(root):
        maker = state.created_by
        if maker is not None and state.name == f"{name}_{maker.pid}" and not maker.alive:
            remove_abandoned(scratch_root(state.directory))
            remove(state)


def require_room(root: Path) -> None:
    """Raise LabError where the folder of clusters has no room for one."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if shutil.disk_usage(existing).free < _NEEDED_BYTES:
        raise LabError(
            f"the file system of {existing} has less than 2GB free", hint="Choose a folder on another one with --dir."
        )


@contextmanager
def own_cluster(
    root: Path,
    name: str,
    *,
    keep: bool,
    major: int | None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[LabCluster]:
    """Give the block a primary and two standbys; they go at its end unless it ended well and they are to be kept."""
    try:
        cluster = LabCluster.create(
            root, name=name if keep else f"{name}_{os.getpid()}", major=major, settings=settings
        )
        try:
            yield cluster
        except BaseException:
            cluster.destroy()
            raise
        if not keep:
            cluster.destroy()
    finally:
        remove_root(root)
