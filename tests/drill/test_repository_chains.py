"""Full, differential and incremental backups of pgBackRest, however they are stored, sound and damaged."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.drill.damaging import Bench, Drilled, garbled, truncated
from tests.drill.physicals import copied
from tests.drill.repositories import NEEDED, Repository, repository_of

pytestmark = [pytest.mark.long, *NEEDED]

STORED = {
    "gzip": "",
    "uncompressed": "compress-type=none\n",
    "bundled": "repo1-bundle=y\ncompress-type=zst\n",
    "slowly": "compress-type=bz2\n",
    "encrypted": "compress-type=lz4\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=hush-hush-hush\n",
}
"""Lines of the configuration, by how they store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A full backup, a differential one to it and an incremental one to that, and a seal of later."""

    repository: Repository
    home: Path
    """Knows the seal."""
    labels: dict[str, str]
    """Of each backup, by its type."""
    cold: str
    """The file of the table `cold`, which was written before the full backup only."""
    warm: str
    """That of `warm`, which was written before the differential one last."""
    segment: str
    """The WAL file behind the incremental one that recovery needs before that of the seal."""


@pytest.fixture(scope="module")
def chain(
    request: pytest.FixtureRequest, clusters_root: Path, backups_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    with repository_of(clusters_root, backups_root, f"chain_{request.param}", STORED[request.param]) as made:
        primary = made.primary
        primary.configure(autovacuum="off")
        primary.reload()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        for table in ("cold", "warm"):
            made.write(table, rows=5000)
            # Else hints to its rows would be written between the backups.
            primary.execute(f"vacuum freeze {table}")
        made.pgbackrest("backup", "--type=full")
        made.write("warm", rows=500)
        primary.execute("vacuum freeze warm")
        made.pgbackrest("backup", "--type=diff")
        made.write("hot", rows=500)
        made.pgbackrest("backup", "--type=incr")
        made.settle()
        made.write("hot", rows=500)
        [(segment,)] = primary.execute("select pg_walfile_name(pg_current_wal_lsn())")
        made.settle()
        home = tmp_path_factory.mktemp("sealing")
        ended = run_command("seal", "--primary", made.cluster.audit_dsn("primary"), home=home)
        assert ended.status == 0, ended
        made.settle()
        [(cold, warm)] = primary.execute("select pg_relation_filepath('cold'), pg_relation_filepath('warm')")
        labels = {copy.format: copy.label for copy in made.source().copies()}
        yield Chain(repository=made, home=home, labels=labels, cold=cold, warm=warm, segment=segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy of the repository for one test to damage."""

    chain: Chain
    folder: Path
    bench: Bench
    config: Path

    def drill(self, kind: str) -> Drilled:
        """Drill a backup to the seal."""
        if not (self.bench.home / ".local").exists():
            self.bench.know(self.chain.home)
        (self.bench.home / "clinic.toml").write_text(
            'cluster = "unnamed"\n[nodes]\ndb1 = { dsn = "host=/nonexistent/1" }\n'
            f'[backups.nightly]\nkind = "pgbackrest"\nstanza = "clinic"\nconfig = "{self.config}"\n'
        )
        label = self.chain.labels[kind]
        return self.bench.drill("nightly", "--config", "clinic.toml", "--copy", label, target="seal:latest")

    def backup(self, kind: str) -> Path:
        return self.folder / "backup" / "clinic" / self.chain.labels[kind]

    def holding(self, kind: str, file: str) -> Path:
        """Return the file of the repository that holds a file of the cluster, bundled or not."""
        alone = list((self.backup(kind) / "pg_data").glob(f"{file}*"))
        return max(alone or (self.backup(kind) / "bundle").glob("*"), key=lambda path: path.stat().st_size)

    @property
    def archived(self) -> Path:
        """The WAL file in the archive."""
        [found] = (self.folder / "archive").rglob(f"{self.chain.segment}-*")
        return found


@pytest.fixture
def copy(
    chain: Chain, scratch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Copied]:
    folder = copied(chain.repository.repository, chain.repository.folder / "damaged")
    config = chain.repository.folder / "damaged.conf"
    written = chain.repository.config.read_text()
    config.write_text(written.replace(f"repo1-path={chain.repository.repository}\n", f"repo1-path={folder}\n"))
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    yield Copied(chain=chain, folder=folder, bench=bench, config=config)
    shutil.rmtree(folder)


@pytest.mark.parametrize("chain", list(STORED), indirect=True)
def test_each_backup_of_a_chain_is_proven_by_the_seal(copy: Copied):
    assert set(copy.chain.labels) == {"full", "diff", "incr"}
    for kind in ("full", "diff", "incr"):
        drilled = copy.drill(kind)
        assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {}), kind


def remove_full(copy: Copied) -> None:
    shutil.rmtree(copy.backup("full"))


def remove_differential(copy: Copied) -> None:
    shutil.rmtree(copy.backup("diff"))


def remove_from_full(copy: Copied) -> None:
    copy.holding("full", copy.chain.cold).unlink()


def cut_in_full(copy: Copied) -> None:
    path = copy.holding("full", copy.chain.cold)
    truncated(path, path.stat().st_size // 3)


def garble_in_full(copy: Copied) -> None:
    path = copy.holding("full", copy.chain.cold)
    garbled(path, path.stat().st_size // 3, 2000)


def remove_from_differential(copy: Copied) -> None:
    copy.holding("diff", copy.chain.warm).unlink()


def garble_in_differential(copy: Copied) -> None:
    path = copy.holding("diff", copy.chain.warm)
    garbled(path, path.stat().st_size // 3, 2000)


def of(stored: Sequence[str], *harms: Callable[[Copied], object]) -> list[tuple[str, Callable[[Copied], object]]]:
    """Return each way to store with each damage: what is read differs between them, and not what is missing."""
    return [(one, harm) for one in stored for harm in harms]


@pytest.mark.parametrize(
    ("chain", "harm"),
    [
        *of(("gzip", "bundled"), remove_full, remove_differential, remove_from_full, remove_from_differential),
        *of(("gzip", "bundled"), garble_in_differential),
        *of(("bundled", "uncompressed", "slowly", "encrypted"), cut_in_full, garble_in_full),
    ],
    indirect=["chain"],
)
def test_damage_to_what_an_incremental_backup_stands_on_refutes_it(copy: Copied, harm: Callable[[Copied], None]):
    harm(copy)
    drilled = copy.drill("incr")
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    assert list(drilled.problems) == ["repository_damaged"]


def remove_wal(copy: Copied) -> None:
    copy.archived.unlink()


def cut_wal(copy: Copied) -> None:
    truncated(copy.archived, copy.archived.stat().st_size // 3)


def garble_wal(copy: Copied) -> None:
    # Also an uncompressed file has records there.
    garbled(copy.archived, 3000, 1000)


@pytest.mark.parametrize(
    ("chain", "harm"),
    [*of(("bundled",), remove_wal), *of(("bundled", "uncompressed", "slowly", "encrypted"), cut_wal, garble_wal)],
    indirect=["chain"],
)
def test_damage_to_archived_wal_refutes_every_backup_before_it_and_is_named(
    copy: Copied, harm: Callable[[Copied], None]
):
    harm(copy)
    code = "wal_missing" if harm is remove_wal else "wal_corrupt"
    drilled = copy.drill("full")
    assert (drilled.status, list(drilled.problems)) == (2, [code]), drilled.problems
    assert copy.chain.segment in drilled.problems[code]


@pytest.mark.parametrize("chain", ["gzip"], indirect=True)
def test_damage_to_a_later_backup_is_none_of_those_before_it(copy: Copied):
    remove_differential(copy)
    shutil.rmtree(copy.backup("incr"))
    drilled = copy.drill("full")
    assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {})


@pytest.mark.parametrize("chain", ["gzip"], indirect=True)
def test_a_repository_of_a_major_without_programs_is_told_before_anything_is_fetched(copy: Copied):
    for path in (
        copy.folder / "backup" / "clinic" / "backup.info",
        copy.folder / "archive" / "clinic" / "archive.info",
    ):
        for name in (path, path.with_name(f"{path.name}.copy")):
            name.write_text(sealed_again(name.read_text().replace('db-version":"15"', 'db-version":"13"')))
    drilled = copy.drill("incr")
    assert (drilled.status, drilled.verdict, list(drilled.problems)) == (3, "not tried", ["no_programs"])
    [problem] = drilled.document["problems"]
    assert "PostgreSQL 13 made the backup" in problem["what"]
    assert "postgresql-13" in problem["hint"]
    assert {stage["stage"] for stage in drilled.document["stages"]} == {"locate"}
    assert not copy.bench.scratch.exists()


def sealed_again(text: str) -> str:
    """Give a record of a repository the checksum that goes with it: of all of it, written as JSON in one line."""
    body, _, _ = text.partition("[backrest]\nbackrest-checksum=")
    sections = [
        (name, ",".join(re.sub("^([^=]+)=", r'"\1":', line) for line in lines.splitlines() if line))
        for name, lines in re.findall(r"^\[([\w:]+)\]\n((?:[^\[\n].*\n|\n)*)", body, re.MULTILINE)
    ]
    whole = ",".join(f'"{name}":{{{pairs}}}' for name, pairs in sections)
    digest = hashlib.sha1(f"{{{whole}}}".encode(), usedforsecurity=False).hexdigest()
    return f'{body}[backrest]\nbackrest-checksum="{digest}"\n'
