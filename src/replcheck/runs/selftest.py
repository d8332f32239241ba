"""The use case `selftest`: every known difference is planted in a cluster of our own, and the audits of it are scored.

It asks the installed code what a user asks it, and believes only what the audits say. A signal is a wish that is looked
at between two steps; whatever was made is removed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from replcheck.errors import ReplcheckError
from replcheck.lab.state import default_root
from replcheck.model.outcome import Outcome
from replcheck.model.run import RunRecord, RunStart
from replcheck.model.selftest import SelftestResult
from replcheck.report.selftest import UNTRIED, selftest_document, selftest_sentence, selftest_verdict
from replcheck.runs.audit import Auditor, Tell
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.own_cluster import own_cluster, remove_leftovers, require_room
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import ended, failed, now, started
from replcheck.runs.selftest_stages import Stages, Step
from replcheck.runs.signing import UNSIGNED, Signing

NAME = "selftest"
"""The kind of the run, and what a cluster that outlives it is called; others have the number of their process too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestOptions:
    """What may be chosen."""

    major: int | None = None
    """PostgreSQL's major version; None is the newest found."""
    root: Path | None = None
    """The folder of clusters; None is this user's usual one."""
    quick: bool = False
    """Whether one pair of values of each type will do, and no node is stopped or promoted."""
    keep: bool = False
    """Whether the cluster, with all that was planted, outlives the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSelftest:
    """How a self-test ended."""

    record: RunRecord
    result: SelftestResult
    kept: str = ""
    """The name of the cluster that was left running; empty where none was."""
    unrecorded: str = ""
    """Why the history lacks this run; empty where it was kept or none was wanted."""


def run_selftest(
    options: SelftestOptions | None = None,
    *,
    step: Step = lambda _: None,
    store: Path | None = None,
    signing: Signing = UNSIGNED,
    tell: Tell = lambda _: None,
    auditor: Auditor | None = None,
) -> FinishedSelftest:
    """Plant every known difference, audit, and return the scores; no server is left unless it was to be kept.

    Raises ConfigurationError where the signing key cannot be used, Interrupted after a signal, and LabError or
    ProgramError where servers cannot be had: nothing is left then either. `step` takes what begins, `tell` a line about
    a signal; `auditor` stands in for the installed one. Must not be called from a running event loop.
    """
    options = options or SelftestOptions()
    start, recorder = _start(options), Recorder(store, signing)
    recorder.begin(start)
    try:
        result = _tested(options, start, step, tell, auditor)
    except ReplcheckError as error:
        recorder.finish(failed(start, UNTRIED, error))
        raise
    except BaseException as defect:
        recorder.finish(ended(start, Outcome.UNCHECKED, UNTRIED, f"ended by {type(defect).__name__}"))
        raise
    record = ended(start, result.outcome, selftest_verdict(result), selftest_sentence(result))
    recorder.finish(record, selftest_document(result))
    return FinishedSelftest(
        record=record, result=result, kept=NAME if options.keep else "", unrecorded=recorder.problem
    )


def _tested(
    options: SelftestOptions, start: RunStart, step: Step, tell: Tell, auditor: Auditor | None
) -> SelftestResult:
    root = (options.root or default_root()).absolute()
    remove_leftovers(root, NAME)
    require_room(root)
    with StopWish(tell, what="the self-test").on_signals() as wish:
        step("starting a primary and two standbys")
        settings = {"autovacuum": "off"}  # it may write to a damaged page, and mend it
        with own_cluster(root, NAME, keep=options.keep, major=options.major, settings=settings) as cluster:
            wish.obey()
            stages = Stages(cluster, wish, step, auditor or wish.auditor, quick=options.quick)
            differences, bystanders, not_tried = stages.play()
            wish.obey()
            return SelftestResult(
                run_id=start.run_id,
                started_at=start.started_at,
                finished_at=now(),
                tool_version=start.tool_version,
                server_version=cluster.primary.programs.version,
                quick=options.quick,
                differences=differences,
                bystanders=bystanders,
                not_tried=not_tried,
            )


def _start(options: SelftestOptions) -> RunStart:
    asked = json.dumps({"major": options.major, "quick": options.quick}, sort_keys=True)
    return started(NAME, NAME, hashlib.sha256(asked.encode()).hexdigest())
