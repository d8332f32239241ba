"""A dump is told by its content, whatever it is called and however it is cut off."""

import gzip
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill.backups.dump_judging import Circumstances, problems_of, refuse_unreadable
from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.model.drill import Blame
from replcheck.postgres.compression import COMPRESSIONS
from replcheck.postgres.dump_databases import Shape, shape_of
from replcheck.postgres.dumps import (
    DumpDamagedError,
    DumpFormat,
    DumpUnsupportedError,
    NotADumpError,
    check_whole,
    examine_dump,
    is_globals,
)
from replcheck.postgres.restore_errors import Cause, RestoreError

PLAIN = (
    b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 16.4\n"
    b"-- Dumped by pg_dump version 18.6\n\nSET client_encoding = 'LATIN1';\n"
)


def head(version: tuple[int, int], database: str | bytes = "clinic") -> bytes:
    """Return the head of an archive as pg_dump writes it."""

    def number(value: int) -> bytes:
        return bytes([value < 0]) + struct.pack("<I", abs(value))

    def text(value: str | bytes) -> bytes:
        value = value.encode() if isinstance(value, str) else value
        return number(len(value)) + value

    compression = b"\x01" if version >= (1, 15) else number(-1)
    moment = b"".join(number(part) for part in (58, 59, 23, 31, 11, 125, 0))
    strings = text(database) + text("16.4 (Debian)") + text("17.2")
    return b"PGDMP" + bytes([*version, 0, 4, 8, 1]) + compression + moment + strings + number(12)


def examined(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.name"
        path.write_bytes(content)
        return examine_dump(path)


@pytest.mark.parametrize("version", [(1, 12), (1, 14), (1, 15), (1, 16)])
def test_the_head_of_an_archive_is_read_in_each_of_its_versions(version):
    dump = examined(head(version, "Klinik Süd") + bytes(100))
    assert (dump.format, dump.dbname) == (DumpFormat.CUSTOM, "Klinik Süd")
    assert (dump.server_major, dump.program_major, dump.major) == (16, 17, 17)
    assert dump.taken_at is not None
    assert dump.taken_at.replace(tzinfo=None).isoformat() == "2025-12-31T23:59:58"


@pytest.mark.parametrize("encoding", [b"SJIS", b"GBK", b"BIG5", b"JOHAB", b"GB18030", b"UHC", b"SHIFT_JIS_2004"])
def test_sql_whose_letters_may_hold_quotes_is_not_cut_into_statements(encoding):
    with pytest.raises(DumpUnsupportedError):
        examined(PLAIN.replace(b"LATIN1", encoding))


def test_a_name_of_a_database_that_is_no_utf_8_is_unknown():
    dump = examined(head((1, 16), "Süd".encode("latin-1")) + bytes(100))
    assert (dump.dbname, dump.server_major, dump.program_major) == ("", 16, 17)


@given(st.integers(min_value=0, max_value=len(head((1, 16))) - 6))
def test_an_archive_that_is_cut_off_in_its_head_is_told(length):
    with pytest.raises((DumpDamagedError, NotADumpError)):
        examined(head((1, 16))[:length])


@pytest.mark.parametrize(
    ("content", "kind"), [(PLAIN, DumpFormat.PLAIN), (gzip.compress(PLAIN, mtime=0), DumpFormat.PLAIN_GZIP)]
)
def test_plain_sql_says_who_made_it(content, kind):
    dump = examined(content)
    assert (dump.format, dump.major, dump.encoding) == (kind, 18, "LATIN1")


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(head((1, 16)) + bytes(100), mtime=0),
        b"\x28\xb5\x2f\xfd" + bytes(9),
        b"-- PostgreSQL database cluster dump\n",
    ],
)
def test_backups_that_cannot_be_restored_here_are_told_from_damaged_ones(content):
    with pytest.raises(DumpUnsupportedError):
        examined(content)


@given(st.binary(max_size=600))
def test_anything_else_is_no_dump(content):
    with pytest.raises((DumpDamagedError, DumpUnsupportedError, NotADumpError)):
        examined(content)


def test_roles_of_a_cluster_are_no_dump(tmp_path):
    path = tmp_path / "globals.sql"
    path.write_bytes(b"--\n-- PostgreSQL database cluster dump\n--\n")
    assert is_globals(path)
    assert not is_globals(tmp_path)


def test_the_shape_of_a_database_is_read():
    statement = (
        'CREATE DATABASE "Kli""nik" WITH TEMPLATE = template0 ENCODING = \'UTF8\' LOCALE_PROVIDER = icu'
        " LOCALE = 'en_US.utf8' ICU_LOCALE = 'de' TABLESPACE = fast;\n"
    )
    assert shape_of(statement, encoding="") == Shape(
        encoding="UTF8",
        dbname='Kli"nik',
        options=(("LOCALE_PROVIDER", "icu"), ("LOCALE", "en_US.utf8"), ("ICU_LOCALE", "de")),
    )
    assert shape_of("SELECT 1;", encoding="LATIN1") == Shape(encoding="LATIN1")


def circumstances(**changes: object) -> Circumstances:
    given_ = {"dump": "a", "has_globals": False, "missing_roles": frozenset(), "own_server": True} | changes
    return Circumstances(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("errors", "changes", "blames"),
    [
        ([Cause.REFUSED], {}, [Blame.BACKUP]),
        ([Cause.EXTENSION_MISSING, Cause.REFUSED], {}, [Blame.ENVIRONMENT] * 2),
        ([Cause.SOFTWARE_MISSING, Cause.REFUSED], {}, [Blame.ENVIRONMENT] * 2),
        ([Cause.REFUSED], {"newer_server": True}, [Blame.ENVIRONMENT]),
        ([Cause.PRIVILEGE], {}, [Blame.BACKUP]),
        ([Cause.PRIVILEGE], {"own_server": False}, [Blame.ENVIRONMENT]),
        ([Cause.PRIVILEGE], {"missing_roles": frozenset({"app"})}, [Blame.ENVIRONMENT] * 2),
        ([], {"missing_roles": frozenset({"app"}), "has_globals": True}, [Blame.BACKUP]),
        ([Cause.REFUSED] * 30, {}, [Blame.BACKUP] * 21),
    ],
)
def test_a_dump_is_blamed_for_its_own_faults_alone(errors, changes, blames):
    found = [RestoreError(cause=cause, entry="TABLE a", name="x") for cause in errors]
    assert [problem.blame for problem in problems_of(found, circumstances(**changes))] == blames


def test_rows_that_no_version_takes_are_the_dumps_fault_in_a_newer_one_too():
    found = [RestoreError(cause=Cause.REFUSED, entry="INDEX a", sqlstate="23505")]
    [problem] = problems_of(found, circumstances(newer_server=True))
    assert problem.blame is Blame.BACKUP


def test_bounds_and_constraints_under_another_locale_accuse_no_dump():
    refused = [RestoreError(cause=Cause.REFUSED, entry="TABLE DATA a", sqlstate="23514")]
    [problem] = problems_of(refused, circumstances(replaced_locale=True))
    assert problem.blame is Blame.ENVIRONMENT
    [problem] = problems_of(refused, circumstances())
    assert problem.blame is Blame.BACKUP


def test_what_cannot_be_read_refutes_and_what_has_no_room_does_not():
    for cause in (Cause.TRUNCATED, Cause.ARCHIVE, Cause.FILE_MISSING):
        with pytest.raises(BackupRefuted):
            refuse_unreadable([RestoreError(cause=Cause.REFUSED), RestoreError(cause=cause)], "a")
    gone = RestoreError(cause=Cause.FILE_MISSING, name="a")
    for error in (RestoreError(cause=Cause.NO_SPACE), RestoreError(cause=Cause.SERVER_LOST), gone):
        with pytest.raises(DrillBlocked):
            refuse_unreadable([error], "a")


@pytest.mark.parametrize("ending", [".gz", ".lz4", ".zst"])
def test_a_compressed_data_file_is_read_to_its_end(tmp_path: Path, ending: str):
    if shutil.which(COMPRESSIONS[ending]) is None:
        pytest.skip(f"{COMPRESSIONS[ending]} is not installed")
    (tmp_path / "toc.dat").write_bytes(head((1, 16)))
    dump, file = examine_dump(tmp_path), tmp_path / f"7.dat{ending}"

    def compressed(content: bytes) -> bytes:
        return subprocess.run([COMPRESSIONS[ending], "-c"], input=content, capture_output=True, check=True).stdout

    rows = b"".join(b"%d\tnote of %d\n" % (number, number * 7919) for number in range(20_000))
    sound = compressed(rows + b"\\.\n\n\n")
    file.write_bytes(sound)
    read: list[int] = []
    check_whole(dump, frozenset({7}), progressed=read.append)
    assert read[-1] == len(rows) + 5
    for damaged in (b"", sound[: len(sound) // 2], sound[:-3], compressed(rows)):
        file.write_bytes(damaged)
        with pytest.raises(DumpDamagedError) as raised:
            check_whole(dump, frozenset({7}), progressed=read.append)
        assert raised.value.code == "dump_truncated"
