"""What an audit said of differences that were planted, and of their healthy twins. Pure: results in, scores out."""

from collections.abc import Collection, Iterable, Sequence

from replcheck.model.audit import AuditResult, CtidRange, Divergence, RelationReport
from replcheck.model.names import qualified
from replcheck.model.outcome import Verdict
from replcheck.model.selftest import Difference, Innocence, Sight, Twin

CATALOG = "pg_catalog."


def sight(difference: Difference, result: AuditResult) -> tuple[Sight, str]:
    """Return whether an audit named a difference, on its node and with its kind and place, or how it missed it."""
    for relation in difference.relations:
        found = [one for one in _of_relation(result, difference, relation) if one.node == difference.node]
        if not found:
            return Sight.MISSED, f"nothing was said of {relation} on {difference.node}"
        right = [one for one in found if not difference.kinds or one.kind in difference.kinds]
        if not right:
            said = ", ".join(sorted({one.kind.value for one in found}))
            wanted = " or ".join(sorted(kind.value for kind in difference.kinds))
            return Sight.MISSED, f"{relation} on {difference.node} was called {said}, not {wanted}"
        place = difference.place
        if place is not None and not any(_covers(span, place) for one in right for span in one.ranges):
            return Sight.MISSED, f"the row at ctid {place} of {relation} on {difference.node} was not named"
    return Sight.SEEN, ""


def twin(difference: Difference, result: AuditResult, nodes: Collection[str], where: str) -> Twin | None:
    """Return what an audit said of the same relations on other nodes; None where it has no such relations there."""
    accusations = [
        f"{relation} on {one.node} was called {one.kind.value}"
        for relation in difference.relations
        for one in _of_relation(result, difference, relation)
        if one.node in nodes
    ]
    verdicts = [
        (report, replica.node, replica.verdict)
        for report in _reports(result, difference)
        for replica in report.replicas
        if replica.node in nodes
    ]
    accusations += [
        f"{_name(report)} on {node} is {verdict.value}"
        for report, node, verdict in verdicts
        if verdict is Verdict.DIVERGED
    ]
    if accusations:
        return Twin(where=where, state=Innocence.ACCUSED, reason=accusations[0])
    if not verdicts:
        return None
    unproven = [
        f"{_name(report)} on {node} is {verdict.value}"
        for report, node, verdict in verdicts
        if verdict is not Verdict.CONSISTENT
    ]
    return Twin(where=where, state=Innocence.UNPROVEN, reason=unproven[0]) if unproven else _clean(where)


def bystanders(differences: Sequence[Difference], result: AuditResult, changed: str, where: str) -> Twin:
    """Return what an audit said of everything in which nothing was planted.

    The catalogs of the database `changed` have more rows that differ than those planted: they are nobody's twin.
    """
    planted = {(one.database, relation) for one in differences for relation in (*one.relations, *one.also)}

    def is_planted(database: str, relation: str) -> bool:
        return (database, relation) in planted or (database == changed and relation.startswith(CATALOG))

    for found in result.divergences:
        if not is_planted(found.database, found.relation):
            said = f"{found.database}.{found.relation} on {found.node} was called {found.kind.value}"
            return Twin(where=where, state=Innocence.ACCUSED, reason=said)
    others = [report for report in result.relations if not is_planted(report.database, _name(report))]
    for report in others:
        if report.verdict is Verdict.DIVERGED:
            said = f"{report.database}.{_name(report)} is {report.verdict.value}"
            return Twin(where=where, state=Innocence.ACCUSED, reason=said)
    for report in others:
        if report.verdict is not Verdict.CONSISTENT:
            said = f"{report.database}.{_name(report)} is {report.verdict.value}"
            return Twin(where=where, state=Innocence.UNPROVEN, reason=said)
    if not others:
        return Twin(where=where, state=Innocence.UNPROVEN, reason="there was nothing beside the planted differences")
    return _clean(where)


def _clean(where: str) -> Twin:
    return Twin(where=where, state=Innocence.CLEAN)


def _of_relation(result: AuditResult, difference: Difference, relation: str) -> Iterable[Divergence]:
    return [one for one in result.divergences if (one.database, one.relation) == (difference.database, relation)]


def _reports(result: AuditResult, difference: Difference) -> list[RelationReport]:
    return [
        report
        for report in result.relations
        if report.database == difference.database and _name(report) in difference.relations
    ]


def _name(report: RelationReport) -> str:
    return qualified(report.schema, report.name)


def _covers(span: CtidRange, place: CtidRange) -> bool:
    first, last = (span.first_block, span.first_offset), (span.last_block, span.last_offset)
    return first <= (place.first_block, place.first_offset) and (place.last_block, place.last_offset) <= last
