"""What an audit ends with: the verdict of each replica and of the whole, folded from what its databases brought."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from replcheck import __version__
from replcheck.audit.cluster import Cluster
from replcheck.audit.cross_check import report_of
from replcheck.audit.gathered import Gathered
from replcheck.audit.handles import NodeHandle
from replcheck.audit.preflight import independent_voters, node_report
from replcheck.audit.scope import scope_of
from replcheck.audit.shortfalls import Shortfall
from replcheck.audit.verdicts import note_verdict, odd_node
from replcheck.model.audit import (
    AuditResult,
    DifferenceKind,
    RelationKind,
    RelationReport,
    ReplicaReport,
    Resumption,
)
from replcheck.model.outcome import Outcome, Verdict, worst, worst_verdict
from replcheck.model.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Which run it is that ends."""

    run_id: str
    cluster: str
    started_at: datetime
    resumed: Progress | None
    """The run whose proofs it could take over."""


def rows_read(gathered: Gathered) -> int:
    """Return how many rows the relations have of which something was read, and not all taken over from another run."""
    return sum(relation.rows or 0 for relation in _with_rows(gathered) if relation.chunks)


def result_of(cluster: Cluster, gathered: Gathered, run: RunFacts) -> AuditResult:
    """Return the result of an audit that ends now."""
    nodes, ending = cluster.nodes, cluster.halt.ending
    replicas = tuple(_replica(node, cluster, gathered) for node in nodes[1:])
    return AuditResult(
        run_id=run.run_id,
        started_at=run.started_at,
        finished_at=datetime.now(UTC),
        tool_version=__version__,
        encoding=cluster.hasher.encoding.name,
        level=cluster.options.level.value,
        cluster=run.cluster,
        scope=scope_of(cluster.options),
        verdict=_run_verdict(replicas, gathered, ending.code.outcome if ending else Outcome.PROVEN),
        primary=node_report(nodes[0], nodes),
        replicas=replicas,
        odd_node=odd_node(gathered.divergences, gathered.votes, independent_voters(nodes)),
        relations=tuple(gathered.relations),
        divergences=tuple(gathered.divergences),
        findings=tuple(gathered.findings),
        not_checked=tuple(gathered.not_checked),
        stopped=ending.what if ending else "",
        stop_code=ending.code if ending else None,
        resumed=_resumption(run.resumed, gathered.relations),
        cross_check=report_of(cluster.sampler, gathered.divergences),
        held_s=round(sum(cluster.gate.held.values()), 3),
        rows=sum(relation.rows or 0 for relation in _with_rows(gathered)),
        size_bytes=sum(relation.size_bytes for relation in _with_rows(gathered) if relation.rows is not None),
        indexes=tuple(gathered.indexes),
    )


def _with_rows(gathered: Gathered) -> list[RelationReport]:
    return [relation for relation in gathered.relations if relation.kind is not RelationKind.SEQUENCE]


def _replica(node: NodeHandle, cluster: Cluster, gathered: Gathered) -> ReplicaReport:
    mine = [
        replica.verdict for relation in gathered.relations for replica in relation.replicas if replica.node == node.name
    ]
    differing = mine.count(Verdict.DIVERGED)
    if any(found.node == node.name for found in gathered.divergences):
        mine.append(Verdict.DIVERGED)
    notes = [note for note in gathered.not_checked if not note.by_design and note.node in (None, node.name)]
    lack = node.gone or cluster.primary.gone
    verdict = worst_verdict([*mine, *map(note_verdict, notes), *([lack.verdict] if lack else [])])
    return ReplicaReport(
        node=node_report(node, cluster.nodes),
        verdict=verdict,
        reason=_reason(verdict, lack, mine, differing, _other_damage(gathered, node)),
        alignments=tuple(gathered.alignments.get(node.name, ())),
    )


def _resumption(earlier: Progress | None, relations: Sequence[RelationReport]) -> Resumption | None:
    taken_over = sum(relation.proven_since is not None for relation in relations)
    if earlier is None or not taken_over:
        return None
    return Resumption(run_id=earlier.run_id, started_at=earlier.started_at, relations=taken_over)


def _run_verdict(replicas: Sequence[ReplicaReport], gathered: Gathered, ended_early: Outcome) -> Verdict:
    outcomes = [ended_early, *(replica.verdict.outcome for replica in replicas)]
    outcomes += [finding.outcome for finding in gathered.findings]
    outcomes += [Outcome.REFUTED for _ in gathered.divergences]
    outcomes += [note_verdict(note).outcome for note in gathered.not_checked]  # of the primary too
    return {verdict.outcome: verdict for verdict in Verdict}[worst(outcomes)]


def _other_damage(gathered: Gathered, node: NodeHandle) -> str:
    """Say what is wrong with a node beside its relations; empty where nothing is."""
    databases = gathered.damaged.get(node.name, [])
    if databases:
        return f"it cannot read the catalogs of database{'s' * (len(databases) > 1)} {', '.join(databases)}"
    broken = sum(found.kind is DifferenceKind.INDEX and found.node == node.name for found in gathered.divergences)
    return {0: "", 1: "1 index is broken"}.get(broken, f"{broken} indexes are broken")


def _reason(
    verdict: Verdict, lack: Shortfall | None, relations: Sequence[Verdict], differing: int, other_damage: str
) -> str:
    if verdict is Verdict.CONSISTENT:
        return ""
    if verdict is Verdict.DIVERGED and other_damage and not differing:
        return other_damage
    if verdict is Verdict.DIVERGED:
        return "1 relation differs" if differing == 1 else f"{differing or 'no'} relations differ"
    if lack is not None:
        return lack.reason
    count = sum(found is verdict for found in relations)
    return f"{count} relations are {verdict.value}" if count else "something in scope could not be checked"
