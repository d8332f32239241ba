"""What may be written in a row filter, and that nothing else gets further than the command line."""

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.errors import UsageError
from replcheck.postgres.filters import (
    FilterRefusedError,
    filter_for,
    parse_condition,
    rendered_condition,
    row_filter,
)

CANARY = "zqcanary"

REFUSED = {
    "1; drop table x": "statement",
    "a = 1; delete from visits": "statement",
    "a = 1;": "statement|expression",
    "drop table x": "",
    "delete from visits": "",
    "insert into visits values (1)": "",
    "update visits set a = 1": "",
    "copy visits to program 'true'": "",
    "do $$ begin end $$": "",
    "set role postgres": "",
    "exists (select 1)": "subquery",
    "not exists (select from patient)": "subquery",
    "a = (select 1)": "subquery",
    "a in (select 1)": "subquery|holds what",
    "a = any (select 1)": "ANY",
    "a = any ('{1}')": "ANY",
    "a = all (array[1])": "ALL",
    "a = some (array[1])": "ALL",
    "select 1": "subquery",
    "select 1 into x": "subquery",
    "select 1 from visits for update": "subquery",
    "with w as (select 1) select true from w": "subquery",
    "values (true)": "subquery",
    "table visits": "",
    "(values (1)) = 1": "subquery",
    "pg_sleep(1) is null": "pg_sleep",
    "pg_catalog.pg_sleep(1) is null": "pg_sleep",
    "nextval('s') > 0": "nextval",
    "setval('s', 1) > 0": "setval",
    "random() < 0.5": "random",
    "now() > ts": "now",
    "clock_timestamp() > ts": "clock_timestamp",
    "txid_current() > 0": "txid_current",
    "lo_import('/etc/passwd') > 0": "lo_import",
    "lo_unlink(1) > 0": "lo_unlink",
    "pg_read_file('x') = 'y'": "pg_read_file",
    "pg_terminate_backend(1)": "pg_terminate_backend",
    "set_config('a.b', 'c', false) = 'c'": "set_config",
    "current_setting('a.b') = 'c'": "current_setting",
    "dblink_exec('x') = 'y'": "dblink_exec",
    "query_to_xml('select 1', true, true, '') is null": "query_to_xml",
    "public.f(a)": "f,",
    '"lower"(a) = 1': "functions",
    "lower (a) = 'x'": "COLLATE",
    "length/**/(a) = 1": "comment",
    "nvl(a, 1) = 1": "nvl",
    "ifnull(a, 1) = 1": "ifnull",
    "count(*) > 1": "count",
    "sum(a) over () > 1": "sum",
    "row_number() over (order by a) = 1": "row_number",
    "current_user = 'x'": "",
    "session_user = 'x'": "",
    "user = 'x'": "user",
    "current_role = 'x'": "",
    "current_date > a": "",
    "current_timestamp > a": "",
    "localtimestamp > a": "",
    "current_schema = 'x'": "",
    "other.a = 1": "prefix",
    "public.visits.a = 1": "prefix",
    "t.a = 1": "prefix",
    "(t).a = 1": "",
    "t.* is null": "",
    "* = 1": "",
    "ctid < '(1,1)'": "ctid",
    "xmin = '1'": "xmin",
    "tableoid = 1": "tableoid",
    '"ctid" is null': "ctid",
    "a = $1": "parameter",
    "a = ?": "placeholder",
    "a = :name": "placeholder",
    "a = %s": "",
    "a = @name": "parameter",
    "a = {{x}}": "",
    "a::regclass = 1": "casts",
    "'x'::regclass = a": "casts",
    "cast(a as oid) = 1": "casts",
    "a::text = '1'": "not a literal",
    "(a + 1)::int = 1": "not a literal",
    "'x'::public.evil = a": "",
    "'1'::evil = a": "",
    "evil '1' = a": "",
    "a = '{1}'::int[]": "",
    "a = 'x'::varchar(3)": "varchar",
    "a < 'today'::date": "date or time",
    "a < date 'now'": "date or time",
    "a < timestamptz '2026-01-01 Europe/Berlin'": "date or time",
    "a < timestamptz 'infinitye'": "date or time",
    "a < interval '1 day'": "",
    "a at time zone 'UTC' > b": "",
    "extract(year from a) = 2026": "extract",
    "a = E'x'": "ByteString",
    "a = E'\\'' or true --'": "",
    "a = $$x$$": "RawString",
    "a = $tag$x$tag$": "",
    "a = U&'x'": "UnicodeString",
    "a = N'x'": "National",
    "a = B'1'": "BitString",
    "a = X'1f'": "HexString",
    "a = 0x1f": "HexString",
    "a = 1_000": "",
    "a = 'x' 'y'": "",
    "a = 'x' -- y": "comment",
    "a = 'x' /* y */": "comment",
    "/* y */ a = 'x'": "comment",
    "a /* /* nested */ */ = 1": "comment",
    "a = 1 --": "comment|expression",
    'a COLLATE "x" < \'y\'': "collation",
    "a COLLATE C < 'y'": "collation",
    'a COLLATE pg_catalog."C" < \'y\'': "",
    "a OPERATOR(pg_catalog.=) 1": "operator",
    "a OPERATOR(public.=) 1": "operator",
    "(a, b) = (1, 2)": "rows",
    "(a, b) in ((1, 2))": "rows",
    "row(a, b) = row(1, 2)": "row",
    "a = array[1]": "",
    "a[1] = 1": "",
    "a -> 'x' = 'y'": "",
    "a ->> 'x' = 'y'": "",
    "a #>> '{x}' = 'y'": "",
    "a ? 'x'": "",
    "a @> '{}'": "",
    "a && b": "",
    "a || 'x' = 'y'": "",
    "a <-> b < 1": "",
    "a ^ 2 > 1": "",
    "a / 0 > 1": "",
    "a & 1 = 1": "",
    "a << 1 = 1": "",
    "a similar to 'x'": "",
    "a like 'x' escape '!'": "",
    "a ilike 'x'": "COLLATE",
    "a ~ 'x'": "COLLATE",
    "a !~* 'x'": "COLLATE",
    "lower(a) = 'x'": "COLLATE",
    "upper(a) = 'X'": "COLLATE",
    "a between symmetric 1 and 2": "symmetric",
    "a overlaps b": "",
    "a is json": "",
    "a is document": "",
    "a is of (int)": "",
    "case when a then b end": "",
    "(x) -> x + 1 > 1": "",
    "x -> x + 1": "",
    "a = 1 as b": "",
    "a = 1 b": "",
    "a = 1, b = 2": "",
    "a = 1 order by a": "",
    "a = 1 limit 1": "",
    "a = 1 union select 1": "",
    "a = b = c": "parentheses",
    "a < b < c": "parentheses",
    "a := 1": "",
    "a => 1": "",
    "": "expression",
    "   ": "expression",
    "(": "expression",
    ")": "expression",
    "(a = 1": "expression",
    "a = 1)": "expression",
    "a and": "expression",
    "a =": "expression",
    "'x": "expression",
    '"x': "expression",
    "true": "condition",
    "1": "condition",
    "'x'": "condition",
    "null": "condition",
    "1 = 1": "column",
    "'a' = 'a' or 1 in (1)": "column",
    "a + 1": "condition",
    "lower(a COLLATE \"C\")": "condition",
    "a = 'x\0'": "character",
    "a = '\ud800'": "character",
    "a = 1 \N{NO-BREAK SPACE}and b": "",
    "(" * 3000 + "a" + ")" * 3000: "",
    "not " * 2400 + "a": "",
    "a = 1 or " * 2000 + "b": "longer",
}  # fmt: skip
"""Texts that are no filter, each with a word of why."""

ACCEPTED = {
    "clinic_id = 7": '"clinic_id" = 7',
    "at < date '2026-01-01' and id = 7": "\"at\" < CAST('2026-01-01' AS DATE) AND \"id\" = 7",
    "A = 1": '"a" = 1',
    '"A" = 1': '"A" = 1',
    '"a ""b"" c" = 1': '"a ""b"" c" = 1',
    "a": '"a"',
    "not a": 'NOT "a"',
    "a or b and not c": '"a" OR "b" AND NOT "c"',
    "(a or b) and c": '("a" OR "b") AND "c"',
    "a is null": '"a" IS NULL',
    "a is not null": '"a" IS NOT NULL',
    "a is true": '"a" IS TRUE',
    "a is distinct from b": '"a" IS DISTINCT FROM "b"',
    "a is not distinct from 1": '"a" IS NOT DISTINCT FROM 1',
    "a != 1": '"a" <> 1',
    "a between 1 and 2 and b": '"a" BETWEEN 1 AND 2 AND "b"',
    "a not between 1 and 2": 'NOT "a" BETWEEN 1 AND 2',
    "a in (1, -2, 3.5)": '"a" IN (1, -2, 3.5)',
    "a not in ('x', 'y')": "NOT \"a\" IN ('x', 'y')",
    "a % 10 = 3": '"a" % 10 = 3',
    "mod(a + 1, 10) = 3": '("a" + 1) % 10 = 3',
    "a + 1 > 2 * b - c": '"a" + 1 > 2 * "b" - "c"',
    "- a < + 3": '-"a" < 3',
    "a like 'x%'": "\"a\" LIKE 'x%'",
    "a not like 'x\\_%'": "\"a\" NOT LIKE 'x\\_%'",
    "a COLLATE \"C\" ilike 'x%'": '"a" COLLATE "C" ILIKE \'x%\'',
    "a COLLATE \"C\" ~ '^x'": '"a" COLLATE "C" ~ \'^x\'',
    "a COLLATE \"C\" < 'x'": '"a" COLLATE "C" < \'x\'',
    "lower(a COLLATE \"C\") = 'x'": 'LOWER("a" COLLATE "C") = \'x\'',
    "length(a) > 3": 'LENGTH("a") > 3',
    "left(a, 2) = 'ab'": 'LEFT("a", 2) = \'ab\'',
    "coalesce(a, b, 1) = 1": 'COALESCE("a", "b", 1) = 1',
    "abs(a) = 1 and ceil(b) = floor(c)": 'ABS("a") = 1 AND CEIL("b") = FLOOR("c")',
    "a = 'it''s; -- /* $$ \\'": "\"a\" = 'it''s; -- /* $$ \\'",
    "a = 'Ünï'": "\"a\" = 'Ünï'",
    "a = '2026-01-01 10:00:00+05:30'::timestamptz": "\"a\" = CAST('2026-01-01 10:00:00+05:30' AS TIMESTAMPTZ)",
    "a = uuid '123e4567-e89b-12d3-a456-426614174000'": "\"a\" = CAST('123e4567-e89b-12d3-a456-426614174000' AS UUID)",
    "(a = 1) = true": '("a" = 1) = TRUE',
    "a = b is null": '("a" = "b") IS NULL',
    "true and a": 'TRUE AND "a"',
    "a = 1e3 and b = .5": '"a" = 1e3 AND "b" = 0.5',
}  # fmt: skip


def shown(text: str) -> str:
    return repr(text[:50])


@pytest.mark.parametrize("text", REFUSED, ids=shown)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterRefusedError, match=f"(?i){REFUSED[text]}"):
        parse_condition(text)


@pytest.mark.parametrize("text", ACCEPTED, ids=shown)
def test_what_is_a_filter_is_rendered_with_quoted_names(text: str) -> None:
    tree = parse_condition(text)
    assert rendered_condition(tree) == ACCEPTED[text]
    assert parse_condition(ACCEPTED[text]) == tree


def test_every_column_of_a_statement_is_the_relations_own() -> None:
    rendered = rendered_condition(parse_condition("low = 1 and lower(part COLLATE \"C\") = 'part'"), alias="t")
    assert rendered == '"t"."low" = 1 AND LOWER("t"."part" COLLATE "C") = \'part\''


_names = st.sampled_from(["a", "b", '"A b"', "comment", "kind", '"select"'])
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).map(
    lambda text: "'" + text.replace("'", "''") + "'"
)
_values = st.one_of(
    _names,
    _texts,
    st.integers(-5, 10**20).map(str),
    st.sampled_from(["null", "true", "1.50", ".5", "1e10", "date '2026-02-28'", "'7'::bigint", '(a COLLATE "C")']),
)
_sums = st.recursive(
    _values, lambda inner: st.tuples(inner, st.sampled_from("+-*%"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
)
_predicates = st.one_of(
    st.tuples(_sums, st.sampled_from(["=", "<>", "<", ">=", "is distinct from", "like", "not like"]), _sums).map(
        " ".join
    ),
    st.tuples(_sums, _sums, _sums).map(lambda parts: "{} between {} and {}".format(*parts)),
    st.tuples(_sums, st.lists(_values, min_size=1, max_size=3)).map(lambda p: f"{p[0]} not in ({', '.join(p[1])})"),
    _sums.map("{} is not null".format),
)
_conditions = st.recursive(
    _predicates,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("not {}".format),
    ),
    max_leaves=6,
)


@given(_conditions)
def test_a_rendered_filter_parses_to_the_same_tree(text: str) -> None:
    # Nothing else is wrong with these texts but that some name no column.
    tree = parse_condition(f"({text}) and c")
    rendered = rendered_condition(tree)
    assert parse_condition(rendered) == tree
    assert rendered_condition(parse_condition(rendered)) == rendered


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"'\"();:-/*$ aE\\,.=<>|~%", "or", "in", "--", "/*", "*/"])).map("".join)
)
def test_no_text_at_all_does_more_than_be_refused(text: str) -> None:
    try:
        rendered = rendered_condition(parse_condition(text))
    except FilterRefusedError:
        return
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", rendered)
    assert not re.search(r"[;$\\]|--|/\*", bare)


QUOTING = [
    f"a = '{CANARY}'; drop table x",
    f"pg_sleep('{CANARY}')",
    f'"{CANARY}".a = 1',
    f"a = E'{CANARY}'",
    f"a = {CANARY}.b",
    f"a = '{CANARY}",
    f"a < date '{CANARY}'",
    f"a = '{CANARY}' --{CANARY}",
    f"a = ${CANARY}",
    f"a = :{CANARY}",
    f"a {CANARY} 1",
    f"{CANARY} (1,",
    f"a = '{CANARY}'::{CANARY}",
    f"copy x from '{CANARY}'",
    f"a COLLATE \"{CANARY}\" < 'x'",
]


@pytest.mark.parametrize("text", QUOTING, ids=shown)
def test_a_refusal_quotes_no_literal(text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(UsageError) as refused:
        filter_for("public.visits", text, origin="--where (number 1)")
    said = f"{refused.value.message} {refused.value.hint}"
    assert said.startswith("--where (number 1): the filter of public.visits is refused: it ")
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)
    function = f"{CANARY}, which is none of the functions"
    assert CANARY not in said.replace(function, "")
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("text", [f"a = '{CANARY}'", f"a = '{CANARY}:x'", f": {CANARY} = 1", f"'{CANARY}': a = 1", ""])
def test_what_names_no_relation_is_not_quoted_either(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        row_filter(text, origin="--where (number 2)")
    assert CANARY not in f"{refused.value.message} {refused.value.hint}"
    assert "number 2" in refused.value.message


def test_a_filter_shows_its_digest_and_not_its_text() -> None:
    first = row_filter(f"clinic.public.visits: note = '{CANARY}'", origin="--where")
    same = row_filter(f"clinic.public.visits:   NOTE='{CANARY}'", origin="--where")
    other = row_filter("clinic.public.visits: note = 'x'", origin="--where")
    assert first == same
    assert (first.pattern, len(first.digest)) == ("clinic.public.visits", 12)
    assert first.digest != other.digest
    assert CANARY not in repr(first)


def test_the_colons_of_a_cast_belong_to_the_expression() -> None:
    assert row_filter("visits: a = '1'::bigint", origin="--where").condition == "\"a\" = CAST('1' AS BIGINT)"
