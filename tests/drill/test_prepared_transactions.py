"""Transactions that are prepared and not ended come back with a backup, or the drill says that they did not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from replcheck.drill.layers import completeness
from replcheck.postgres.local import connect
from tests.commands import run_command
from tests.drill.conftest import archiving
from tests.drill.damaging import Bench
from tests.drill.physicals import Place, copied
from tests.staged import until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(clusters_root: Path, backups_root: Path, major: int) -> Iterator[Place]:
    """A primary with a transaction that was prepared before its backup `bare`, and one that was prepared later."""
    with archiving(clusters_root, backups_root, major) as made:
        primary = made.primary
        primary.configure(max_prepared_transactions="5")
        primary.restart()
        primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
        made.write()
        prepare(made, "early", -1)

        def checkpoint_is_later() -> bool:
            primary.execute("checkpoint")
            later = "select checkpoint_time > prepared from pg_control_checkpoint(), pg_prepared_xacts"
            return primary.execute(later) == [(True,)]

        until(checkpoint_is_later, "a checkpoint has written it into its file")
        made.base("bare", "--no-manifest")
        prepare(made, "late", -2)
        yield made


def prepare(place: Place, name: str, row: int) -> None:
    with connect(place.primary.dsn(), node="primary", autocommit=False) as connection:
        connection.execute("insert into visit values (%s, 'prepared')", [row])
        connection.execute(f"prepare transaction '{name}'")


@pytest.mark.parametrize("lost", [False, True], ids=["there", "lost"])
def test_a_prepared_transaction_whose_file_is_lost_is_told(
    place: Place,
    scratch_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lost: bool,
):
    monkeypatch.setattr(completeness, "PREPARING", timedelta(0))
    sealed = run_command("seal", "--primary", place.cluster.audit_dsn("primary"), home=tmp_path)
    assert sealed.status == 0, sealed
    place.archive()
    [(xid,)] = place.primary.execute("select transaction::text from pg_prepared_xacts where gid = 'early'")
    backup = copied(place.folder / "bare", place.folder / f"copy{lost}")
    [file] = (backup / "pg_twophase").iterdir()
    if lost:
        file.unlink()
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    words = ("--from", f"base:{backup}", "--wal", str(place.wal))
    drilled = bench.drill(*words, target="seal:latest", layers=("seal", "completeness"))
    told = [problem["what"] for problem in drilled.layer("completeness")["problems"]]
    assert (drilled.status, told) == (
        (2, [f"prepared transactions of the seal are missing, by their ids: {xid}"]) if lost else (0, [])
    )
