"""What is wrong with a chain of incremental backups is named, and decides the verdict, by the whole command."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.drill.conftest import archiving
from tests.drill.damaging import Bench, Drilled, flipped, garbled, truncated
from tests.drill.physicals import Place, copied, own


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A full backup and two incremental ones, a full one of another time, and a seal of later."""

    place: Place
    folder: Path
    other: Path
    home: Path
    """Knows the seal."""
    visit: str
    """The file of the table `visit`, which grew before each backup."""

    @property
    def part(self) -> str:
        """The same in an incremental backup."""
        path = Path(self.visit)
        return str(path.with_name(f"INCREMENTAL.{path.name}"))


@pytest.fixture(scope="module")
def chain(
    clusters_root: Path, backups_root: Path, major: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    if major < 17:
        pytest.skip("PostgreSQL 17 is the first with incremental backups")
    with archiving(clusters_root, backups_root, major) as place:
        primary, folder = place.primary, place.folder / "chain"
        folder.mkdir(mode=0o711)
        own(folder)
        primary.configure(autovacuum="off")
        primary.reload()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        place.write(rows=5000)
        # Else hints to its rows would be written between the backups, and the first incremental one hold it whole.
        primary.execute("vacuum freeze visit")
        other = place.base("other")
        place.base("chain/full")
        place.write(rows=100)
        place.base("chain/first", "--incremental", f"{folder}/full/backup_manifest")
        place.write(rows=100)
        place.base("chain/second", "--incremental", f"{folder}/first/backup_manifest")
        home = tmp_path_factory.mktemp("sealing")
        sealed = run_command("seal", "--primary", place.cluster.audit_dsn("primary"), home=home)
        assert sealed.status == 0, sealed
        place.archive()
        [(visit,)] = primary.execute("select pg_relation_filepath('visit')")
        yield Chain(place=place, folder=folder, other=other, home=home, visit=visit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy of the chain for one test to damage."""

    chain: Chain
    folder: Path
    bench: Bench

    def drill(self) -> Drilled:
        """Drill the newest backup to the seal."""
        self.bench.know(self.chain.home)
        words = ("--from", f"base:{self.folder}", "--wal", str(self.chain.place.wal), "--copy", "second")
        return self.bench.drill(*words, target="seal:latest", layers=("seal", "manifest", "checksums"))


@pytest.fixture
def copy(
    chain: Chain, scratch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Copied]:
    folder = copied(chain.folder, chain.place.folder / "damaged")
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    yield Copied(chain=chain, folder=folder, bench=bench)
    shutil.rmtree(folder)


def test_a_sound_chain_is_proven_by_the_seal(copy: Copied):
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict, drilled.problems) == (0, "restored", {})


def remove_middle(copy: Copied) -> None:
    shutil.rmtree(copy.folder / "first")


def exchange_full(copy: Copied) -> None:
    shutil.rmtree(copy.folder / "full")
    copied(copy.chain.other, copy.folder / "full")


def garble_part(copy: Copied) -> None:
    garbled(copy.folder / "second" / copy.chain.part, 0, 4)


def cut_part(copy: Copied) -> None:
    truncated(copy.folder / "second" / copy.chain.part, 100)


def remove_base_file(copy: Copied) -> None:
    (copy.folder / "full" / copy.chain.visit).unlink()


def remove_label(copy: Copied) -> None:
    (copy.folder / "second" / "backup_label").unlink()


@pytest.mark.parametrize(
    ("harm", "code", "named"),
    [
        (remove_middle, "chain_broken", "second is incremental to"),
        (exchange_full, "chain_broken", "first is incremental to"),
        (garble_part, "chain_damaged", "INCREMENTAL"),
        (cut_part, "chain_damaged", "INCREMENTAL"),
        (remove_base_file, "chain_damaged", "{visit}"),
        (remove_label, "backup_label_missing", "backup_label"),
    ],
)
def test_damage_that_keeps_a_chain_from_being_combined_refutes_it(
    copy: Copied, harm: Callable[[Copied], None], code: str, named: str
):
    harm(copy)
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    assert list(drilled.problems) == [code]
    assert named.format(visit=Path(copy.chain.visit).name) in drilled.problems[code], drilled.problems


def test_an_incremental_file_that_is_gone_is_named_and_its_rows_are_missing(copy: Copied):
    (copy.folder / "second" / copy.chain.part).unlink()
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    told = [problem["what"] for problem in drilled.layer("backup manifest")["problems"]]
    assert f"file {copy.chain.part} is in the manifest and not in the backup" in told, told


def test_the_manifest_of_another_backup_does_not_vouch_for_the_full_one(copy: Copied):
    shutil.copyfile(copy.chain.other / "backup_manifest", copy.folder / "full" / "backup_manifest")
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    told = [problem["what"] for problem in drilled.layer("backup manifest")["problems"]]
    assert "file backup_label has another checksum than in the manifest" in told, told


def test_a_bit_of_the_full_backup_that_no_page_tells_is_found_by_rows_and_manifest(copy: Copied):
    flipped(copy.folder / "full" / copy.chain.visit, 3, honest=True)
    drilled = copy.drill()
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.problems
    assert drilled.differences == {("public.visit", "changed")}
    told = [problem["what"] for problem in drilled.layer("backup manifest")["problems"]]
    assert told == [f"file {copy.chain.visit} has another checksum than in the manifest"]
