"""A restored dump against its seal: positions and ids are others, so each relation as a whole multiset of rows."""

from collections.abc import Mapping
from dataclasses import replace

from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan, plan_relations
from replcheck.audit.sequences import Bracket
from replcheck.drill.backups.source import Restored
from replcheck.drill.copy_server import CopyServer
from replcheck.drill.held_database import column_digest, portable_relations
from replcheck.drill.part_reading import PartReader
from replcheck.drill.sealed_comparison import Findings, Surroundings, absent, changed, unexpected
from replcheck.drill.sealed_parts import Gathering, part_blocks, part_ranges
from replcheck.drill.sequence_positions import judge_position, read_positions
from replcheck.drill.stages import Course
from replcheck.errors import StatementFailed
from replcheck.model.drill import Blame, RowDifference
from replcheck.model.names import qualified
from replcheck.model.seal import PortableDigest, SealedDatabase, SealedRelation, SealManifest
from replcheck.postgres.catalog import Column, Relation, read_relations
from replcheck.postgres.portable import (
    digest_large_objects,
    read_computed,
    read_extension_members,
    read_monetary_locale,
    read_moneyed,
)
from replcheck.postgres.session import Session

_LARGE_OBJECTS = "large objects"


async def compare_portable(
    seal: SealManifest, copy: CopyServer, restored: Restored, *, jobs: int, stages: Course
) -> Findings:
    """Compare the database of a restored dump with the one it was taken of; raise NodeError where the copy fails."""
    assert seal.dump is not None  # noqa: S101 - asked by the caller
    sealed = seal.database(seal.dump.database)
    findings = Findings()
    if sealed is None:
        findings.doubts.append(f"database {seal.dump.database} is not sealed")
        return findings
    name = restored.databases[0] if restored.databases else sealed.name
    surroundings = Surroundings(
        lacking=any(found.blame is Blame.ENVIRONMENT and found.code != "role_missing" for found in restored.problems),
        other_locale=restored.replaced_locale,
    )
    comparison = _Comparison(seal, sealed, copy, name, findings, surroundings)
    await comparison.run(jobs, stages)
    return findings


class _Comparison:
    def __init__(
        self,
        seal: SealManifest,
        sealed: SealedDatabase,
        copy: CopyServer,
        name: str,
        findings: Findings,
        surroundings: Surroundings,
    ) -> None:
        self._seal = seal
        self._sealed = sealed
        self._copy = copy
        self._name = name
        self._findings = findings
        self._surroundings = surroundings
        self._computed: frozenset[int] = frozenset()
        self._moneyed: frozenset[int] = frozenset()
        self._seeds = tuple(map(int, seal.seeds))
        self._done_bytes = 0

    async def run(self, jobs: int, stages: Course) -> None:
        session = await self._copy.open_snapshot(self._name)
        try:
            if session.server_encoding != self._sealed.encoding:
                self._findings.doubts.append(
                    f"the copy is encoded in {session.server_encoding}, the sealed database in {self._sealed.encoding}"
                )
                return
            other = await read_monetary_locale(session) != self._seal.monetary_locale
            self._surroundings = replace(self._surroundings, other_money=other)
            gatherings = await self._gatherings(session)
            await self._large_objects(session)
        finally:
            await session.close()

        def finished(gathering: Gathering) -> None:
            self._done_bytes += gathering.relation.total_bytes
            stages.progressed(self._done_bytes, gathering.relation.label)

        reader = PartReader(
            open_session=self._copy.open_snapshot,
            seeds=self._seeds,
            jobs=jobs,
            in_recovery=self._copy.facts.identity.in_recovery,
            obey=stages.obey,
            finished=finished,
        )
        stages.expect(sum(gathering.relation.total_bytes for _, gathering in gatherings))
        await reader.read([gathering for _, gathering in gatherings])
        for sealed, gathering in gatherings:
            assert sealed.portable is not None  # noqa: S101 - only such are gathered
            self._judge(sealed.portable, gathering, by_column=sealed.by_column)
        for note in self._seal.not_sealed:
            if not note.by_design and note.database == self._sealed.name:
                self._findings.doubts.append(f"{note.relation or 'a part'} is not sealed: {note.reason}")

    async def _gatherings(self, session: Session) -> list[tuple[SealedRelation, Gathering]]:
        scope = self._seal.scope
        plan = plan_relations(
            (await read_relations(session)).values(),
            AuditOptions(tables=scope.tables, excludes=scope.excludes, catalogs=False),
            database=self._sealed.name,
            shared_here=False,
            role="",
        )
        await self._sequences(plan)
        portable = await portable_relations(session, plan.digested)
        self._computed = await read_computed(session, list(portable.columns))
        self._moneyed = await read_moneyed(session, list(portable.columns))
        columns, members = portable.columns, portable.of_extensions
        copies = {(relation.schema, relation.name): relation for relation in plan.digested if relation.oid in columns}
        uncarried = {(relation.schema, relation.name) for relation in plan.digested if relation.oid not in columns}
        # Which tables an extension has depends on its version on this machine.
        self._note_unexpected({path: copy for path, copy in copies.items() if copy.oid not in members})
        found = []
        for sealed in self._sealed.relations:
            if sealed.portable is None:
                continue
            label, copy = qualified(sealed.schema, sealed.name), copies.get((sealed.schema, sealed.name))
            if copy is None and (sealed.schema, sealed.name) in uncarried:
                self._findings.doubts.append(f"{label}: its extension is of a version here whose rows no dump carries")
            elif copy is None:
                self._differs_unless_excused(absent(self._sealed.name, label))
            elif copy.oid in members and column_digest(columns[copy.oid]) != sealed.portable.columns:
                self._findings.doubts.append(f"{label}: its extension is of another version here")
            elif column_digest(columns[copy.oid]) != sealed.portable.columns:
                self._differs(changed(self._sealed.name, label))
            else:
                found.append((sealed, self._gathering(copy, columns[copy.oid], by_column=sealed.by_column)))
        return found

    def _note_unexpected(self, copies: Mapping[tuple[str, str], Relation]) -> None:
        known = {(sealed.schema, sealed.name) for sealed in self._sealed.relations}
        excused = {note.relation for note in self._seal.not_sealed if note.database == self._sealed.name}
        for path, relation in copies.items():
            if path not in known and relation.label not in excused:
                self._differs(unexpected(self._sealed.name, relation.label))

    def _gathering(self, copy: Relation, columns: tuple[Column, ...], *, by_column: bool) -> Gathering:
        blocks = -(-copy.size_bytes // self._copy.server.block_size)
        width = part_blocks(blocks)
        return Gathering(
            database=self._name,
            relation=copy,
            width=width,
            ranges=part_ranges(blocks, width),
            blocks=blocks,
            portable=columns,
            by_column=by_column,
        )

    def _judge(self, sealed: PortableDigest, gathering: Gathering, *, by_column: bool) -> None:
        label = gathering.relation.label
        if gathering.by_column is not by_column:
            self._findings.doubts.append(f"{label}: its rows are too wide to be read as they were when it was sealed")
            return
        if gathering.lack is not None or gathering.damaged:
            reason = gathering.lack.reason if gathering.lack else "a part of it cannot be read"
            self._findings.doubts.append(f"{label}: {reason}")
            return
        self._findings.relations += 1
        self._compare(sealed, label, gathering.rows, tuple(map(str, gathering.sums)), oid=gathering.relation.oid)

    def _compare(
        self, sealed: PortableDigest, label: str, rows: int, sums: tuple[str, ...], *, oid: int | None = None
    ) -> None:
        if (rows, sums) == (sealed.rows, sealed.sums):
            self._findings.rows += rows
            return
        if sealed.recomputed:
            stale = "a restore computes it anew, and it was not fresh when it was sealed"
            self._findings.doubts.append(f"{label} holds other rows: {stale}")
            return
        more = rows - sealed.rows
        kind = "extra" if more > 0 else "missing" if more < 0 else "changed"
        found = RowDifference(database=self._sealed.name, relation=label, kind=kind, count=abs(more) or 1)
        self._differs_unless_excused(
            found, empty=rows == 0, computed=oid in self._computed, moneyed=oid in self._moneyed
        )

    async def _large_objects(self, session: Session) -> None:
        sealed = self._sealed.large_objects
        if sealed is None:
            return
        try:
            found = await digest_large_objects(session, self._seeds, block_size=self._copy.server.block_size)
        except StatementFailed as error:
            self._findings.doubts.append(f"{_LARGE_OBJECTS} cannot be read in the copy ({error.sqlstate})")
            return
        self._findings.relations += 1
        self._compare(sealed, _LARGE_OBJECTS, found.objects, tuple(map(str, found.sums)))

    async def _sequences(self, plan: Plan) -> None:
        copies = {(sequence.schema, sequence.name): sequence for sequence in plan.sequences}
        session = await self._copy.open(self._name)
        try:
            positions = await read_positions(session, plan.sequences)
            members = await read_extension_members(session, [sequence.oid for sequence in plan.sequences])
        finally:
            await session.close()
        for sealed in self._sealed.sequences:
            label, copy = qualified(sealed.schema, sealed.name), copies.get((sealed.schema, sealed.name))
            position = positions.get(copy.oid) if copy is not None else None
            if copy is None:
                self._differs_unless_excused(absent(self._sealed.name, label))
            elif position is None:
                self._findings.doubts.append(f"{label} cannot be read in the copy")
            else:
                self._findings.relations += 1
                match judge_position(sealed, position, dumped=True):
                    case Bracket.OUTSIDE if copy.oid in members:
                        # A dump carries the position of those alone that the extension names (extconfig).
                        self._findings.doubts.append(f"{label} belongs to an extension, which made it anew")
                    case Bracket.OUTSIDE:
                        self._differs(changed(self._sealed.name, label, 1))
                    case Bracket.UNSTEADY:
                        self._findings.doubts.append(f"{label} was set or went round while the primary was sealed")
                    case Bracket.INSIDE:
                        pass

    def _differs_unless_excused(
        self, difference: RowDifference, *, empty: bool = False, computed: bool = False, moneyed: bool = False
    ) -> None:
        """Hold a difference against the dump, unless this machine may be why."""
        excuse = self._surroundings.excuse(difference.kind, empty=empty, computed=computed, moneyed=moneyed)
        if excuse:
            self._findings.doubts.append(f"{difference.relation}: {excuse}")
        else:
            self._differs(difference)

    def _differs(self, difference: RowDifference) -> None:
        self._findings.differences.append(difference)
