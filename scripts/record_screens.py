"""Record what the screen of `replcheck watch` is told, from real servers: tests/data/screens.jsonl.

Run by hand, as `python -m scripts.record_screens`, where the events or facts have changed; it takes some minutes. A
primary and two standbys of the lab are watched, audited, backed up, drilled, broken and audited again, and one of them
is killed, while pgbench and the mixed workload write. Marks in the recording name what was going on. Of the samples one
in two is kept, and the folders of this machine are left out.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from replcheck.cli.live_board import Board, now
from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.live_commands import LiveCommands
from replcheck.cli.live_feed import WatchFeed
from replcheck.config import Configuration, load
from replcheck.drill.manifest import write_manifest
from replcheck.drill.seal_options import SealOptions
from replcheck.drill.sealing import connect_primary, seal_primary
from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.workload import MixedWorkload
from replcheck.model.node import NodeTarget
from replcheck.model.run import new_run_id
from replcheck.model.seal import SealManifest
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveFlags, live_request
from replcheck.runs.own_cluster import own_cluster, scratch_root
from replcheck.store import KEEP_FOR_EVER
from replcheck.tui.feed import AuditEnded, DrillEnded, StandingsTaken, Update, ViewTaken
from tests.labs import clusters_root
from tests.tui.recordings import RECORDED, Mark, written

_POLICY = """
[watch]
interval = "1s"
[policy]
copies = { running = 3, proven = 2, window = "1h", share = 99, claim = "At least two consistent copies at any moment" }
consistency = { max_age = "24h", claim = "Every copy is compared row by row every day" }
recovery-point = { max_age = "5min", window = "1h", claim = "Snapshots down to the last five minutes" }
restore = { every = "7d", max_time = "1h", claim = "Every backup is restored once a week" }
failover = { max_time = "60s", claim = "Failure is detected and switched over automatically" }
replacement = { max_time = "30min", claim = "A lost copy is recreated automatically" }
placement = { distinct = ["zone"], claim = "The copies sit in independent racks" }
integrity = { claim = "Damage on disk is found by checksums" }
[waivers]
failover = { reason = "the first exercise is booked", by = "head of operations", until = 2099-12-31 }
"""


_ALIASES = {"db1": "primary", "db2": "standby1", "db3": "standby2"}


class Recorder:
    """What a board tells, and what was going on."""

    def __init__(self, board: Board) -> None:
        self.told: list[Update | Mark] = []
        self._views = 0
        self._standings: StandingsTaken | None = None
        board.subscribe(self._take)

    def _take(self, update: Update) -> None:
        if isinstance(update, ViewTaken):
            self._views += 1
        if isinstance(update, StandingsTaken):
            if self._standings is not None and _proven(update) == _proven(self._standings):
                return
            self._standings = update
        if not isinstance(update, ViewTaken) or self._views % 2:
            self.told.append(update)

    def mark(self, name: str) -> None:
        """Name this moment."""
        self.told.append(Mark(name=name))
        sys.stderr.write(f"{name}: {len(self.told)} updates\n")

    def wait(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        """Wait until something is so."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(0.1)

    def count(self, kind: type[Update]) -> int:
        """Return how many updates of a kind were told."""
        return sum(isinstance(update, kind) for update in self.told)


def main() -> int:
    """Record, and write the file; return the exit status."""
    with ExitStack() as stack:
        cluster = stack.enter_context(
            own_cluster(clusters_root(), "screens", keep=False, major=None, settings=ARCHIVING)
        )
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        story = _Story(cluster, Path(folder), stack)
        story.play()
    text = "".join(written(story.recorder.told))
    for path, shown in story.folders().items():
        text = text.replace(path, shown)
    RECORDED.write_text(text, encoding="utf-8")
    return 0


def _proven(update: StandingsTaken) -> dict[str, tuple[bool, str, bool]]:
    return {name: (standing.proven, standing.reason, standing.diverged) for name, standing in update.standings.items()}


class _Story:
    def __init__(self, cluster: LabCluster, folder: Path, stack: ExitStack) -> None:
        self._cluster, self._folder, self._stack = cluster, folder, stack
        mixed = MixedWorkload(cluster, rate=20, writers=2, patients=4000)
        stack.enter_context(PgbenchLoad(cluster, rate=20, clients=2, scale=3))
        self._archive = begin_archive(cluster)
        self._backup = base_backup(cluster, "nightly")
        # Sealed before tables are rewritten under it, which would leave them out.
        seal = self._sealed()
        stack.enter_context(mixed)
        self._configuration = self._configured(seal)
        store = folder / "clinic.db"
        board = Board()
        self.recorder = Recorder(board)
        request = live_request(LiveFlags(audits=False), self._configuration)
        self._commands = LiveCommands(request, self._configuration, store, board)
        self._claims = ClaimsFeed(self._configuration, store, board)
        settings = LiveSettings(
            store=store,
            keep=KEEP_FOR_EVER,
            sinks=[board.take_live, self._commands.take, self._claims.take],
            run_sinks=[board.audit_event],
            audited=board.audit_over,
            tell=board.note,
        )
        self._feed = WatchFeed(request, settings, board)

    def _sealed(self) -> str:
        manifest = asyncio.run(self._seal())
        write_manifest(manifest, self._folder / "seals")
        time.sleep(2)
        archive_all(self._cluster, self._archive)
        return manifest.seal_id

    async def _seal(self) -> SealManifest:
        options = SealOptions()
        target = NodeTarget(name="db1", dsn=self._cluster.audit_dsn("primary"))
        primary = await connect_primary(target, options, lambda _: None)
        try:
            manifest, _ = await seal_primary(
                primary,
                options,
                seal_id=new_run_id(now()),
                cluster="clinic",
                emit=lambda _: None,
                stop=asyncio.Event(),
            )
        finally:
            await primary.close()
        return manifest

    def _configured(self, seal: str) -> Configuration:
        nodes = "\n".join(
            f'{alias} = {{ dsn = "{self._cluster.audit_dsn(name)}", zone = "rack-{alias[-1]}" }}'
            for alias, name in _ALIASES.items()
        )
        seals, scratch = self._folder / "seals", scratch_root(self._cluster.directory)
        path = self._folder / "replcheck.toml"
        path.write_text(
            f'cluster = "clinic"\n[nodes]\n{nodes}\n{_POLICY}'
            f'[backups.nightly]\nkind = "base"\npath = "{self._backup}"\nwal = "{self._archive}"\n'
            f'[drill]\nbackup = "nightly"\ntarget = "seal:{seal}"\nscratch = "{scratch}"\n'
            f'[seal]\nfolder = "{seals}"\n'
        )
        return load(path)

    def folders(self) -> dict[str, str]:
        """Return the folders of this machine and what stands for them in the recording, the longest first."""
        state = self._cluster.state
        sockets = {
            f"{state.socket_dir}:{node.port}": f"{alias}.internal:5432"
            for alias, node in zip(_ALIASES, state.nodes, strict=True)
        }
        return sockets | {
            str(state.socket_dir): "db.internal",
            str(scratch_root(self._cluster.directory)): "/var/lib/replcheck/scratch",
            str(self._cluster.directory): "/var/lib/postgresql",
            str(self._folder): "/var/lib/replcheck",
        }

    def play(self) -> None:
        recorder, commands = self.recorder, self._commands
        self._feed.start()
        self._claims.start()
        try:
            time.sleep(40)
            recorder.mark("watched")
            commands.start_audit()
            recorder.wait(lambda: recorder.count(AuditEnded) == 1)
            self._settle("audited")
            commands.start_drill("nightly")
            time.sleep(4)
            recorder.mark("drilling")
            recorder.wait(lambda: recorder.count(DrillEnded) == 1)
            self._settle("drilled")
            apply_fault(self._cluster, "flip-row-bytes", node=self._cluster.standbys[0].name, seed=7)
            commands.start_audit()
            time.sleep(8)
            recorder.mark("auditing")
            recorder.wait(lambda: recorder.count(AuditEnded) == 2)
            self._settle("diverged")
            self._cluster.standbys[1].stop()
            self._settle("lost", seconds=20)
            self._cluster.standbys[1].start()
            self._settle("back", seconds=10)
        finally:
            self._claims.close()
            commands.close()
            self._feed.close()

    def _settle(self, name: str, seconds: float = 13) -> None:
        """Wait until the history and the claims were read again."""
        time.sleep(seconds)
        self.recorder.mark(name)


if __name__ == "__main__":
    sys.exit(main())
