"""The last parts of the demo: a backup is sealed, restored and proven, and a damaged copy of it is refuted."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from replcheck.config.model import BaseBackup
from replcheck.drill.backups.copying import tree_size
from replcheck.drill.manifest import write_manifest
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealing import connect_primary, seal_primary
from replcheck.drill.targets import parse_target
from replcheck.errors import Interrupted
from replcheck.lab.backups import archive_all, base_backup, begin_archive, damaged_copy
from replcheck.lab.cluster import LabCluster
from replcheck.model.demo import BackupDamaged, BackupTaken, DrillEnded, Part, PartBegun, Scene, SealMade
from replcheck.model.drill import DrillLimits, DrillResult
from replcheck.model.node import NodeTarget
from replcheck.model.run import new_run_id
from replcheck.model.seal import SealManifest
from replcheck.runs import demo_claims
from replcheck.runs.audit import Tell
from replcheck.runs.demo_stop import StopWish
from replcheck.runs.drill import run_drills
from replcheck.runs.drill_request import DrillRequest
from replcheck.runs.own_cluster import scratch_root
from replcheck.runs.records import now

NAME = "nightly"
_RELATION = "clinic.chart"
_WRITING_S = 2.0


class DrillStory:
    """Backs up, seals and restores one cluster; `problems` is what was wrong with its claims."""

    def __init__(
        self,
        cluster: LabCluster,
        *,
        name: str,
        wish: StopWish,
        narrate: Callable[[Scene], None],
        transactions: Callable[[], int],
        tell: Tell,
    ) -> None:
        self.problems: list[str] = []
        self._cluster = cluster
        self._name = name
        self._wish = wish
        self._narrate = narrate
        self._transactions = transactions
        self._tell = tell

    def play(self) -> bool:
        """Play the parts up to the first problem, and return whether there was none."""
        self._begin(Part.BACKUP)
        archive, backup = self._back_up()
        seal = self._seal(archive)
        self._begin(Part.DRILL)
        self.problems += demo_claims.wrong_with_restore(self._drill(Part.DRILL, backup, archive, seal), seal)
        if not self.problems:
            self._begin(Part.DAMAGED_DRILL)
            damaged, file, block = damaged_copy(self._cluster, backup, _RELATION)
            self._wish.obey()
            self._narrate(BackupDamaged(file=file, block=block, relation=_RELATION))
            result = self._drill(Part.DAMAGED_DRILL, damaged, archive, seal)
            self.problems += demo_claims.wrong_with_refutation(result, file)
        return not self.problems

    def _begin(self, part: Part) -> None:
        self._wish.obey()
        self._narrate(PartBegun(part=part))

    def _back_up(self) -> tuple[Path, Path]:
        began = time.monotonic()
        archive = begin_archive(self._cluster)
        backup = base_backup(self._cluster, NAME)
        self._wish.obey()
        self._narrate(BackupTaken(size_bytes=tree_size(backup), took_s=time.monotonic() - began))
        return archive, backup

    def _seal(self, archive: Path) -> SealManifest:
        before = self._transactions()
        self._wish.sleep(_WRITING_S)
        between, began = self._transactions(), time.monotonic()
        seal = asyncio.run(self._sealed())
        took_s, sealed = time.monotonic() - began, self._transactions()
        self._wish.obey()
        write_manifest(seal, self._seals)
        self._wish.sleep(_WRITING_S)
        after = self._transactions() - sealed
        archive_all(self._cluster, archive)
        self._narrate(
            SealMade(seal=seal, took_s=took_s, transactions_before=between - before, transactions_after=after)
        )
        if not after:
            self.problems.append("no transaction was committed behind the seal")
        return seal

    async def _sealed(self) -> SealManifest:
        stop, options = asyncio.Event(), SealOptions()
        target = NodeTarget(name="primary", dsn=self._cluster.audit_dsn("primary"))
        with self._wish.passed_on(stop):
            primary = await connect_primary(target, options, lambda _: None)
            try:
                manifest, _ = await seal_primary(
                    primary, options, seal_id=new_run_id(now()), cluster=self._name, emit=lambda _: None, stop=stop
                )
            finally:
                await primary.close()
        return manifest

    def _drill(self, part: Part, backup: Path, archive: Path, seal: SealManifest) -> DrillResult:
        began = time.monotonic()
        [done] = run_drills(self._request(backup, archive, seal), tell=self._tell, wish=self._wish)
        self._wish.obey()
        if done.error is not None:
            raise done.error
        if done.result is None:
            raise Interrupted("the drill has no result")
        self._narrate(DrillEnded(part=part, result=done.result, took_s=time.monotonic() - began))
        return done.result

    def _request(self, backup: Path, archive: Path, seal: SealManifest) -> DrillRequest:
        return DrillRequest(
            cluster=self._name,
            name=NAME,
            backup=BaseBackup(kind="base", path=str(backup), wal=str(archive)),
            copy_label=None,
            every=False,
            target=parse_target(f"seal:{seal.seal_id}"),
            scratch=scratch_root(self._cluster.directory),
            scratch_dsn=None,
            layers=None,
            required=frozenset(),
            nodes=(),
            keep=False,
            limits=DrillLimits(),
            timeout_s=None,
            assertions=(),
            programs={},
            seals=self._seals,
        )

    @property
    def _seals(self) -> Path:
        return self._cluster.directory / "seals"
