"""Real clusters for the tests: which majors there are, where clusters go, and what is left by a killed run."""

import os
import stat
from pathlib import Path
from tempfile import gettempdir

from replcheck.lab.cluster import remove_abandoned, remove_root
from replcheck.postgres.programs import available_programs

TESTED_MAJORS = (18, 17, 15)
"""Majors that tests run against where their programs are installed."""


def majors() -> tuple[int, ...]:
    """Return the majors that can be tested on this machine, newest first."""
    found = {programs.major for programs in available_programs()}
    return tuple(major for major in TESTED_MAJORS if major in found)


def clusters_root() -> Path:
    """Return the folder of this user's test clusters, after removing what killed test runs left in it.

    Each process of a run has its own: one that ends removes the templates which another would be copying.
    """
    process = os.environ.get("PYTEST_XDIST_WORKER", "")
    root = _quick_folder() / f"replcheck-tests-{os.geteuid()}{process}"
    if root.is_dir() and root.stat().st_uid == os.geteuid() and not root.stat().st_mode & stat.S_IWOTH:
        remove_abandoned(root)
    return root


def leave(root: Path) -> None:
    """Remove the folder of test clusters unless another test run still uses it."""
    remove_root(root)


def _quick_folder() -> Path:
    """Return a folder in memory where the machine has plenty of it, else the one for temporary files."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK):
        usage = os.statvfs(memory)
        if usage.f_bavail * usage.f_frsize > 8 * 1024**3:
            return memory
    return Path(gettempdir())
