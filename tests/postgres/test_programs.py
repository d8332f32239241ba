"""Programs are found, and run under an account that may run them, in a clean environment."""

import os
import shutil
from pathlib import Path

import pytest

from replcheck.errors import ProgramError
from replcheck.postgres.programs import (
    available_programs,
    find_programs,
    readable_programs,
    run_program,
    server_account,
)


def test_the_newest_version_is_found_first() -> None:
    majors = [programs.major for programs in available_programs()]
    assert majors == sorted(majors, reverse=True)
    assert find_programs() == available_programs()[0]
    assert find_programs(majors[-1]).major == majors[-1]


def test_a_version_that_is_missing_is_named_with_those_found() -> None:
    with pytest.raises(ProgramError, match="PostgreSQL 9") as missing:
        find_programs(9)
    assert str(available_programs()[0].major) in missing.value.hint


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramError, match="pg_nothing is missing"):
        run_program(find_programs(), "pg_nothing", [])


def test_a_failing_program_says_why_unless_that_could_quote_rows(tmp_path: Path) -> None:
    arguments = ["--pgdata", str(tmp_path / "absent")]
    with pytest.raises(ProgramError, match="could not"):
        run_program(find_programs(), "pg_controldata", arguments)
    with pytest.raises(ProgramError, match=r"status 1$"):
        run_program(find_programs(), "pg_controldata", arguments, quote_errors=False)


def test_nothing_of_the_callers_environment_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "/nonexistent/somewhere")
    with pytest.raises(ProgramError) as refused:
        run_program(find_programs(), "psql", ["--no-psqlrc", "--port", "1", "--dbname", "postgres"])
    assert "/nonexistent/somewhere" not in refused.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs under another account")
def test_programs_in_a_closed_place_are_copied_once_for_the_servers_account(
    tmp_path: Path, clusters_root: Path
) -> None:
    account = server_account()
    assert account is not None
    programs = find_programs()
    if not programs.parts:
        pytest.skip("the newest installation found is the system's, which is never copied")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in programs.parts:
        shutil.copytree(programs.base / part, closed / part)
    cache = clusters_root / "programs"
    cache.mkdir(parents=True)
    try:
        moved = type(programs)(
            major=programs.major,
            version=programs.version,
            bindir=closed / programs.bindir.relative_to(programs.base),
            base=closed,
            parts=programs.parts,
        )
        copy = readable_programs(moved, account, cache_dir=cache)
        assert copy.bindir.is_relative_to(cache)
        assert programs.version in run_program(copy, "postgres", ["--version"], account=account)
        assert readable_programs(moved, account, cache_dir=cache) == copy
        assert len(list(cache.iterdir())) == 1
        assert all(path.lstat().st_uid == 0 and not path.lstat().st_mode & 0o022 for path in copy.bindir.iterdir())
    finally:
        shutil.rmtree(cache)
