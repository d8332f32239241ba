"""The user's assertions: boolean expressions that must hold on what was restored."""

import time
from dataclasses import dataclass, field

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case, Moment
from replcheck.errors import NodeError, StatementFailed
from replcheck.model.drill import Blame, LayerName, LayerReport, LayerState, Problem
from replcheck.postgres.assertion_checks import holds, may_run, set_search_path
from replcheck.postgres.assertions import Assertion
from replcheck.postgres.copies import open_copy, read_copy_server
from replcheck.postgres.failures import is_corruption, is_disk_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionsLayer:
    """Asks every assertion of the configuration; `parse_assertion` reads them before anything is fetched."""

    assertions: tuple[Assertion, ...]
    database: str | None = None
    """Where an assertion is asked whose name names no database; None means the only database that was restored."""
    statement_timeout_s: float = 600.0
    name: LayerName = field(default=LayerName.ASSERTIONS, init=False)
    moment: Moment = field(default=Moment.OPEN, init=False)

    def run(self, case: Case) -> LayerReport:
        """Ask them one by one; what cannot be asked is inconclusive, never passed."""
        began = time.monotonic()
        if not self.assertions:
            return LayerReport(
                name=self.name, state=LayerState.NOT_RUN, reason="no assertions are configured", by_design=True
            )
        if case.restored is None:
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason="no copy is open")
        problems = []
        try:
            databases = case.restored.databases or read_copy_server(case.restored.dsn).databases
            for assertion in self.assertions:
                case.stages.obey()
                problem = self._problem(case.restored, databases, assertion)
                problems += [problem] if problem is not None else []
        except NodeError as error:
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason=error.message)
        return self._report(tuple(problems), time.monotonic() - began)

    def _report(self, problems: tuple[Problem, ...], elapsed_s: float) -> LayerReport:
        failed = [problem for problem in problems if problem.blame is Blame.BACKUP]
        state = LayerState.FAILED if failed else LayerState.INCONCLUSIVE if problems else LayerState.PASSED
        total = len(self.assertions)
        reason = f"{len(failed)} of {total} did not hold"
        if not failed:
            reason = f"{len(problems)} of {total} could not be asked"
        return LayerReport(
            name=self.name,
            state=state,
            reason=reason if problems else "",
            checked=f"{total} assertion{'s' if total != 1 else ''}",
            problems=problems,
            elapsed_s=elapsed_s,
        )

    def _problem(self, restored: Restored, databases: tuple[str, ...], assertion: Assertion) -> Problem | None:
        """Return what is wrong with one assertion, None where it holds."""
        database = self._database(restored, databases, assertion)
        if database is None:
            return _unasked(assertion, "it is not clear in which database", hint=_NAME_HINT)
        try:
            with (
                open_copy(restored.dsn, database=database, statement_timeout_s=self.statement_timeout_s) as copy,
                copy.read_only(),
            ):
                set_search_path(copy)
                refusal = may_run(copy, assertion)
                if refusal:
                    return _unasked(assertion, f"it {refusal}")
                held = holds(copy, assertion)
        except StatementFailed as error:
            if is_corruption(error) and not is_disk_failure(error):
                return _failed(assertion, f"cannot be read on the copy (SQLSTATE {error.sqlstate})")
            return _unasked(assertion, f"the copy refused it (SQLSTATE {error.sqlstate})")
        if held is None:
            return _unasked(assertion, "its result is NULL, or not boolean")
        return None if held else _failed(assertion, "does not hold on the copy")

    def _database(self, restored: Restored, databases: tuple[str, ...], assertion: Assertion) -> str | None:
        """Return the name on the copy of the database in which an assertion is asked, None where there is none."""
        wanted = assertion.database
        only = databases[0] if len(databases) == 1 else None
        if wanted is None:
            if only is not None or self.database not in databases:
                return only
            return self.database
        if restored.origin:
            # A dump is of one database, which may be called otherwise where it was restored.
            return only if wanted == restored.origin else None
        return wanted if wanted in databases else None


_NAME_HINT = 'Name the database before the assertion, for instance "clinic.visits_have_patients".'


def _failed(assertion: Assertion, what: str) -> Problem:
    return Problem(code="assertion_failed", what=f"assertion {assertion.name} {what}", blame=Blame.BACKUP)


def _unasked(assertion: Assertion, why: str, *, hint: str = "") -> Problem:
    return Problem(
        code="assertion_unasked",
        what=f"assertion {assertion.name} was not asked: {why}",
        blame=Blame.ENVIRONMENT,
        hint=hint,
    )
