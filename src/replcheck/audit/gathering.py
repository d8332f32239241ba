"""What the audit of one database has found, told and put into reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from replcheck.audit.cluster import Cluster
from replcheck.audit.database import DatabaseAudit
from replcheck.audit.gathered import Gathered
from replcheck.audit.index_verdicts import IndexFindings
from replcheck.audit.proof import RelationProof
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.shortfalls import DROPPED, NEVER_LISTED, STILL_IN_FLIGHT, UNLOGGED, Shortfall
from replcheck.audit.verdicts import (
    extra_divergences,
    lone_votes,
    not_checked,
    relation_divergences,
    relation_report,
    sequence_divergence,
    sequence_report,
    shortfalls,
)
from replcheck.events import Emit, FindingRaised, Skipped
from replcheck.model.audit import Finding, NotChecked, RelationReport
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation


class Teller:
    """Tells each finding, and each thing that was not checked, once, however often it is met."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._told: set[NotChecked | Finding] = set()

    def find(self, finding: Finding, into: Gathered) -> None:
        """Keep a finding, and tell it."""
        into.findings.append(finding)
        if finding not in self._told:
            self._told.add(finding)
            self._emit(FindingRaised(at=datetime.now(UTC), finding=finding))

    def skip(self, note: NotChecked, into: Gathered) -> None:
        """Keep what was not checked, and tell it."""
        into.not_checked.append(note)
        if note not in self._told:
            self._told.add(note)
            self._emit(Skipped(at=datetime.now(UTC), what=note))


@dataclass(frozen=True, slots=True, kw_only=True)
class Besides:
    """What was read of a database beside its rows."""

    sequences: Mapping[str, Mapping[int, SequenceVerdict]] = field(default_factory=dict)
    """By replica, then by oid."""
    findings: tuple[Finding, ...] = ()


class Gathering:
    """Puts what the audit of one database has found into reports: call `gather` when it has ended."""

    def __init__(self, audit: DatabaseAudit, cluster: Cluster, teller: Teller, into: Gathered) -> None:
        self._audit = audit
        self._name = audit.database
        self._cluster = cluster
        self._teller = teller
        self._into = into

    def gather(self, besides: Besides, *, since: datetime) -> None:
        """Put together all that was found by an audit that began at `since`."""
        audit, into = self._audit, self._into
        for proof in audit.proofs:
            self._gather_relation(proof, since)
        into.votes += [*lone_votes(audit.proofs), *audit.damage.votes]
        into.divergences += audit.damage.divergences
        for damaged in audit.damage.divergences:
            into.damaged.setdefault(damaged.node, []).append(self._name)
        for dropped in audit.dropped:
            self._leave_out(dropped.label, UNLOGGED if dropped.unlogged else DROPPED)
        for note in shortfalls(self._name, audit.proofs):
            self._teller.skip(note, into)
        into.divergences += extra_divergences(self._name, audit.extras)
        for node in sorted(audit.unsettled_extras):
            self._lack(node, STILL_IN_FLIGHT)
        for finding in besides.findings:
            self._teller.find(finding, into)
        self._gather_indexes(audit.index_findings(self._cluster.left_over))
        for replica, reports in audit.alignments.items():
            into.alignments.setdefault(replica, []).extend(reports)
        self._gather_plan(besides.sequences)

    def _gather_relation(self, proof: RelationProof, since: datetime) -> None:
        self._into.relations.append(_report(self._name, proof, since))
        self._into.divergences += relation_divergences(self._name, proof, self._cluster.primary.name)
        if proof.relation.row_filter is not None:
            reason = "rows that its filter leaves out"
            note = not_checked(self._name, proof.relation.label, None, "filtered", reason, by_design=True)
            self._teller.skip(note, self._into)

    def _gather_indexes(self, found: IndexFindings) -> None:
        self._into.indexes += found.reports
        self._into.divergences += found.divergences
        self._into.votes += found.votes
        for finding in found.findings:
            self._teller.find(finding, self._into)
        for note in found.not_checked:
            self._teller.skip(note, self._into)

    def _gather_plan(self, sequences: Mapping[str, Mapping[int, SequenceVerdict]]) -> None:
        if self._audit.plan is None:
            self._skip_database()
            return
        for node in sorted(self._audit.unlisted):
            self._lack(node, NEVER_LISTED)
        self._into.not_checked += self._audit.plan.not_checked
        for sequence in self._audit.plan.sequences:
            self._gather_sequence(sequence, sequences)

    def _skip_database(self) -> None:
        absent, primary = self._audit.absent, self._cluster.primary.name
        for node in self._cluster.replicas.values():
            # A replica follows its primary: where that has no database of the name either, it is not at fault.
            why = node.gone or absent.get(primary) or absent.get(node.name) or self._cluster.left_over
            reason = f"the whole database: {why.reason}"
            note = not_checked(self._name, None, node.name, why.code, reason, hint=why.hint)
            self._teller.skip(note, self._into)

    def _gather_sequence(self, sequence: Relation, verdicts: Mapping[str, Mapping[int, SequenceVerdict]]) -> None:
        left_over = self._cluster.left_over
        found: dict[str, SequenceVerdict] = {}
        for node in self._cluster.replicas.values():
            lack = node.gone or left_over
            unread = SequenceVerdict(verdict=lack.verdict, reason=lack.reason)
            found[node.name] = verdicts.get(node.name, {}).get(sequence.oid, unread)
        if any(verdict.dropped for verdict in found.values()):
            self._leave_out(sequence.label, DROPPED)
            return
        self._into.relations.append(sequence_report(self._name, sequence, found))
        for node_name, verdict in found.items():
            if verdict.verdict is Verdict.DIVERGED:
                self._into.votes.append(None)
                self._into.divergences.append(sequence_divergence(self._name, sequence, node_name, verdict))
            elif verdict.verdict is not Verdict.CONSISTENT:
                code = "sequence_unsteady" if verdict.verdict is Verdict.INCONCLUSIVE else "sequence_unread"
                note = not_checked(self._name, sequence.label, node_name, code, verdict.reason)
                self._teller.skip(note, self._into)

    def _leave_out(self, relation: str, lack: Shortfall) -> None:
        """Tell of a relation that nobody expects in the proof."""
        note = not_checked(self._name, relation, None, lack.code, lack.reason, by_design=True)
        self._teller.skip(note, self._into)

    def _lack(self, node: str, lack: Shortfall) -> None:
        """Tell what the proof of this database lacks on a node."""
        note = not_checked(self._name, None, node, lack.code, lack.reason, hint=lack.hint)
        self._teller.skip(note, self._into)


def _report(database: str, proof: RelationProof, since: datetime) -> RelationReport:
    """Return the report of a relation; what an audit takes over from itself is no proof of an earlier run."""
    report = relation_report(database, proof)
    own = report.proven_since is not None and report.proven_since >= since
    return replace(report, proven_since=None) if own else report
