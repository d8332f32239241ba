"""What an audit may leave behind: nothing, neither on the servers nor on this machine."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

from replcheck.errors import ReplcheckError
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.state import LabState
from replcheck.postgres import processes

_PATIENCE_S = 30.0
"""How long sessions may live whose client was killed; the server looks for it every few seconds."""


def on_servers(cluster: LabCluster) -> list[str]:
    """Wait until the audit's sessions have ended; return what is left on the running nodes."""
    left = []
    for name, node in cluster.nodes.items():
        if node.running:
            left += [f"{name}: {what}" for what in _sessions(node)]
            left += [
                f"{name}: slot {slot}"
                for (slot,) in node.execute("select slot_name from pg_replication_slots")
                if slot not in cluster.nodes
            ]
    return left


def _sessions(node: Any) -> list[str]:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found = node.execute(
            "select format('session %%s, %%s, %%s', pid, application_name, state) from pg_stat_activity"
            " where usename = %s",
            [AUDIT_ROLE],
        )
        if not found or time.monotonic() > deadline:
            return [what for (what,) in found]
        time.sleep(0.02)


def of_cluster(state: LabState) -> list[str]:
    """Return what is left of a cluster that was removed."""
    left = [f"folder {folder}" for folder in (state.directory, state.socket_dir) if folder.exists()]
    for node in state.nodes:
        left += [
            f"process {pid} of {node.name}" for pid in processes.processes_in(state.directory / node.name / "data")
        ]
    return left


def in_folder(folder: Path, *known: str) -> list[str]:
    """Return the files of a folder that are not known."""
    return [f"file {entry}" for entry in sorted(folder.iterdir()) if entry.name not in known]


class Complaints(logging.Handler):
    """Gathers what Python and asyncio say of things that were forgotten: open connections, lost tasks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def install(self) -> None:
        """Listen from now on, for the life of the process."""
        warnings.simplefilter("always", ResourceWarning)
        logging.captureWarnings(True)
        for name in ("py.warnings", "asyncio"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one complaint."""
        self._said.append(f"{record.name}: {record.getMessage()}"[:300])

    def take(self) -> list[str]:
        """Return what was said since the last time."""
        said, self._said = self._said, []
        return said


def error_of(error: BaseException) -> str:
    """Return an error in one line."""
    message = error.message if isinstance(error, ReplcheckError) else str(error)
    return f"{type(error).__name__}: {message}"
