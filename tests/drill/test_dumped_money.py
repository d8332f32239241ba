"""Values of type money, which a dump holds as text in a locale that it does not tell."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replcheck.lab.cluster import LabCluster
from replcheck.postgres import programs
from tests.commands import run_here
from tests.drill.damaging import Bench
from tests.drill.physicals import own
from tests.drill.repositories import MAJOR

pytestmark = [
    pytest.mark.skipif(
        shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/es_CL").exists(),
        reason="the locale es_CL cannot be made here: localedef or its sources are missing",
    ),
    pytest.mark.skipif(
        all(found.major != MAJOR for found in programs.available_programs()),
        reason=f"the system's PostgreSQL {MAJOR}, which uses the system's locales, is not installed",
    ),
]
LOCALE = "es_CL.UTF-8"
"""Writes twelve as $ 12,00: by the locale C those are twelve hundred."""


@contextmanager
def installed_locale(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Let the servers that are started in the block find the locale, and not those of others."""
    environment = programs.clean_environment

    with monkeypatch.context() as patched:
        patched.setattr(programs, "clean_environment", lambda: environment() | {"LOCPATH": str(folder)})
        yield


@pytest.fixture(scope="module")
def locales(backups_root: Path) -> Path:
    """A folder with the locale in it."""
    folder = backups_root / "locales"
    folder.mkdir(mode=0o755)
    subprocess.run(["localedef", "-i", "es_CL", "-f", "UTF-8", str(folder / LOCALE)], check=True, umask=0o022)
    own(folder)
    return folder


@pytest.mark.parametrize("here", [True, False], ids=["locale here", "locale missing"])
def test_money_is_read_by_the_locale_it_was_written_by_or_accuses_nobody(
    clusters_root: Path,
    locales: Path,
    scratch_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    here: bool,
):
    dump = tmp_path / "shop.dump"
    with (
        installed_locale(monkeypatch, locales),
        LabCluster.create(
            clusters_root, name="money", major=MAJOR, standbys=0, settings={"lc_monetary": LOCALE}
        ) as cluster,
    ):
        for statement in (
            "grant execute on function pg_create_restore_point(text) to replcheck_audit",
            "create table bill (id int, due money)",
            "insert into bill values (1, '12'::numeric::money), (2, '-7.5'::numeric::money)",
            "create type ware as (what text, price money)",
            "create table basket (wares ware[])",
            "insert into basket values (array[row('bread', '25'::numeric::money)::ware])",
            "create table patient as select g as id from generate_series(1, 10) g",
        ):
            cluster.primary.execute(statement)
        assert cluster.primary.execute("select due::text from bill where id = 1") == [("$ 12,00",)]
        words = ("seal", "--primary", cluster.audit_dsn("primary"), "--database", "postgres", "--dump", str(dump))
        sealed = run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
        assert sealed.status == 0, sealed
    bench = Bench(home=tmp_path, scratch=scratch_root, monkeypatch=monkeypatch, capfd=capfd)
    with installed_locale(monkeypatch, locales if here else tmp_path):
        drilled = bench.drill("--from", f"dump:{dump}", target="seal:latest", layers=("seal",))
    rows = drilled.layer("rows against a seal")
    # The role that the seal was made by is not in the dump, and so it is not proven whole either way.
    assert (drilled.status, rows["differences"]) == (1, []), drilled.document
    if here:
        assert (rows["state"], rows["reason"], rows["rows"]) == ("passed", "", 13)
        return
    assert rows["state"] == "inconclusive"
    for relation in ("public.bill", "public.basket"):
        assert f"{relation}: values of type money are read by another lc_monetary here" in rows["reason"]
    assert "patient" not in rows["reason"]
