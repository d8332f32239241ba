"""The audit command on large clusters: how it ended, how long it took and how much memory its process ever held."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from replcheck.lab.cluster import LabCluster, remove_abandoned, remove_root
from tests.commands import environment

MOST_MEMORY_MB = 150.0
"""What the client may ever hold, however much it audits."""
_GIB = 1024**3

# VmHWM belongs to the process image alone; what wait4 tells of a child counts its parent's memory too.
_COMMAND = """
import sys
from pathlib import Path
from replcheck.cli.main import main
status = main(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(status)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One finished audit of the command."""

    status: int
    report: dict[str, Any]
    seconds: float
    peak_mb: float

    @property
    def divergences(self) -> list[tuple[str, str, str]]:
        """Return database, relation and node of each."""
        return [(found["database"], found["relation"], found["node"]) for found in self.report["divergences"]]

    @property
    def not_consistent(self) -> list[tuple[str, str]]:
        """Return database and table of each relation that is not."""
        relations = self.report["relations"]
        return [(found["database"], found["table"]) for found in relations if found["verdict"] != "consistent"]

    def __str__(self) -> str:
        chunks = sum(relation["chunks"] for relation in self.report["relations"])
        return (
            f"{self.report['verdict']} in {self.seconds:.1f} s: {len(self.report['relations'])} relations,"
            f" {self.report['rows']} rows, {self.report['size_bytes'] / _GIB:.2f} GiB, {chunks} chunks;"
            f" the client held {self.peak_mb:.0f} MB at most"
        )


def measured_audit(cluster: LabCluster, home: Path, *words: str, timeout_s: float = 1800) -> Measured:
    """Run the command on all nodes of a cluster, print what it came to, and check that its memory was bounded."""
    memory = home / "memory"
    nodes = "\n".join(f'{name} = {{ dsn = "{cluster.audit_dsn(name)}" }}' for name in cluster.nodes)
    (home / "replcheck.toml").write_text(f'cluster = "large"\n[nodes]\n{nodes}\n')
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, str(memory), "audit", "--format", "json", "--no-store", *words],
        capture_output=True,
        cwd=home,
        env=environment(home),
        text=True,
        timeout=timeout_s,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.stdout, done.stderr
    [peak_kb] = [int(line.split()[1]) for line in memory.read_text().splitlines() if line.startswith("VmHWM:")]
    found = Measured(
        status=done.returncode, report=json.loads(done.stdout), seconds=seconds, peak_mb=peak_kb * 1024 / 1e6
    )
    sys.stdout.write(f"{found}\n")
    assert found.peak_mb < MOST_MEMORY_MB, found
    return found


@contextmanager
def disk_root() -> Iterator[Path]:
    """The folder of clusters that are too large for memory; what a killed run left there is removed first."""
    root = Path(gettempdir()) / f"replcheck-scale-{os.geteuid()}"
    if root.is_dir() and root.stat().st_uid == os.geteuid():
        remove_abandoned(root)
    yield root
    remove_root(root)


def free_gib() -> float:
    """Return the room on the disk of `disk_root`."""
    return shutil.disk_usage(gettempdir()).free / _GIB
