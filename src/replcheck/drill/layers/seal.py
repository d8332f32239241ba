"""Layer `rows against a seal`: every relation of the copy has the digests that the primary had at the restore point."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from replcheck.drill.backups.source import Restored
from replcheck.drill.copy_server import CopyServer, connect_copy
from replcheck.drill.layers.layer import Case, Moment
from replcheck.drill.layers.seal_exact import compare_exact
from replcheck.drill.layers.seal_portable import compare_portable
from replcheck.drill.sealed_comparison import Findings
from replcheck.drill.verdict import DUMP_CHANGED
from replcheck.errors import Interrupted, ReplcheckError
from replcheck.model.drill import BackupKind, LayerName, LayerReport, LayerState, TargetKind
from replcheck.model.seal import SealedServer, SealManifest
from replcheck.model.wal import Lsn
from replcheck.postgres.sealing import read_replayed

_UNKNOWN_DUMP = (
    "the copy is another cluster than the sealed one, and from which dump a command restored it cannot be told"
)


class SealLayer:
    """Compares a copy with a seal; `seal` is None where none belongs to this drill.

    `dump_file` is the dump that is restored, where it is one: only the very dump that was taken under the seal's
    snapshot can be compared with it. One that was changed since is compared too, and never passes. Left out, the
    copy's label is taken for it.
    """

    name = LayerName.SEAL
    moment = Moment.OPEN

    def __init__(self, seal: SealManifest | None, *, jobs: int = 2, dump_file: Path | None = None) -> None:
        self._seal = seal
        self._jobs = jobs
        self._dump_file = dump_file

    def run(self, case: Case) -> LayerReport:
        """Compare every sealed relation, and report."""
        began = time.monotonic()
        if self._seal is None:
            return _not_run("there is no seal to compare with", began, by_design=True)
        if case.restored is None:
            return _not_run("the copy did not open", began)
        try:
            return asyncio.run(self._compare(self._seal, case, case.restored, began))
        except Interrupted:
            raise
        except ReplcheckError as error:
            return _not_run(error.message, began)

    async def _compare(self, seal: SealManifest, case: Case, restored: Restored, began: float) -> LayerReport:
        copy = await connect_copy(restored)
        other = incomparable(seal.server, copy.server)
        if other:
            return _not_run(other, began)
        same_cluster = copy.server.system_identifier == seal.server.system_identifier
        asked = case.target.kind is TargetKind.SEAL
        findings: Findings
        if restored.kind is BackupKind.DUMP or (restored.kind is BackupKind.COMMAND and not same_cluster):
            return await self._compare_dump(seal, case, restored, copy, began)
        if not same_cluster:
            return _not_run("the copy is that of another cluster: its system identifier is not the seal's", began)
        replayed = await _replayed(copy, restored)
        elsewhere = stands_elsewhere(seal, restored, copy.facts.identity.in_recovery, replayed, by_name=asked)
        if elsewhere:
            return _not_run(elsewhere, began, by_design=not asked)
        findings = await compare_exact(seal, copy, jobs=self._jobs, stages=case.stages)
        if await _replayed(copy, restored) != replayed:
            return _not_run("the copy went on replaying while it was compared", began)
        return findings.report(self.name, time.monotonic() - began)

    async def _compare_dump(
        self, seal: SealManifest, case: Case, restored: Restored, copy: CopyServer, began: float
    ) -> LayerReport:
        from replcheck.drill.seal_dump import dump_digest, is_sealed_dump

        asked = case.target.kind is TargetKind.SEAL
        if seal.dump is None:
            return _not_run("the seal was made without a dump (replcheck seal --dump)", began, by_design=not asked)
        if restored.kind is BackupKind.COMMAND:
            return _not_run(_UNKNOWN_DUMP, began, by_design=not asked)
        file = self._dump_file or Path(case.copy.label)
        try:
            digest, _ = await asyncio.to_thread(dump_digest, file)
        except OSError:
            return _not_run("it cannot be told whether the dump is the one of the seal", began, by_design=not asked)
        changed = digest != seal.dump.sha256
        if changed and not is_sealed_dump(file, seal.dump):
            return _not_run("the dump is not the one that was taken with the seal", began, by_design=not asked)
        findings = await compare_portable(seal, copy, restored, jobs=self._jobs, stages=case.stages)
        if changed:
            findings.doubts.insert(0, DUMP_CHANGED)
        report = findings.report(self.name, time.monotonic() - began)
        told = changed and report.state is LayerState.FAILED
        return replace(report, reason=f"{report.reason}; {DUMP_CHANGED}") if told else report


def incomparable(sealed: SealedServer, copy: SealedServer) -> str:
    """Say why digests of the two servers cannot be compared; empty where they can."""
    if copy.major != sealed.major:
        return f"the seal holds for PostgreSQL {sealed.major}, and the copy runs {copy.major}"
    if copy.hash_probe != sealed.hash_probe or copy.block_size != sealed.block_size:
        return (
            f"the seal holds for {sealed.architecture} with blocks of {sealed.block_size} bytes, and the copy runs on"
            f" {copy.architecture} with {copy.block_size}"
        )
    return ""


def stands_elsewhere(
    seal: SealManifest, restored: Restored, in_recovery: bool, replayed: Lsn | None, *, by_name: bool
) -> str:
    """Say where a copy stands that does not stand at the seal's restore point; empty where it does.

    `by_name` says that the recovery was to stop at the restore point's name, which no other timeline has.
    """
    point, recovery = seal.restore_point, restored.recovery
    if replayed is None:
        return "it cannot be told where the copy stands"
    if replayed != point.lsn:
        return f"the copy stands at {replayed}, the seal's restore point at {point.lsn}"
    if recovery is None or (by_name and recovery.reached):
        return ""
    right = recovery.timeline == point.timeline if in_recovery else recovery.timeline >= point.timeline
    return "" if right else f"the copy is on timeline {recovery.timeline}, the seal on {point.timeline}"


async def _replayed(copy: CopyServer, restored: Restored) -> Lsn | None:
    session = await copy.open(None)
    try:
        _, replayed = await read_replayed(session)
    finally:
        await session.close()
    # A server that was started again after its recovery does not know any more.
    return replayed if replayed is not None or restored.recovery is None else restored.recovery.replayed


def _not_run(reason: str, began: float, *, by_design: bool = False) -> LayerReport:
    return LayerReport(
        name=LayerName.SEAL,
        state=LayerState.NOT_RUN,
        reason=reason,
        elapsed_s=time.monotonic() - began,
        by_design=by_design,
    )
