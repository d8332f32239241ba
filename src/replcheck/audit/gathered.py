"""What the databases of an audit brought, put together and kept apart. Pure.

A database that is audited again takes the place of what it brought before, but for what was found to differ: that was
confirmed, and a copy that is whole by now does not undo it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from replcheck.model.audit import (
    AlignmentReport,
    Divergence,
    Finding,
    IndexReport,
    NotChecked,
    RelationReplica,
    RelationReport,
)
from replcheck.model.outcome import Verdict, worst_verdict


@dataclass(slots=True)
class Gathered:
    """Reports, divergences and notes of one database, or of several."""

    relations: list[RelationReport] = field(default_factory=list)
    indexes: list[IndexReport] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    alignments: dict[str, list[AlignmentReport]] = field(default_factory=dict)
    votes: list[str | None] = field(default_factory=list)
    damaged: dict[str, list[str]] = field(default_factory=dict)
    """Databases whose catalogs a node cannot read, by node."""

    def add(self, other: "Gathered") -> None:
        """Take in all that another database brought."""
        self.relations += other.relations
        self.indexes += other.indexes
        self.divergences += other.divergences
        self.findings += other.findings
        self.not_checked += other.not_checked
        self.votes += other.votes
        for node, alignments in other.alignments.items():
            self.alignments.setdefault(node, []).extend(alignments)
        for node, databases in other.damaged.items():
            self.damaged.setdefault(node, []).extend(databases)

    def keep(self, before: "Gathered") -> None:
        """Keep what the same database had brought before that differed, and under which alignments it was read."""
        told = {place_of(found) for found in self.divergences}
        kept = [found for found in before.divergences if place_of(found) not in told]
        self.divergences += kept
        self.votes += [None for _ in kept]
        self.relations = _with_diverged(self.relations, before.relations)
        for node, alignments in before.alignments.items():
            self.alignments[node] = [*alignments, *self.alignments.get(node, ())]
        for node, databases in before.damaged.items():
            self.damaged.setdefault(node, databases)

    def void(self, nodes: Iterable[str]) -> None:
        """Take back, of some nodes, every verdict of consistent: it rests on what was there before."""
        names = frozenset(nodes)
        self.relations = [
            _judged(
                relation,
                [
                    replace(replica, verdict=Verdict.INCONCLUSIVE)
                    if replica.node in names and replica.verdict is Verdict.CONSISTENT
                    else replica
                    for replica in relation.replicas
                ],
            )
            for relation in self.relations
        ]
        self.indexes = [_void_index(index, names) for index in self.indexes]


def place_of(found: Divergence) -> tuple[object, ...]:
    """Return what two looks at one difference have in common, in whatever database they were."""
    return (found.relation, found.node, found.kind, found.what, found.sqlstate)


def _with_diverged(now: Sequence[RelationReport], before: Iterable[RelationReport]) -> list[RelationReport]:
    merged = {(relation.schema, relation.name): relation for relation in now}
    for old in before:
        if old.verdict is not Verdict.DIVERGED:
            continue
        new = merged.get((old.schema, old.name), old)
        diverged = {replica.node: replica for replica in old.replicas if replica.verdict is Verdict.DIVERGED}
        replicas = [
            replica if replica.verdict is Verdict.DIVERGED else diverged.get(replica.node, replica)
            for replica in new.replicas
        ]
        merged[old.schema, old.name] = _judged(new, replicas)
    return [*merged.values()]


def _judged(relation: RelationReport, replicas: Sequence[RelationReplica]) -> RelationReport:
    verdict = worst_verdict(replica.verdict for replica in replicas)
    return replace(relation, replicas=tuple(replicas), verdict=verdict)


def _void_index(index: IndexReport, names: frozenset[str]) -> IndexReport:
    nodes = tuple(
        replace(node, verdict=Verdict.INCONCLUSIVE, reason="its node was started anew since")
        if node.node in names and node.verdict is Verdict.CONSISTENT
        else node
        for node in index.nodes
    )
    return replace(index, nodes=nodes, verdict=worst_verdict(node.verdict for node in nodes))
