"""pgbench's own load on a lab's primary: short transactions of the TPC-B kind, the common yardstick."""

from types import TracebackType
from typing import Self

from replcheck.errors import LabError
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.programs import RunningProgram, run_program, start_program
from replcheck.postgres.server import SUPERUSER, LocalServer

_FOREVER_S = 10**6


class PgbenchLoad:
    """pgbench on a cluster's primary, from entering the context until `stop` or its end.

    `rate` is in transactions per second over all clients, None as many as they can; `scale` counts in 100,000 accounts.
    """

    def __init__(
        self,
        cluster: LabCluster,
        *,
        rate: float | None = 100,
        database: str = "postgres",
        clients: int = 4,
        scale: int = 1,
        seed: int = 0,
    ) -> None:
        self._server = cluster.primary
        self._database = database
        self._scale = scale
        self._options = ["--client", str(clients), "--jobs", "2", "--random-seed", str(seed)]
        if rate is not None:
            self._options += ["--rate", str(rate)]
        self._process: RunningProgram | None = None
        self._before = 0

    @property
    def transactions(self) -> int:
        """Return how many transactions were committed so far."""
        return _committed(self._server, self._database) - self._before

    def start(self) -> None:
        """Make pgbench's tables where they are missing and start it."""
        self._initialize()
        self._before = _committed(self._server, self._database)
        arguments = [*_connection(self._server), "--no-vacuum", "--time", str(_FOREVER_S), *self._options]
        arguments.append(self._database)
        self._process = start_program(self._server.programs, "pgbench", arguments, account=self._server.account)

    def stop(self) -> None:
        """End pgbench; its last transactions are rolled back."""
        if self._process is None:
            return
        status, process, self._process = self._process.exit_status, self._process, None
        process.end()
        if status is not None:
            raise LabError(
                f"pgbench ended by itself with status {status}",
                hint="Look at the primary's log whether it was restarted.",
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except LabError:
            if error is None:
                raise

    def _initialize(self) -> None:
        there = self._server.execute("select to_regclass('pgbench_accounts') is not null", dbname=self._database)
        if there == [(False,)]:
            arguments = [*_connection(self._server), "--initialize", "--quiet", "--scale", str(self._scale)]
            run_program(self._server.programs, "pgbench", [*arguments, self._database], account=self._server.account)


def _connection(server: LocalServer) -> list[str]:
    return ["--host", str(server.socket_dir), "--port", str(server.port), "--username", SUPERUSER]


def _committed(server: LocalServer, database: str) -> int:
    """Return how many transactions pgbench ever committed: each adds one row of history."""
    [(rows,)] = server.execute("select count(*) from pgbench_history", dbname=database)
    return int(rows)
