"""The place of a seal's dump: nothing that somebody else put there is overwritten or removed."""

import asyncio
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from replcheck.drill import seal_dump
from replcheck.drill.seal_options import DumpFormat, SealOptions
from replcheck.errors import ProgramError, UsageError
from replcheck.model.seal import SealedDump


def _take(monkeypatch: pytest.MonkeyPatch, file: Path, format_: DumpFormat, dump: Any) -> None:
    monkeypatch.setattr(seal_dump, "find_dump_program", lambda *_: SimpleNamespace(version="16.1"))
    monkeypatch.setattr(seal_dump, "dump", dump)
    primary = SimpleNamespace(facts=SimpleNamespace(version_num=160001), target=SimpleNamespace(dsn=""))
    options = SealOptions(dump_file=file, dump_format=format_)
    asyncio.run(seal_dump.take_dump(cast(Any, primary), "app", "1-1", options, stop=asyncio.Event()))


def _refused(*_: object, **__: object) -> None:
    raise ProgramError("pg_dump ended with status 1")


@pytest.mark.parametrize("format_", [DumpFormat.DIRECTORY, DumpFormat.CUSTOM])
def test_a_dump_that_another_seal_began_there_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format_: DumpFormat
) -> None:
    file = tmp_path / "dump"
    if format_ is DumpFormat.DIRECTORY:
        file.mkdir()
        (file / "toc.dat").write_text("theirs")
    else:
        file.write_text("theirs")
    with pytest.raises(UsageError, match="exists already"):
        _take(monkeypatch, file, format_, _refused)
    assert ((file / "toc.dat") if file.is_dir() else file).read_text() == "theirs"


@pytest.mark.parametrize("format_", [DumpFormat.DIRECTORY, DumpFormat.CUSTOM])
def test_nothing_is_left_of_a_dump_that_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format_: DumpFormat
) -> None:
    file = tmp_path / "dump"
    with pytest.raises(ProgramError):
        _take(monkeypatch, file, format_, _refused)
    assert not file.exists()


def test_the_place_of_a_dump_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modes = []

    def look(*_: object, file: Path, **__: object) -> None:
        modes.append(stat.S_IMODE(file.stat().st_mode))

    _take(monkeypatch, tmp_path / "folder", DumpFormat.DIRECTORY, look)
    _take(monkeypatch, tmp_path / "file", DumpFormat.CUSTOM, look)
    assert modes == [0o700, 0o600]


def test_an_archive_is_the_sealed_one_by_when_it_was_begun_and_sql_by_its_name(tmp_path: Path) -> None:
    begun = b"".join(b"\0" + number.to_bytes(4, "little") for number in (3, 0, 2, 28, 10, 126, 0))
    head = b"PGDMP\x01\x0f\0\x04\x08\x01\0" + begun + 3 * (b"\0" + (2).to_bytes(4, "little") + b"18")
    archive = tmp_path / "renamed"
    archive.write_bytes(head)
    assert seal_dump.created_at(archive) == "2026-11-28 02:00:03"
    sealed = SealedDump(
        file="/there/x.dump",
        database="app",
        format="custom",
        sha256="",
        size_bytes=1,
        program="18.6",
        created="2026-11-28 02:00:03",
    )
    assert seal_dump.is_sealed_dump(archive, sealed)
    assert not seal_dump.is_sealed_dump(archive, replace(sealed, created="2026-11-29 02:00:03"))
    for name, same in (("x.dump", True), ("y.dump", False)):
        (tmp_path / name).write_text("-- PostgreSQL database dump\n")
        assert seal_dump.is_sealed_dump(tmp_path / name, replace(sealed, created="")) is same
