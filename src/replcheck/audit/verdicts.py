"""Fold what was proven into reports and verdicts.

Pure. What was not checked never counts as passed: a relation, a replica or a run is consistent only where every part in
scope was compared and matched.
"""

from collections.abc import Iterable, Mapping, Sequence

from replcheck.audit.comparison import BlockRange, joined
from replcheck.audit.cross_check import DISAGREE
from replcheck.audit.explanation import Ctid, RowDifference
from replcheck.audit.proof import RelationProof, Tally
from replcheck.audit.sequences import SequenceVerdict
from replcheck.audit.shortfalls import INCONCLUSIVE_CODES, NODE_CODES, Shortfall
from replcheck.model.audit import (
    CtidRange,
    DifferenceKind,
    Divergence,
    NotChecked,
    RelationKind,
    RelationReplica,
    RelationReport,
)
from replcheck.model.outcome import Verdict, worst_verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import rows_query

_LAST_OFFSET = 65535
ALL_CATALOGS = "pg_catalog.*"
"""Stands for the catalog that is damaged, where the server did not say which."""
MAX_RANGES = 50
"""Ranges of tuple positions told per divergence; the rest is counted."""
_SEEN_FROM_PRIMARY = {
    DifferenceKind.MISSING: DifferenceKind.EXTRA,
    DifferenceKind.EXTRA: DifferenceKind.MISSING,
    DifferenceKind.CHANGED: DifferenceKind.CHANGED,
}


def relation_report(database: str, proof: RelationProof) -> RelationReport:
    """Return the report of one relation."""
    replicas = tuple(
        RelationReplica(
            node=name,
            verdict=tally.verdict,
            rows_differing=tally.rows_differing,
            rows_in_flight=tally.in_flight,
            capped=bool(tally.unlisted or tally.contradicted),
        )
        for name, tally in proof.tallies.items()
    )
    relation = proof.relation
    return RelationReport(
        database=database,
        schema=relation.schema,
        name=relation.name,
        kind=relation.kind or RelationKind.TABLE,
        verdict=worst_verdict(replica.verdict for replica in replicas),
        rows=proof.rows,
        filter_digest=relation.row_filter.digest if relation.row_filter else None,
        chunks=proof.chunks,
        size_bytes=relation.total_bytes,
        replicas=replicas,
        proven_since=min((earlier.proven_at for earlier in proof.earlier), default=None),
    )


def relation_divergences(database: str, proof: RelationProof, primary: str) -> list[Divergence]:
    """Return what diverged in one relation, by node and kind.

    A row that differs on the primary alone, while the replicas agree, is told once, of the primary.
    """
    found: list[Divergence] = []
    primary_rows: dict[Ctid, RowDifference] = {}
    for name, tally in proof.tallies.items():
        own = [row for row in tally.rows if row.lone != primary]
        primary_rows |= {row.ctid: row for row in tally.rows if row.lone == primary}
        found += _row_divergences(database, proof.relation, name, own, tally)
        found += _unreadable_divergences(database, proof.relation, primary, name, tally)
        if tally.contradicted:
            ranges = tuple(_whole_blocks(blocks) for blocks in joined(tally.contradicted))
            kind, count = DifferenceKind.CHANGED, len(ranges)
            found.append(
                _divergence(
                    database, proof.relation, name, kind, ranges=ranges, count=count, capped=True, what=DISAGREE
                )
            )
        if tally.different_definition:
            found.append(
                _divergence(database, proof.relation, name, DifferenceKind.CHANGED, what=tally.different_definition)
            )
    odd = [
        RowDifference(ctid=row.ctid, kind=_SEEN_FROM_PRIMARY[row.kind], in_flight=False, lone=primary)
        for row in primary_rows.values()
    ]
    found += _row_divergences(database, proof.relation, primary, odd, None)
    return list(dict.fromkeys(found))


def odd_node(divergences: Iterable[Divergence], lone: Iterable[str | None], voters: int) -> str | None:
    """Return the one node that all divergences accuse against at least two others that agree; None where there is none.

    `lone` names, for each differing row of every replica, the node that stood alone; `voters` is the number of nodes
    that vote independently, the primary included.
    """
    accused = set(lone)
    nodes = {divergence.node for divergence in divergences}
    if voters < 3 or not nodes or None in accused or len(accused | nodes) != 1:
        return None
    return next(iter(nodes))


def shortfalls(database: str, proofs: Iterable[RelationProof]) -> list[NotChecked]:
    """Return what was not proven, once a relation and node; what concerns a whole node once a database."""
    by_node: dict[tuple[str, str], tuple[Shortfall, int]] = {}
    notes = []
    for proof in proofs:
        for name, tally in proof.tallies.items():
            for lack in tally.shortfalls.values():
                if lack.verdict is Verdict.CONSISTENT:
                    continue
                if lack.code in NODE_CODES:
                    _, count = by_node.get((name, lack.code), (lack, 0))
                    by_node[name, lack.code] = (lack, count + 1)
                else:
                    label = proof.relation.label
                    notes.append(not_checked(database, label, name, lack.code, lack.reason, hint=lack.hint))
    for (name, _), (lack, count) in by_node.items():
        reason = f"{count} relations not proven: {lack.reason}"
        notes.append(not_checked(database, None, name, lack.code, reason, hint=lack.hint))
    return notes


def note_verdict(note: NotChecked) -> Verdict:
    """Return what something that was not checked makes of a replica; by design it changes nothing."""
    if note.by_design:
        return Verdict.CONSISTENT
    return Verdict.INCONCLUSIVE if note.code in INCONCLUSIVE_CODES else Verdict.UNCHECKED


def sequence_report(database: str, sequence: Relation, found: Mapping[str, SequenceVerdict]) -> RelationReport:
    """Return the report of one sequence; `found` holds its verdicts by replica."""
    replicas = tuple(RelationReplica(node=name, verdict=verdict.verdict) for name, verdict in found.items())
    return RelationReport(
        database=database,
        schema=sequence.schema,
        name=sequence.name,
        kind=RelationKind.SEQUENCE,
        verdict=worst_verdict(replica.verdict for replica in replicas),
        rows=1,
        chunks=1,
        size_bytes=sequence.size_bytes,
        replicas=replicas,
    )


def sequence_divergence(database: str, sequence: Relation, node: str, found: SequenceVerdict) -> Divergence:
    """Return what diverged in a sequence on a replica."""
    return Divergence(
        database=database,
        relation=sequence.label,
        node=node,
        kind=DifferenceKind.UNREADABLE if found.sqlstate else DifferenceKind.CHANGED,
        ranges=(),
        count=1,
        capped=False,
        sqlstate=found.sqlstate,
        block=None,
        query=rows_query(sequence, ()),
        what=found.reason,
    )


def extra_divergences(database: str, extras: Mapping[str, Mapping[int, Relation]]) -> list[Divergence]:
    """Return the relations that only a replica has."""
    return [
        _divergence(database, relation, node, DifferenceKind.EXTRA, what="the relation exists only there")
        for node, relations in extras.items()
        for relation in relations.values()
    ]


def catalog_divergence(database: str, relation: str, node: str, sqlstate: str, block: int | None) -> Divergence:
    """Return that a node cannot read the catalogs of a database; `relation` is the one of them that is damaged."""
    return Divergence(
        database=database,
        relation=relation,
        node=node,
        kind=DifferenceKind.UNREADABLE,
        ranges=(),
        count=1,
        capped=False,
        sqlstate=sqlstate,
        block=block,
        query="",
        what="no relation of the database can be read without it",
    )


def not_checked(
    database: str | None,
    relation: str | None,
    node: str | None,
    code: str,
    reason: str,
    *,
    by_design: bool = False,
    hint: str = "",
) -> NotChecked:
    """Return a note of what was not looked at, and why."""
    return NotChecked(
        database=database, relation=relation, node=node, code=code, reason=reason, by_design=by_design, hint=hint
    )


def _row_divergences(
    database: str, relation: Relation, node: str, rows: Sequence[RowDifference], tally: Tally | None
) -> list[Divergence]:
    found = []
    for kind in (DifferenceKind.MISSING, DifferenceKind.EXTRA, DifferenceKind.CHANGED):
        ctids = sorted(row.ctid for row in rows if row.kind is kind)
        if ctids:
            ranges = ctid_ranges(ctids)
            found.append(_divergence(database, relation, node, kind, ranges=ranges, count=len(ctids)))
    if tally is not None and tally.unlisted:
        least = sum(count for _, count in tally.unlisted)
        ranges = tuple(_whole_blocks(blocks) for blocks in joined(blocks for blocks, _ in tally.unlisted))
        found.append(
            _divergence(database, relation, node, DifferenceKind.CHANGED, ranges=ranges, count=least, capped=True)
        )
    return found


def _unreadable_divergences(
    database: str, relation: Relation, primary: str, replica: str, tally: Tally
) -> list[Divergence]:
    found = []
    for node in (primary, replica):
        parts = [part for part in tally.unreadable if part.node == node]
        for sqlstate in sorted({part.sqlstate for part in parts}):
            here = [part for part in parts if part.sqlstate == sqlstate]
            ranges = tuple(_whole_blocks(blocks) for blocks in joined(part.blocks for part in here))
            found.append(
                _divergence(
                    database,
                    relation,
                    node,
                    DifferenceKind.UNREADABLE,
                    ranges=ranges,
                    count=len(ranges),
                    sqlstate=sqlstate,
                    block=here[0].block if here[0].block is not None else here[0].blocks.first,
                )
            )
    return found


def _divergence(  # noqa: PLR0913 - each is a field of the record
    database: str,
    relation: Relation,
    node: str,
    kind: DifferenceKind,
    *,
    ranges: tuple[CtidRange, ...] = (),
    count: int = 0,
    capped: bool = False,
    sqlstate: str | None = None,
    block: int | None = None,
    what: str = "",
) -> Divergence:
    shown = ranges[:MAX_RANGES]
    positions = [(_tid(r.first_block, r.first_offset), _tid(r.last_block, r.last_offset)) for r in shown]
    return Divergence(
        database=database,
        relation=relation.label,
        node=node,
        kind=kind,
        ranges=shown,
        count=count,
        capped=capped,
        sqlstate=sqlstate,
        block=block,
        query=rows_query(relation, positions) if positions else "",
        what=what,
    )


def ctid_ranges(ctids: Sequence[Ctid]) -> tuple[CtidRange, ...]:
    """Join neighbouring tuple positions of one block, given in order.

    >>> [str(r) for r in ctid_ranges([(0, 1), (0, 2), (0, 4), (3, 1)])]
    ['(0,1)..(0,2)', '(0,4)', '(3,1)']
    """
    ranges: list[list[Ctid]] = []
    for ctid in ctids:
        if ranges and ranges[-1][1][0] == ctid[0] and ranges[-1][1][1] + 1 == ctid[1]:
            ranges[-1][1] = ctid
        else:
            ranges.append([ctid, ctid])
    return tuple(
        CtidRange(first_block=first[0], first_offset=first[1], last_block=last[0], last_offset=last[1])
        for first, last in ranges
    )


def lone_votes(proofs: Iterable[RelationProof]) -> list[str | None]:
    """Return, for each difference of every replica, the node that stood alone there; None where nobody can say."""
    votes: list[str | None] = []
    for proof in proofs:
        for tally in proof.tallies.values():
            votes += [row.lone for row in tally.rows]
            votes += [part.node if part.readers > 1 else None for part in tally.unreadable]
            if tally.different_definition or tally.contradicted or (tally.unlisted and not tally.rows):
                votes.append(None)
    return votes


def _whole_blocks(blocks: BlockRange) -> CtidRange:
    return CtidRange(first_block=blocks.first, first_offset=1, last_block=blocks.end - 1, last_offset=_LAST_OFFSET)


def _tid(block: int, offset: int) -> str:
    return f"({block},{offset})"
