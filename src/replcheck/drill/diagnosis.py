"""What a recovering server's log tells, by its known sentences. Pure.

Only sentences that hold no value of a row are recognised, and only positions, times and file names are taken from
them. A sentence that is not known is never passed on.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from replcheck.errors import BackupRefuted, DrillBlocked, DrillError
from replcheck.model.wal import Lsn
from replcheck.postgres.failures import SURROUNDINGS

_LSN = r"(?P<lsn>[0-9A-F]{1,8}/[0-9A-F]{1,8})"
_LINE = re.compile(r"^.*?\[\d+\] (?P<who>.*?) (?P<level>LOG|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT):  (?P<text>.*)$")
_SERVER = ("postmaster", "startup", "checkpointer", "background writer", "walwriter")
"""Who ends a server by a FATAL; a client is sent away with one for many reasons."""
_REDO_DONE = re.compile(rf"redo done at {_LSN}\b")
_CONSISTENT = re.compile(rf"consistent recovery state reached at {_LSN}")
_LAST_COMMIT = re.compile(r"last completed transaction was at log time (?P<time>[-0-9: .+]+)$")
_STOPPING = re.compile(r"recovery stopping (?P<how>before|after|at) ")
_ZEROED = re.compile(r'file "(?P<file>pg_(?:xact|multixact/\w+)/[0-9A-F]+)" doesn\'t exist, reading as zeroes')
_STOPPED_AT_NAME = re.compile(r'recovery stopping at restore point "(?P<name>.*)", time [-0-9: .+]+$')
_TOO_LOW = re.compile(
    r"(?P<name>max_\w+) = \d+ is a lower setting than on the primary server, where its value was (?P<value>\d+)\."
)
_BAD_RECORD = re.compile(
    r"(?P<what>incorrect resource manager data checksum in record|invalid record length|record with incorrect prev-link"
    r"|record with invalid length|invalid resource manager ID|there is no contrecord flag|invalid contrecord length"
    r"|invalid record offset|missing contrecord|record length \d+ at|contrecord is requested by"
    r"|unexpected rmid|invalid magic number|invalid info bits|unexpected pageaddr|out-of-sequence timeline ID"
    r"|WAL file is from different database system|invalid block_id|out-of-order block_id|BKPBLOCK_\w+|BKPIMAGE_\w+)"
    r".{0,160}"
)
_ANY_LSN = re.compile(r"\b(?P<lsn>[0-9A-F]{1,8}/[0-9A-F]{1,8})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What a server's log tells of its recovery; None where it does not."""

    redo_done: Lsn | None = None
    consistent: Lsn | None = None
    last_commit_at: datetime | None = None
    stopping: bool = False
    """Whether it came to its target."""
    stopped_at_name: str | None = None
    bad_record: Lsn | None = None
    """Where it found no valid record; the end of all WAL looks the same."""
    bad_record_what: str = ""
    too_low: tuple[tuple[str, int], ...] = ()
    """Settings that the primary had more of, with its value."""
    fatal: str = ""
    """The text of the last FATAL or PANIC of the server itself; not for people."""
    fatal_detail: str = ""
    """What it said behind that; not for people either."""
    refusal: str = ""
    """That of the last one that a client was sent away with."""
    zeroed: tuple[str, ...] = ()
    """Files of transaction states that were missing, and read as zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    pattern: re.Pattern[str]
    code: str
    message: str
    refutes: bool
    hint: str = ""


def _known(pattern: str, code: str, message: str, *, refutes: bool = True, hint: str = "") -> _Known:
    return _Known(pattern=re.compile(pattern), code=code, message=message, refutes=refutes, hint=hint)


_KNOWN = (
    _known("No space left on device|Disk quota exceeded|wrote only \\d+ of \\d+ bytes", "no_space",
           "the scratch directory's file system is full", refutes=False),
    _known("Cannot allocate memory|could not map anonymous shared memory|could not resize shared memory segment",
           "no_memory", "there is too little memory for the scratch server", refutes=False),
    # A file that is missing or cut off is the backup's fault; that one cannot be got at is this machine's.
    _known(f": ({'|'.join(SURROUNDINGS)})", "scratch_unreadable",
           "a file of the scratch server cannot be read or written on this machine", refutes=False,
           hint="Look at the file system of the scratch folder and the kernel's log."),
    _known("requested recovery stop point is before consistent recovery point", "target_before_backup",
           "the target lies before the first position at which the backup is consistent", refutes=False,
           hint="Choose a later target, or an older backup."),
    _known("recovery ended before configured recovery target was reached", "target_not_reached",
           "the WAL ends before the target"),
    _known("WAL ends before (end of online backup|consistent recovery point)", "wal_incomplete",
           "the WAL ends before the backup is consistent"),
    _known("WAL was generated with .?wal_level=minimal", "wal_minimal",
           "WAL was written with wal_level=minimal and cannot be recovered from"),
    _known("could not (locate|find) (a valid|required) checkpoint record|could not find redo location|"
           "could not locate required checkpoint record", "wal_missing",
           "the WAL that recovery must start from is missing or damaged"),
    _known("requested timeline \\d+ (is not a child of this server's history|does not contain minimum recovery point)|"
           "recovery target timeline \\d+ does not exist|unexpected timeline ID", "wrong_timeline",
           "the WAL of the archive's newest timeline does not go back to the backup",
           hint="Check that the archive's timeline history is whole and belongs to this cluster."),
    _known('invalid data in file "backup_label"|invalid data in file "tablespace_map"', "backup_label_damaged",
           "backup_label is damaged"),
    _known("backup_label contains data inconsistent with control file", "backup_label_inconsistent",
           "backup_label and pg_control are not of the same backup"),
    _known("incorrect checksum in control file|control file contains invalid", "control_damaged",
           "global/pg_control is damaged"),
    _known("database files are incompatible with server|was initialized (with|without)|is not a valid data directory|"
           "incompatible with this version", "incompatible",
           "the scratch server's build does not fit the backup", refutes=False,
           hint="Name programs of the same major version and architecture under drill.programs."),
    _known("WAL contains references to invalid pages", "files_damaged",
           "the WAL changes pages that the backup does not have"),
    _known('could not (open|access|read|stat) (file |directory )?"(?:base|global|pg_[a-z]+)[/\\w.]*"', "file_missing",
           "a file of the backup is missing or cannot be read"),
    _known("could not access status of transaction|invalid page in block|could not read blocks? |"
           "relation mapping file .* contains (invalid data|incorrect checksum)", "files_damaged",
           "files of the backup are damaged"),
)  # fmt: skip


def read_log(text: str) -> LogFacts:
    """Read what a server's log tells of its last recovery."""
    facts: dict[str, object] = {}
    too_low: dict[str, int] = {}
    zeroed: dict[str, None] = {}
    ended = False
    for line in text.splitlines():
        parsed = _LINE.match(line)
        if parsed is None:
            continue
        said = parsed["text"]
        behind, ended = ended and parsed["level"] == "DETAIL", False
        if behind:
            facts["fatal_detail"] = said
        elif parsed["level"] in ("FATAL", "PANIC"):
            ended = parsed["who"] in _SERVER
            facts |= {"fatal": said, "fatal_detail": ""} if ended else {"refusal": said}
        elif match := _ZEROED.search(said):
            zeroed[match["file"]] = None
        elif match := _TOO_LOW.search(said):
            too_low[match["name"]] = int(match["value"])
        else:
            facts |= _facts_of(said)
    return LogFacts(too_low=tuple(too_low.items()), zeroed=tuple(zeroed), **facts)  # type: ignore[arg-type]


def refusal(facts: LogFacts) -> DrillError:
    """Return why a server that is ready sends everybody away."""
    found = failure(replace(facts, fatal=facts.refusal, fatal_detail=""))
    if found.code != "recovery_failed":
        return found
    return DrillBlocked(
        "the scratch server is ready and refuses every connection",
        code="not_answering",
        hint="It has no database postgres or template1, its superuser has another name, or its catalogs are damaged.",
    )


def failure(facts: LogFacts, progress: str = "") -> DrillError:
    """Return what kept a server from recovering; `progress` is put behind the message and says how far it got.

    What is not known to be the backup's fault leaves it unchecked.
    """
    said = f"{facts.fatal}\n{facts.fatal_detail}"
    known = next((known for known in _KNOWN if known.pattern.search(said)), None)
    if known is None:
        return DrillBlocked(
            f"the scratch server ended while it recovered{progress}",
            code="recovery_failed",
            hint="Restore it by hand and read the server's log; its words may quote rows and are not shown.",
        )
    kind = BackupRefuted if known.refutes else DrillBlocked
    return kind(f"{known.message}{_file_of(facts, known)}{progress}", code=known.code, hint=known.hint)


_NAMED_FILE = re.compile(r'"((?:base|global|pg_(?:tblspc|xact|multixact|subtrans|commit_ts|wal|twophase))/[\w./]+)"')


def _file_of(facts: LogFacts, known: _Known) -> str:
    named = _NAMED_FILE.search(facts.fatal) or _NAMED_FILE.search(facts.fatal_detail)
    return f": {named[1]}" if named and known.code in ("file_missing", "files_damaged") else ""


def _facts_of(said: str) -> dict[str, object]:
    if match := _REDO_DONE.match(said):
        return {"redo_done": Lsn.parse(match["lsn"])}
    if match := _CONSISTENT.match(said):
        return {"consistent": Lsn.parse(match["lsn"])}
    if match := _LAST_COMMIT.match(said):
        return {"last_commit_at": _time(match["time"])}
    if match := _STOPPING.match(said):
        named = _STOPPED_AT_NAME.match(said)
        return {"stopping": True, "stopped_at_name": named["name"] if named else None}
    if match := _BAD_RECORD.match(said):
        # The last position is that of the record; one before it is what the record says of another.
        positions = _ANY_LSN.findall(said)
        return {
            "bad_record": Lsn.parse(positions[-1]) if positions else None,
            "bad_record_what": match["what"],
        }
    return {}


def _time(text: str) -> datetime | None:
    try:
        # The log is in UTC, and PostgreSQL leaves out the minutes of an offset that has none.
        return datetime.fromisoformat(re.sub(r"([+-]\d{2})$", r"\1:00", text.strip()))
    except ValueError:
        return None
