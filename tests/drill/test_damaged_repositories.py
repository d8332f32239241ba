"""What is wrong with a repository of pgBackRest is named, and decides the verdict, by the whole command."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.drill.damaging import Bench, Drilled, flipped, garbled, truncated
from tests.drill.physicals import copied
from tests.drill.repositories import NEEDED, Repository, repository_of

pytestmark = [pytest.mark.long, *NEEDED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A repository with a seal later than its two backups: of the older one a page had rotted when it was taken."""

    repository: Repository
    home: Path
    """Knows the seal."""
    visit: str
    """The file of the table `visit`."""
    rotten: str
    sound: str
    segment: str
    """The WAL file that the seal's recovery needs after the one it starts in."""


@pytest.fixture(scope="module")
def sealed(clusters_root: Path, backups_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with repository_of(clusters_root, backups_root, "damaged") as made:
        primary = made.primary
        primary.configure(autovacuum="off")
        primary.reload()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        made.write()
        primary.execute("vacuum visit")
        [(visit,)] = primary.execute("select pg_relation_filepath('visit')")
        primary.stop()
        whole = (primary.data_dir / visit).read_bytes()
        flipped(primary.data_dir / visit, 3, honest=True)
        primary.start()
        made.pgbackrest("backup", "--type=full")
        primary.stop()
        (primary.data_dir / visit).write_bytes(whole)
        primary.start()
        made.pgbackrest("backup", "--type=full")
        made.write(table="other")
        made.settle()
        [(segment,)] = primary.execute("select pg_walfile_name(pg_current_wal_lsn())")
        made.write(table="other")
        made.settle()
        home = tmp_path_factory.mktemp("sealing")
        ended = run_command("seal", "--primary", made.cluster.audit_dsn("primary"), home=home)
        assert ended.status == 0, ended
        made.settle()
        sound, rotten = (copy.label for copy in made.source().copies())
        yield Sealed(repository=made, home=home, visit=visit, rotten=rotten, sound=sound, segment=segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy of the repository for one test to damage."""

    sealed: Sealed
    folder: Path
    bench: Bench
    config: Path

    def drill(self, *words: str, stanza: str = "clinic", label: str = "") -> Drilled:
        """Drill a backup to the seal, the newest by default."""
        self.bench.know(self.sealed.home)
        (self.bench.home / "clinic.toml").write_text(
            'cluster = "unnamed"\n[nodes]\ndb1 = { dsn = "host=/nonexistent/1" }\n'
            f'[backups.nightly]\nkind = "pgbackrest"\nstanza = "{stanza}"\nconfig = "{self.config}"\n'
        )
        which = ("--copy", label) if label else ()
        return self.bench.drill("nightly", "--config", "clinic.toml", *which, *words, target="seal:latest")

    @property
    def backup(self) -> Path:
        return self.folder / "backup" / "clinic" / self.sealed.sound

    @property
    def archived(self) -> Path:
        """The WAL file in the archive."""
        [found] = (self.folder / "archive").rglob(f"{self.sealed.segment}-*.gz")
        return found


@pytest.fixture
def copy(
    sealed: Sealed,
    scratch_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Copied]:
    folder = copied(sealed.repository.repository, sealed.repository.folder / "damaged")
    config = sealed.repository.folder / "damaged.conf"
    written = sealed.repository.config.read_text()
    config.write_text(written.replace(f"repo1-path={sealed.repository.repository}\n", f"repo1-path={folder}\n"))
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    yield Copied(sealed=sealed, folder=folder, bench=bench, config=config)
    shutil.rmtree(folder)


def test_a_sound_repository_is_proven_by_the_seal(copy: Copied):
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {})


def test_a_backup_whose_rows_had_rotted_before_differs_from_the_seal(copy: Copied):
    drilled = copy.drill(label=copy.sealed.rotten)
    assert (drilled.status, drilled.verdict, drilled.problems) == (2, "failed", {})
    assert drilled.differences == {("public.visit", "changed")}
    assert drilled.layer("page checksums")["state"] == "passed"


def visit_of(copy: Copied) -> Path:
    return copy.backup / "pg_data" / f"{copy.sealed.visit}.gz"


def remove_file(copy: Copied) -> None:
    visit_of(copy).unlink()


def truncate_file(copy: Copied) -> None:
    truncated(visit_of(copy), 1000)


def garble_file(copy: Copied) -> None:
    garbled(visit_of(copy), 1000, 100)


def exchange_file(copy: Copied) -> None:
    shutil.copyfile(copy.backup / "pg_data" / "PG_VERSION.gz", visit_of(copy))


def remove_control(copy: Copied) -> None:
    (copy.backup / "pg_data" / "global" / "pg_control.gz").unlink()


def remove_manifest(copy: Copied) -> None:
    for name in ("backup.manifest", "backup.manifest.copy"):
        (copy.backup / name).unlink()


def garble_manifest(copy: Copied) -> None:
    for name in ("backup.manifest", "backup.manifest.copy"):
        garbled(copy.backup / name, 400, 20)


def cut_manifest(copy: Copied) -> None:
    for name in ("backup.manifest", "backup.manifest.copy"):
        truncated(copy.backup / name, 2000)


def remove_backup(copy: Copied) -> None:
    shutil.rmtree(copy.backup)


def remove_wal(copy: Copied) -> None:
    copy.archived.unlink()


def garble_wal(copy: Copied) -> None:
    garbled(copy.archived, 500, 100)


def cut_wal(copy: Copied) -> None:
    truncated(copy.archived, 1000)


def remove_archive_info(copy: Copied) -> None:
    for name in ("archive.info", "archive.info.copy"):
        (copy.folder / "archive" / "clinic" / name).unlink()


def garble_archive_info(copy: Copied) -> None:
    for name in ("archive.info", "archive.info.copy"):
        garbled(copy.folder / "archive" / "clinic" / name, 30, 20)


def garble_backup_info(copy: Copied) -> None:
    for name in ("backup.info", "backup.info.copy"):
        garbled(copy.folder / "backup" / "clinic" / name, 30, 20)


@pytest.mark.parametrize(
    ("harm", "code", "named"),
    [
        (remove_file, "repository_damaged", "{visit}"),
        (truncate_file, "repository_damaged", "{sound}"),
        (garble_file, "repository_damaged", "{sound}"),
        (exchange_file, "repository_damaged", "{visit}"),
        (remove_control, "repository_damaged", "global/pg_control"),
        (remove_manifest, "repository_damaged", "backup.manifest"),
        (garble_manifest, "repository_damaged", "backup.manifest"),
        (cut_manifest, "repository_damaged", "backup.manifest"),
        (remove_backup, "repository_damaged", "{sound}"),
        (remove_wal, "wal_missing", "{segment}"),
        (garble_wal, "wal_corrupt", "{segment}"),
        (cut_wal, "wal_corrupt", "{segment}"),
        (remove_archive_info, "repository_damaged", "archive.info"),
        (garble_archive_info, "repository_damaged", "archive.info"),
        (garble_backup_info, "repository_damaged", "backup.info"),
    ],
)
def test_damage_to_a_repository_refutes_the_backup_and_is_named(
    copy: Copied, harm: Callable[[Copied], None], code: str, named: str
):
    harm(copy)
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    assert list(drilled.problems) == [code]
    words = {"visit": copy.sealed.visit, "sound": copy.sealed.sound, "segment": copy.sealed.segment}
    assert named.format(**words) in drilled.problems[code]


def test_one_damaged_copy_of_the_repositorys_own_records_is_no_damage(copy: Copied):
    for path in (copy.folder / "backup" / "clinic", copy.folder / "archive" / "clinic", copy.backup):
        for name in ("backup.info", "archive.info", "backup.manifest"):
            if (path / name).is_file():
                garbled(path / name, 30, 20)
    drilled = copy.drill()
    assert (drilled.status, drilled.problems) == (0, {})


def test_a_stanza_that_is_not_there_leaves_it_untried(copy: Copied):
    drilled = copy.drill(stanza="klinik")
    assert (drilled.status, list(drilled.problems)) == (3, ["no_stanza"])


def test_a_repository_that_is_read_with_a_passphrase_it_has_not_leaves_it_untried(copy: Copied):
    cipher = "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=hush-hush-hush\n"
    copy.config.write_text(copy.config.read_text().replace("[clinic]\n", f"{cipher}[clinic]\n"))
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (3, "not tried"), drilled.problems
    assert "hush" not in str(drilled.document)


def test_a_folder_without_a_repository_leaves_it_untried(copy: Copied):
    shutil.rmtree(copy.folder)
    copy.folder.mkdir()
    drilled = copy.drill()
    assert (drilled.status, list(drilled.problems)) == (3, ["no_stanza"])
