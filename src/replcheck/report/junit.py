"""A check as JUnit XML, which build servers and test reports read: a control is a test case.

The format has no word for what is partly proven: a control at risk is a failure, so that nobody takes it for passed,
and one that is waived or was not asked is skipped. What could not be measured is an error.
"""

from xml.etree import ElementTree as ET

from replcheck.model.control import CheckResult, ControlResult, Standing
from replcheck.model.evidence import EvidenceHead
from replcheck.model.names import printable
from replcheck.model.plain import utc_text
from replcheck.report.check_words import check_sentence, problem_of

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_TAGS = {
    Standing.BREACHED: "failure",
    Standing.AT_RISK: "failure",
    Standing.UNCHECKED: "error",
    Standing.WAIVED: "skipped",
    Standing.NOT_ASKED: "skipped",
}


def junit_text(result: CheckResult, evidence: EvidenceHead | None = None) -> str:
    """Return the document, with a line break at its end; `evidence` is the check's own record."""
    suite = ET.Element("testsuite", _suite_attributes(result))
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(result, evidence).items():
        ET.SubElement(properties, "property", {"name": name, "value": printable(value)})
    for control in result.controls:
        suite.append(_case(control, result.cluster))
    suites = ET.Element("testsuites", {"name": "replcheck check"})
    suites.append(suite)
    ET.indent(suites)
    return f"{_DECLARATION}\n{ET.tostring(suites, encoding='unicode')}\n"


def _suite_attributes(result: CheckResult) -> dict[str, str]:
    tags = [_TAGS.get(control.standing) for control in result.controls]
    return {
        "name": f"replcheck check {result.cluster}",
        "tests": str(len(tags)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
        "timestamp": utc_text(result.started_at),
        "time": _seconds(result),
    }


def _seconds(result: CheckResult) -> str:
    return f"{(result.finished_at - result.started_at).total_seconds():.3f}"


def _properties(result: CheckResult, evidence: EvidenceHead | None) -> dict[str, str]:
    return {
        "run_id": result.run_id,
        "outcome": result.outcome.value,
        "summary": check_sentence(result),
        "tool_version": result.tool_version,
        "evidence_head": evidence.sha256 if evidence is not None else result.evidence_head,
    }


def _case(control: ControlResult, cluster: str) -> ET.Element:
    case = ET.Element("testcase", {"classname": f"replcheck.{cluster}", "name": control.name.value, "time": "0.000"})
    tag = _TAGS.get(control.standing)
    if tag is not None:
        problem = problem_of(control) or control.standing.value
        element = ET.SubElement(case, tag, {"message": printable(problem)})
        if tag != "skipped":
            element.set("type", control.standing.value)
            element.text = printable(control.measured)
    if control.standing is not Standing.NOT_ASKED:
        ET.SubElement(case, "system-out").text = "\n".join(printable(line) for line in _lines(control))
    return case


def _lines(control: ControlResult) -> list[str]:
    return [
        f"claim: {control.claim}",
        f"measured: {control.measured}",
        f"limit: {control.limit}",
        *(f"run: {run}" for run in control.runs),
        *(f"not proven: {text}" for text in control.not_proven),
    ]
