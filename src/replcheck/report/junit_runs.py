"""Past runs as JUnit XML, for the machines that collect test results.

A test case passes only where something was proven. What was refuted or not fully proven fails, and what was not looked
at is an error, each with its reason, so that no collector counts it as passed. What is left out by design is skipped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree as ET

from replcheck.model.audit import AuditResult, NotChecked, RelationReplica, RelationReport
from replcheck.model.control import ControlResult, Standing
from replcheck.model.drill import DrillResult, LayerReport, LayerState
from replcheck.model.names import printable, qualified
from replcheck.model.outcome import Outcome
from replcheck.model.plain import utc_text
from replcheck.model.run import AUDIT_KINDS, RunRecord
from replcheck.model.units import format_duration
from replcheck.report.audit_words import elapsed_s, how_many, place_of
from replcheck.report.checks_made import checks_sentence, failed_sentence, never_words, old_sentence
from replcheck.report.drill_words import drill_sentence, everything_wrong, layer_sentence
from replcheck.report.history import PastRun
from replcheck.report.period_facts import PeriodFacts
from replcheck.report.seal_stored import PastSeal
from replcheck.report.verdict import outcome_of, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case."""

    name: str
    outcome: Outcome | None
    """None for what was left out by design."""
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Test cases under one name."""

    name: str
    at: datetime
    seconds: float
    cases: tuple[Case, ...]


def audit_junit(result: AuditResult) -> str:
    """Return an audit: a suite for each replica, a case for each relation, and one suite for the run as a whole."""
    seconds = elapsed_s(result.started_at, result.finished_at)
    by_design = [entry for entry in result.not_checked if entry.by_design]
    unproven = [entry for entry in result.not_checked if not entry.by_design]
    whole = Suite(
        name=f"audit of {result.cluster}",
        at=result.started_at,
        seconds=seconds,
        cases=(
            Case(name="verdict", outcome=outcome_of(result), message=sentence(result), seconds=seconds),
            *(Case(name=_unlooked(entry), outcome=Outcome.UNCHECKED, message=entry.reason) for entry in unproven),
            *(Case(name=_unlooked(entry), outcome=None, message=entry.reason) for entry in by_design),
        ),
    )
    suites = [
        Suite(
            name=f"{result.cluster}.{replica.node.name}",
            at=result.started_at,
            seconds=0.0,
            cases=tuple(_relation_cases(result, replica.node.name)),
        )
        for replica in result.replicas
    ]
    return _document(f"replcheck audit {result.run_id}", [whole, *suites])


def drill_junit(result: DrillResult) -> str:
    """Return a drill: one suite, with the verdict and a case for each layer of proof."""
    seconds = elapsed_s(result.started_at, result.finished_at)
    problems = "; ".join(problem.what for problem in everything_wrong(result))
    verdict = Case(
        name="verdict",
        outcome=result.verdict.outcome,
        message=" ".join(part for part in (drill_sentence(result), problems) if part),
        seconds=seconds,
    )
    suite = Suite(
        name=f"drill of {result.cluster} {result.backup}",
        at=result.started_at,
        seconds=seconds,
        cases=(verdict, *(_layer_case(layer) for layer in result.layers)),
    )
    return _document(f"replcheck drill {result.run_id}", [suite])


def seal_junit(seal: PastSeal) -> str:
    """Return a seal: one suite, with the verdict and a case for each thing that was not sealed."""
    cases = [Case(name="verdict", outcome=seal.verdict.outcome, message=seal.summary)]
    for note in seal.not_sealed:
        what = f"{note.database}.{note.relation}" if note.relation else f"database {note.database}"
        cases.append(Case(name=what, outcome=None if note.by_design else Outcome.PARTIAL, message=note.reason))
    suite = Suite(name=f"seal of {seal.cluster}", at=seal.finished_at, seconds=0.0, cases=tuple(cases))
    return _document(f"replcheck seal {seal.run_id}", [suite])


def period_junit(facts: PeriodFacts) -> str:
    """Return a period: a suite of the controls, one of the record, and one each of the audits and drills."""
    controls = [
        Case(name=control.name.value, outcome=_control_outcome(control), message=_control_message(control))
        for control in facts.controls
    ]
    controls.append(_policy_case(facts))
    gaps = [
        Case(
            name=f"watched at {utc_text(gap.began_at)}",
            outcome=Outcome.UNCHECKED,
            message=f"nothing was watching for {format_duration(gap.seconds)}",
        )
        for gap in facts.watched.gaps
    ]
    whole = Case(name="watched all the time", outcome=Outcome.PARTIAL if gaps else Outcome.PROVEN, message="see below")
    suites = {
        "controls": controls,
        "record": [whole, *gaps],
        "audits": [_run_case(past) for past in facts.runs if past.run.kind in AUDIT_KINDS],
        "drills": [_run_case(past) for past in facts.runs if past.run.kind == "drill"],
    }
    named = [
        Suite(name=f"{facts.cluster}.{name}", at=facts.since, seconds=0.0, cases=tuple(cases))
        for name, cases in suites.items()
    ]
    return _document(f"replcheck period {utc_text(facts.since)} to {utc_text(facts.until)}", named)


def _policy_case(facts: PeriodFacts) -> Case:
    """Return whether the controls stand for the end of the period: a check tells of its own time."""
    checks = facts.checks
    told = " ".join(filter(None, (old_sentence(checks), failed_sentence(checks)))) or checks_sentence(checks)
    if not facts.controls:
        return Case(name="policy", outcome=Outcome.UNCHECKED, message=never_words(checks))
    doubt = Outcome.UNCHECKED if checks.are_old else Outcome.PARTIAL if checks.failed_since else Outcome.PROVEN
    return Case(name="policy", outcome=doubt, message=told)


def _control_outcome(control: ControlResult) -> Outcome | None:
    """Return how a control is counted: one that is waived is skipped, as in the JUnit XML of a check."""
    return None if control.standing is Standing.WAIVED else control.outcome


def _control_message(control: ControlResult) -> str:
    return "; ".join([*control.problems, control.measured, control.limit]).strip("; ") or control.standing.value


def _run_case(past: PastRun) -> Case:
    run = past.run
    if isinstance(run, RunRecord):
        seconds = elapsed_s(run.started_at, run.finished_at)
        return Case(name=run.run_id, outcome=run.outcome, message=run.summary, seconds=seconds)
    return Case(name=run.run_id, outcome=Outcome.UNCHECKED, message=past.state.value)


def _relation_cases(result: AuditResult, node: str) -> Iterable[Case]:
    for relation in result.relations:
        for replica in relation.replicas:
            if replica.node == node:
                yield _relation_case(result, relation, replica)


def _relation_case(result: AuditResult, relation: RelationReport, replica: RelationReplica) -> Case:
    name = qualified(relation.schema, relation.name)
    told = [
        f"{found.kind.value}: {how_many(found)}"
        for found in result.divergences
        if (found.database, found.relation, found.node) == (relation.database, name, replica.node)
    ]
    if replica.rows_in_flight:
        told.append(f"{replica.rows_in_flight:,} rows in flight")
    return Case(
        name=f"{relation.database}.{name}",
        outcome=replica.verdict.outcome,
        message="; ".join(told) or replica.verdict.value,
    )


def _unlooked(entry: NotChecked) -> str:
    return f"looked at {place_of(entry)}"


def _layer_case(layer: LayerReport) -> Case:
    left_out = layer.state is LayerState.NOT_RUN and layer.by_design
    return Case(
        name=layer.name.value,
        outcome=None if left_out else layer.state.outcome,
        message=layer_sentence(layer) or layer.state.value,
        seconds=layer.elapsed_s,
    )


def _document(name: str, suites: Sequence[Suite]) -> str:
    root = ET.Element("testsuites", {"name": printable(name)})
    for suite in suites:
        element = ET.SubElement(root, "testsuite", _counts(suite) | {"name": printable(suite.name)})
        element.set("timestamp", utc_text(suite.at).removesuffix("Z"))
        element.set("time", f"{suite.seconds:.3f}")
        for case in suite.cases:
            _add_case(element, suite, case)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_case(parent: ET.Element, suite: Suite, case: Case) -> None:
    element = ET.SubElement(
        parent,
        "testcase",
        {"classname": printable(suite.name), "name": printable(case.name), "time": f"{case.seconds:.3f}"},
    )
    message = {"message": printable(case.message)}
    match case.outcome:
        case Outcome.REFUTED | Outcome.PARTIAL:
            ET.SubElement(element, "failure", message | {"type": case.outcome.value})
        case Outcome.UNCHECKED:
            ET.SubElement(element, "error", message | {"type": case.outcome.value})
        case None:
            ET.SubElement(element, "skipped", message)


def _counts(suite: Suite) -> dict[str, str]:
    outcomes = [case.outcome for case in suite.cases]
    failures = sum(outcome in {Outcome.PARTIAL, Outcome.REFUTED} for outcome in outcomes)
    return {
        "tests": str(len(outcomes)),
        "failures": str(failures),
        "errors": str(outcomes.count(Outcome.UNCHECKED)),
        "skipped": str(outcomes.count(None)),
    }
