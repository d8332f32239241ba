"""The beginning and the end of a run as its history keeps them: the same for every use case."""

from dataclasses import asdict
from datetime import UTC, datetime

from replcheck import __version__
from replcheck.errors import ReplcheckError
from replcheck.model.outcome import Outcome
from replcheck.model.run import Failure, RunRecord, RunStart, new_run_id


def now() -> datetime:
    """Return the time, UTC, to the millisecond: what the history and every document keep."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def started(kind: str, cluster: str, argument_digest: str) -> RunStart:
    """Return the beginning of a run that begins now."""
    moment = now()
    return RunStart(
        run_id=new_run_id(moment),
        kind=kind,
        cluster=cluster,
        started_at=moment,
        tool_version=__version__,
        argument_digest=argument_digest,
    )


def ended(start: RunStart, outcome: Outcome, verdict: str, summary: str, failure: Failure | None = None) -> RunRecord:
    """Return the record of a run that ends now; `verdict` is the use case's own word for the outcome."""
    return RunRecord(
        **asdict(start),
        finished_at=now(),
        outcome=outcome,
        verdict=verdict,
        exit_status=outcome.exit_status,
        summary=summary,
        failure=failure,
    )


def failed(start: RunStart, verdict: str, error: ReplcheckError) -> RunRecord:
    """Return the record of a run that an error kept from a result; `verdict` is the word for unchecked."""
    failure = Failure(error=type(error).__name__, message=error.message, hint=error.hint)
    return ended(start, Outcome.UNCHECKED, verdict, error.message, failure)
