"""A physical copy against a seal: the same positions, the same transaction ids, so part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan, plan_relations
from replcheck.audit.sequences import Bracket
from replcheck.drill.copy_server import CopyServer
from replcheck.drill.part_reading import PartReader
from replcheck.drill.sealed_comparison import (
    Findings,
    absent,
    block_ranges,
    changed,
    differing_parts,
    matched_rows,
    row_differences,
    unexpected,
    unreadable,
    unreadable_parts,
)
from replcheck.drill.sealed_parts import Gathering
from replcheck.drill.sequence_positions import judge_position, read_positions
from replcheck.drill.stages import Course
from replcheck.model.audit import Scope
from replcheck.model.drill import RowDifference
from replcheck.model.names import qualified
from replcheck.model.seal import SealedDatabase, SealedRelation, SealManifest
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.digests import LAST_BLOCK
from replcheck.postgres.nodes import read_databases
from replcheck.postgres.seal_digests import blocks_with
from replcheck.postgres.sealing import possibly_committed
from replcheck.postgres.session import Session

_IN_DOUBT = "a transaction that was in flight at the restore point is committed in the copy"


@dataclass(slots=True, kw_only=True)
class _Database:
    """One sealed database as the copy has it."""

    sealed: SealedDatabase
    committed: frozenset[int]
    """Unsettled transactions that are committed in the copy."""
    gatherings: list[tuple[SealedRelation, Gathering]] = field(default_factory=list)


async def compare_exact(seal: SealManifest, copy: CopyServer, *, jobs: int, stages: Course) -> Findings:
    """Compare a copy that stands at the seal's restore point with the seal; raise NodeError where the copy fails."""
    comparison = _Comparison(seal, copy, jobs, stages)
    await comparison.run()
    return comparison.findings


class _Comparison:
    def __init__(self, seal: SealManifest, copy: CopyServer, jobs: int, stages: Course) -> None:
        self.findings = Findings()
        self._seal = seal
        self._copy = copy
        self._jobs = jobs
        self._stages = stages
        self._done_bytes = 0

    async def run(self) -> None:
        databases = [await self._database(sealed) for sealed in await self._present()]
        reader = PartReader(
            open_session=self._copy.open_snapshot,
            seeds=tuple(map(int, self._seal.seeds)),
            jobs=self._jobs,
            in_recovery=self._copy.facts.identity.in_recovery,
            obey=self._stages.obey,
            finished=self._finished,
        )
        gatherings = [gathering for database in databases for _, gathering in database.gatherings]
        self._stages.expect(sum(gathering.relation.total_bytes for gathering in gatherings))
        await reader.read(gatherings)
        for database in databases:
            await self._judge(database)
        self._note_unsealed()

    async def _present(self) -> list[SealedDatabase]:
        session = await self._copy.open(None)
        try:
            listed = {database.name for database in await read_databases(session)}
        finally:
            await session.close()
        for database in self._seal.databases:
            if database.name not in listed:
                self.findings.differences.append(absent(database.name, "*"))
        known = {database.name for database in self._seal.databases}
        known |= {note.database for note in self._seal.not_sealed}
        if self._seal.scope.whole:
            for name in sorted(listed - known):
                self.findings.doubts.append(f"database {name} was not sealed")
        return [database for database in self._seal.databases if database.name in listed]

    async def _database(self, sealed: SealedDatabase) -> _Database:
        session = await self._copy.open_snapshot(sealed.name)
        try:
            committed = await possibly_committed(session, list(sealed.unsettled))
            database = _Database(sealed=sealed, committed=committed)
            listed = await read_relations(session)
            plan = plan_relations(
                listed.values(), _options(self._seal.scope), database=sealed.name, shared_here=True, role=""
            )
            self._match(database, listed, plan)
            await session.rollback()
            await self._sequences(session, database, plan)
        finally:
            await session.close()
        return database

    def _match(self, database: _Database, listed: Mapping[int, Relation], plan: Plan) -> None:
        name, copies = database.sealed.name, {relation.oid: relation for relation in plan.digested}
        for sealed in database.sealed.relations:
            label = qualified(sealed.schema, sealed.name)
            copy = copies.get(sealed.oid)
            if copy is None and sealed.oid in listed and listed[sealed.oid].label == label:
                self.findings.doubts.append(f"{name}.{label} cannot be read in the copy")
            elif copy is None or copy.label != label:
                self._differs(database, label, absent(name, label))
            elif (copy.token, copy.filenode_now) != (sealed.token, sealed.filenode):
                self._differs(database, label, changed(name, label))
            else:
                database.gatherings.append((sealed, _gathering(name, sealed, copy, self._copy.server.block_size)))
        known = {sealed.oid for sealed in database.sealed.relations}
        excused = {note.relation for note in self._seal.not_sealed if note.database == name}
        for relation in plan.digested:
            # Catalogs that all databases share were sealed in one of them.
            if relation.oid not in known and relation.label not in excused and not relation.shared:
                self._differs(database, relation.label, unexpected(name, relation.label))

    def _differs(self, database: _Database, label: str, difference: RowDifference) -> None:
        if database.committed:
            self.findings.doubts.append(f"{database.sealed.name}.{label}: it is another, and {_IN_DOUBT}")
        else:
            self.findings.differences.append(difference)

    async def _sequences(self, session: Session, database: _Database, plan: Plan) -> None:
        name, copies = database.sealed.name, {sequence.oid: sequence for sequence in plan.sequences}
        positions = await read_positions(session, plan.sequences)
        for sealed in database.sealed.sequences:
            label = qualified(sealed.schema, sealed.name)
            if sealed.oid not in copies:
                self._differs(database, label, absent(name, label))
                continue
            position = positions.get(sealed.oid)
            if position is None:
                self.findings.doubts.append(f"{name}.{label} cannot be read in the copy")
                continue
            self.findings.relations += 1
            match judge_position(sealed, position, dumped=False):
                case Bracket.OUTSIDE:
                    self._differs(database, label, changed(name, label, 1))
                case Bracket.UNSTEADY:
                    self.findings.doubts.append(f"{name}.{label} was set or went round while the primary was sealed")
                case Bracket.INSIDE:
                    pass
        known = {sealed.oid for sealed in database.sealed.sequences}
        excused = {note.relation for note in self._seal.not_sealed if note.database == name}
        for sequence in plan.sequences:
            if sequence.oid not in known and sequence.label not in excused:
                self._differs(database, sequence.label, unexpected(name, sequence.label))

    async def _judge(self, database: _Database) -> None:
        for sealed, gathering in database.gatherings:
            label = f"{gathering.database}.{gathering.relation.label}"
            if gathering.lack is not None:
                self.findings.doubts.append(f"{label}: {gathering.lack.reason}")
                continue
            self.findings.relations += 1
            if gathering.by_column and not sealed.by_column:
                # The same rows were not too wide for the primary: a length is damaged.
                self.findings.differences.append(unreadable(gathering))
                continue
            self.findings.rows += matched_rows(sealed, gathering)
            self.findings.differences += unreadable_parts(gathering)
            differing = differing_parts(sealed, gathering)
            explained = await self._explained(database, sealed, gathering, differing)
            if explained:
                blocks = block_ranges(gathering, sorted(explained))
                self.findings.doubts.append(f"{label}, blocks {blocks}: {_IN_DOUBT}")
            self.findings.differences += row_differences(sealed, gathering, set(differing) - explained)

    async def _explained(
        self, database: _Database, sealed: SealedRelation, gathering: Gathering, differing: Sequence[int]
    ) -> frozenset[int]:
        """Return those differing parts that a transaction could have touched whose fate the seal did not know."""
        if not differing or not database.committed:
            return frozenset()
        session = await self._copy.open_snapshot(database.sealed.name)
        try:
            ranges = [gathering.ranges[number] for number in differing]
            firsts = await blocks_with(session, gathering.relation, sorted(database.committed), ranges)
        finally:
            await session.close()
        return frozenset(
            number for number in differing if sealed.parts[number].marked or gathering.ranges[number][0] in firsts
        )

    def _note_unsealed(self) -> None:
        for note in self._seal.not_sealed:
            if not note.by_design:
                what = f"{note.database}.{note.relation}" if note.relation else f"database {note.database}"
                self.findings.doubts.append(f"{what} is not sealed: {note.reason}")

    def _finished(self, gathering: Gathering) -> None:
        self._done_bytes += gathering.relation.total_bytes
        self._stages.progressed(self._done_bytes, f"{gathering.database}.{gathering.relation.label}")


def _gathering(database: str, sealed: SealedRelation, copy: Relation, block_size: int) -> Gathering:
    firsts = [number * sealed.part_blocks for number in range(len(sealed.parts))]
    ends = [*firsts[1:], LAST_BLOCK]
    return Gathering(
        database=database,
        relation=copy,
        width=sealed.part_blocks,
        ranges=list(zip(firsts, ends, strict=True)),
        blocks=-(-copy.size_bytes // block_size),
        by_column=sealed.by_column,
    )


def _options(scope: Scope) -> AuditOptions:
    return AuditOptions(tables=scope.tables, excludes=scope.excludes, catalogs=scope.catalogs)
