"""Which proofs still rest on the servers that answer now. Pure but for the handles that are asked.

A server that was started anew may have other files than those that were read: a copy that somebody made in its place
answers under the same name, address and data directory. So what was proven of a node counts only until its next start,
and of every replica only until the next start of the primary.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replcheck.audit.cluster import Cluster
from replcheck.audit.gathered import Gathered
from replcheck.events import BlocksProven, Emit, Event
from replcheck.model.progress import ProvenBlocks, RelationState, narrowed
from replcheck.postgres.nodes import Database

MOST_REPEATS = 3
"""How often what was read of a node that was started anew since is read again, before the audit ends without it."""

Starts = Mapping[str, int]
"""How often each node was started anew since the audit began, by name."""
Proofs = Mapping[RelationState, Sequence[ProvenBlocks]]


def starts_of(cluster: Cluster) -> dict[str, int]:
    """Return how often each node was started anew so far, as far as is known."""
    return {node.name: node.restarts for node in cluster.nodes}


@dataclass(slots=True, kw_only=True)
class DatabaseRun:
    """One audit of one database: what it brought, and which servers had answered when it began."""

    database: Database
    shared_here: bool
    starts: Starts
    gathered: Gathered = field(default_factory=Gathered)
    proofs: list[ProvenBlocks] = field(default_factory=list)

    def outdated(self, cluster: Cluster) -> frozenset[str]:
        """Return the nodes that were started anew since it began, every replica where the primary was."""
        changed = changed_since(self.starts, starts_of(cluster))
        changed = frozenset(name for name in changed if cluster.node(name).gone is None)
        return changed | frozenset(cluster.replicas) if cluster.primary.name in changed else changed

    def listening(self, emit: Emit) -> Callable[[Event], None]:
        """Return `emit`, but for keeping what it tells to be proven."""

        def heard(event: Event) -> None:
            if isinstance(event, BlocksProven):
                self.proofs.append(event.proof)
            emit(event)

        return heard

    def still_holding(self, cluster: Cluster) -> Proofs:
        """Return what it has proven that still holds."""
        proofs: dict[RelationState, list[ProvenBlocks]] = {}
        for proof in self.proofs:
            proofs.setdefault(proof.state, []).append(proof)
        return still_resting(proofs, self.starts, cluster)


def changed_since(before: Starts, now: Starts) -> frozenset[str]:
    """Return the nodes that were started anew in between.

    >>> sorted(changed_since({"db1": 0, "db2": 0}, {"db1": 0, "db2": 1}))
    ['db2']
    """
    return frozenset(name for name, count in now.items() if before.get(name, 0) != count)


def still_resting(proofs: Proofs, before: Starts, cluster: Cluster) -> Proofs:
    """Return what of proofs, made when the nodes had been started `before`, holds for the servers of now."""
    changed = changed_since(before, starts_of(cluster))
    if not changed:
        return proofs
    if cluster.primary.name in changed:
        return {}
    left = {state: _resting(found, changed) for state, found in proofs.items()}
    return {state: found for state, found in left.items() if found}


def _resting(proofs: Iterable[ProvenBlocks], changed: frozenset[str]) -> list[ProvenBlocks]:
    kept = ((proof, tuple(name for name in proof.replicas if name not in changed)) for proof in proofs)
    return [narrowed(proof, replicas) for proof, replicas in kept if replicas]


def heard_by(run: DatabaseRun, cluster: Cluster, earlier: Proofs) -> Cluster:
    """Return the cluster as that run is to see it: with what of `earlier` still holds, and what it proves kept.

    Where that comes of earlier runs, it rests on the servers that answered when the audit began.
    """
    return replace(cluster, earlier=earlier, emit=run.listening(cluster.emit))
