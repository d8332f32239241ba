"""Tables and indexes of the copy, checked by the extension amcheck.

In a copy of ours that takes writes the extension is made for the check and taken away again. A copy that stands still
in recovery, and a server of the user's, are checked only where it is installed already.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case, Moment
from replcheck.errors import NodeError, NodeLost, StatementFailed
from replcheck.model.drill import Blame, LayerName, LayerReport, LayerState, Problem
from replcheck.model.names import printable, quoted
from replcheck.postgres import dsn as connection_strings
from replcheck.postgres.copies import CopyConnection, open_copy, read_copy_server
from replcheck.postgres.copy_checks import (
    Checkable,
    CheckedKind,
    CheckFault,
    add_amcheck,
    amcheck_schema,
    check,
    read_checkable,
    remove_amcheck,
)
from replcheck.postgres.dump_databases import PREFIX

_STATEMENT_TIMEOUT_S = 24 * 3600.0
_POLL_S = 0.2
_MOST_PROBLEMS = 50
_AMCHECK_BEFORE = (
    "To have the layer amcheck in copies that stand still at a target, make the extension in each database of the"
    " primary, before the WAL of the target is written: CREATE EXTENSION amcheck;"
)
_AMCHECK_THERE = (
    "To have the layer amcheck, make the extension in each database of the copy's server: CREATE EXTENSION amcheck;"
)


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What was found so far, over all databases."""

    heaps: int = 0
    indexes: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """Why something was not checked."""
    hint: str = ""
    """What lets it be checked the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmcheckLayer:
    """Checks every heap and B-tree index of the copy, system catalogs among them."""

    jobs: int = 2
    """Connections that check at the same time."""
    every_row: bool = True
    """Whether indexes are asked for each row of their table, and not for their own structure alone."""
    name: LayerName = field(default=LayerName.AMCHECK, init=False)
    moment: Moment = field(default=Moment.OPEN, init=False)

    def run(self, case: Case) -> LayerReport:
        """Check all databases of the copy, and report relations and blocks."""
        began = time.monotonic()
        if case.restored is None:
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason="no copy is open")
        findings = _Findings()
        try:
            server = read_copy_server(case.restored.dsn)
            databases = case.restored.databases or server.databases
            if case.restored.databases is None:
                findings.unchecked += [f"database {quoted(name)} lets nobody in" for name in server.closed]
            case.stages.expect(_checkable_bytes(case.restored, databases))
            for database in databases:
                self._check_database(case, case.restored, database, findings, in_recovery=server.in_recovery)
        except NodeError as error:
            findings.unchecked.append(error.message)
        return replace(self._report(findings), elapsed_s=time.monotonic() - began)

    def _report(self, findings: _Findings) -> LayerReport:
        total = findings.heaps + findings.indexes
        reason = findings.unchecked[0] if findings.unchecked else ""
        if not total:
            reason = reason or "the copy has no table"
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason=reason, hint=findings.hint)
        state = LayerState.INCONCLUSIVE if findings.unchecked else LayerState.PASSED
        count = len(findings.problems)
        if count:
            state, reason = LayerState.FAILED, f"{count} of {total} tables and indexes are damaged"
        problems = findings.problems[:_MOST_PROBLEMS]
        if count > _MOST_PROBLEMS:
            more = f"{count - _MOST_PROBLEMS} more tables and indexes are damaged"
            problems.append(Problem(code="relation_damaged", what=more, blame=Blame.BACKUP))
        return LayerReport(
            name=self.name,
            state=state,
            reason=reason,
            checked=f"{findings.heaps:,} tables, {findings.indexes:,} indexes",
            relations=total,
            problems=tuple(problems),
            hint=findings.hint,
        )

    def _check_database(
        self, case: Case, restored: Restored, database: str, findings: _Findings, *, in_recovery: bool
    ) -> None:
        case.stages.obey()
        with ExitStack() as stack:
            copy = stack.enter_context(_connection(restored, database))
            schema = amcheck_schema(copy)
            if schema is None:
                if not _may_add(restored, database, in_recovery=in_recovery):
                    findings.unchecked.append(_why_not(database, in_recovery=in_recovery))
                    findings.hint = _AMCHECK_BEFORE if in_recovery else _AMCHECK_THERE
                    return
                try:
                    stack.enter_context(_added(connection_strings.merge(restored.dsn, dbname=database)))
                except StatementFailed as error:
                    findings.unchecked.append(
                        f"amcheck cannot be made in database {quoted(database)} (SQLSTATE {error.sqlstate})"
                    )
                    return
                schema = amcheck_schema(copy)
            if schema is None:
                findings.unchecked.append(f"amcheck in database {quoted(database)} is too old")
                return
            checkable = read_checkable(copy)
            others = [stack.enter_context(_connection(restored, database)) for _ in range(self.jobs - 1)]
            self._check_all([copy, *others], schema, database, checkable, case, findings)

    def _check_all(
        self,
        connections: list[CopyConnection],
        schema: str,
        database: str,
        checkable: list[Checkable],
        case: Case,
        findings: _Findings,
    ) -> None:
        """Check by all connections at once; a wish to stop ends what they are at."""
        free: SimpleQueue[CopyConnection] = SimpleQueue()
        for connection in connections:
            free.put(connection)

        def look(one: Checkable) -> CheckFault | None:
            connection = free.get()
            try:
                return check(connection, schema, one, every_row=self.every_row)
            finally:
                free.put(connection)

        pool = ThreadPoolExecutor(len(connections), thread_name_prefix="amcheck")
        running: dict[Future[CheckFault | None], Checkable] = {}
        try:
            running = {pool.submit(look, one): one for one in checkable}
            while running:
                done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    one = running.pop(future)
                    _note(one, future, database, findings)
                    findings.bytes += one.size_bytes
                case.stages.progressed(findings.bytes, "amcheck")
        finally:
            for future in running:
                future.cancel()
            if running:
                for connection in connections:
                    connection.cancel()
            pool.shutdown(wait=True)


def _checkable_bytes(restored: Restored, databases: Sequence[str]) -> int:
    total = 0
    for database in databases:
        with _connection(restored, database) as copy:
            total += sum(one.size_bytes for one in read_checkable(copy))
    return total


def _note(one: Checkable, future: "Future[CheckFault | None]", database: str, findings: _Findings) -> None:
    """Keep the result of one check; a lost connection ends the whole."""
    where = f"{one.kind.value} {one.label} in database {quoted(database)}"
    try:
        fault = future.result()
    except NodeLost:
        raise
    except StatementFailed as error:
        if error.sqlstate not in ("42P01", "42704"):
            findings.unchecked.append(f"{where} could not be checked (SQLSTATE {error.sqlstate})")
        return
    if fault is not None and fault.stale_collations:
        # Texts in the original's order are in a wrong one here: that tells nothing of the backup.
        names = ", ".join(map(printable, fault.stale_collations))
        findings.unchecked.append(
            f"{where} is in another order than this machine's, whose version of its collation differs: {names}"
        )
        return
    if one.kind is CheckedKind.HEAP:
        findings.heaps += 1
    else:
        findings.indexes += 1
    if fault is None:
        return
    block = f", first in block {fault.block}" if fault.block is not None else ""
    if fault.in_table:
        block = f", it does not know a row in block {fault.block} of its table"
    state = f" (SQLSTATE {fault.sqlstate})" if fault.sqlstate else ""
    findings.problems.append(
        Problem(
            code="relation_damaged" if one.kind is CheckedKind.HEAP else "index_damaged",
            what=f"{where} is damaged{block}{state}",
            blame=Blame.BACKUP,
        )
    )


def _connection(restored: Restored, database: str) -> AbstractContextManager[CopyConnection]:
    return open_copy(restored.dsn, database=database, statement_timeout_s=_STATEMENT_TIMEOUT_S)


def _may_add(restored: Restored, database: str, *, in_recovery: bool) -> bool:
    """Return whether the extension may be made: only in a database of ours that takes writes."""
    ours = restored.server is not None or database.startswith(PREFIX)
    return ours and not in_recovery


def _why_not(database: str, *, in_recovery: bool) -> str:
    name = f"the extension amcheck is not installed in database {quoted(database)}"
    return f"{name}, and the copy takes no writes" if in_recovery else f"{name}, and the server is not ours"


@contextmanager
def _added(dsn: str) -> Iterator[None]:
    add_amcheck(dsn)
    try:
        yield
    finally:
        remove_amcheck(dsn)
