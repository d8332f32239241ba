"""The paper of one check: each control of the policy at one moment, and the requirements that it bears on."""

from collections.abc import Iterable

from replcheck.model.control import CheckResult, DueRun, Standing
from replcheck.model.live import ClusterView
from replcheck.model.outcome import Outcome
from replcheck.model.run import short_id
from replcheck.model.units import format_duration
from replcheck.report.audit_words import elapsed_s
from replcheck.report.check_words import check_sentence, check_verdict
from replcheck.report.paper import (
    Block,
    Code,
    Items,
    Mark,
    Moment,
    Paper,
    Section,
    Table,
    Words,
    columns,
    known,
    table,
    words,
)
from replcheck.report.papers.promises import (
    not_asked,
    overview,
    promise,
    requirements_section,
    unprovable_section,
)


def check_paper(result: CheckResult) -> Paper:
    """Lay out one check."""
    sections = (
        _controls(result),
        _nodes(result.view),
        _work(result),
        requirements_section(result.controls),
        unprovable_section(),
    )
    return Paper(
        title=f"Check of {result.cluster}",
        mark=Mark(outcome=result.outcome, word=check_verdict(result).value),
        summary=words(check_sentence(result)),
        facts=tuple(_facts(result)),
        sections=tuple(section for section in sections if section is not None),
        made_by=f"replcheck {result.tool_version}",
    )


def _facts(result: CheckResult) -> Iterable[tuple[str, Words]]:
    took = elapsed_s(result.started_at, result.finished_at)
    yield "Run", words(Code(result.run_id))
    yield "Began", words(Moment(result.started_at), f", took {format_duration(took)}")
    yield "Nodes last seen", words(Moment(result.view.at)) if result.view else words("never, or too long ago")
    yield "Looked by itself", words("yes" if result.fresh else "no: it answers from the history")
    if result.evidence_head:
        yield "Head of the evidence", words("SHA-256 ", Code(result.evidence_head))


def _controls(result: CheckResult) -> Section:
    asked = [control for control in result.controls if control.standing is not Standing.NOT_ASKED]
    blocks: list[Block] = []
    if result.notes:
        blocks.append(Items(items=tuple(words(note) for note in result.notes)))
    if asked:
        blocks.append(overview(asked))
    blocks += [promise(control) for control in asked]
    blocks += not_asked(result.controls, result.left_out)
    return Section(anchor="controls", title="Controls", blocks=tuple(blocks))


def _nodes(view: ClusterView | None) -> Section | None:
    if view is None:
        return None
    shown = table(
        "The nodes as they were last seen",
        columns(
            "Node", "State", "Since", "Behind", "Host", "Zone (declared)", "Why it is not well", numeric=("Behind",)
        ),
        (
            (
                words(node.node),
                words(Mark(outcome=Outcome.PROVEN if node.state.is_running_copy else None, word=node.state.value)),
                words(Moment(node.since)),
                known(format_duration(node.lag_s) if node.lag_s is not None else None),
                words(Code(node.host)) if node.host else known(None),
                known(node.zone),
                known(node.reason),
            )
            for node in view.nodes
        ),
    )
    return Section(anchor="nodes", title="Nodes", blocks=(shown,))


def _work(result: CheckResult) -> Section | None:
    if not result.due:
        return None
    return Section(anchor="work", title="Work that was looked at", blocks=(_due_table(result.due),))


def _due_table(due: Iterable[DueRun]) -> Table:
    return table(
        "Runs that the check looked whether they were due",
        columns("Kind", "Of", "Why", "Run", "Ended as"),
        (
            (
                words(run.kind),
                known(run.subject),
                known(run.reason),
                words(Code(short_id(run.run_id))) if run.run_id else words("not done"),
                words(Mark(outcome=run.outcome, word=run.outcome.value)) if run.outcome else known(None),
            )
            for run in due
        ),
    )
