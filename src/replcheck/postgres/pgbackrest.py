"""Run pgBackRest: what backups a stanza has, restore one, fetch a WAL file. Nothing of a repository is ever changed.

It runs as the caller, who must be allowed to read the repository. Source: pgBackRest's command reference.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from replcheck.errors import ProgramError
from replcheck.model.wal import Lsn
from replcheck.postgres.programs import process_options
from replcheck.postgres.tools import Ended, run_watched

ABSENT = 1
"""Status of archive-get where there is no such file."""
_NO_STANZA = 1
_NO_BACKUPS = 2
_QUIET = ("--log-level-console=off", "--log-level-file=off", "--log-level-stderr=error")
_CODE = re.compile(r"ERROR: \[(?P<code>\d{3})\]: ?(?P<text>.*)")
_HERE = "--reset-pg1-host"
"""On the repository's own host the configuration says where the cluster is; the copy comes to this machine."""
_INTO_THE_FOLDER = (
    "--no-link-all",
    "--no-delta",
    "--reset-link-map",
    "--reset-tablespace-map",
    "--reset-db-include",
    "--reset-db-exclude",
)
"""What the user's configuration may say of restores: it would write outside the folder, or leave databases out."""
_NAMED = re.compile(r"(?P<file>(?:/|pg_data/)[\w./@+-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryBackup:
    """One backup of a stanza."""

    label: str
    repository: int
    type: str
    """`full`, `diff` or `incr`."""
    stopped_at: datetime
    start: Lsn
    stop: Lsn
    timeline: int
    size_bytes: int
    """Of the database."""
    major: int
    system_identifier: int


class StanzaProblem(Exception):
    """A stanza has no backups to offer; `code` is that of pgBackRest's info.

    `damaged` is the file of the repository that is missing or cannot be understood, None for any other reason.
    """

    def __init__(self, code: int, damaged: str | None = None) -> None:
        super().__init__(f"status {code}")
        self.code = code
        self.damaged = damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackRest:
    """One stanza."""

    stanza: str
    config: str | None
    """The configuration file; None for pgBackRest's own default."""
    jobs: int

    def require(self) -> str:
        """Return the path of the program; raise ProgramError where it is not installed."""
        path = shutil.which("pgbackrest", path=process_options(None)["env"]["PATH"])
        if path is None:
            raise ProgramError(
                "program pgbackrest is missing", hint="Install pgBackRest (Debian: apt install pgbackrest)."
            )
        return path

    def backups(self) -> list[RepositoryBackup]:
        """Return the stanza's backups, the newest first.

        Raise StanzaProblem where pgBackRest says that there is no such stanza or that something is wrong with it,
        ProgramError where it cannot be asked.
        """
        with _understood():
            stanza = self._info()
            found = [_backup(entry, stanza) for entry in stanza.get("backup", [])]
        return sorted(found, key=lambda backup: backup.stopped_at, reverse=True)

    def archived_to(self) -> list[str]:
        """Return the name of the last WAL file in each of the stanza's archives; raises as `backups` does."""
        with _understood():
            return [str(entry["max"]) for entry in self._info().get("archive", []) if entry["max"] is not None]

    def _info(self) -> dict[str, Any]:
        ended = run_watched(self._command("info", ["--output=json"]))
        if ended.status != 0:
            raise ProgramError(f"pgbackrest info ended with status {ended.status}{self.complaint(ended)}")
        stanzas = [entry for entry in json.loads(ended.out) if entry["name"] == self.stanza]
        if not stanzas:
            raise StanzaProblem(_NO_STANZA)
        status = int(stanzas[0]["status"]["code"])
        if status not in (0, _NO_BACKUPS):
            raise StanzaProblem(status, _damaged_info(stanzas[0]))
        stanza: dict[str, Any] = stanzas[0]
        return stanza

    def restore(
        self,
        backup: RepositoryBackup,
        data_dir: Path,
        *,
        tablespaces: Path,
        locks: Path,
        watch: Callable[[], None],
    ) -> Ended:
        """Restore one backup into a folder, its tablespaces below another, and return how pgBackRest ended."""
        options = [
            f"--pg1-path={data_dir}",
            f"--set={backup.label}",
            f"--repo={backup.repository}",
            "--type=none",
            "--archive-mode=off",
            f"--tablespace-map-all={tablespaces}",
            f"--lock-path={locks}",
            f"--process-max={self.jobs}",
            _HERE,
            *_INTO_THE_FOLDER,
        ]
        return run_watched(self._command("restore", options), watch=watch)

    def get_command(self, data_dir: Path, name: str, to: Path, *, locks: Path) -> list[str]:
        """Return the command that writes one WAL file of the archive to a path."""
        options = [_HERE, f"--pg1-path={data_dir}", f"--lock-path={locks}", "--no-archive-async"]
        return [*self._command("archive-get", options), name, str(to)]

    @staticmethod
    def complaint(ended: Ended) -> str:
        """Return pgBackRest's own error number, to be put behind a message."""
        match = _CODE.search(ended.err)
        return f" (error {match['code']})" if match else ""

    @staticmethod
    def damaged_file(ended: Ended) -> str | None:
        """Return the file that pgBackRest found missing or damaged in the repository, None for any other error.

        Empty where it does not say which: it does not for one that cannot be uncompressed.
        """
        if ended.status in _OUT_OF_REACH:
            return None
        for line in ended.err.splitlines():
            if any(words in line for words in _DAMAGE) or _UNREADABLE.search(line):
                match = _NAMED.search(line)
                return match["file"] if match else ""
        return None

    def _command(self, name: str, options: Sequence[str]) -> list[str]:
        config = [f"--config={self.config}"] if self.config is not None else []
        return [self.require(), f"--stanza={self.stanza}", *config, *_QUIET, *options, name]


_OUT_OF_REACH = (41, 50, 103)
"""Statuses of files that may not be read, of a lock that another holds, and of a repository that is not found: what
they say of files tells nothing of damage. Source: pgBackRest's build/error/error.yaml."""
_DAMAGE = (
    "does not match expected checksum",
    "unable to open missing file",
    "unable to decompress",
    "unable to inflate",
    "unexpected eof",
    "checksum error",
    "invalid checksum",
    "compressed data",
    "incorrect header check",
    "unable to load info file",
    "unable to load backup manifest file",
    "zlib threw error: [-3]",
)
_UNREADABLE = re.compile(
    r"zst error: \[-(?!64\])|lz4 error: \[-(?!9\])|bz2 error: \[-[45]\]"
    r"|(?<!CryptoError: )(?:unable to flush|cipher header (?:invalid|missing))"
)
"""How it tells content that cannot be uncompressed or decrypted; a number that is left out stands for too little
memory. A record of the repository's that cannot be decrypted is a CryptoError: its passphrase may be another. Source:
pgBackRest's common/compress and common/crypto/cipherBlock.c, ZSTD_ErrorCode, LZ4F_errorCodes, bzlib.h."""
_DAMAGED_INFO = re.compile(r"\[(FileMissing|Format|Checksum)Error\] unable to load info file '(?P<file>/[\w./@+-]+)'")
"""How a repository's message about its own records begins where they are damaged in both copies. A passphrase that is
not theirs is a CryptoError."""


def _damaged_info(stanza: dict[str, Any]) -> str | None:
    """Return the record that info could not read in any repository of a stanza."""
    messages = [str(one["status"].get("message", "")) for one in stanza.get("repo", [])]
    found = [match["file"] for message in messages if (match := _DAMAGED_INFO.match(message))]
    return found[0] if found and len(found) == len(messages) else None


@contextmanager
def _understood() -> Iterator[None]:
    """Raise what is not as it should be in pgBackRest's words as ProgramError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as exc:
        raise ProgramError("pgbackrest info does not tell what it should") from exc


def _backup(entry: dict[str, Any], stanza: dict[str, Any]) -> RepositoryBackup:
    which = (entry["database"]["id"], entry["database"]["repo-key"])
    database = next(db for db in stanza["db"] if (db["id"], db["repo-key"]) == which)
    return RepositoryBackup(
        label=entry["label"],
        repository=int(entry["database"]["repo-key"]),
        type=entry["type"],
        stopped_at=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        start=Lsn.parse(entry["lsn"]["start"]),
        stop=Lsn.parse(entry["lsn"]["stop"]),
        timeline=int(entry["archive"]["start"][:8], 16),
        size_bytes=int(entry["info"]["size"]),
        major=int(str(database["version"]).split(".", maxsplit=1)[0]),
        system_identifier=int(database["system-id"]),
    )
