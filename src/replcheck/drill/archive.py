"""Hands WAL files to a recovering scratch server, one after the other, through a spool of its own.

The server's restore_command only waits for a file in the spool. We fetch it, uncompress it and look at it first: so the
archive may be one that the server's account cannot read, a file of another cluster is named before it is replayed, and
a record that would make a tablespace outside the scratch directory never reaches the server.
"""

import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from replcheck.drill.segments import CreationFinder, segment_facts
from replcheck.drill.wal import Segment, history_timeline, is_wal_name
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError, ProgramError, ReplcheckError
from replcheck.model.names import printable
from replcheck.model.wal import Lsn
from replcheck.postgres import compression
from replcheck.postgres.compression import DamagedFile
from replcheck.postgres.programs import Account
from replcheck.postgres.tools import Ended, run_watched

_AHEAD = 3
"""Segments that are fetched before they are asked for."""
_POLL_S = 0.004
_SETTLE_S = 1.0
"""How long a file that is not whole must have stayed as it was, before it is not one that is still being copied."""
_GIVE_UP = 200
"""An exit status above 128 ends the recovery, any other but 0 means `no such file` (manual, restore_command)."""
_FETCH_SCRIPT = """\
#!/bin/sh
# Waits until the drill has put the WAL file $1 into the spool, then moves it to $2.
spool={spool}
printf '%s\\n' "$1" >> "$spool/asked" || exit {give_up}
while :; do
    if [ -e "$spool/have.$1" ]; then exec mv "$spool/have.$1" "$2"; fi
    if [ -e "$spool/none.$1" ]; then rm -f "$spool/none.$1"; exit 1; fi
    if [ -e "$spool/left" ]; then exit 1; fi
    if [ -e "$spool/over" ] || [ ! -d "$spool" ]; then exit {give_up}; fi
    sleep 0.02
done
"""


Watch = Callable[[], None]


def unwatched() -> None:
    """Let all go on."""


class Archive(Protocol):
    """Where WAL files come from."""

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:
        """Write one file uncompressed to a path that is free, return False where there is none of that name.

        What takes long calls `watch` now and then; what that raises ends it. Raises BackupRefuted
        where it is damaged, DrillBlocked where the archive cannot be asked.
        """

    def names(self) -> frozenset[str] | None:
        """Return the names of all files, without the endings of compression; None where they cannot be listed."""


class NoArchive:
    """No archive at all: the backup must hold all the WAL that it needs."""

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:  # noqa: ARG002
        """Have nothing."""
        return False

    def names(self) -> frozenset[str]:
        """List nothing."""
        return frozenset()


class FolderArchive:
    """A folder of WAL files, plain or compressed, also one with folders in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._unknown: dict[str, str] = {}
        """Names of files that hold a WAL file in a form that we cannot read, by its own name."""
        self._look()

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:  # noqa: ARG002
        """Copy one file, uncompressed."""
        if name not in self._files:
            # Files arrive while we work: a second look before it counts as missing.
            self._look()
        path = self._files.get(name)
        if path is None and name in self._unknown:
            raise DrillBlocked(
                f"WAL file {self._unknown[name]} is stored in a form that is not known here",
                code="compression_unknown",
                hint="Name a restore_command that brings it back.",
            )
        if path is None:
            return False
        try:
            with compression.opened(path) as source, to.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except DamagedFile as exc:
            raise BackupRefuted(
                f"WAL file {path.name} cannot be uncompressed to its end", code="wal_corrupt", hint=_SECOND_COPY
            ) from exc
        except FileNotFoundError:
            return False
        except ProgramError as exc:
            raise DrillBlocked(exc.message, code="no_decompressor", hint=exc.hint) from exc
        return True

    def names(self) -> frozenset[str]:
        """List the folder as it is now."""
        self._look()
        return frozenset(self._files)

    def _look(self) -> None:
        try:
            found: dict[str, Path] = {}
            for path in _files_below(self._folder):
                found.setdefault(compression.without_compression(path.name), path)
        except OSError as exc:
            raise DrillBlocked(
                f"the WAL archive {self._folder} cannot be read: {exc.strerror}",
                code="archive_unreadable",
                hint="Run as an account that may read it.",
            ) from exc
        self._files = {name: path for name, path in found.items() if is_wal_name(name)}
        self._unknown = {
            name[:24]: name
            for name in found
            if is_wal_name(name[:24]) and name[24:25] == "." and not name.endswith((".backup", ".partial"))
        }


class CommandArchive:
    """The user's own restore_command, run by /bin/sh as the scratch server's account."""

    def __init__(self, template: str, *, account: Account | None, folder: Path) -> None:
        self._template = template
        self._account = account
        self._folder = folder

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:
        """Run the command; its words %f and %p are replaced as the server does (manual, restore_command)."""
        # As the server has it, %p is relative to the folder that the command runs in. What %r names is the first
        # segment of all, so that a command which tidies up behind it removes nothing from the archive.
        path = os.path.relpath(to, self._folder)
        replaced = {"%f": name, "%p": path, "%r": "000000010000000000000001", "%%": "%"}
        command = "".join(replaced.get(word, word) for word in _words(self._template))
        ended = run_watched(
            ["/bin/sh", "-c", command],
            account=self._account,
            folder=self._folder,
            watch=watch,
            callers_environment=True,
        )
        if ended.status < 0 or ended.status > 125:
            raise DrillBlocked(
                f"restore_command ended with status {ended.status} for WAL file {name}",
                code="restore_command_failed",
                hint="Try it by hand as the account that the scratch server runs under.",
            )
        return ended.status == 0 and to.is_file()

    def names(self) -> None:
        """List nothing: a command cannot be asked."""
        return


class ProgramArchive:
    """A program with arguments that fetches one file, such as `pgbackrest archive-get`."""

    def __init__(
        self,
        command: Callable[[str, Path], list[str]],
        *,
        absent: int,
        refused: Callable[[str, Ended], DrillError],
    ) -> None:
        self._command = command
        self._absent = absent
        self._refused = refused
        """Makes the error of a file's name and how the program ended: most of what it complains of is no damage."""

    def fetch(self, name: str, to: Path, *, watch: Watch = unwatched) -> bool:
        """Run the program; one exit status of it means that there is no such file."""
        ended = run_watched(self._command(name, to), watch=watch)
        if ended.status not in (0, self._absent):
            raise self._refused(name, ended)
        return ended.status == 0 and to.is_file()

    def names(self) -> None:
        """List nothing."""
        return


_FIRST = Lsn(0)
_SECOND_COPY = "Look for a second copy of this file; restores end before it."


@dataclass(slots=True)
class Feed:
    """What was handed over so far; `error` is what stopped it."""

    asked: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    histories: dict[int, str] = field(default_factory=dict)
    """Texts of the timeline histories that were served, by timeline."""
    size_bytes: int = 0
    error: ReplcheckError | None = None

    def absent(self) -> list[str]:
        """Return the segments that were asked for and are not there, in the order of asking."""
        served = set(self.served)
        return [name for name in self.asked if name not in served]


class _Stopped(Exception):
    """Nobody waits for the file any more."""


class Feeder:
    """Serves one scratch server from an archive, in a thread of its own, from `start` to `close`."""

    def __init__(
        self,
        archive: Archive,
        *,
        spool: Path,
        account: Account | None,
        system_identifier: int,
        segment_bytes: int,
        finder: CreationFinder | None = None,
    ) -> None:
        self._archive = archive
        self._spool = spool
        self._account = account
        self._system_identifier = system_identifier
        self._segment_bytes = segment_bytes
        self._finder = finder or CreationFinder()
        self._ahead: dict[str, bool] = {}
        self._missed_after = -1
        """How many files were served when one that would come next was not there: the archive is not asked again."""
        self._read_to = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="wal feeder", daemon=True)
        self.feed = Feed()

    @property
    def restore_command(self) -> str:
        """Return the server's restore_command."""
        return f"/bin/sh {shlex.quote(str(self._script)).replace('%', '%%')} %f %p"

    @property
    def _script(self) -> Path:
        return self._spool / "fetch.sh"

    def start(self) -> None:
        """Make the spool, which must not exist yet, and begin to serve."""
        self._spool.mkdir(mode=0o700)
        text = _FETCH_SCRIPT.format(spool=shlex.quote(str(self._spool)), give_up=_GIVE_UP)
        self._script.write_text(text, encoding="utf-8")
        (self._spool / "asked").touch()
        for path in (self._spool, self._script, self._spool / "asked"):
            self._own(path)
        self._thread.start()

    def close(self) -> None:
        """End the thread and let a waiting server go on without the file; does nothing a second time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def leave(self) -> None:
        """End the thread for good, before a server that stays: it is told that there is no further file.

        It asks for one when it leaves recovery, and would otherwise wait for the answer for ever, or be ended by it.
        """
        self._mark("left")
        self.close()

    def has(self, name: str, *, watch: Watch = unwatched) -> bool:
        """Return whether the archive has a file, by fetching it; only while no server asks for any.

        Raise DrillBlocked where the archive cannot be asked; a damaged file is there.
        """
        self.close()
        probe = self._spool / "probe"
        probe.unlink(missing_ok=True)
        try:
            return self._archive.fetch(name, probe, watch=watch)
        except BackupRefuted:
            return True
        finally:
            probe.unlink(missing_ok=True)

    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                names = self._new_requests()
                for name in names:
                    # The file of requests is the server's: no other word may become part of a path.
                    if is_wal_name(name):
                        self._answer(name)
                    elif "/" not in name:
                        self._mark(f"none.{name}")
                if not names and not self._fetch_ahead():
                    self._stop.wait(_POLL_S)
        except _Stopped:
            pass
        except ReplcheckError as error:
            self.feed.error = error
        except OSError as error:
            full = error.errno in (28, 122)
            self.feed.error = DrillBlocked(
                f"a WAL file cannot be handed to the scratch server: {error.strerror}",
                code="no_space" if full else "spool_failed",
            )
        finally:
            with suppress(OSError):
                self._mark("over")

    def _obey_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _new_requests(self) -> list[str]:
        with open(self._spool / "asked", "rb", opener=_not_through_links) as file:
            file.seek(self._read_to)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return whole.decode("ascii", errors="replace").split()

    def _answer(self, name: str) -> None:
        self.feed.asked.append(name)
        had = self._ahead.pop(name, None)
        if had or (had is None and is_wal_name(name) and self._settled(name)):
            self.feed.served.append(name)
            self.feed.size_bytes += self._segment_bytes
        else:
            self._mark(f"none.{name}")

    def _fetch_ahead(self) -> bool:
        """Fetch one of the segments that come next, where any is still to be fetched; return whether one was."""
        served = len(self.feed.served)
        last = Segment.parse(self.feed.served[-1], self._segment_bytes) if served else None
        if last is None or self._missed_after == served:
            return False
        for number in range(last.number + 1, last.number + 1 + _AHEAD):
            name = Segment(number=number, timeline=last.timeline).name(self._segment_bytes)
            if name in self._ahead:
                continue
            if self._came(name):
                self._ahead[name] = True
                return True
            self._missed_after = served
            return False
        return False

    def _came(self, name: str) -> bool:
        """Fetch a file that nobody asked for: what is wrong with it counts once the server wants it, if ever."""
        try:
            return self._fetch(name)
        except ReplcheckError:
            return False

    def _settled(self, name: str) -> bool:
        """Fetch a file; one that is not whole is waited for as long as it grows, as an archiver may be copying it."""
        size = -1
        while True:
            try:
                return self._fetch(name)
            except BackupRefuted:
                before, size = size, self._partial_bytes(name)
                if size == before or self._stop.wait(_SETTLE_S):
                    raise

    def _partial_bytes(self, name: str) -> int:
        partial = self._spool / f"part.{name}"
        return partial.stat().st_size if partial.exists() else 0

    def _fetch(self, name: str) -> bool:
        partial = self._spool / f"part.{name}"
        partial.unlink(missing_ok=True)
        if not self._archive.fetch(name, partial, watch=self._obey_stop):
            partial.unlink(missing_ok=True)
            return False
        if (timeline := history_timeline(name)) is not None:
            self.feed.histories[timeline] = partial.read_text("utf-8", errors="replace")
        else:
            self._inspect(name, partial.read_bytes())
        self._own(partial)
        partial.rename(self._spool / f"have.{name}")
        return True

    def _inspect(self, name: str, data: bytes) -> None:
        inspect_segment(
            name,
            data,
            finder=self._finder,
            system_identifier=self._system_identifier,
            segment_bytes=self._segment_bytes,
        )

    def _mark(self, name: str) -> None:
        """Make an empty file in the spool, which the server's account may write to: never through a link of its."""
        with suppress(FileExistsError):
            os.close(os.open(self._spool / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644))

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def inspect_segment(
    name: str,
    data: bytes,
    *,
    finder: CreationFinder,
    system_identifier: int,
    segment_bytes: int,
    redo: Lsn = _FIRST,
) -> None:
    """Look at a segment before a server may replay it; records before `redo` are not.

    Raise BackupRefuted where it is of another size or another cluster, DrillBlocked where it makes a tablespace.
    """
    if len(data) != segment_bytes:
        raise BackupRefuted(
            f"WAL file {name} is {len(data)} bytes long instead of {segment_bytes}",
            code="wal_corrupt",
            hint=_SECOND_COPY,
        )
    facts = segment_facts(data)
    if facts is None:
        # The server itself tells what is wrong with it, and how far it got.
        return
    if facts.system_identifier != system_identifier:
        raise BackupRefuted(
            f"WAL file {name} belongs to another database system ({facts.system_identifier}) than the backup"
            f" ({system_identifier})",
            code="wal_foreign",
            hint="Check that the archive is that of the cluster which was backed up.",
        )
    for creation in finder.look(data, facts):
        if creation.position >= redo:
            raise DrillBlocked(
                f"WAL file {name} creates tablespace {creation.oid} at {creation.position}, and a scratch server that"
                f" replays it would write to its original place, {printable(creation.path)}",
                code="tablespace_in_wal",
                hint="Take a new backup, which carries the tablespace; this one can be drilled to a target in the WAL"
                f" before file {name}.",
            )


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it, to any depth, the outer ones first.

    A data directory in it is a backup that lies beside its WAL: what that holds of WAL files is cut off where it ended.
    Raises OSError where a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, inner, files in os.walk(folder, onerror=fail):
        inner[:] = [name for name in inner if not Path(parent, name, "PG_VERSION").exists()]
        for name in files:
            yield Path(parent, name)


def _words(template: str) -> Iterator[str]:
    """Yield a template's placeholders and the characters between them."""
    at = 0
    while at < len(template):
        step = 2 if template[at] == "%" and at + 1 < len(template) else 1
        yield template[at : at + step]
        at += step
