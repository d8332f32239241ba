"""The machine that figures were measured on, so that nobody compares them with those of another."""

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from replcheck import __version__
from replcheck.postgres.programs import available_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What stands beside every figure."""

    date: str
    cores: int
    """Those that this process may use."""
    processor: str
    memory_bytes: int
    kernel: str
    python: str
    postgresql: tuple[str, ...]
    """Versions that the lab found, newest first."""
    replcheck: str

    def lines(self) -> list[str]:
        """Return it for people."""
        gigabytes, versions = self.memory_bytes / (1 << 30), ", ".join(self.postgresql)
        return [
            f"machine         {self.cores} cores ({self.processor}), {gigabytes:.0f} GB of memory, Linux {self.kernel}",
            f"software        replcheck {self.replcheck}, Python {self.python}, PostgreSQL {versions}",
            f"date            {self.date}",
        ]

    def document(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)


def this_machine() -> Machine:
    """Look at the machine."""
    return Machine(
        date=datetime.now(UTC).date().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        python=platform.python_version(),
        postgresql=tuple(programs.version for programs in available_programs()),
        replcheck=__version__,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
