"""What the checks of indexes come to: when a report is believed, and what it makes of a node and of the run. Pure.

An index and its table speak for themselves: no vote decides which node is broken. Where one node's index is sound and
another's is not, the other has diverged; one that is broken wherever it was looked at is a finding that refutes the
run, since nobody who asked for indexes may read that all is well.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from replcheck.audit.shortfalls import Shortfall
from replcheck.audit.verdicts import not_checked
from replcheck.model.audit import CtidRange, DifferenceKind, Divergence, Finding, IndexNode, IndexReport, NotChecked
from replcheck.model.outcome import Outcome, Verdict, worst_verdict
from replcheck.postgres.amcheck import BTREE, Index, IndexFault
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import rows_query

CODE = "index_broken"
_ALIKE = 2
"""Looks that must report the same before it is believed."""
_CLEAN = 2
"""Looks in a row that must find nothing before a report is forgotten: one look misses a row of fifty."""
MOST_LOOKS = 8
_MENDED_IN = {14: 140012, 15: 150007, 16: 160003}
"""Before these versions amcheck may miss rows that the index knows, where their values are stored with other headers
there (PostgreSQL release notes: "Normalize index tuples")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """What came of one index on one node; sound where all is left out."""

    fault: IndexFault | None = None
    lack: Shortfall | None = None
    """Why it was not checked to the end."""
    stale_collations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFindings:
    """What the checks of one database's indexes brought."""

    reports: tuple[IndexReport, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    votes: tuple[str | None, ...] = ()
    """For each index that some nodes have whole and others broken: the only broken one, None where there are more."""


def believed(looks: Sequence[IndexFault | None]) -> bool | None:
    """Tell what looks in order say together: True broken, False sound, None that another is needed.

    One report is none: on a standby amcheck also reports rows that the primary has already forgotten.
    """
    if looks and looks[-1] is None:
        reported = [look for look in looks if look is not None]
        return False if not reported or list(looks[-_CLEAN:]) == [None] * _CLEAN else None
    marks = [look.mark for look in looks if look is not None]
    return True if marks and marks.count(marks[-1]) >= _ALIKE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The indexes of one database, as the primary lists them, and what came of each on each node."""

    database: str
    listed: bool
    """Whether the primary said which indexes there are."""
    tables: Mapping[int, Relation]
    indexes: Mapping[int, Index]
    states: Mapping[str, Mapping[int, IndexState]]
    """By node, the primary first, then by index."""
    lacks: Mapping[str, Shortfall]
    """Nodes that could not be asked at all, or not any more."""
    left_over: Shortfall
    """Why what has no state stays without."""
    versions: Mapping[str, int]
    """Server versions by node, for instance 150006."""


def index_findings(checked: Checked) -> IndexFindings:
    """Fold the states of every index into reports, divergences, findings and what was not checked."""
    reports: list[IndexReport] = []
    divergences: list[Divergence] = []
    findings: list[Finding] = []
    votes: list[str | None] = []
    notes = [*_of_nodes(checked)]
    for index in checked.indexes.values():
        states = {node: _state(checked, node, index.oid) for node in checked.states}
        if index.method != BTREE:
            notes.append(_of_another_method(checked, index))
            continue
        if not index.valid:
            findings.append(_invalid(checked, index))
            continue
        broken = {node: state.fault for node, state in states.items() if state.fault is not None}
        sound = [node for node, state in states.items() if state.fault is None and state.lack is None]
        if sound:
            divergences += [_divergence(checked, index, node, states[node]) for node in broken]
        elif broken:
            findings.append(_broken_everywhere(checked, index, broken, states))
        if sound and broken:
            votes.append(next(iter(broken)) if len(broken) == 1 else None)
        doubted = not sound and _is_doubtful(checked, broken)
        reports.append(_report(checked, index, states, doubted=doubted))
        notes += _of_index(checked, index)
    return IndexFindings(
        reports=tuple(reports),
        divergences=tuple(divergences),
        findings=tuple(findings),
        not_checked=tuple(notes),
        votes=tuple(votes),
    )


def what_is_wrong(index: Index, state: IndexState) -> str:
    """Say in one clause what is wrong with an index, without any text of the server's."""
    fault = state.fault
    if fault is None:
        return ""
    if fault.row is not None:
        said = f"index {index.label} does not know the row at ctid ({fault.row[0]},{fault.row[1]})"
    else:
        block = f" at block {fault.block}" if fault.block is not None else ""
        said = f"index {index.label} is damaged{block} (SQLSTATE {fault.sqlstate})"
    if state.stale_collations:
        said += f"; its collation {', '.join(state.stale_collations)} has another version there than it was built with"
    return said


def _state(checked: Checked, node: str, oid: int) -> IndexState:
    """Return what came of an index on a node; what was not looked at is never sound."""
    state = checked.states[node].get(oid)
    return state or IndexState(lack=checked.lacks.get(node, checked.left_over))


def _of_nodes(checked: Checked) -> Iterable[NotChecked]:
    """Yield what concerns whole nodes, once each: what there is to say of every index that was not looked at."""
    if not checked.listed:
        lack = next(iter(checked.lacks.values()), checked.left_over)
        yield not_checked(
            checked.database, None, None, lack.code, f"no index was checked: {lack.reason}", hint=lack.hint
        )
    wanted = {oid for oid, index in checked.indexes.items() if index.valid and index.method == BTREE}
    for node, states in checked.states.items():
        left = len(wanted - states.keys())
        if left:
            lack = checked.lacks.get(node, checked.left_over)
            reason = f"{left} of {len(wanted)} indexes not checked: {lack.reason}"
            yield not_checked(checked.database, None, node, lack.code, reason, hint=lack.hint)


def _of_index(checked: Checked, index: Index) -> Iterable[NotChecked]:
    for node, states in checked.states.items():
        state = states.get(index.oid)
        if state is not None and state.lack is not None:
            lack = state.lack
            yield not_checked(checked.database, index.label, node, lack.code, lack.reason, hint=lack.hint)


def _of_another_method(checked: Checked, index: Index) -> NotChecked:
    reason = f"index of the method {index.method}: only btree indexes can be checked against their tables"
    return not_checked(checked.database, index.label, None, "index_method", reason, by_design=True)


def _invalid(checked: Checked, index: Index) -> Finding:
    table = checked.tables[index.table_oid].label
    what = (
        f"database {checked.database}: index {index.label} of {table} is not valid: it is being built, or building it"
        " failed; it was not checked, and no query uses it"
    )
    return Finding(code="invalid_index", node=None, what=what, outcome=Outcome.PROVEN)


def _report(checked: Checked, index: Index, states: Mapping[str, IndexState], *, doubted: bool) -> IndexReport:
    nodes = tuple(_node(index, node, state, doubted=doubted) for node, state in states.items())
    return IndexReport(
        database=checked.database,
        relation=checked.tables[index.table_oid].label,
        name=index.label,
        verdict=worst_verdict(node.verdict for node in nodes),
        size_bytes=index.size_bytes,
        nodes=nodes,
    )


def _node(index: Index, node: str, state: IndexState, *, doubted: bool) -> IndexNode:
    if state.fault is not None:
        return IndexNode(
            node=node,
            verdict=Verdict.INCONCLUSIVE if doubted else Verdict.DIVERGED,
            reason=what_is_wrong(index, state),
            sqlstate=state.fault.sqlstate,
            block=state.fault.block,
        )
    if state.lack is not None:
        return IndexNode(node=node, verdict=state.lack.verdict, reason=state.lack.reason)
    return IndexNode(node=node, verdict=Verdict.CONSISTENT)


def _divergence(checked: Checked, index: Index, node: str, state: IndexState) -> Divergence:
    table = checked.tables[index.table_oid]
    fault = state.fault
    assert fault is not None  # noqa: S101 - asked for broken ones alone
    row = fault.row if not index.toast else None
    position = f"({row[0]},{row[1]})" if row else ""
    return Divergence(
        database=checked.database,
        relation=table.label,
        node=node,
        kind=DifferenceKind.INDEX,
        ranges=(_one_row(*row),) if row else (),
        count=1,
        capped=False,
        sqlstate=fault.sqlstate,
        block=fault.block,
        query=rows_query(table, [(position, position)]) if row else "",
        what=what_is_wrong(index, state),
    )


def _one_row(block: int, offset: int) -> CtidRange:
    return CtidRange(first_block=block, first_offset=offset, last_block=block, last_offset=offset)


def _broken_everywhere(
    checked: Checked, index: Index, broken: Mapping[str, IndexFault], states: Mapping[str, IndexState]
) -> Finding:
    first = next(iter(broken))
    where = "on every node" if len(broken) == len(states) else f"on {', '.join(broken)}, and was not checked elsewhere"
    what = f"database {checked.database}: {what_is_wrong(index, states[first])}, {where}"
    if _is_doubtful(checked, broken):
        what += "; this server's version can report that of sound indexes, later minor versions do not"
        return Finding(code="index_doubtful", node=None, what=what, outcome=Outcome.PARTIAL)
    return Finding(code=CODE, node=None, what=what, outcome=Outcome.REFUTED)


def _is_doubtful(checked: Checked, broken: Mapping[str, IndexFault]) -> bool:
    """Return whether all reports of an index are of a kind that servers of these versions also raise without cause."""
    return bool(broken) and all(
        fault.row is not None and checked.versions[node] < _MENDED_IN.get(checked.versions[node] // 10000, 0)
        for node, fault in broken.items()
    )
