"""A drill as an ordinary user: the scratch server runs as that user, who owns all of it, and nothing is left."""

import contextlib
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replcheck.cli.main import main
from replcheck.postgres.programs import server_account
from tests.drill.physicals import Place, contents
from tests.staged import newest_only


def as_user(act: Callable[[], int], *, home: Path, said: Path) -> int:
    """Do something in a child process as the account that servers run under, and return what it returns.

    What it writes goes into a file. A child has loaded all modules already, which that account may not be able to read.
    """
    account = server_account()
    assert account is not None
    with warnings.catch_warnings():
        # A process with threads may fork where the child starts none of its own before it ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 99
        try:
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
            os.environ["HOME"] = str(home)
            os.chdir(home)
            with open(1, "w", encoding="utf-8", closefd=False) as out, contextlib.redirect_stdout(out):
                status = act()
        except BaseException:  # noqa: BLE001 - nothing of the test runner may go on in the child
            os.write(1, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def home(backups_root: Path) -> Iterator[Path]:
    """A home of the account's own."""
    account = server_account()
    if account is None:
        pytest.skip("this whole run is that of an ordinary user")
    folder = backups_root / "home"
    folder.mkdir(mode=0o700)
    os.chown(folder, account.uid, account.gid)
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@newest_only
def test_an_ordinary_user_drills_a_backup_of_their_own(
    place: Place, home: Path, scratch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["drill", "--from", f"base:{place.folder}/plain", "--wal", str(place.wal), "--target", "half"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    # Once as ourselves, so that the child needs no module that is not loaded.
    assert main([*words, "--scratch", str(scratch_root)]) == 1
    before, said = contents(place.folder / "plain"), tmp_path / "said"
    status = as_user(lambda: main(words), home=home, said=said)
    text = said.read_text()
    assert status == 1, text
    assert "RESTORED, ROWS NOT COMPARED" in text
    assert f"{home}/.local/state/replcheck/drill" in text
    assert "was removed" in " ".join(text.split())
    assert not (home / ".local/state/replcheck/drill").exists()
    assert (home / ".local/state/replcheck/unnamed.db").stat().st_uid == home.stat().st_uid
    assert contents(place.folder / "plain") == before


@newest_only
def test_an_ordinary_user_who_may_not_read_a_backup_is_told_so(
    place: Place, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    said = tmp_path / "said"
    status = as_user(lambda: main(["drill", "--from", f"base:{closed}/x", "--no-store"]), home=home, said=said)
    assert (status, "NOT TRIED" in said.read_text()) == (3, True), said.read_text()
