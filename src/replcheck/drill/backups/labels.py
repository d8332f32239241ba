"""What a base backup says of itself in backup_label and backup_manifest. Pure.

Source: PostgreSQL manual, Backup Manifest Format; xlogbackup.c, build_backup_content.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from replcheck.model.wal import Lsn

_START = re.compile(r"^START WAL LOCATION: (?P<lsn>[0-9A-F]+/[0-9A-F]+) \(file [0-9A-F]{24}\)$", re.MULTILINE)
_TIMELINE = re.compile(r"^START TIMELINE: (?P<timeline>\d+)$", re.MULTILINE)
_TIME = re.compile(r"^START TIME: (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<zone>\S+)$", re.MULTILINE)
_FROM = re.compile(r"^INCREMENTAL FROM LSN: (?P<lsn>[0-9A-F]+/[0-9A-F]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What backup_label tells."""

    start: Lsn
    timeline: int
    started_at: datetime | None
    """None where its time zone is not UTC: the abbreviations of others mean several zones."""
    previous: Lsn | None
    """Where the backup started that this one is incremental to; None for a full one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What backup_manifest tells of the whole."""

    files: Mapping[str, int]
    """Sizes of the files by path."""
    end: Lsn | None
    """End of the WAL that the backup needs."""
    system_identifier: int | None
    """None before PostgreSQL 17."""

    @property
    def size_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(self.files.values())


def parse_label(text: str) -> Label:
    """Read backup_label; raise ValueError where it does not say where to start."""
    start, timeline = _START.search(text), _TIMELINE.search(text)
    if start is None or timeline is None:
        raise ValueError("backup_label does not say where the backup starts")
    previous = _FROM.search(text)
    return Label(
        start=Lsn.parse(start["lsn"]),
        timeline=int(timeline["timeline"]),
        started_at=_time(text),
        previous=Lsn.parse(previous["lsn"]) if previous else None,
    )


def parse_manifest(text: str) -> Manifest:
    """Read backup_manifest; raise ValueError where it is none. Its checksums are for pg_verifybackup."""
    try:
        data = json.loads(text)
        ranges = data.get("WAL-Ranges", [])
        return Manifest(
            files={_path(entry): int(entry["Size"]) for entry in data["Files"]},
            end=max((Lsn.parse(part["End-LSN"]) for part in ranges), default=None),
            system_identifier=int(data["System-Identifier"]) if "System-Identifier" in data else None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise ValueError("backup_manifest is damaged") from exc


def _path(entry: Mapping[str, Any]) -> str:
    if "Path" in entry:
        return str(entry["Path"])
    return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", errors="surrogateescape")


def _time(text: str) -> datetime | None:
    match = _TIME.search(text)
    if match is None or match["zone"] not in ("UTC", "GMT", "Etc/UTC"):
        return None
    return datetime.fromisoformat(match["time"]).replace(tzinfo=UTC)
