"""What an audit will take: bytes, lanes, time, and the WAL that a first reader may cause. Pure."""

from collections.abc import Iterator, Sequence

from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import in_scope, plan_relations
from replcheck.doctor.facts import Failure, NodeExam, Place
from replcheck.doctor.together import the_primary
from replcheck.model.audit import RelationKind
from replcheck.model.doctor import AuditCost, Check, DatabaseCost
from replcheck.model.units import format_size
from replcheck.postgres.examination import DatabaseFacts

ASSUMED_BYTES_PER_S = 100 << 20
"""What one lane reads and digests per second: a third of what one core digests from memory, since disks are slower."""
_MUCH_BYTES = 256 << 20
_MUCH_SHARE = 0.2


def cost_of(exams: Sequence[NodeExam], options: AuditOptions) -> AuditCost | None:
    """Estimate what an audit reads, from the primary's sizes or, without one, from the first node that was read."""
    read = [exam for exam in exams if exam.facts is not None and _whole(exam)]
    exam = the_primary(exams) or next(iter(read), None)
    if exam is None or exam.facts is None:
        return None
    role, block = exam.facts.privileges.role, exam.facts.block_size
    databases = tuple(
        _database(name, found, options, shared_here=not number, role=role, block=block)
        for number, (name, found) in enumerate(_whole(exam).items())
    )
    settings = exam.facts.settings
    logged = [settings.get("data_checksums"), settings.get("wal_log_hints")]
    size = sum(database.size_bytes for database in databases)
    return AuditCost(
        node=exam.name,
        databases=databases,
        lanes=options.jobs,
        assumed_bytes_per_s=ASSUMED_BYTES_PER_S,
        pace=options.pacing.value,
        duration_s=size / (ASSUMED_BYTES_PER_S * options.jobs * options.pacing.share),
        logs_hint_bits=None if None in logged else "on" in logged,
    )


def visibility_checks(cost: AuditCost, place: Place) -> Iterator[Check]:
    """Warn where reading would write: pages that vacuum has not seen since they were written."""
    for database in cost.databases:
        pending, size = database.not_visible_bytes, database.size_bytes
        if pending < _MUCH_BYTES or pending < size * _MUCH_SHARE:
            continue
        writes = {
            True: f"up to {format_size(pending)} of WAL, as any first reader",
            False: f"up to {format_size(pending)} of pages, as any first reader, but no WAL",
            None: f"up to {format_size(pending)} of pages, as any first reader, perhaps as WAL too",
        }[cost.logs_hint_bits]
        yield place.of(database.name).warning(
            "not_all_visible",
            f"{format_size(pending)} of {format_size(size)} are not all-visible: an audit may set their hint bits, and"
            f" so write {writes}",
            "After a load, vacuum before the first audit, at an hour of your choice, in that database.",
            "VACUUM;",
        )


def _whole(exam: NodeExam) -> dict[str, DatabaseFacts]:
    return {name: found for name, found in exam.visited.items() if not isinstance(found, Failure)}


def _database(
    name: str, found: DatabaseFacts, options: AuditOptions, *, shared_here: bool, role: str, block: int
) -> DatabaseCost:
    plan = plan_relations(found.relations, options, database=name, shared_here=shared_here, role=role)
    left_out = {note.relation for note in plan.not_checked if note.by_design}
    # What the role may not read yet is counted too: it will be read once that is granted.
    read = [
        relation
        for relation in found.relations
        if in_scope(relation, options, name, shared_here=shared_here) and relation.label not in left_out
    ]
    stored = [relation for relation in read if relation.kind is not RelationKind.SEQUENCE]
    return DatabaseCost(
        name=name,
        relations=len(read),
        size_bytes=sum(relation.total_bytes for relation in stored),
        not_visible_bytes=sum(
            max(0, relation.total_bytes - found.visible_pages.get(relation.oid, 0) * block) for relation in stored
        ),
        left_out=len(left_out),
    )
