"""Of what pg_restore and the server say only causes and names are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.postgres.restore_errors import Cause, classified, read_complaints

ENTRY = "TABLE DATA clinic patient app"
HEAD = f"pg_restore: from TOC entry 2712; 0 16416 {ENTRY}"


def complaints(*lines: str) -> list[tuple[Cause, str, str]]:
    return [(e.cause, e.entry, e.name) for e in read_complaints(lines, entries=frozenset({ENTRY}))]


@pytest.mark.parametrize(
    ("said", "cause", "name"),
    [
        ('could not execute query: ERROR:  role "app" does not exist', Cause.ROLE_MISSING, "app"),
        ('could not execute query: ERROR:  extension "postgis" is not available', Cause.EXTENSION_MISSING, "postgis"),
        (
            'could not execute query: ERROR:  could not create locale "de_AT.utf8": No such file or directory',
            Cause.SOFTWARE_MISSING,
            "de_AT.utf8",
        ),
        (
            'could not execute query: ERROR:  collation "pg_catalog.de_AT" for encoding "UTF8" does not exist',
            Cause.SOFTWARE_MISSING,
            "pg_catalog.de_AT",
        ),
        ("could not execute query: ERROR:  ICU is not supported in this build", Cause.SOFTWARE_MISSING, "ICU"),
        ("could not execute query: ERROR:  compression method lz4 not supported", Cause.SOFTWARE_MISSING, "lz4"),
        ("could not execute query: ERROR:  unsupported XML feature", Cause.SOFTWARE_MISSING, "XML"),
        (
            'could not execute query: ERROR:  could not open dictionary file "/a/de.dict": No such file or directory',
            Cause.SOFTWARE_MISSING,
            "de.dict",
        ),
        (
            'could not execute query: ERROR:  access method "columnar" does not exist',
            Cause.SOFTWARE_MISSING,
            "columnar",
        ),
        (
            'could not execute query: ERROR:  extension "g" has no installation script nor update path for version ""',
            Cause.EXTENSION_MISSING,
            "g",
        ),
        (
            'COPY failed for table "bill": ERROR:  invalid input syntax for type money: "1.234,50 Ada"',
            Cause.SOFTWARE_MISSING,
            "money",
        ),
        (
            'could not execute query: ERROR:  could not access file "$libdir/geo": No such file or directory',
            Cause.SOFTWARE_MISSING,
            "$libdir/geo",
        ),
        ('COPY failed for table "patient": ERROR:  invalid input syntax for type date: "Ada"', Cause.REFUSED, ""),
        (
            'could not execute query: ERROR:  could not create unique index "patient_pkey"',
            Cause.REFUSED,
            "patient_pkey",
        ),
        ("could not read from input file: end of file", Cause.TRUNCATED, ""),
        ('could not open input file "/x/y/2736.dat": No such file or directory', Cause.FILE_MISSING, "2736.dat"),
        ("could not uncompress data: incorrect data check", Cause.ARCHIVE, ""),
        ("could not find block ID 2736 in archive -- possibly corrupt archive", Cause.TRUNCATED, ""),
        (
            'could not execute query: ERROR:  could not extend file "base/5/1": No space left on device',
            Cause.NO_SPACE,
            "",
        ),
        ("some words that no version of pg_restore says yet", Cause.REFUSED, ""),
    ],
)
def test_messages_are_told_apart(said, cause, name):
    assert complaints(HEAD, f"pg_restore: error: {said}") == [(cause, "TABLE DATA clinic patient", name)]


def test_what_is_quoted_under_a_message_is_passed_over():
    found = complaints(
        HEAD,
        'pg_restore: error: COPY failed for table "patient": ERROR:  missing data for column "born"',
        'CONTEXT:  COPY patient, line 3: "7\tAda Lovelace"',
        "pg_restore: warning: errors ignored on restore: 1",
    )
    assert found == [(Cause.REFUSED, "TABLE DATA clinic patient", "")]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_nothing_of_an_unknown_message_is_kept(text):
    secret = f"Ada Lovelace {text}"
    found = list(
        read_complaints(
            [
                f"pg_restore: from TOC entry 1; 1 1 {secret}",
                f"pg_restore: error: could not execute query: ERROR:  {secret}",
            ],
            entries=frozenset(),
        )
    )
    assert "Lovelace" not in repr(found)
    assert "Lovelace" not in repr(classified("22P02", secret, entry=""))


@pytest.mark.parametrize("sqlstate", ["0A000", "58P01", "F0000"])
def test_a_feature_or_a_file_that_the_server_lacks_is_known_by_its_sqlstate(sqlstate):
    assert classified(sqlstate, "words that no version says yet", entry="").cause is Cause.SOFTWARE_MISSING
