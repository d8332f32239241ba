"""Plain SQL is cut into statements and data where psql would cut it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.postgres.plain_dumps import PlainDump, PlainDumpError
from replcheck.postgres.roles_named import roles_named

END = b"--\n-- PostgreSQL database dump complete\n--\n\n"


def read(text: bytes) -> list[tuple[bytes, bytes | None]]:
    """Return the statements of a dump, those that copy with their data."""
    dump = PlainDump(io.BytesIO(text))
    return [(one.text.strip(), b"".join(dump.data()) if one.copies else None) for one in dump.statements()]


STATEMENTS = [
    b"CREATE TABLE a (b text DEFAULT 'x;y');",
    b"COMMENT ON TABLE a IS 'it''s; a \\ comment';",
    b"SELECT E'a\\';b';",
    b'ALTER TABLE "we;ird "" name" OWNER TO app;',
    b"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$\nbegin -- ; '\n  return 1;\nend $_$;",
    (
        b"CREATE FUNCTION g(a int) RETURNS int\n    LANGUAGE sql\n"
        b"    BEGIN ATOMIC\n SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END;\nEND;"
    ),
    b"CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2);",
    b"SELECT 1 /* ; /* nested ; */ ' */ ;",
    b"SELECT 1 -- ; '\n;",
    b"INSERT INTO a VALUES ('b;c', 'd');",
    b"INSERT INTO a VALUES ('two\nlines; -- \\connect\n\\! nothing');",
    b"SELECT $1$, a$b$c;"[:9] + b";",
    "SELECT 'Ключ; ''', U&'\\0041';".encode(),
]


@given(st.lists(st.sampled_from(STATEMENTS), max_size=8), st.sampled_from([b"\n", b"\n\n\n", b" "]))
def test_statements_are_cut_where_they_end(statements, between):
    text = between.join(statements) + b"\n"
    assert [found for found, _ in read(text + END)] == statements


@given(st.binary().filter(lambda data: b"\n\\.\n" not in b"\n" + data and b"\r" not in data))
def test_data_come_back_byte_by_byte_whatever_they_hold(data):
    data += b"" if data.endswith(b"\n") or not data else b"\n"
    text = b"COPY a (b) FROM stdin;\n" + data + b"\\.\n\nSELECT 1;\n"
    assert read(text + END) == [(b"COPY a (b) FROM stdin;", data), (b"SELECT 1;", None)]


def test_data_that_nobody_asks_for_are_passed_over():
    dump = PlainDump(io.BytesIO(b"COPY a FROM stdin;\n1; DROP TABLE x;\n\\.\nSELECT 1;\n" + END))
    assert [one.text.strip() for one in dump.statements()] == [b"COPY a FROM stdin;", b"SELECT 1;"]


@given(st.integers(min_value=0))
def test_a_dump_that_was_cut_off_anywhere_is_told(cut):
    text = b"SELECT 1;\nCOPY a FROM stdin;\n1\tx\n2\ty\n\\.\n\n"
    text += b"ALTER TABLE a\n    ADD CHECK (b);\n\n--\n-- PostgreSQL database dump complete\n"
    with pytest.raises(PlainDumpError) as told:
        read(text[: cut % (len(text) - 1)])
    assert told.value.code == "dump_truncated"


@pytest.mark.parametrize(
    "line",
    [b"\\! touch /tmp/x", b"\\copy a from b", b"\\i other.sql", b"COPY a FROM PROGRAM 'id';", b"COPY a TO '/x';"],
)
def test_what_pg_dump_never_writes_is_refused(line):
    with pytest.raises(PlainDumpError) as told:
        read(b"SELECT 1;\n" + line + b"\n" + END)
    assert told.value.code == "dump_corrupt"


def test_psqls_commands_that_pg_dump_writes_are_passed_over():
    text = b"\\restrict abc\n\nSELECT 1;\n\\unrestrict abc\n\\connect clinic\n\\restrict abc\nSELECT 2;\n"
    assert [found for found, _ in read(text + END + b"\\unrestrict abc\n")] == [b"SELECT 1;", b"SELECT 2;"]


def test_statements_know_what_they_restore():
    text = b"--\n-- Name: visit; Type: TABLE; Schema: clinic; Owner: app\n--\n\nCREATE TABLE clinic.visit ();\n"
    (statement,) = PlainDump(io.BytesIO(text + END)).statements()
    assert (statement.label.kind, statement.label.schema, statement.label.name) == ("TABLE", "clinic", "visit")


def test_backslashes_escape_where_the_dump_says_so():
    text = b"SET standard_conforming_strings = off;\nSELECT 'a\\';b';\n"
    assert [found for found, _ in read(text + END)][1] == b"SELECT 'a\\';b';"


@pytest.mark.parametrize(
    ("statement", "roles"),
    [
        ('GRANT SELECT ON TABLE a TO "Odd ""Role""" WITH GRANT OPTION;', {'Odd "Role"'}),
        ("CREATE POLICY p ON public.a FOR SELECT TO one, two USING (true);", {"one", "two"}),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA s GRANT ALL ON TABLES TO reader;", {"owner", "reader"}),
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC;", set()),
        ("CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'secret');", {"app"}),
        ("COMMENT ON TABLE a IS 'GRANT ALL TO nobody;';", set()),
    ],
)
def test_the_roles_that_a_dump_names_are_found(statement, roles):
    assert roles_named([statement]) == roles
