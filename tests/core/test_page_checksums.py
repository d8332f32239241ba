"""What pg_checksums says of files: a page that is amiss accuses the backup, a file that cannot be got at does not."""

from pathlib import Path
from typing import Any, cast

import pytest

from replcheck.errors import ProgramError
from replcheck.postgres import page_checksums
from replcheck.postgres.page_checksums import BadPage, check_pages
from replcheck.postgres.tools import Ended

DATA = Path("/scratch/data")


class _Programs:
    def path(self, name: str) -> Path:
        return Path(name)


def checked(monkeypatch: pytest.MonkeyPatch, said: str) -> tuple[BadPage, ...]:
    ended = Ended(status=1, out="", err=f"pg_checksums: error: {said}\n")
    monkeypatch.setattr(page_checksums, "run_watched", lambda *_, **__: ended)
    return check_pages(cast(Any, _Programs()), DATA, account=None).bad


def test_a_page_that_is_amiss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        f'checksum verification failed in file "{DATA}/base/5/1", block 7: calculated checksum 1 but block contains 2'
    )
    assert checked(monkeypatch, said) == (BadPage(file=Path("base/5/1"), block=7),)
    said = f'could not read block 3 in file "{DATA}/base/5/1": read 100 of 8192'
    assert checked(monkeypatch, said) == (BadPage(file=Path("base/5/1"), block=3),)


@pytest.mark.parametrize("why", ["Input/output error", "Permission denied"])
def test_a_file_that_this_machine_cannot_read_accuses_nothing(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    with pytest.raises(ProgramError, match=why.lower()):
        checked(monkeypatch, f'could not open file "{DATA}/base/5/1": {why}')
