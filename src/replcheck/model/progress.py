"""What an audit has proven so far, in a form that survives it: enough to go on where it ended.

A proof holds for one definition and one file node of a relation, under one encoding, against one primary, between
servers that have not been started anew since. Positions are block numbers; no digest and no row's content is kept.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

MAX_AGE_S = 24 * 3600
"""How old a proof may be for an audit to build upon it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationState:
    """One state of a relation's heap, as the primary names it; a proof is void for any other."""

    database: int
    """Oid."""
    relation: int
    """Oid."""
    token: int
    """The definition, as a number that never comes back."""
    filenode: int | None
    filter: str = ""
    """Digest of the row filter that the proof was made under; empty where every row was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenBlocks:
    """Blocks of a relation that were found equal on the primary and on some replicas."""

    state: RelationState
    replicas: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]
    """First block, and the block behind the last."""
    rows: int | None
    """Rows of these blocks on the primary; None where another proof counts them."""
    proven_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What every proof of a run rests on."""

    encoding: str
    system_identifier: str
    servers: Mapping[str, str]
    """By node: what tells one start of one server from every other."""
    primary: str | None = None
    """The node whose rows all others were compared with; None where what an older version wrote does not say."""
    timeline: int | None = None
    """The primary's."""
    cross_check: float = 0.0
    """Share of the chunks that is compared in the client too, 0 to 1."""

    def lack(self, now: "Premises") -> str:
        """Say why nothing that rests on these premises holds under those of now; empty where something may.

        A standby that is promoted keeps its start, so the start of every server may be the same although what the
        replicas were found equal to is another node.
        """
        if self.encoding != now.encoding:
            return f"it was proven under the encoding {self.encoding}"
        if self.cross_check < now.cross_check:
            return "less of it was compared in the client than --cross-check asks for now"
        if self.system_identifier != now.system_identifier:
            return "it was proven of another cluster"
        if self.primary is None:
            return "the history does not say which node was the primary then"
        if self.primary != now.primary:
            return f"{self.primary} was the primary then"
        if self.servers.get(self.primary) != now.servers.get(self.primary):
            return f"{self.primary} is another server than then, or was started anew since"
        return "" if self.timeline == now.timeline else f"{self.primary} is on another timeline than then"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of a cluster a run was asked for."""

    digest: str
    """The same for what was asked for alike."""
    whole: bool
    """Whether nothing was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an earlier run has proven."""

    run_id: str
    started_at: datetime
    premises: Premises
    proofs: tuple[ProvenBlocks, ...]
    max_age_s: float = MAX_AGE_S
    """How old a proof may be to be built upon."""

    def still_valid(self, premises: Premises, now: datetime) -> dict[RelationState, list[ProvenBlocks]]:
        """Return what still holds under other premises, by state: for each proof, the replicas it still holds for.

        Nothing holds where the encoding, the cluster or the primary is another one.
        """
        mine, valid = self.premises, dict[RelationState, list[ProvenBlocks]]()
        oldest = now - timedelta(seconds=self.max_age_s)
        same = {node for node, server in mine.servers.items() if premises.servers.get(node) == server}
        if mine.lack(premises):
            return valid
        for proof in self.proofs:
            replicas = tuple(name for name in proof.replicas if name in same)
            if replicas and proof.proven_at >= oldest:
                valid.setdefault(proof.state, []).append(narrowed(proof, replicas))
        return valid


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What of earlier runs still holds."""

    proofs: Mapping[RelationState, Sequence[ProvenBlocks]] = field(default_factory=dict)
    run: Progress | None = None
    """The run that most relations are taken over from; None where nothing holds."""
    lack: str = ""
    """Why nothing holds of the newest run that had proven something; empty where something does, or there is no run."""


def taken_over(runs: Sequence[Progress], premises: Premises, now: datetime) -> TakenOver:
    """Return what still holds of several runs, newest first: of each relation what the one proved that proved most.

    What two runs have proven of one relation is never put together: its rows would be counted twice.
    """
    best: dict[RelationState, tuple[Progress, list[ProvenBlocks]]] = {}
    for run in runs:
        for state, proofs in run.still_valid(premises, now).items():
            if state not in best or _extent(proofs) > _extent(best[state][1]):
                best[state] = (run, proofs)
    sources = Counter(run.run_id for run, _ in best.values())
    most = sources.most_common(1)
    return TakenOver(
        proofs={state: proofs for state, (_, proofs) in best.items()},
        run=next(run for run in runs if run.run_id == most[0][0]) if most else None,
        lack="" if most or not runs else _newest_lack(runs, premises, now),
    )


def _newest_lack(runs: Sequence[Progress], premises: Premises, now: datetime) -> str:
    return next((_lack(run, premises, now) for run in runs if run.proofs), "it had proven nothing yet")


def _lack(run: Progress, premises: Premises, now: datetime) -> str:
    oldest = now - timedelta(seconds=run.max_age_s)
    if any(proof.proven_at >= oldest for proof in run.proofs):
        return run.premises.lack(premises) or "its replicas were started anew since, or take no part now"
    return "it is too long ago"


def _extent(proofs: Iterable[ProvenBlocks]) -> int:
    return sum(len(proof.replicas) * (end - first) for proof in proofs for first, end in proof.ranges)


def narrowed(proof: ProvenBlocks, replicas: tuple[str, ...]) -> ProvenBlocks:
    """Return what is left of a proof that holds for some of its replicas only."""
    if replicas == proof.replicas:
        return proof
    return ProvenBlocks(
        state=proof.state, replicas=replicas, ranges=proof.ranges, rows=proof.rows, proven_at=proof.proven_at
    )


def without(ranges: Iterable[tuple[int, int]], cut: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what of `ranges` is left when `cut` is taken out; both as first block and the block behind the last.

    >>> without([(0, 10), (20, 30)], [(3, 5), (8, 22)])
    [(0, 3), (5, 8), (22, 30)]
    """
    left = sorted(ranges)
    for first, end in sorted(cut):
        left = [
            part for low, high in left for part in ((low, min(high, first)), (max(low, end), high)) if part[0] < part[1]
        ]
    return left
