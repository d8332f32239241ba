"""A drill that is killed while pg_restore runs is cleaned up by the next one."""

import subprocess
from pathlib import Path

import pytest

from replcheck.drill import scratch
from replcheck.postgres import processes
from replcheck.postgres.programs import process_options
from tests.commands import run_command, started, wait_for
from tests.conftest import MakeCluster
from tests.drill.physicals import contents, own

SLOW = """
create function slow(a int) returns int language plpgsql immutable as
    $$ begin if current_setting('data_directory') <> '{here}' then perform pg_sleep(100); end if; return a; end $$;
create table visit (id int, note text);
insert into visit select g, 'secret note' from generate_series(1, 100) g;
create index on visit (slow(id))
"""
"""An index that takes its time wherever it is restored."""


@pytest.mark.parametrize("words", [("--clean",), ()], ids=["by clean", "by the next drill"])
def test_a_dump_whose_restore_is_killed_is_cleaned_up(
    make_cluster: MakeCluster, newest_major: int, backups_root: Path, scratch_root: Path, tmp_path: Path, words
):
    cluster = make_cluster(standbys=0, major=newest_major)
    primary = cluster.primary
    for statement in SLOW.format(here=primary.data_dir).strip().split(";\n"):
        primary.execute(statement)
    folder = backups_root / f"slow{len(words)}"
    folder.mkdir(mode=0o711)
    own(folder)
    dump = [str(primary.programs.path("pg_dump")), "-Fc", "-f", str(folder / "visit.dump"), primary.dsn()]
    subprocess.run(dump, **process_options(primary.account), check=True)
    before = contents(folder)
    drill = ("drill", "--from", f"dump:{folder / 'visit.dump'}", "--scratch", str(scratch_root))
    with started(*drill, home=tmp_path) as process:
        wait_for(lambda: bool(_at_work("CREATE INDEX", scratch_root)))
        programs = _below(process.pid, "pg_restore")
        assert programs
        process.kill()
        process.wait()
    [left] = scratch_root.glob("drill-*")
    # Another that comes to nothing cleans up too.
    following = words or ("--from", f"dump:{folder / 'none.dump'}")
    ended = run_command("drill", *following, "--scratch", str(scratch_root), home=tmp_path)
    assert "was removed" in ended.out + ended.err, ended
    assert not left.exists()
    scratch.remove_root(scratch_root)
    assert not scratch_root.exists()
    wait_for(lambda: not any(map(processes.is_alive, programs)), within_s=10)
    assert contents(folder) == before


def _below(pid: int, name: str) -> list[int]:
    """Return the processes of a program that a process has started, itself or through others."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            found += [child] if words[0].endswith(name.encode()) else []
            found += _below(child, name)
    return found


def _at_work(title: str, root: Path) -> list[int]:
    """Return the processes of scratch servers whose title says what they do."""
    found = []
    for data in root.glob("drill-*/server/data"):
        for pid in processes.processes_in(data):
            try:
                said = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if title.encode() in said:
                found.append(pid)
    return found
