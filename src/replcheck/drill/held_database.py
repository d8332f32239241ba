"""One database of a seal: its snapshot is held by a session that does nothing else, until all of it is digested."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replcheck.audit.handles import NodeHandle
from replcheck.audit.plan import Plan, plan_relations
from replcheck.audit.visibility import View
from replcheck.drill.part_reading import REDEFINED
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealed_parts import Gathering, Lack, part_blocks, part_ranges
from replcheck.drill.sequence_positions import read_positions
from replcheck.model.audit import NotChecked, RelationKind
from replcheck.model.seal import (
    DatabaseFacts,
    NotSealed,
    PortableDigest,
    SealedDatabase,
    SealedRelation,
    SealedSequence,
    SequencePosition,
)
from replcheck.postgres.catalog import Column, Relation, read_filenodes, read_relations, read_tokens
from replcheck.postgres.nodes import Database
from replcheck.postgres.portable import Carried, digest_large_objects, read_extension_members, read_portable_columns
from replcheck.postgres.seal_facts import read_database_facts
from replcheck.postgres.sealing import export_snapshot
from replcheck.postgres.session import Limits, Session

_STIRRED = Lack(
    code="sequence_unsteady",
    reason="it was made, renamed, dropped or locked while the restore point was made",
    hint="Seal again.",
)
PORTABLE_KINDS = frozenset({RelationKind.TABLE, RelationKind.MATERIALIZED_VIEW})
"""Relations whose rows a dump carries, with large objects, which are digested by themselves."""


class HeldDatabase:
    """What is sealed of one database; every method raises NodeError where the primary is lost."""

    def __init__(
        self, database: Database, session: Session, primary: NodeHandle, options: SealOptions, seeds: tuple[int, ...]
    ) -> None:
        self.database = database
        self.session = session
        self.snapshot = ""
        """The name under which other sessions import it; empty before it is exported."""
        self.gatherings: list[Gathering] = []
        self.notes: list[NotSealed] = []
        self.facts: DatabaseFacts | None = None
        self._primary = primary
        self._options = options
        self._seeds = seeds
        self._listed: tuple[Relation, ...] = ()
        self._positions: list[Mapping[int, SequencePosition]] = []
        self._sequences: tuple[Relation, ...] = ()
        self._large_objects: PortableDigest | None = None
        self._redefined: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """Return the database's name."""
        return self.database.name

    async def read_sequences(self) -> None:
        """Read where the sequences stand now; the first time, also which there are."""
        session = await self._primary.open(self.name, "seal sequences", limits=self._limits)
        try:
            if not self._positions:
                self._listed = (await self._plan_of(session, shared_here=False)).sequences
            self._positions.append(await read_positions(session, self._listed))
        finally:
            await session.close()

    async def plan(self, *, shared_here: bool) -> None:
        """List what there is under the snapshot, digest what is no relation, and export the snapshot."""
        plan = await self._plan_of(self.session, shared_here=shared_here)
        self.notes += [not_sealed(note) for note in plan.not_checked]
        self._sequences = plan.sequences
        portable = await self._portable(plan.digested)
        for relation in plan.digested:
            if relation.filenode and relation.filenode != relation.filenode_now:
                self.notes.append(self._note(relation.label, REDEFINED))
                continue
            blocks = -(-relation.size_bytes // self._primary.facts.block_size)
            width = part_blocks(blocks)
            self.gatherings.append(
                Gathering(
                    database=self.name,
                    relation=relation,
                    width=width,
                    ranges=part_ranges(blocks, width),
                    blocks=blocks,
                    portable=portable.columns.get(relation.oid),
                    recomputed=relation.oid in portable.recomputed,
                )
            )
        self.facts = await read_database_facts(self.session)
        if self._options.carries_dumps:
            found = await digest_large_objects(self.session, self._seeds, block_size=self._primary.facts.block_size)
            self._large_objects = PortableDigest(rows=found.objects, sums=tuple(map(str, found.sums)), columns="")
        self.snapshot = await export_snapshot(self.session)

    async def check_definitions(self) -> None:
        """Note what was rewritten or redefined since the snapshot: it counts only where nothing was."""
        relations = {gathering.relation.oid: gathering.relation for gathering in self.gatherings}
        session = await self._primary.open(self.name, "seal definitions", limits=self._limits)
        try:
            tokens = await read_tokens(session, list(relations))
            filenodes = await read_filenodes(session, list(relations))
        finally:
            await session.close()
        self._redefined = frozenset(
            oid
            for oid, relation in relations.items()
            if (tokens.get(oid, 0), filenodes.get(oid)) != (relation.token, relation.filenode_now)
        )

    def sealed(self, view: View, unsettled: frozenset[int]) -> SealedDatabase:
        """Return what the manifest holds of it, and note what is not sealed."""
        return SealedDatabase(
            name=self.name,
            oid=self.database.oid,
            encoding=self.database.encoding,
            xmin=view.xmin,
            xmax=view.xmax,
            unsettled=tuple(sorted(unsettled)),
            relations=tuple(self._sealed_relations(unsettled=bool(unsettled))),
            sequences=tuple(self._sealed_sequences()),
            large_objects=self._large_objects,
        )

    @property
    def _limits(self) -> Limits:
        return Limits(statement_s=60.0, transaction_s=60.0)

    async def _plan_of(self, session: Session, *, shared_here: bool) -> Plan:
        return plan_relations(
            (await read_relations(session)).values(),
            self._options.scope,
            database=self.name,
            shared_here=shared_here,
            role=self._primary.facts.privileges.role,
        )

    async def _portable(self, relations: Sequence[Relation]) -> "PortableRelations":
        if not self._options.carries_dumps:
            return PortableRelations()
        return await portable_relations(self.session, relations)

    def _sealed_relations(self, *, unsettled: bool) -> Iterable[SealedRelation]:
        for gathering in self.gatherings:
            relation = gathering.relation
            lack = gathering.lack
            if lack is None and relation.oid in self._redefined:
                lack = REDEFINED
            if lack is None and gathering.damaged:
                lack = _damage(gathering)
            if lack is not None:
                self.notes.append(self._note(relation.label, lack))
            else:
                yield gathering.sealed(column_digest(gathering.portable or ()), unsettled=unsettled)

    def _sealed_sequences(self) -> Iterable[SealedSequence]:
        known = {relation.oid: relation for relation in self._listed}
        for sequence in self._sequences:
            there = known.get(sequence.oid)
            positions = [read.get(sequence.oid) for read in self._positions]
            same = there is not None and there.label == sequence.label
            if not same or any(position is None for position in positions):
                self.notes.append(self._note(sequence.label, _STIRRED))
                continue
            before, after, *later = [position for position in positions if position is not None]
            yield SealedSequence(
                schema=sequence.schema,
                name=sequence.name,
                oid=sequence.oid,
                before=before,
                after=after,
                after_dump=later[0] if later else None,
            )

    def _note(self, relation: str, lack: Lack) -> NotSealed:
        return NotSealed(
            database=self.name, relation=relation, code=lack.code, reason=lack.reason, by_design=False, hint=lack.hint
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableRelations:
    """Relations whose rows a dump carries, by oid."""

    columns: Mapping[int, tuple[Column, ...]] = field(default_factory=dict)
    recomputed: frozenset[int] = frozenset()
    """Those of which a restore makes rows anew: an extension's, some of whose rows come with it."""
    of_extensions: frozenset[int] = frozenset()
    """Relations of extensions, whether a dump carries their rows or not."""


async def portable_relations(session: Session, relations: Sequence[Relation]) -> PortableRelations:
    """Return those relations whose rows a dump carries."""
    listed = [relation.oid for relation in relations if relation.kind in PORTABLE_KINDS]
    columns = await read_portable_columns(session, listed)
    members = await read_extension_members(session, listed)
    return PortableRelations(
        columns={oid: columns.get(oid, ()) for oid in listed if members.get(oid) is not Carried.NONE},
        recomputed=frozenset(oid for oid, carried in members.items() if carried is Carried.SOME),
        of_extensions=frozenset(members),
    )


def column_digest(columns: Iterable[Column]) -> str:
    """Return a SHA-256 over the names of columns."""
    names = b"".join(len(column.name).to_bytes(4, "big") + column.name for column in columns)
    return hashlib.sha256(names).hexdigest()


def _damage(gathering: Gathering) -> Lack:
    number, damage = next(iter(gathering.damaged.items()))
    block = damage.block if damage.block is not None else gathering.ranges[number][0]
    return Lack(
        code="unreadable",
        reason=f"the primary cannot read it at block {block} (SQLSTATE {damage.sqlstate})",
        hint="Its files are damaged: compare its replicas with replcheck audit.",
    )


def not_sealed(note: NotChecked) -> NotSealed:
    """Return what an audit would not check as a seal tells it."""
    return NotSealed(
        database=note.database or "",
        relation=note.relation,
        code=note.code,
        reason=note.reason,
        by_design=note.by_design,
        hint=note.hint,
    )
