"""What a data directory says of itself: its version, and its control file through pg_controldata."""

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from replcheck.errors import ProgramError
from replcheck.model.wal import Lsn
from replcheck.postgres.programs import Account, Programs, run_program

STANDBY_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_xacts",
    "max_locks_per_xact",
)
"""What a hot standby must have at least as much of as the primary had (manual, Hot Standby: Administrator's
Overview), under the names of pg_controldata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFacts:
    """What the control file tells."""

    system_identifier: int
    state: str
    """For instance `in production`, `shut down`, `in archive recovery`."""
    checkpoint: Lsn
    redo: Lsn
    """Where recovery starts, unless a backup_label says otherwise."""
    checkpoint_at: datetime | None
    """When the latest checkpoint began; None where that cannot be read."""
    timeline: int
    min_recovery: Lsn
    segment_bytes: int
    wal_level: str
    checksums: bool
    standby_settings: dict[str, int]
    block_bytes: int
    next_xid: int
    """The lower 32 bits of the transaction id that comes next, as of the latest checkpoint; likewise the others."""
    oldest_multixact: int
    next_multixact: int
    next_member: int
    """The number that the next member of a multixact gets."""
    damaged: bool
    """Whether its own checksum does not match."""


def read_control(programs: Programs, data_dir: Path, *, account: Account | None) -> ControlFacts:
    """Read a data directory's control file; raise ProgramError where it cannot be made sense of."""
    said = run_program(programs, "pg_controldata", ["-D", str(data_dir)], account=account, timeout_s=60)
    fields = {}
    for line in said.splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    try:
        return ControlFacts(
            system_identifier=int(fields["Database system identifier"]),
            state=fields["Database cluster state"],
            checkpoint=Lsn.parse(fields["Latest checkpoint location"]),
            redo=Lsn.parse(fields["Latest checkpoint's REDO location"]),
            checkpoint_at=_time(fields["Time of latest checkpoint"]),
            timeline=int(fields["Latest checkpoint's TimeLineID"]),
            min_recovery=Lsn.parse(fields["Minimum recovery ending location"]),
            segment_bytes=int(fields["Bytes per WAL segment"]),
            wal_level=fields["wal_level setting"],
            checksums=fields["Data page checksum version"] != "0",
            standby_settings={name: int(fields[f"{name} setting"]) for name in STANDBY_SETTINGS},
            block_bytes=int(fields["Database block size"]),
            next_xid=int(fields["Latest checkpoint's NextXID"].rpartition(":")[2]),
            oldest_multixact=int(fields["Latest checkpoint's oldestMultiXid"]),
            next_multixact=int(fields["Latest checkpoint's NextMultiXactId"]),
            next_member=int(fields["Latest checkpoint's NextMultiOffset"]),
            damaged="CRC checksum does not match" in said,
        )
    except (KeyError, ValueError) as exc:
        raise ProgramError("pg_controldata does not tell what it should") from exc


def _time(text: str) -> datetime | None:
    """Read a time as pg_controldata writes it in the C locale; its zone is UTC, as in every program we start.

    >>> str(_time("Sat Nov 28 11:01:00 2026"))
    '2026-11-28 11:01:00+00:00'
    """
    try:
        return datetime.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return None


def major_of(version_text: str) -> int | None:
    """Return the major version that a PG_VERSION file names, None where it names none.

    >>> major_of("17"), major_of("9.6"), major_of("x")
    (17, 9, None)
    """
    match = re.match(r"\d{1,2}", version_text.strip())
    return int(match[0]) if match else None


def stored_system_identifier(data_dir: Path) -> int | None:
    """Return the system identifier that a control file begins with; None where it cannot be read.

    What the file holds is not verified here (pg_control.h, ControlFileData).
    """
    try:
        with (data_dir / "global" / "pg_control").open("rb") as file:
            begin = file.read(8)
    except OSError:
        return None
    return int.from_bytes(begin, sys.byteorder) if len(begin) == 8 and any(begin) else None
