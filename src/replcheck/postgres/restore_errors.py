"""What failed while a dump was restored: SQLSTATE and names, never the server's words, which quote rows.

pg_restore repeats what the server said, without its SQLSTATE. Whole messages that hold nothing but names are recognized
by their wording; of any other nothing is kept but the entry of the table of contents at which it came up.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """Why a statement failed, as far as it decides who is to blame."""

    ROLE_MISSING = "role_missing"
    EXTENSION_MISSING = "extension_missing"
    SOFTWARE_MISSING = "software_missing"
    """A locale, library or feature that the dump needs is not on this machine, or not in its build of PostgreSQL."""
    DISARMED = "foreign_unread"
    """It would have read a foreign table, which a drill does not let it."""
    NO_SPACE = "no_space"
    SERVER_LOST = "server_lost"
    PRIVILEGE = "privilege"
    ARCHIVE = "dump_corrupt"
    """pg_restore could not read its archive."""
    TRUNCATED = "dump_truncated"
    FILE_MISSING = "dump_file_missing"
    REFUSED = "restore_error"
    """The server refused the statement, for any other reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreError:
    """One statement that failed, or one thing that pg_restore could not read."""

    cause: Cause
    entry: str = ""
    """Kind and name of what was being restored, for instance `TABLE DATA clinic.visit`; empty where not told."""
    sqlstate: str = ""
    """Empty where it is not known."""
    name: str = ""
    """The role, extension, locale or library that is missing, the constraint that is broken, or the file.

    Empty where none is told.
    """


_IDENTIFIER = r'"(?P<name>(?:[^"\n]|"")*)"'
_MESSAGES: tuple[tuple[Cause, str, str], ...] = (
    (Cause.ROLE_MISSING, "42704", rf"role {_IDENTIFIER} does not exist"),
    (Cause.EXTENSION_MISSING, "0A000", rf"extension {_IDENTIFIER} is not available"),
    (
        Cause.EXTENSION_MISSING,
        "22023",
        rf'extension {_IDENTIFIER} has no installation script nor update path for version ".*"',
    ),
    (Cause.EXTENSION_MISSING, "58P01", r'could not open extension control file ".*/(?P<name>[\w-]+)\.control".*'),
    (Cause.EXTENSION_MISSING, "55000", r"(?P<name>\w+) (must|can only) be loaded via \"?shared_preload_libraries\"?.*"),
    (Cause.SOFTWARE_MISSING, "22023", rf"could not (?:create|open collator for) locale {_IDENTIFIER}.*"),
    (Cause.SOFTWARE_MISSING, "42704", rf'collation {_IDENTIFIER} for encoding ".*" does not exist'),
    (Cause.SOFTWARE_MISSING, "0A000", r"(?P<name>ICU) is not supported in this build"),
    (Cause.SOFTWARE_MISSING, "0A000", r"compression method (?P<name>\w+) not supported"),
    (Cause.SOFTWARE_MISSING, "0A000", r"unsupported (?P<name>XML) feature"),
    (
        Cause.SOFTWARE_MISSING,
        "F0000",
        r'could not open (?:affix|dictionary|stop-word|synonym|thesaurus) file "(?:[^"]*/)?(?P<name>[\w.-]+)": .*',
    ),
    (Cause.SOFTWARE_MISSING, "42704", rf"access method {_IDENTIFIER} does not exist"),
    # A dump does not tell the lc_monetary by which it prints such values.
    (Cause.SOFTWARE_MISSING, "22P02", r"invalid input syntax for type (?P<name>money): .*"),
    (Cause.SOFTWARE_MISSING, "58P01", rf"could not (?:access file|load library) {_IDENTIFIER}.*"),
    (Cause.SOFTWARE_MISSING, "42883", rf'could not find function ".*" in file {_IDENTIFIER}'),
    (Cause.DISARMED, "55000", rf"foreign-data wrapper {_IDENTIFIER} has no handler"),
    (Cause.NO_SPACE, "53100", r".*No space left on device.*"),
    (Cause.PRIVILEGE, "42501", r"(permission denied|must be (owner|superuser|able)|only superuser).*"),
    (
        Cause.SERVER_LOST,
        "",
        r"(server closed the connection|terminating connection|could not connect|connection to ).*",
    ),
    (Cause.REFUSED, "42P07", rf"relation {_IDENTIFIER} already exists"),
    (Cause.REFUSED, "42P06", rf"schema {_IDENTIFIER} already exists"),
    (Cause.REFUSED, "42P01", rf"relation {_IDENTIFIER} does not exist"),
    (Cause.REFUSED, "42704", rf"type {_IDENTIFIER} does not exist"),
    (Cause.REFUSED, "23505", rf"could not create unique index {_IDENTIFIER}"),
    (Cause.REFUSED, "23505", rf"duplicate key value violates unique constraint {_IDENTIFIER}"),
    (Cause.REFUSED, "23503", rf'insert or update on table ".*" violates foreign key constraint {_IDENTIFIER}'),
    (Cause.REFUSED, "23514", rf'check constraint {_IDENTIFIER} of relation ".*" is violated by some row'),
    (Cause.REFUSED, "23514", rf'new row for relation ".*" violates check constraint {_IDENTIFIER}'),
    (Cause.REFUSED, "22P04", r"(missing data for column|extra data after last expected column|literal ).*"),
    (Cause.REFUSED, "22P02", r"invalid input (syntax|value) for .*"),
    (Cause.REFUSED, "22021", r"invalid byte sequence for encoding .*"),
)
_NOT_HERE = ("0A000", "58P01", "F0000")
"""feature_not_supported, undefined_file, config_file_error: what the server's build or installation lacks."""
_COMPILED = tuple((cause, state, re.compile(text, re.DOTALL)) for cause, state, text in _MESSAGES)
_ARCHIVE: tuple[tuple[Cause, str], ...] = (
    (
        Cause.FILE_MISSING,
        r'could not open (?:input file|large object TOC file|TOC file) "(?:[^"]*/)?(?P<name>[\w.-]+)".*',
    ),
    (Cause.TRUNCATED, r"could not read from input file: end of file"),
    (Cause.TRUNCATED, r"(?:unexpected end of file|could not close data file|file offset in dump file is too large).*"),
    (Cause.TRUNCATED, r"could not find block ID \d+ in archive.*"),
    (Cause.TRUNCATED, r"input file does not appear to be a valid archive \(too short\?\)"),
    (Cause.ARCHIVE, r"could not (?:read|uncompress|decompress|find|seek|determine).*"),
    (Cause.ARCHIVE, r"(?:corrupt tar|invalid|unrecognized|unsupported|did not find magic|bad dumpId).*"),
    (Cause.ARCHIVE, r"(?:entry ID|input file|error in file|actual file length|found unexpected).*"),
    (Cause.ARCHIVE, r"unexpected (?:data )?block.*"),
)
_ARCHIVE_COMPILED = tuple((cause, re.compile(text, re.DOTALL)) for cause, text in _ARCHIVE)
_ENTRY = re.compile(r"^pg_restore: from TOC entry \d+; \d+ \d+ (?P<what>.*)$")
_ERROR = re.compile(r"^pg_restore: (?:error|fatal|warning): (?P<said>.*)$")
_FROM_SERVER = re.compile(r"^.*?\b(?:ERROR|FATAL|PANIC):  (?P<said>.*)$")
_COPY_FAILED = re.compile(rf"COPY failed for table {_IDENTIFIER}: ")
_SPACE = re.compile(r"No space left on device")


def classified(sqlstate: str, message: str, *, entry: str) -> RestoreError:
    """Return what a server's error means; `message` is its primary text, of which only names are kept."""
    for cause, state, pattern in _COMPILED:
        match = pattern.fullmatch(message)
        if match is not None and sqlstate in ("", state):
            name = match.groupdict().get("name") or ""
            return RestoreError(cause=cause, entry=entry, sqlstate=sqlstate or state, name=name.replace('""', '"'))
    by_state = {"53100": Cause.NO_SPACE, "42501": Cause.PRIVILEGE} | dict.fromkeys(_NOT_HERE, Cause.SOFTWARE_MISSING)
    if sqlstate[:2] in ("08", "57"):
        return RestoreError(cause=Cause.SERVER_LOST, entry=entry, sqlstate=sqlstate)
    return RestoreError(cause=by_state.get(sqlstate, Cause.REFUSED), entry=entry, sqlstate=sqlstate)


def read_complaints(lines: Iterable[str], *, entries: frozenset[str]) -> Iterator[RestoreError]:
    """Yield what pg_restore's standard error tells, line by line; what follows a message is passed over.

    Rows that are quoted there may look like anything: no entry is believed that is not one of `entries`, which are
    those of the archive.
    """
    entry = ""
    for line in lines:
        if match := _ENTRY.match(line):
            entry = entry_name(match["what"]) if match["what"] in entries else ""
            continue
        match = _ERROR.match(line)
        if match is None or match["said"].startswith("errors ignored on restore"):
            continue
        said = match["said"]
        server = _FROM_SERVER.match(said)
        if server is not None:
            yield classified("", server["said"], entry=entry or _copied(said, entries))
        elif line.startswith("pg_restore: error:"):
            error = _of_archive(said, entry)
            if error is not None:
                yield error
        entry = ""


def _copied(said: str, entries: frozenset[str]) -> str:
    """Return the entry of a table whose rows were refused: it alone is named by a parallel restore."""
    match = _COPY_FAILED.match(said)
    if match is None:
        return ""
    # Between the kind and schema, and the owner.
    found = [what for what in entries if what.startswith("TABLE DATA ") and f" {match['name']} " in what]
    return entry_name(found[0]) if len(found) == 1 else ""


def entry_name(what: str) -> str:
    """Return kind and name of an entry as its table of contents lists it, without its owner.

    >>> entry_name("TABLE DATA clinic visit app")
    'TABLE DATA clinic visit'
    """
    return what.rpartition(" ")[0] or what


def _of_archive(said: str, entry: str) -> RestoreError | None:
    if said.startswith("a worker process died unexpectedly"):
        return None  # What it died of is told besides.
    if _SPACE.search(said):
        return RestoreError(cause=Cause.NO_SPACE, entry=entry)
    for cause, pattern in _ARCHIVE_COMPILED:
        match = pattern.fullmatch(said)
        if match is not None:
            return RestoreError(cause=cause, entry=entry, name=match.groupdict().get("name") or "")
    if said.startswith("connection to "):
        return RestoreError(cause=Cause.SERVER_LOST, entry=entry)
    return RestoreError(cause=Cause.REFUSED, entry=entry)
