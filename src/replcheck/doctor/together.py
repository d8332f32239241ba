"""Who the nodes are to one another: one primary, its physical replicas, each of them a server of its own. Pure."""

from collections.abc import Iterator, Sequence

from replcheck.doctor.facts import NodeExam, Place
from replcheck.model.doctor import Check
from replcheck.model.node import NodeRole


def the_primary(exams: Sequence[NodeExam]) -> NodeExam | None:
    """Return the only primary among the nodes that were read, None where there is none or more than one."""
    primaries = [exam for exam in exams if exam.is_primary]
    return primaries[0] if len(primaries) == 1 else None


def cluster_checks(exams: Sequence[NodeExam]) -> Iterator[Check]:
    """Say whether the nodes together make a cluster that can be audited."""
    place = Place(node=None)
    primaries = [exam.name for exam in exams if exam.is_primary]
    if len(exams) < 2:
        yield place.missing(
            "replicas",
            "there is no replica to compare with",
            "Name each with --replica DSN, or add it to the nodes of the configuration.",
        )
    if len(primaries) > 1:
        yield place.missing(
            "primaries",
            f"more than one node is a primary: {', '.join(primaries)}",
            "A replica that was promoted is no copy any more; if nobody promoted it, this is a split brain.",
        )
    if not primaries and all(exam.facts for exam in exams):
        yield place.missing(
            "primaries",
            "none of the nodes is a primary",
            "Name the primary too: standbys are compared with it, not with one another.",
        )


def identity_checks(exam: NodeExam, exams: Sequence[NodeExam], place: Place) -> Iterator[Check]:
    """Say whether a node is what it was given as: another server than those before it, and of their cluster."""
    facts = exam.facts
    assert facts is not None  # noqa: S101 - only nodes that were read come here
    earlier = [other for other in exams[: exams.index(exam)] if other.facts is not None]
    for other in earlier:
        if other.facts is not None and facts.identity.same_start(other.facts.identity):
            yield place.missing(
                "same_server",
                f"it is the same server as {other.name}",
                "A server compared with itself is always consistent: give each node its own address.",
            )
    primary = the_primary(exams)
    standard = primary or next((other for other in exams if other.facts is not None), exam)
    if standard.facts is not None and facts.identity.system_identifier != standard.facts.identity.system_identifier:
        yield place.missing(
            "system_identifier",
            f"it is no physical replica of {standard.name}: its system identifier is"
            f" {facts.identity.system_identifier}, not {standard.facts.identity.system_identifier}",
            "Check the address; it belongs to another cluster.",
        )
    yield from _role(exam, place)


def _role(exam: NodeExam, place: Place) -> Iterator[Check]:
    facts, expected = exam.facts, exam.target.expected_role
    assert facts is not None  # noqa: S101 - only nodes that were read come here
    if expected is not None and expected is not facts.role:
        hints = {
            NodeRole.PRIMARY: "It was promoted, or its address is that of another server.",
            NodeRole.STANDBY: "After a switch-over, name the new primary.",
        }
        given = "as the primary, but it is a standby" if facts.role is NodeRole.STANDBY else "as a replica, but it is"
        rest = "" if facts.role is NodeRole.STANDBY else " a primary"
        yield place.missing("role", f"it was given {given}{rest}", hints[facts.role])
    if facts.role is NodeRole.STANDBY and facts.shared_storage:
        yield place.missing(
            "shared_storage",
            f"it is a reader of {facts.shared_storage}, which shares the storage of its primary",
            "A reader of shared storage is no copy: there is nothing to compare.",
        )
