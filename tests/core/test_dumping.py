"""Of what pg_dump says, the object that was refused is passed on, and nothing that may quote a row."""

import pytest

from replcheck.postgres.dumping import dump_failure

CANARY = "Ada Canary"


@pytest.mark.parametrize(
    ("said", "told", "hint"),
    [
        (
            "pg_dump: error: could not open large object 4711: ERROR:  permission denied for large object 4711",
            "may not read large object 4711 (SQLSTATE 42501)",
            "GRANT SELECT ON LARGE OBJECT 4711 TO ...; pg_read_all_data covers none",
        ),
        (
            "pg_dump: error: query failed: ERROR:  permission denied for table visit\npg_dump: detail: Query was: LOCK",
            "may not read table visit (SQLSTATE 42501)",
            "GRANT SELECT ON TABLE visit TO ....",
        ),
        (
            "pg_dump: error: query failed: ERROR:  permission denied for schema clinic",
            "may not read schema clinic",
            "GRANT USAGE ON SCHEMA clinic TO ....",
        ),
        (
            'query failed: ERROR:  query would be affected by row-level security policy for table "chart"',
            "cannot read all rows of table chart",
            "BYPASSRLS",
        ),
        ("query failed: ERROR:  canceling statement due to lock timeout", "SQLSTATE 55P03", "redefined"),
        (f'query failed: ERROR:  invalid byte sequence: "{CANARY}"', "ended with status 1", "by hand"),
        (f"query failed: ERROR:  permission denied for {CANARY}", "ended with status 1", "by hand"),
        ("", "ended with status 1", "by hand"),
    ],
)
def test_a_refusal_of_pg_dump_names_its_object(said: str, told: str, hint: str) -> None:
    failure = dump_failure(1, said)
    assert told in failure.message
    assert hint in failure.hint
    assert CANARY not in failure.message + failure.hint
