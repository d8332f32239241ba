"""A ledger of acknowledged commits, kept outside of the servers: after a failover it tells whether one was lost.

Every writer numbers its rows. It notes a number in the ledger only once the server has acknowledged the commit, so a
number that is noted and not found was lost; one that was sent and not acknowledged may be there or not.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from replcheck.errors import LabError, NodeError, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.local import connect, translated
from replcheck.postgres.server import LocalServer

LEDGER = "ledger"
"""Name of the ledger in a cluster's folder."""
_MAKE = """
    create table if not exists lab_ledger (
        writer text, number bigint, noted timestamptz default clock_timestamp(), primary key (writer, number))
"""
_RETRY_S = 0.1
_GONE = ("08", "57P", "25006")
"""Beginnings of SQLSTATEs after which a primary is looked for anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What a ledger says of a server."""

    acknowledged: int
    lost: tuple[tuple[str, int], ...]
    """Writer and number of each commit that was acknowledged and is not there."""
    unacknowledged: int
    """Rows that are there although nobody was told so."""


class Ledger:
    """A file with a line for each acknowledged commit: the writer's name and the number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def note(self, writer: str, number: int) -> None:
        """Note a commit that was acknowledged; it outlives a kill of the process."""
        line = f"{writer} {number}\n".encode()
        with self._lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def entries(self) -> set[tuple[str, int]]:
        """Return all commits that were noted; raise LabError where there is no ledger or it is none."""
        try:
            lines = self.path.read_text("ascii").splitlines()
        except OSError as error:
            raise LabError(
                f"there is no ledger {self.path}", hint="Keep one with: replcheck lab load --ledger"
            ) from error
        try:
            return {(writer, int(number)) for writer, number in (line.split(" ") for line in lines)}
        except ValueError as error:
            raise LabError(f"{self.path} is no ledger") from error

    def audit(self, server: LocalServer, database: str = "postgres") -> Audited:
        """Compare the ledger with what a server holds."""
        noted = self.entries()
        held = set(_held(server, database))
        return Audited(acknowledged=len(noted), lost=tuple(sorted(noted - held)), unacknowledged=len(held - noted))


def _held(server: LocalServer, database: str) -> Iterable[tuple[str, int]]:
    if server.execute("select to_regclass('public.lab_ledger')", dbname=database) == [(None,)]:
        return []
    return [
        (writer, number) for writer, number in server.execute("select writer, number from lab_ledger", (), database)
    ]


class LedgerLoad:
    """Writers that commit one row after another and note each acknowledgement, in the context or until `stop`.

    A primary that goes away is looked for again, under whatever name.
    """

    def __init__(
        self,
        cluster: LabCluster,
        ledger: Ledger,
        *,
        database: str = "postgres",
        writers: int = 2,
        pause_s: float = 0.01,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._database = database
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._counted = threading.Lock()
        self._failures: list[StatementFailed] = []
        self.acknowledged = 0
        """Commits that were acknowledged so far."""
        run = f"{os.getpid()}_{time.time_ns()}"
        self._threads = [
            threading.Thread(target=self._run, args=(f"{run}_{number}",), daemon=True) for number in range(writers)
        ]

    def start(self) -> None:
        """Make the table where it is missing and let the writers go."""
        self._cluster.primary.execute(_MAKE, dbname=self._database)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the writers finish; raise the first failure that nobody expected."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=30)
        if self._failures:
            raise LabError(f"the ledger's load failed: {self._failures[0]}") from self._failures[0]

    def wait_for(self, commits: int, *, timeout_s: float = 30) -> None:
        """Wait until that many commits more are acknowledged; raise LabError where it takes longer."""
        target, deadline = self.acknowledged + commits, time.monotonic() + timeout_s
        while self.acknowledged < target:
            if self._failures or time.monotonic() > deadline:
                raise LabError(f"the ledger's load did not commit {commits} times in {timeout_s:g} s")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, writer: str) -> None:
        # A number whose commit was not acknowledged may be there all the same: none is ever used twice.
        numbers = count(1)
        while not self._stopping.is_set():
            try:
                self._write(writer, numbers)
            except StatementFailed as error:
                if not error.sqlstate.startswith(_GONE):
                    self._failures.append(error)
                    return
            except NodeError:
                pass
            self._stopping.wait(_RETRY_S)

    def _write(self, writer: str, numbers: Iterator[int]) -> None:
        primary = self._cluster.primary
        with connect(primary.dsn(self._database), node=primary.name) as connection:
            while not self._stopping.is_set():
                number = next(numbers)
                with translated(primary.name):
                    connection.execute("insert into lab_ledger (writer, number) values (%s, %s)", [writer, number])
                self._ledger.note(writer, number)
                with self._counted:
                    self.acknowledged += 1
                self._stopping.wait(self._pause_s)
