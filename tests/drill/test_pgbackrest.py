"""pgBackRest's repositories, with the real program; Debian's goes with PostgreSQL 15."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from replcheck.errors import BackupRefuted, DrillBlocked
from tests.commands import run_command
from tests.drill.physicals import contents, rows_in, trial
from tests.drill.repositories import MAJOR, NEEDED, Repository, repository_of

pytestmark = [*NEEDED]


@pytest.fixture(scope="module")
def repository(clusters_root: Path, backups_root: Path) -> Iterator[Repository]:
    with repository_of(clusters_root, backups_root, "rest") as made:
        made.write()
        made.pgbackrest("backup", "--type=full")
        made.write()
        made.restore_point("half")
        made.write()
        made.pgbackrest("backup", "--type=incr")
        made.write(table="other")
        made.settle()
        yield made


def test_the_newest_backup_comes_back_and_the_repository_stays_as_it_was(repository: Repository, scratch_root: Path):
    copies = repository.source().copies()
    assert [copy.format for copy in copies] == ["incr", "full"]
    assert copies[0].major == MAJOR
    before = contents(repository.repository)
    with trial(repository.source(), scratch_root) as made:
        restored = made.run()
        assert (rows_in(restored), rows_in(restored, "other")) == (3000, 1000)
    assert contents(repository.repository) == before


@pytest.mark.long
def test_what_the_configuration_says_of_restores_is_left_aside(repository: Repository, scratch_root: Path):
    written = repository.config.read_text()
    outside = repository.folder / "outside"
    repository.config.write_text(
        f"{written}[global:restore]\nlink-all=y\ndelta=y\nlink-map=pg_wal={outside}/wal\n"
        f"tablespace-map=16999={outside}/space\ndb-include=postgres\n"
    )
    try:
        with trial(repository.source(), scratch_root) as made:
            assert rows_in(made.run()) == 3000
        assert not outside.exists()
    finally:
        repository.config.write_text(written)


@pytest.mark.long
def test_a_backup_comes_back_on_the_host_of_the_repository(repository: Repository, scratch_root: Path):
    written = repository.config.read_text()
    repository.config.write_text(f"{written}pg1-host=primary.invalid\npg1-host-user=postgres\n")
    try:
        with trial(repository.source(), scratch_root) as made:
            assert rows_in(made.run()) == 3000
    finally:
        repository.config.write_text(written)


@pytest.mark.long
def test_a_named_backup_is_recovered_to_a_restore_point(repository: Repository, scratch_root: Path):
    label = repository.source().copies()[1].label
    with trial(repository.source(), scratch_root) as made:
        restored = made.run("half", label=label)
        assert rows_in(restored) == 2000
        assert restored.recovery is not None
        assert restored.recovery.paused


def test_a_file_that_is_missing_in_a_repository_is_named(repository: Repository, scratch_root: Path):
    gone = _file_of_the_oldest(repository)
    away = repository.folder / gone.name
    gone.rename(away)
    try:
        refused = _refused(repository, scratch_root)
    finally:
        away.rename(gone)
    assert refused.code == "repository_damaged"
    assert "1259" in refused.message


@pytest.mark.long
def test_a_file_that_is_cut_off_in_a_repository_refutes_it(repository: Repository, scratch_root: Path):
    file = _file_of_the_oldest(repository)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    try:
        refused = _refused(repository, scratch_root)
    finally:
        file.write_bytes(data)
    assert refused.code == "repository_damaged"


def _file_of_the_oldest(repository: Repository) -> Path:
    """Return a file of the oldest backup, which its catalog needs."""
    label = repository.source().copies()[-1].label
    return max((repository.repository / "backup" / "clinic" / label / "pg_data" / "base").rglob("1259.gz"))


def _refused(repository: Repository, scratch_root: Path) -> BackupRefuted:
    """Restore the oldest backup and return why that is refuted."""
    label = repository.source().copies()[-1].label
    with trial(repository.source(), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
        made.run(label=label)
    return raised.value


@pytest.mark.long
def test_a_wal_file_that_is_gone_from_the_repository_is_named(repository: Repository, scratch_root: Path):
    label = repository.source().copies()[1].label
    wal = sorted((repository.repository / "archive").rglob("0000*-*.gz"))
    gone = wal[2]
    away = repository.folder / gone.name
    gone.rename(away)
    try:
        with trial(repository.source(), scratch_root) as made, pytest.raises(BackupRefuted) as raised:
            made.run("half", label=label)
        assert gone.name[:24] in raised.value.message
    finally:
        away.rename(gone)


@pytest.mark.long
def test_a_stanza_that_is_not_there_leaves_it_untried(repository: Repository):
    with pytest.raises(DrillBlocked) as raised:
        repository.source("klinik").copies()
    assert raised.value.code == "no_stanza"


@pytest.mark.long
def test_the_command_drills_the_repository_to_a_seal(repository: Repository, scratch_root: Path, tmp_path: Path):
    grant = "grant execute on function pg_create_restore_point(text) to replcheck_audit"
    repository.primary.execute(grant)
    (tmp_path / "clinic.toml").write_text(
        f'cluster = "clinic"\n[nodes]\ndb1 = {{ dsn = "{repository.cluster.audit_dsn("primary")}" }}\n'
        f'[backups.nightly]\nkind = "pgbackrest"\nstanza = "clinic"\nconfig = "{repository.config}"\n'
        f'[drill]\nscratch = "{scratch_root}"\nlayers = ["seal", "checksums"]\n'
    )
    sealed = run_command("seal", "--config", "clinic.toml", home=tmp_path)
    assert sealed.status == 0, sealed
    words = ("drill", "--config", "clinic.toml", "--target", "seal:latest")
    early = run_command(*words, home=tmp_path)
    assert early.status == 3, early
    assert "is not archived yet" in " ".join(early.out.split())
    repository.settle()
    proven = run_command(*words, home=tmp_path)
    assert proven.status == 0, proven
    assert "matches the seal" in " ".join(proven.out.split())
