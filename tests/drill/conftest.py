"""A cluster of each major that archives its WAL, with backups of it, shared by the tests of one process."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from replcheck.lab.cluster import LabCluster
from tests.drill.physicals import Place, archiving_place

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def backups_root(clusters_root: Path) -> Iterator[Path]:
    """A folder that servers can reach, beside that of the clusters; gone afterwards."""
    folder = Path(mkdtemp(prefix="replcheck-backups-", dir=clusters_root.parent))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def archiving(clusters_root: Path, backups_root: Path, major: int) -> Iterator[Place]:
    """Make a primary with an archive; it and its cluster go with the block."""
    clusters: list[LabCluster] = []

    def make(**options: object) -> LabCluster:
        name = f"drill_{os.getpid()}_{next(_numbers)}"
        clusters.append(LabCluster.create(clusters_root, name=name, **options))  # type: ignore[arg-type]
        return clusters[-1]

    # A worker that takes over tests of another may come back to a major that it had left.
    folder = backups_root / f"pg{major}_{next(_numbers)}"
    folder.mkdir(mode=0o711)
    settings = {"summarize_wal": "on"} if major >= 17 else {}
    try:
        with archiving_place(make, folder, major=major, settings=settings) as made:
            yield made
    finally:
        for cluster in clusters:
            cluster.destroy()


@pytest.fixture(scope="session")
def place(clusters_root: Path, backups_root: Path, major: int) -> Iterator[Place]:
    """A primary with an archive, a backup `plain`, a restore point `half` and later WAL; 1000 rows, 2000, 3000."""
    with archiving(clusters_root, backups_root, major) as made:
        made.write()
        made.base("plain")
        made.write()
        made.archive()
        made.restore_point("half")
        made.write()
        made.archive()
        made.write(table="other")
        made.archive()
        yield made


@pytest.fixture
def lone_place(clusters_root: Path, backups_root: Path, major: int) -> Iterator[Place]:
    """A primary with an archive for one test alone, which writes what no later restore may replay."""
    with archiving(clusters_root, backups_root, major) as made:
        yield made


@pytest.fixture
def scratch_root(backups_root: Path) -> Iterator[Path]:
    """A folder for scratch directories that does not exist yet; nothing may be left in it afterwards."""
    root = backups_root / f"scratch{next(_numbers)}"
    yield root
    left = sorted(root.iterdir()) if root.exists() else []
    shutil.rmtree(root, ignore_errors=True)
    assert left == []
