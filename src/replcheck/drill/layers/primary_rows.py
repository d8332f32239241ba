"""Every relation of a copy that stands still, block by block beside the live primary.

The primary is read under a new snapshot for each stretch of blocks, inside savepoints that are rolled back: nothing is
held. What is held against the copy must show again in a second look, with nothing redefined in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan, plan_relations
from replcheck.drill.copy_server import CopyServer
from replcheck.drill.later_rows import Judged, confirmed, full_xid, judge_rows
from replcheck.drill.sealed_comparison import Findings, absent
from replcheck.drill.stages import Course
from replcheck.errors import DatabaseMissing, NodeError, StatementCancelled, StatementFailed
from replcheck.model.drill import RowDifference
from replcheck.postgres.catalog import Relation, read_filenodes, read_relations, read_tokens
from replcheck.postgres.digests import LAST_BLOCK, ListedRow, PartDigests, RowHash, digest_ranges, list_rows
from replcheck.postgres.failures import is_corruption, is_disk_failure, is_too_wide
from replcheck.postgres.horizons import Horizon, later_than, read_entry_xids, read_xmax
from replcheck.postgres.nodes import Database
from replcheck.postgres.session import Limits, Session
from replcheck.postgres.snapshots import BEGIN

_STRETCH_BLOCKS = 2048
_PART_BLOCKS = 16
_LISTED_PARTS = 32
_MOST_LISTED_ROWS = 500_000
"""Rows listed per relation; one that changed more than that is not looked at row by row."""
_TRIES = 20
_RETRY_S = 0.3
SCOPE = AuditOptions(catalogs=False)
_LIMITS = Limits(statement_s=60.0, transaction_s=300.0)

Ranges = Sequence[tuple[int, int]]
Answer = TypeVar("Answer")


class _LookElsewhere(Exception):
    """A relation cannot be compared any further; says why."""


@dataclass(slots=True)
class _Sides:
    """The sessions on both servers, in one database."""

    primary: Session
    copy: Session


class DatabaseRows:
    """The rows of one database."""

    def __init__(
        self,
        database: Database,
        primary: NodeHandle,
        copy: CopyServer,
        *,
        horizon: Horizon,
        how: RowHash,
        stages: Course,
    ) -> None:
        self._database = database
        self._primary = primary
        self._copy = copy
        self._horizon = horizon
        self.findings = Findings()
        self._how = how
        self._stages = stages
        self._listed = 0
        self.moved_on = 0
        """Rows of the copy whose fate cannot be told."""
        self.later = 0
        """Rows of the primary that were written after the copy's point."""
        self.sequences = 0
        """Of the copy; they are not compared, for a position moves on without a transaction that would explain it."""

    async def compare(self) -> None:
        """Compare every relation that both hold; raise NodeError where a server is lost."""
        name = self._database.name
        try:
            there = await self._primary.open(name, "drill", limits=_LIMITS)
        except DatabaseMissing:
            self.findings.doubts.append(f"database {name} was dropped since")
            return
        try:
            here = await self._open_copy(name)
            if here is None:
                self.findings.doubts.append(f"database {name} is not in the copy: made or renamed since, or lost")
                return
            try:
                await self._compare(_Sides(there, here))
            finally:
                await here.close()
        finally:
            await there.close()

    async def _open_copy(self, name: str) -> Session | None:
        try:
            return await self._copy.open_snapshot(name)
        except DatabaseMissing:
            return None

    async def _compare(self, sides: _Sides) -> None:
        here = await read_relations(sides.copy)
        await sides.primary.fetch(BEGIN)
        there = await read_relations(sides.primary)
        copy_plan, plan = self._planned(here), self._planned(there)
        copies = {relation.oid: relation for relation in copy_plan.digested}
        originals = {relation.oid: relation for relation in plan.digested}
        self.sequences = len(copy_plan.sequences)
        left_out = _left_out(plan, copy_plan)
        self.findings.doubts += [f"{self._database.name}.{label}: {reason}" for label, reason in left_out.items()]
        # What the copy lists is there, whether or not its rows can be read.
        await self._note_absent(sides, originals, here)
        await sides.primary.rollback()
        for oid in originals.keys() & here.keys() - copies.keys():
            if here[oid].label not in left_out:
                self.findings.doubts.append(f"{self._database.name}.{here[oid].label} was redefined since")
        done = 0
        for oid, copy in copies.items():
            label, original = f"{self._database.name}.{copy.label}", originals.get(oid)
            self._stages.obey()
            if original is None:
                if oid not in there:
                    self.findings.doubts.append(f"{label} was dropped since")
                elif there[oid].label not in left_out:
                    self.findings.doubts.append(f"{label} was redefined since")
            elif (original.token, original.filenode_now, original.label) != (
                copy.token,
                copy.filenode_now,
                copy.label,
            ):
                self.findings.doubts.append(f"{label} was redefined or rewritten since")
            else:
                await self._relation(sides, original, copy, label)
            done += copy.total_bytes
            self._stages.progressed(done, label)

    def _planned(self, listed: Mapping[int, Relation]) -> Plan:
        return plan_relations(listed.values(), SCOPE, database=self._database.name, shared_here=False, role="")

    async def _note_absent(
        self, sides: _Sides, originals: Mapping[int, Relation], copies: Mapping[int, Relation]
    ) -> None:
        alone = originals.keys() - copies.keys()
        if not alone:
            return
        xmax = await read_xmax(sides.primary)
        written = {oid: full_xid(xid, xmax) for oid, xid in (await read_entry_xids(sides.primary, alone)).items()}
        later = await later_than(sides.copy, self._horizon, written.values())
        for oid in alone:
            label = originals[oid].label
            if oid in written and written[oid] not in later:
                self.findings.differences.append(absent(self._database.name, label))
            else:
                self.findings.doubts.append(f"{self._database.name}.{label} was made or redefined since")

    async def _relation(self, sides: _Sides, original: Relation, copy: Relation, label: str) -> None:
        self._listed = 0
        judged = Judged()
        blocks = -(-max(original.size_bytes, copy.size_bytes) // self._copy.server.block_size)
        try:
            for first in range(0, max(blocks, 1), _STRETCH_BLOCKS):
                self._stages.obey()
                end = min(first + _STRETCH_BLOCKS, blocks)
                ranges = [(first, end)] if end > first else []
                if end >= blocks:
                    ranges.append((end, LAST_BLOCK))
                _add(judged, await self._stretch(sides, original, ranges))
            await self._require_unchanged(sides, original)
        except _LookElsewhere as why:
            self.findings.doubts.append(f"{label}: {why}")
            return
        self.findings.relations += 1
        self.findings.rows += judged.equal
        self.moved_on += judged.moved_on
        self.later += judged.later
        if judged.nothing_shown:
            self.findings.doubts.append(
                f"{label} is empty in the copy, and all its rows on the primary ({judged.later:,}) were written since"
            )
        self.findings.differences += _differences(self._database.name, copy.label, judged)

    async def _stretch(self, sides: _Sides, relation: Relation, ranges: Ranges) -> Judged:
        there, here = await self._on_both(sides, relation, lambda session: self._digests(session, relation, ranges))
        parts = [part for blocks in ranges for part in _cut(blocks)]
        judged = Judged()
        differing = []
        for part, mine, other in zip(parts, here.digests, there.digests, strict=True):
            if mine == other:
                judged.equal += mine.rows
            else:
                differing.append(part)
        for start in range(0, len(differing), _LISTED_PARTS):
            batch = differing[start : start + _LISTED_PARTS]
            found = await self._look(sides, relation, batch)
            if found.suspects:
                await asyncio.sleep(_RETRY_S)
                found = confirmed(found, await self._look(sides, relation, batch))
            _add(judged, found)
        return judged

    async def _digests(self, session: Session, relation: Relation, ranges: Ranges) -> PartDigests:
        found = await digest_ranges(session, relation, self._how, ranges, _PART_BLOCKS)
        _require_same_file(found.filenode, relation)
        return found

    async def _look(self, sides: _Sides, relation: Relation, ranges: Ranges) -> Judged:
        async def rows(session: Session) -> tuple[list[ListedRow], int]:
            filenode, listed = await list_rows(session, relation, self._how, ranges)
            _require_same_file(filenode, relation)
            return listed, await read_xmax(session)

        (there, xmax), (here, _) = await self._on_both(sides, relation, rows)
        self._listed += len(there) + len(here)
        if self._listed > _MOST_LISTED_ROWS:
            raise _LookElsewhere("more of its rows changed since than are looked at one by one")
        full = {row.xmin: full_xid(row.xmin, xmax) for row in there}
        later = await later_than(sides.copy, self._horizon, full.values())
        return judge_rows(there, here, is_later=lambda xid: full[xid] in later)

    async def _on_both(
        self, sides: _Sides, relation: Relation, ask: Callable[[Session], Awaitable[Answer]]
    ) -> tuple[Answer, Answer]:
        for attempt in range(_TRIES):
            try:
                await sides.primary.fetch(BEGIN)
                try:
                    return await asyncio.gather(ask(sides.primary), ask(sides.copy))
                finally:
                    await sides.primary.rollback()
            except StatementCancelled as error:
                if error.node != sides.primary.node or attempt == _TRIES - 1:
                    raise _LookElsewhere("a lock or a time limit kept us out") from error
                await asyncio.sleep(_RETRY_S)
            except StatementFailed as error:
                raise self._refused(sides, relation, error) from error
        raise AssertionError

    def _refused(self, sides: _Sides, relation: Relation, error: StatementFailed) -> NodeError | _LookElsewhere:
        damaged = is_corruption(error) and not is_disk_failure(error) and not is_too_wide(error)
        if damaged and error.node == sides.copy.node:
            self.findings.differences.append(
                RowDifference(
                    database=self._database.name,
                    relation=relation.label,
                    kind="unreadable",
                    count=None,
                    first_block=error.block,
                    last_block=error.block,
                )
            )
            return _LookElsewhere(f"the copy cannot read it (SQLSTATE {error.sqlstate})")
        return _LookElsewhere(f"it cannot be read (SQLSTATE {error.sqlstate})")

    async def _require_unchanged(self, sides: _Sides, relation: Relation) -> None:
        tokens = await read_tokens(sides.primary, [relation.oid])
        filenodes = await read_filenodes(sides.primary, [relation.oid])
        now = (tokens.get(relation.oid, 0), filenodes.get(relation.oid))
        if now != (relation.token, relation.filenode_now):
            raise _LookElsewhere("it was redefined or rewritten meanwhile")


def _left_out(*plans: Plan) -> dict[str, str]:
    """Return the relations that should be compared and cannot be on a side, with the reason of the first."""
    return {
        note.relation: note.reason
        for plan in reversed(plans)
        for note in plan.not_checked
        if note.relation is not None and not note.by_design
    }


def _require_same_file(filenode: int | None, relation: Relation) -> None:
    if filenode != relation.filenode_now:
        raise _LookElsewhere("it was redefined or rewritten meanwhile")


def _cut(blocks: tuple[int, int]) -> list[tuple[int, int]]:
    first, end = blocks
    if end == LAST_BLOCK:
        return [blocks]
    return [(start, min(start + _PART_BLOCKS, end)) for start in range(first, end, _PART_BLOCKS)]


def _add(judged: Judged, more: Judged) -> None:
    judged.equal += more.equal
    judged.moved_on += more.moved_on
    judged.later += more.later
    judged.missing += more.missing
    judged.changed += more.changed


def _differences(database: str, relation: str, judged: Judged) -> list[RowDifference]:
    return [
        RowDifference(
            database=database,
            relation=relation,
            kind=kind,
            count=len(positions),
            first_block=min(positions)[0],
            last_block=max(positions)[0],
        )
        for kind, positions in (("missing", judged.missing), ("changed", judged.changed))
        if positions
    ]
