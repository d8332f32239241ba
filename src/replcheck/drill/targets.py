"""What a restore is to reach, as people write it. Pure.

A word decides by its form: `latest`, a seal, an LSN, a time, else the name of a restore point. What looks like a time
and is none is refused, never taken for a name.
"""

import re
from datetime import datetime

from replcheck.drill.manifest import SUFFIX
from replcheck.errors import UsageError
from replcheck.model.drill import Target, TargetKind
from replcheck.model.names import printable
from replcheck.model.wal import Lsn

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_SEAL = "seal:"
_NAME = "name:"
_LONGEST_NAME = 63
"""Bytes of a restore point's name (PostgreSQL xlog_internal.h, MAXFNAMELEN)."""


def parse_target(text: str) -> Target:
    """Read a target: `latest`, a seal by its id or file, an LSN, a time with its UTC offset, or a restore point's name.

    `name:` before a restore point's name lets it be any word. Raise UsageError for what is none of these.

    >>> parse_target("latest").kind.name, parse_target("16/B374D848").lsn, parse_target("before_migration").name
    ('LATEST', 16/B374D848, 'before_migration')
    >>> parse_target("2026-11-28 10:00:00+05:30").time.isoformat()
    '2026-11-28T10:00:00+05:30'
    """
    word = text.strip()
    if word == "latest":
        return Target(kind=TargetKind.LATEST, text=word)
    if word.startswith(_SEAL):
        return _seal(word)
    if _LSN.fullmatch(word):
        return Target(kind=TargetKind.LSN, text=word, lsn=Lsn.parse(word))
    if _DATE.match(word):
        return Target(kind=TargetKind.TIME, text=word, time=_time(word))
    return _restore_point(word)


def _seal(word: str) -> Target:
    seal_id = word.removeprefix(_SEAL)
    is_file = seal_id.endswith(SUFFIX) and seal_id == printable(seal_id)
    if not is_file and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", seal_id):
        raise UsageError(
            f"{printable(word)!r} names no seal",
            hint=f"Write seal:ID with the identifier of a seal, or seal:FILE with its file (*{SUFFIX}).",
        )
    return Target(kind=TargetKind.SEAL, text=word, seal_id=seal_id)


def _time(word: str) -> datetime:
    try:
        time = datetime.fromisoformat(_padded_offset(word))
    except ValueError as exc:
        raise UsageError(
            f"{printable(word)!r} is no time",
            hint="Write it like 2026-11-28 10:00:00+00; put name: before the name of a restore point.",
        ) from exc
    if time.tzinfo is None:
        raise UsageError(
            f"the time {printable(word)!r} has no offset from UTC",
            hint="Write it like 2026-11-28 10:00:00+00, so that it means the same everywhere.",
        )
    return time


def _padded_offset(word: str) -> str:
    """Return a time with the minutes of its offset, which PostgreSQL leaves out where they are zero."""
    short = re.sub(r"([+-]\d{2})$", r"\1:00", word) if ":" in word else word
    return short.replace(" +", "+").replace(" -", "-")


def _restore_point(word: str) -> Target:
    name = word.removeprefix(_NAME)
    if not 0 < len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME or name != printable(name):
        raise UsageError(
            f"{printable(word)!r} cannot be the name of a restore point",
            hint=f"A target is latest, a time, an LSN, seal:ID, or a name of 1 to {_LONGEST_NAME} bytes.",
        )
    return Target(kind=TargetKind.RESTORE_POINT, text=word, name=name)
