"""The directory in which a drill restores: private, marked as ours, and removed whatever happens.

Nothing is ever restored into a folder that was not empty, and nothing is deleted or signalled whose marker does not
name the very folder it lies in. What a killed drill left is found by its marker and removed by the next one.
"""

from dataclasses import dataclass
from pathlib import Path

from replcheck.postgres.programs import Account


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
