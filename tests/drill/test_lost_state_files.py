"""Files of transaction states that a backup lacks refute it by name, also where every row can be read without them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replcheck.postgres.local import connect
from tests.commands import run_command
from tests.drill.conftest import archiving
from tests.drill.damaging import Bench, Drilled, truncated
from tests.drill.physicals import Place, copied
from tests.drill.test_snapshots import at_one_moment

PAGE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A base backup without a manifest, a snapshot, and a seal of later; all rows bear hints, and two were locked."""

    place: Place
    home: Path
    """Knows the seal."""


@pytest.fixture(scope="module")
def ward(
    clusters_root: Path, backups_root: Path, major: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ward]:
    with archiving(clusters_root, backups_root, major) as place:
        primary = place.primary
        primary.configure(autovacuum="off")
        primary.reload()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        place.write()
        with (
            connect(primary.dsn(), node="one", autocommit=False) as one,
            connect(primary.dsn(), node="other", autocommit=False) as other,
        ):
            for connection in (one, other):
                connection.execute("select from visit where id in (1, 2) for key share")
            one.commit()
            other.commit()
        for database in ("postgres", "template1"):
            primary.execute("vacuum", dbname=database)
        primary.execute("checkpoint")
        place.base("bare", "--no-manifest")
        with at_one_moment(primary):
            shutil.copytree(primary.data_dir, place.folder / "snapshot", symlinks=True)
        home = tmp_path_factory.mktemp("sealing")
        sealed = run_command("seal", "--primary", place.cluster.audit_dsn("primary"), home=home)
        assert sealed.status == 0, sealed
        place.archive()
        yield Ward(place=place, home=home)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Copies of both backups for one test to damage."""

    ward: Ward
    folder: Path
    bench: Bench

    def drill(self, harm: Callable[[Path], None], kind: str, target: str) -> Drilled:
        """Damage a copy and drill it."""
        folder = copied(self.ward.place.folder / ("bare" if kind == "base" else "snapshot"), self.folder)
        harm(folder)
        self.bench.know(self.ward.home)
        words = ("--from", f"{kind}:{folder}", "--wal", str(self.ward.place.wal))
        return self.bench.drill(*words, target=target, layers=("seal",) if target != "latest" else ("checksums",))


@pytest.fixture
def copy(
    ward: Ward, scratch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Copied]:
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    folder = ward.place.folder / "damaged"
    yield Copied(ward=ward, folder=folder, bench=bench)
    shutil.rmtree(folder)


def unharmed(folder: Path) -> None:
    """Leave a backup as it is."""


def remove_commits(folder: Path) -> None:
    (folder / "pg_xact" / "0000").unlink()


def remove_commits_folder(folder: Path) -> None:
    shutil.rmtree(folder / "pg_xact")


def cut_commits(folder: Path) -> None:
    truncated(folder / "pg_xact" / "0000", 0)


def remove_multixacts(folder: Path) -> None:
    (folder / "pg_multixact" / "offsets" / "0000").unlink()


def cut_multixacts(folder: Path) -> None:
    truncated(folder / "pg_multixact" / "offsets" / "0000", 0)


def remove_members(folder: Path) -> None:
    (folder / "pg_multixact" / "members" / "0000").unlink()


@pytest.mark.parametrize("kind", ["base", "snapshot"])
@pytest.mark.parametrize("target", ["latest", "seal:latest"])
def test_a_backup_with_all_of_them_is_not_accused(copy: Copied, kind: str, target: str):
    drilled = copy.drill(unharmed, kind, target)
    assert (drilled.status, drilled.problems) == (1 if target == "latest" else 0, {})


@pytest.mark.parametrize(("kind", "target"), [("base", "seal:latest"), ("snapshot", "latest")])
@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (remove_commits, "pg_xact/0000"),
        (remove_commits_folder, "pg_xact/0000"),
        (cut_commits, "pg_xact/0000"),
        (remove_multixacts, "pg_multixact/offsets/0000"),
        (cut_multixacts, "pg_multixact/offsets/0000"),
        (remove_members, "pg_multixact/members/0000"),
    ],
)
def test_a_file_of_states_that_is_lost_is_named(
    copy: Copied, harm: Callable[[Path], None], named: str, kind: str, target: str
):
    drilled = copy.drill(harm, kind, target)
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.document
    assert [code for code in drilled.problems if code in ("file_missing", "files_damaged")], drilled.problems
    assert named in " ".join(drilled.problems.values())


def remove_the_newer(folder: Path) -> None:
    """Leave an older file of commits in front of a gap, as if so many transactions had been."""
    newest = folder / "pg_xact" / "0000"
    (folder / "pg_xact" / "0FFF").write_bytes(bytes(32 * PAGE))
    newest.unlink()


def test_a_file_that_recovery_made_anew_is_named(copy: Copied):
    drilled = copy.drill(remove_the_newer, "snapshot", "latest")
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.document
    assert "pg_xact/0000" in drilled.problems["file_missing"]
