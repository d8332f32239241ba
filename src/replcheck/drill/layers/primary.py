"""Layer `rows against the primary`: every row of the copy is the primary's, or a later transaction explains it."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from replcheck.audit.handles import NodeHandle
from replcheck.audit.scope import databases_in_scope
from replcheck.drill.backups.source import Restored
from replcheck.drill.copy_server import CopyServer, connect_copy
from replcheck.drill.layers.layer import Case, Moment
from replcheck.drill.layers.primary_rows import SCOPE, DatabaseRows
from replcheck.drill.layers.seal import incomparable
from replcheck.drill.primary_node import find_primary
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealed_comparison import Findings
from replcheck.drill.sealing import connect_primary
from replcheck.drill.verdict import MOVED_ON
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.model.drill import BackupKind, LayerName, LayerReport, LayerState
from replcheck.model.node import NodeTarget
from replcheck.postgres.digests import RowHash, hashes_bytes
from replcheck.postgres.horizons import Horizon, read_horizon
from replcheck.postgres.nodes import read_databases
from replcheck.postgres.sealing import read_server


class PrimaryLayer:
    """Compares a physical copy with the live primary, which is found among `nodes`; with none it does not run."""

    name = LayerName.PRIMARY
    moment = Moment.OPEN

    def __init__(self, nodes: Sequence[NodeTarget], *, jobs: int = 2) -> None:
        self._nodes = tuple(nodes)
        self._jobs = jobs

    def run(self, case: Case) -> LayerReport:
        """Compare every relation that both hold, and report."""
        began = time.monotonic()
        if not self._nodes:
            return _not_run("no primary is named", began, by_design=True)
        if case.restored is None:
            return _not_run("the copy did not open", began)
        if case.restored.kind is BackupKind.DUMP:
            return _not_run("rows of a dump lie at other positions than the primary's", began, by_design=True)
        try:
            return asyncio.run(self._compare(case, case.restored, began))
        except Interrupted:
            raise
        except ReplcheckError as error:
            return _not_run(error.message, began)

    async def _compare(self, case: Case, restored: Restored, began: float) -> LayerReport:
        copy = await connect_copy(restored)
        primary = await connect_primary(await find_primary(self._nodes), SealOptions(catalogs=False), lambda _: None)
        try:
            horizon = await _horizon(copy)
            reason = await _not_comparable(primary, copy, restored, horizon)
            if reason:
                return _not_run(reason, began, by_design=restored.kind is BackupKind.COMMAND)
            findings, passed = await self._rows(case, primary, copy, horizon)
        finally:
            await primary.close()
        if passed.moved_on:
            findings.doubts.insert(0, f"{passed.moved_on:,} {MOVED_ON}")
        report = findings.report(self.name, time.monotonic() - began)
        return replace(report, checked=f"{report.checked}{passed.told()}", later_rows=passed.later)

    async def _rows(
        self, case: Case, primary: NodeHandle, copy: CopyServer, horizon: Horizon
    ) -> "tuple[Findings, _Passed]":
        """Return what was found, and what could not be compared."""
        found, passed = Findings(), _Passed()
        direct = hashes_bytes(min(primary.facts.version_num, copy.facts.version_num))
        how = RowHash(seeds=(secrets.randbits(63),), direct=direct)
        databases, left_out = await databases_in_scope(primary, SCOPE)
        found.doubts += [f"database {note.database}: {note.reason}" for note in left_out if not note.by_design]
        found.doubts += await _only_in_copy(primary, copy)
        for database in databases:
            rows = DatabaseRows(database, primary, copy, horizon=horizon, how=how, stages=case.stages)
            await rows.compare()
            found.add(rows.findings)
            passed.moved_on += rows.moved_on
            passed.later += rows.later
            passed.sequences += rows.sequences
        return found, passed


@dataclass(slots=True, kw_only=True)
class _Passed:
    """What was passed over, over all databases."""

    moved_on: int = 0
    """Rows of the copy that were deleted or updated since."""
    later: int = 0
    """Rows of the primary that were written since."""
    sequences: int = 0

    def told(self) -> str:
        """Return it behind what was compared, but for what limits the layer; empty where there is nothing."""
        later = "1 row of the primary is" if self.later == 1 else f"{self.later:,} rows of the primary are"
        sequences = "1 sequence is" if self.sequences == 1 else f"{self.sequences:,} sequences are"
        parts = [f"{later} later than the copy"] if self.later else []
        parts += [f"{sequences} not compared"] if self.sequences else []
        return "".join(f"; {part}" for part in parts)


async def _only_in_copy(primary: NodeHandle, copy: CopyServer) -> list[str]:
    """Return a doubt for each database that the copy has and the primary has not."""
    session = await copy.open(None)
    try:
        copied = await read_databases(session)
    finally:
        await session.close()
    there = {database.name for database in await read_databases(await primary.control())}
    return [f"database {each.name} is not on the primary any more" for each in copied if each.name not in there]


async def _horizon(copy: CopyServer) -> Horizon:
    session = await copy.open(None)
    try:
        return await read_horizon(session)
    finally:
        await session.close()


async def _not_comparable(primary: NodeHandle, copy: CopyServer, restored: Restored, horizon: Horizon) -> str:
    """Say why a copy cannot be compared with the primary; empty where it can."""
    server = await read_server(await primary.control(), primary.facts)
    if server.system_identifier != copy.server.system_identifier:
        return "the copy is that of another cluster than the primary"
    other = incomparable(server, copy.server)
    if other:
        return other.replace("the seal holds for", "the primary is")
    timeline = horizon.previous_timeline
    if not horizon.in_recovery and copy.facts.timeline != horizon.timeline:
        # Its last checkpoint lies before the end of its recovery, and so tells too early an end.
        return "the copy was promoted and has made no checkpoint since: it cannot be told where it ends"
    if horizon.in_recovery:
        timeline = restored.recovery.timeline if restored.recovery is not None else horizon.timeline
    if timeline != primary.facts.timeline:
        return f"the copy was recovered on timeline {timeline}, and the primary is on {primary.facts.timeline}"
    return ""


def _not_run(reason: str, began: float, *, by_design: bool = False) -> LayerReport:
    return LayerReport(
        name=LayerName.PRIMARY,
        state=LayerState.NOT_RUN,
        reason=reason,
        elapsed_s=time.monotonic() - began,
        by_design=by_design,
    )
