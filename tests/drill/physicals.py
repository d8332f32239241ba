"""A primary with a WAL archive, and the backups that real programs take of it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from replcheck.config.model import BaseBackup
from replcheck.drill import scratch as scratches
from replcheck.drill.backups.base import BaseSource
from replcheck.drill.backups.source import BackupSource, Restored
from replcheck.drill.layers.layer import Case, Layer, Moment
from replcheck.drill.scratch import Scratch
from replcheck.drill.stages import Stages
from replcheck.drill.targets import parse_target
from replcheck.errors import Interrupted
from replcheck.events import Event
from replcheck.lab.cluster import LabCluster
from replcheck.model.drill import LayerReport, Stage, Target
from replcheck.postgres.compression import COMPRESSIONS
from replcheck.postgres.programs import process_options, server_account
from replcheck.postgres.server import LocalServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cluster whose primary archives its WAL, and a folder for backups."""

    cluster: LabCluster
    folder: Path

    @property
    def primary(self) -> LocalServer:
        return self.cluster.primary

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    @property
    def major(self) -> int:
        return self.primary.programs.major

    def write(self, table: str = "visit", rows: int = 1000) -> None:
        self.primary.execute(f"create table if not exists {table} (id int primary key, note text)")
        self.primary.execute(
            f"insert into {table} select n + g, 'secret note ' || g from (select count(*) as n from {table}) s,"
            f" generate_series(1, {rows}) g"
        )

    def rows(self, table: str = "visit") -> int:
        [(count,)] = self.primary.execute(f"select count(*) from {table}")
        return int(count)

    def restore_point(self, name: str) -> str:
        [(lsn,)] = self.primary.execute("select pg_create_restore_point(%s)::text", [name])
        return str(lsn)

    def archive(self) -> str:
        """Switch the segment, wait until it is archived, and return its name."""
        [(name,)] = self.primary.execute("select pg_walfile_name(pg_current_wal_lsn())")
        self.primary.execute("select pg_logical_emit_message(true, 'test', 'x')")
        self.primary.execute("select pg_switch_wal()")
        deadline = time.monotonic() + 30
        while not (self.wal / name).is_file():
            assert time.monotonic() < deadline, f"{name} was not archived"
            time.sleep(0.02)
        return str(name)

    def base(self, name: str, *options: str, plain: bool = True, wal: str = "none") -> Path:
        """Take a base backup and return its folder."""
        target = self.folder / name
        self.run(
            "pg_basebackup",
            *("--pgdata", str(target), "--dbname", self.primary.dsn(), "--checkpoint", "fast", "--no-sync"),
            *("--format", "plain" if plain else "tar", "--wal-method", wal),
            *options,
        )
        return target

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.primary.programs.path(program)), *arguments],
            **process_options(self.primary.account),
            check=True,
            capture_output=True,
        )


@contextmanager
def archiving_place(make: Callable[..., LabCluster], folder: Path, **options: object) -> Iterator[Place]:
    """Make a primary without standbys that archives into a folder beside the backups."""
    own(folder)
    wal = folder / "wal"
    wal.mkdir(mode=0o700)
    own(wal)
    settings = {"archive_mode": "on", "archive_command": f"cp %p '{wal}/.%f' && mv '{wal}/.%f' '{wal}/%f'"}
    settings |= options.pop("settings", {})  # type: ignore[call-overload]
    yield Place(cluster=make(standbys=0, settings=settings, **options), folder=folder)


def own(path: Path) -> None:
    """Give a folder to the account that servers run under."""
    account = server_account()
    if account is not None:
        os.chown(path, account.uid, account.gid)


@dataclass
class Trial:
    """One restore as a drill would do it, without the proof."""

    source: BackupSource
    root: Path
    events: list[Event] = field(default_factory=list)
    scratch: Scratch | None = None
    restored: Restored | None = None
    layer: Layer | None = None
    """Runs when the files are fetched."""
    only_fetch: bool = False
    """Whether to end before any server is started."""
    report: LayerReport | None = None
    stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        self.stages = _WatchedStages(self)

    def run(self, target: str | Target = "latest", label: str | None = None) -> Restored:
        asked = parse_target(target) if isinstance(target, str) else target
        copies = self.source.copies()
        chosen = copies[0] if label is None else next(one for one in copies if one.label == label)
        self.source.requirements(chosen, asked)
        self.scratch = scratches.make_scratch(
            self.root, run_id="t1", backup="test", account=server_account(), needed_bytes=chosen.size_bytes
        )
        self.restored = self.source.restore(chosen, asked, self.scratch, self.stages)
        return self.restored

    def close(self) -> None:
        self.source.release(self.restored)
        if self.scratch is not None:
            scratches.remove_scratch(self.scratch)
        scratches.remove_root(self.root)


class _WatchedStages(Stages):
    """Runs the trial's layer of Moment.FETCHED where a drill would."""

    def __init__(self, made: Trial) -> None:
        super().__init__(made.events.append)
        self._made = made

    @contextmanager
    def enter(self, stage: Stage, total_bytes: int | None = None) -> Iterator[None]:
        layer = self._made.layer
        if stage is Stage.RECOVER and layer is not None and layer.moment is Moment.FETCHED:
            self._made.report = layer.run(case_of(self._made))
            if self._made.only_fetch:
                raise Interrupted("only fetched")
        with super().enter(stage, total_bytes):
            yield


def base_source(path: Path, wal: Path | None = None, restore_command: str | None = None) -> BaseSource:
    return BaseSource(
        name="test",
        section=BaseBackup(kind="base", path=str(path), wal=str(wal) if wal else None, restore_command=restore_command),
    )


@contextmanager
def trial(source: BackupSource, root: Path) -> Iterator[Trial]:
    """Remove what a restore made, whatever happens."""
    made = Trial(source, root)
    try:
        yield made
    finally:
        made.close()


def rows_in(restored: Restored, table: str = "visit") -> int:
    assert restored.server is not None
    [(count,)] = restored.server.execute(f"select count(*) from {table}")
    return int(count)


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, modification time and content of everything below a folder, to compare it with itself later."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, data)
    return found


def copied(source: Path, target: Path) -> Path:
    """Copy a backup to damage it."""
    shutil.copytree(source, target, symlinks=True)
    return target


def linked(source: Path, target: Path) -> Path:
    """Make a folder with the same files as another; one that is to be damaged must be removed first."""
    target.mkdir(mode=0o711)
    for path in source.iterdir():
        # What the archiver is still at begins with a dot.
        if path.is_file() and not path.name.startswith("."):
            os.link(path, target / path.name)
    return target


def replaced(path: Path, data: bytes) -> None:
    """Put another content in a file's place, whatever else links to it; its owner stays the same."""
    status = path.stat()
    path.unlink()
    path.write_bytes(data)
    os.chown(path, status.st_uid, status.st_gid)


def run_program_on(path: Path, ending: str) -> None:
    """Compress a file in place with the program for an ending; nothing for none."""
    if ending:
        with path.open("rb") as source, path.with_name(path.name + ending).open("wb") as target:
            subprocess.run([COMPRESSIONS[ending], "-c"], stdin=source, stdout=target, check=True)
        path.unlink()


def case_of(made: Trial, data_dir: Path | None = None) -> Case:
    """Return what a layer would look at."""
    assert made.scratch is not None
    return Case(
        copy=made.source.copies()[0],
        target=parse_target("latest"),
        restored=made.restored,
        data_dir=data_dir or made.scratch.data_dir,
        stages=made.stages,
    )
