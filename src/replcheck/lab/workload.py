"""Writers that mix everything which makes comparing two snapshots hard, at a chosen rate and from a seed.

Each writer is a thread with a connection of its own and draws its actions from its own random sequence. The loads are
for servers of ours only. Once a workload has stopped, no transaction of it is left open or prepared.
"""

import threading
import time
from collections import Counter
from random import Random
from types import TracebackType
from typing import Self

from replcheck.errors import LabError, NodeError, ReplcheckError, StatementFailed
from replcheck.lab.actions import ACTIONS, Writer
from replcheck.lab.cluster import LabCluster
from replcheck.lab.schema import DEFAULT_PATIENTS, create_schema
from replcheck.postgres.local import connect, sql, translated

_EXPECTED = frozenset(
    {
        "22023",  # somebody else renamed the label of an enumeration
        "23503",  # a patient vanished under a visit
        "23505",  # two writers chose the same key
        "40001",
        "40P01",
        "42701",  # somebody else added the column
        "42703",  # somebody else dropped it
        "42P01",  # somebody else dropped the table
        "42P07",  # somebody else made it
        "42704",  # somebody else removed the large object
        "55P03",  # lock_timeout
        "XX000",  # "tuple concurrently updated": two definitions changed at once
    }
)
"""SQLSTATEs that writers run into where they meet one another; the transaction is rolled back and the work goes on."""
_CONNECTION_LOST = ("08", "57P", "25006")
"""Beginnings of SQLSTATEs after which a primary is looked for anew; 25006: not yet or no longer one."""
_SESSION = (
    "set lock_timeout = '2s'",
    "set statement_timeout = '60s'",
    "set client_min_messages = error",
)
_RETRY_S = 0.2
_BACKLOG_S = 5.0
"""How far a writer that was held up may fall behind its rate and still catch up with it."""


class MixedWorkload:
    """The mixed load on a cluster's primary, from entering the context until `stop` or its end.

    `rate` is in transactions per second over all writers, None as many as they can. A primary that goes away is looked
    for again, under whatever name; failures that have no such excuse are raised by `stop`.
    """

    def __init__(
        self,
        cluster: LabCluster,
        *,
        seed: int = 0,
        rate: float | None = 100,
        database: str = "postgres",
        writers: int = 4,
        patients: int = DEFAULT_PATIENTS,
    ) -> None:
        self._cluster = cluster
        self._seed = seed
        self._pause_s = writers / rate if rate else 0.0
        self._database = database
        self._patients = patients
        self._stopping = threading.Event()
        self._counted = threading.Lock()
        self._failures: list[ReplcheckError] = []
        self._gid_prefix = f"lab_{database}_{seed}_"
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"writer {number}", daemon=True)
            for number in range(writers)
        ]
        self.actions: Counter[str] = Counter()
        """Transactions finished so far, by the name of the action."""
        self.collisions: Counter[str] = Counter()
        """Transactions rolled back because writers met one another, by SQLSTATE."""

    @property
    def transactions(self) -> int:
        """Return how many actions were finished so far."""
        with self._counted:
            return self.actions.total()

    def start(self) -> None:
        """Make the schema where it is missing and let the writers go."""
        create_schema(self._cluster.primary, self._database, patients=self._patients)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the writers finish, and roll back what they left prepared; raise the first failure nobody expected."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=90)
        self._finish_prepared()
        if self._failures:
            raise LabError(f"the workload failed: {self._failures[0]}") from self._failures[0]

    def wait_for(self, transactions: int, *, timeout_s: float = 30) -> None:
        """Wait until that many transactions more are finished; raise LabError where it takes longer."""
        target = self.transactions + transactions
        deadline = time.monotonic() + timeout_s
        while self.transactions < target:
            if self._failures:
                raise LabError(f"the workload failed: {self._failures[0]}") from self._failures[0]
            if time.monotonic() > deadline:
                raise LabError(f"the workload did not finish {transactions} transactions in {timeout_s:g} s")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except ReplcheckError:
            if error is None:
                raise

    def _run(self, number: int) -> None:
        rng = Random(self._seed * 1_000 + number)  # noqa: S311  reproducible on purpose
        while not self._stopping.is_set():
            try:
                self._write(number, rng)
            except StatementFailed as exc:
                if not exc.sqlstate.startswith(_CONNECTION_LOST):
                    self._failures.append(exc)
                    self._stopping.set()
            except NodeError:
                pass
            self._stopping.wait(_RETRY_S)

    def _write(self, number: int, rng: Random) -> None:
        """Write through one connection until it breaks or the workload stops."""
        primary = self._cluster.primary
        with connect(primary.dsn(self._database), node=primary.name) as connection:
            for statement in _SESSION:
                connection.execute(statement)
            writer = Writer(connection, rng, self._patients, f"{self._gid_prefix}{number}_", self._stopping)
            writer.adopt()
            due = time.monotonic()
            while not self._stopping.is_set():
                [action] = rng.choices(list(ACTIONS), weights=list(ACTIONS.values()))
                self._act(writer, action.__name__, primary.name)
                due = max(due + self._pause_s, time.monotonic() - _BACKLOG_S)
                self._stopping.wait(max(0.0, due - time.monotonic()))
            writer.settle()

    def _act(self, writer: Writer, action: str, node: str) -> None:
        try:
            with translated(node):
                getattr(writer, action)()
        except StatementFailed as exc:
            if exc.sqlstate not in _EXPECTED:
                raise
            with self._counted:
                self.collisions[exc.sqlstate] += 1
        else:
            with self._counted:
                self.actions[action] += 1

    def _finish_prepared(self) -> None:
        """Roll back the prepared transactions of this workload; with no primary to ask there is nothing to do."""
        try:
            primary = self._cluster.primary
            left = primary.execute(
                "select gid from pg_prepared_xacts where starts_with(gid, %s) and database = %s",
                [self._gid_prefix, self._database],
            )
            for (gid,) in left:
                primary.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)), dbname=self._database)
        except ReplcheckError:
            return
