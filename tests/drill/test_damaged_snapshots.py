"""What is wrong with a snapshot of a data directory is named, and decides the verdict, by the whole command."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import labs
from tests.commands import run_command
from tests.drill.conftest import archiving
from tests.drill.damaging import Bench, Drilled, flipped, garbled, of_another_system, truncated, zeroed
from tests.drill.physicals import Place, copied, own, replaced
from tests.drill.test_snapshots import at_one_moment

PAGE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A snapshot that recovers over several WAL files, and a seal of later; `cold` was last written before them."""

    place: Place
    snapshot: Path
    home: Path
    """Knows the seal."""
    cold: str
    """The file of `cold` within the snapshot."""
    tablespace: str
    """The folder of a tablespace within the snapshot."""
    wal: tuple[str, ...]
    """The files that recovery needs, the first is the one it starts in."""


@pytest.fixture(scope="module")
def ward(
    clusters_root: Path, backups_root: Path, major: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ward]:
    with archiving(clusters_root, backups_root, major) as place:
        primary, space = place.primary, place.folder / "space"
        space.mkdir(mode=0o700)
        own(space)
        primary.configure(autovacuum="off")
        primary.reload()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        primary.execute(f"create tablespace apart location '{space}'")
        primary.execute("create table elsewhere (id int primary key) tablespace apart")
        place.write("cold", rows=5000)
        primary.execute("vacuum cold")
        primary.execute("checkpoint")
        wal = []
        for _ in range(3):
            place.write("hot", rows=500)
            wal.append(place.archive())
        place.write("hot", rows=500)
        folder = place.folder / "snapshot"
        with at_one_moment(primary):
            shutil.copytree(primary.data_dir, folder, symlinks=True)
        [link] = (folder / "pg_tblspc").iterdir()
        link.unlink()
        shutil.copytree(space, link)
        home = tmp_path_factory.mktemp("sealing")
        sealed = run_command("seal", "--primary", place.cluster.audit_dsn("primary"), home=home)
        assert sealed.status == 0, sealed
        place.archive()
        [(cold,)] = primary.execute("select pg_relation_filepath('cold')")
        relative = str(link.relative_to(folder))
        yield Ward(place=place, snapshot=folder, home=home, cold=cold, tablespace=relative, wal=tuple(wal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy of the snapshot for one test to damage."""

    ward: Ward
    folder: Path
    bench: Bench

    def alone(self, target: str = "latest") -> Drilled:
        """Drill it with no WAL but its own."""
        return self.bench.drill("--from", f"snapshot:{self.folder}", target=target)

    def sealed(self) -> Drilled:
        """Drill it to the seal, with the archive."""
        self.bench.know(self.ward.home)
        words = ("--from", f"snapshot:{self.folder}", "--wal", str(self.ward.place.wal))
        return self.bench.drill(*words, target="seal:latest")


@pytest.fixture
def copy(
    ward: Ward, scratch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Copied]:
    folder = copied(ward.snapshot, ward.place.folder / "damaged")
    yield Copied(
        ward=ward,
        folder=folder,
        bench=Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd),
    )
    shutil.rmtree(folder)


def test_a_sound_snapshot_is_proven_by_the_seal(copy: Copied):
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {})


def test_a_sound_snapshot_without_a_seal_comes_back_uncompared(copy: Copied):
    drilled = copy.alone()
    assert (drilled.status, drilled.problems) == (1, {})


def remove_control(folder: Path) -> None:
    (folder / "global" / "pg_control").unlink()


def garble_control(folder: Path) -> None:
    garbled(folder / "global" / "pg_control", 100, 1)


def cut_control(folder: Path) -> None:
    truncated(folder / "global" / "pg_control", 100)


def exchange_control(folder: Path) -> None:
    of_another_system(folder / "global" / "pg_control")


def remove_version(folder: Path) -> None:
    (folder / "PG_VERSION").unlink()


def garble_version(folder: Path) -> None:
    replaced(folder / "PG_VERSION", b"\x00\xff\n")


def remove_map(folder: Path) -> None:
    (folder / "global" / "pg_filenode.map").unlink()


def garble_map(folder: Path) -> None:
    garbled(folder / "global" / "pg_filenode.map", 20, 40)


def break_tablespace(folder: Path) -> None:
    [space] = (folder / "pg_tblspc").iterdir()
    shutil.rmtree(space)
    space.symlink_to(folder / "gone")


def remove_wal(folder: Path) -> None:
    shutil.rmtree(folder / "pg_wal")


@pytest.mark.parametrize(
    ("harm", "code", "named"),
    [
        (remove_control, "incomplete", "global/pg_control"),
        (garble_control, "control_damaged", "global/pg_control"),
        (cut_control, "control_damaged", "global/pg_control"),
        (exchange_control, "wal_foreign", "1234567"),
        (remove_version, "incomplete", "PG_VERSION"),
        (garble_version, "incomplete", "PG_VERSION"),
        (remove_map, "file_missing", "global/pg_filenode.map"),
        (garble_map, "files_damaged", "global/pg_filenode.map"),
        (break_tablespace, "tablespace_missing", "pg_tblspc"),
        (remove_wal, "wal_missing", "pg_wal"),
    ],
)
def test_damage_to_what_a_server_starts_from_refutes_a_snapshot(
    copy: Copied, harm: Callable[[Path], None], code: str, named: str
):
    harm(copy.folder)
    drilled = copy.alone()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    assert list(drilled.problems) == [code]
    assert named in drilled.problems[code]


def test_a_tablespace_that_lies_outside_a_snapshot_leaves_it_untried(copy: Copied):
    space = copy.folder / copy.ward.tablespace
    shutil.rmtree(space)
    space.symlink_to(copy.ward.place.folder / "space")
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (3, ["tablespace_outside"])


def test_a_snapshot_of_a_major_without_programs_is_not_tried(copy: Copied):
    replaced(copy.folder / "PG_VERSION", b"13\n")
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (3, ["no_programs"])
    assert "PostgreSQL 13" in drilled.problems["no_programs"]


def test_a_snapshot_whose_version_is_not_that_of_its_control_file_is_not_tried(copy: Copied):
    others = [major for major in labs.majors() if major != copy.ward.place.major]
    if not others:
        pytest.skip("only one major of PostgreSQL is installed")
    replaced(copy.folder / "PG_VERSION", f"{others[0]}\n".encode())
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (3, ["incompatible"])


def test_a_folder_without_a_data_directory_is_no_snapshot(copy: Copied):
    for name in ("PG_VERSION", "global"):
        (copy.folder / name).rename(copy.folder / f"{name}.old")
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (3, ["not_recognised"])


def test_a_wal_file_missing_in_the_middle_is_named(copy: Copied):
    missing, later = copy.ward.wal[1:3]
    (copy.folder / "pg_wal" / missing).unlink()
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (2, ["wal_missing"])
    assert f"WAL file {missing} is missing, while {later} is there" in drilled.problems["wal_missing"]


def test_a_wal_file_that_recovery_starts_in_is_named_where_it_is_missing(copy: Copied):
    first = copy.ward.wal[0]
    (copy.folder / "pg_wal" / first).unlink()
    drilled = copy.alone()
    assert (drilled.status, list(drilled.problems)) == (2, ["wal_missing"])
    assert first in drilled.problems["wal_missing"]


def test_a_wal_file_garbled_in_the_middle_is_named(copy: Copied):
    bad = copy.ward.wal[1]
    garbled(copy.folder / "pg_wal" / bad, 30_000)
    drilled = copy.alone()
    assert drilled.status == 2, drilled.document
    assert list(drilled.problems) == ["wal_corrupt"]
    assert f"WAL file {bad} is damaged" in drilled.problems["wal_corrupt"]


def test_a_wal_file_that_was_cut_off_is_named(copy: Copied):
    bad = copy.ward.wal[1]
    truncated(copy.folder / "pg_wal" / bad, 1_000_000)
    drilled = copy.alone()
    assert drilled.status == 2, drilled.document
    assert list(drilled.problems) == ["wal_corrupt"]
    assert bad in drilled.problems["wal_corrupt"]


def test_transactions_whose_states_are_gone_are_told_before_rows_are_read(copy: Copied):
    for path in (copy.folder / "pg_xact").iterdir():
        path.unlink()
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict, list(drilled.problems)) == (2, "failed", ["file_missing"])
    assert "pg_xact/0000" in drilled.problems["file_missing"]


def test_a_relation_cut_off_between_two_pages_lacks_rows(copy: Copied):
    path = copy.folder / copy.ward.cold
    truncated(path, path.stat().st_size // PAGE // 2 * PAGE)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert drilled.differences == {("public.cold", "missing")}


def test_a_relation_cut_off_inside_a_page_is_named(copy: Copied):
    truncated(copy.folder / copy.ward.cold, 10 * PAGE + 100)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert {relation for relation, _ in drilled.differences} == {"public.cold"}


def test_a_relation_whose_file_is_gone_is_named(copy: Copied):
    (copy.folder / copy.ward.cold).unlink()
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert {relation for relation, _ in drilled.differences} == {"public.cold"}


def test_relations_whose_files_were_exchanged_are_both_named(copy: Copied):
    place = copy.ward.place
    [(hot,)] = place.primary.execute("select pg_relation_filepath('hot')")
    cold, hot_file = copy.folder / copy.ward.cold, copy.folder / hot
    data = cold.read_bytes()
    replaced(cold, hot_file.read_bytes())
    replaced(hot_file, data)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert {relation for relation, _ in drilled.differences} >= {"public.cold"}


def test_a_page_that_is_empty_lacks_its_rows(copy: Copied):
    zeroed(copy.folder / copy.ward.cold, 7)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert drilled.differences == {("public.cold", "missing")}
    [difference] = drilled.layer("rows against a seal")["differences"]
    assert difference["first_block"] <= 7 <= difference["last_block"]


def test_a_flipped_bit_is_named_with_its_page(copy: Copied):
    flipped(copy.folder / copy.ward.cold, 7, honest=False)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert drilled.differences == {("public.cold", "unreadable")}
    told = [problem["what"] for problem in drilled.layer("page checksums")["problems"]]
    assert told == [f"block 7 of {copy.ward.cold} is damaged"]


def test_a_flipped_bit_that_no_page_tells_is_found_by_the_rows(copy: Copied):
    flipped(copy.folder / copy.ward.cold, 7, honest=True)
    drilled = copy.sealed()
    assert (drilled.status, drilled.verdict) == (2, "failed")
    assert drilled.differences == {("public.cold", "changed")}
    assert drilled.layer("page checksums")["state"] == "passed"
