"""A relation of more than a gigabyte whose second file a backup lacks: a server takes it for one that ends before."""

import os
import shutil
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.drill.damaging import Bench
from tests.drill.physicals import Place
from tests.drill.test_snapshots import at_one_moment
from tests.staged import newest_only

GIGABYTE = 1 << 30
PAGE = 8192


@pytest.mark.long
@newest_only
def test_a_second_file_that_is_gone_is_found_by_the_rows_that_it_held(
    lone_place: Place,
    scratch_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    primary, snapshot = lone_place.primary, lone_place.folder / "snapshot"
    primary.configure(autovacuum="off")
    primary.reload()
    primary.execute("grant execute on function pg_create_restore_point(text) to replcheck_audit")
    lone_place.write(rows=10)
    primary.execute("checkpoint")
    [(file,)] = primary.execute("select pg_relation_filepath('visit')")
    primary.stop()
    # All zeros are pages that were never written; what is inserted next goes behind them.
    os.truncate(primary.data_dir / file, GIGABYTE)
    primary.start()
    lone_place.write(rows=5000)
    # Reading sets hints: behind the checkpoint it would put whole pages into the WAL, and these would come back.
    [(held,)] = primary.execute(f"select count(*) from visit where ctid >= '({GIGABYTE // PAGE},0)'")
    primary.execute("checkpoint")
    second = f"{file}.1"
    assert (primary.data_dir / second).stat().st_size > PAGE
    with at_one_moment(primary):
        shutil.copytree(primary.data_dir, snapshot, symlinks=True)
    sealed = run_command("seal", "--primary", lone_place.cluster.audit_dsn("primary"), home=tmp_path)
    assert sealed.status == 0, sealed
    lone_place.archive()
    (snapshot / second).unlink()
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    words = ("--from", f"snapshot:{snapshot}", "--wal", str(lone_place.wal))
    drilled = bench.drill(*words, target="seal:latest", layers=("seal",))
    assert (drilled.status, drilled.verdict) == (2, "failed"), drilled.document
    [difference] = drilled.layer("rows against a seal")["differences"]
    assert (difference["relation"], difference["kind"], difference["count"]) == ("public.visit", "missing", held)
