"""Statements that operators paste mean what they say, whatever the names are."""

import pytest

from replcheck.model.names import printable
from replcheck.postgres import advice


@pytest.mark.parametrize(
    ("role", "written"),
    [
        ("replcheck", '"replcheck"'),
        ('Odd "one".x', '"Odd ""one"".x"'),
        ("back\\slash", '"back\\slash"'),
        ("two\nlines", 'U&"two\\000Alines"'),
        ('"\\\x1b', 'U&"""\\\\\\001B"'),
        ("right\u202eleft", 'U&"right\\202Eleft"'),
    ],
)
def test_a_name_is_quoted_and_what_a_terminal_would_swallow_is_escaped(role, written):
    assert advice.grant_read_all_data(role) == f"GRANT pg_read_all_data TO {written};"
    assert advice.bypass_row_security(role) == f"ALTER ROLE {written} BYPASSRLS;"
    assert printable(advice.grant_connect(role, role)) == f"GRANT CONNECT ON DATABASE {written} TO {written};"


def test_a_name_in_unknown_bytes_gives_no_statement_rather_than_a_wrong_one():
    assert advice.grant_monitor("caf\udce9") == ""
    assert advice.grant_execute("public.f()", "caf\udce9") == ""
    assert advice.grant_execute("two\nlines.f()", "replcheck") == ""


def test_a_function_is_written_as_the_server_quotes_it():
    told = advice.grant_execute('"s""p".f(text)', "x y")
    assert told == 'GRANT EXECUTE ON FUNCTION "s""p".f(text) TO "x y";'


def test_from_16_on_a_membership_inherits_by_itself():
    assert advice.inherit_grant("pg_monitor", "r", version_num=160_000) == 'GRANT pg_monitor TO "r" WITH INHERIT TRUE;'
    assert advice.inherit_grant("pg_monitor", "r", version_num=159_999) == 'ALTER ROLE "r" INHERIT;'


def test_a_setting_is_changed_and_loaded():
    assert advice.change_setting("hot_standby_feedback", "on") == (
        "ALTER SYSTEM SET hot_standby_feedback = on;",
        "SELECT pg_reload_conf();",
    )
