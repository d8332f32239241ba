"""An assertion is one expression that only reads, or it is refused before anything is fetched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.errors import ConfigurationError
from replcheck.postgres.assertions import parse_assertion

GOOD = [
    "not exists (select from visit v left join patient p on p.id = v.patient_id where p.id is null)",
    "(select count(*) from clinic.patient) > 100",
    "(select max(updated_at) from patient) > now() - interval '24 hours'",
    "(select count(*) filter (where kind = 'first') from visit) between 1 and 1000",
    "exists (with a as (select 1 as b) select from a where b = 1)",
    "(select bool_and(length(name) > 0 and substring(name from 1 for 2) <> 'xx') from patient)",
    "1 = any (select id from patient) and coalesce((select sum(fee) from visit), 0) >= 0",
    "to_char(now(), 'YYYY-MM-DD HH24:MI:SS') > '2026'",
    "(select count(*) from generate_series(1, 10) as g (n)) = 10",
    "(select date_trunc('day', max(began)) = current_date from visit)",
    "((table patient) union all (table patient)) is not null",
    "true",
]
BAD = [
    ("drop table patient", "statement"),
    ("select true", "parentheses"),
    ("true; drop table patient", "ends the statement"),
    ("exists (with gone as (delete from patient returning id) select from gone)", "changes rows"),
    ("exists (with a as (insert into patient values (1) returning id) select from a)", "changes rows"),
    ("exists (with a as (update patient set id = 1 returning id) select from a)", "changes rows"),
    ("exists (select 1 into copy from patient)", "INTO"),
    ("exists (select from patient for update)", "locks rows"),
    ("true -- ; drop table", "comment"),
    ("true /* a */", "comment"),
    ("dblink.dblink('host=x', 'select 1') is null", "schema other than pg_catalog"),
    ("query_to_xml('delete from patient', true, true, '') is null", "runs the statement"),
    ("pg_catalog.query_to_xml('delete from patient', true, true, '') is null", "runs the statement"),
    ("\"ts_stat\"('select 1') is null", "runs the statement"),
    ("(select count(*) from patient) > $1", "parameter"),
    ("1 operator(pg_catalog.=) 1", ""),
    ("", "cannot be read"),
    ("count(", "cannot be read"),
    ("\0", "character"),
]


@pytest.mark.parametrize("text", GOOD)
def test_expressions_that_only_read_are_accepted(text):
    assertion = parse_assertion("a", text)
    assert assertion.expression
    assert parse_assertion("a", assertion.expression).expression == assertion.expression


@pytest.mark.parametrize(("text", "why"), BAD)
def test_everything_else_is_refused(text, why):
    with pytest.raises(ConfigurationError, match="assertion a is refused") as refused:
        parse_assertion("a", text)
    assert why in refused.value.message
    assert refused.value.__cause__ is None


@given(st.text())
def test_any_text_is_accepted_or_refused_without_being_quoted(text):
    secret = f"name = 'Ada Lovelace' {text}"
    refused = None
    try:
        parse_assertion("a", secret)
    except ConfigurationError as error:
        refused = error
    if refused is not None:
        assert "Lovelace" not in refused.message + refused.hint
        assert refused.__context__ is None


def test_what_an_assertion_calls_and_reads_is_known():
    assertion = parse_assertion(
        "clinic.many", "(select Count(*) from Clinic.patient, \"Odd Names\".x) > pg_catalog.abs(left('a', 1)::int)"
    )
    assert assertion.database == "clinic"
    assert assertion.functions == ("abs", "count", "left")
    assert set(assertion.relations) == {"Clinic.patient", '"Odd Names".x'}


def test_functions_stay_the_calls_that_were_written():
    text = "to_char(now(), 'YYYY') = nextval_not('x')"
    assert "now()" in parse_assertion("a", text).expression
