"""Pairs of tables whose rows naive checkers confuse, as data: the name tells how left and right differ."""

from dataclasses import dataclass

SETUP = """
create extension citext;
create extension cube;
create extension hstore;
create extension isn;
create extension ltree;
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (a text, b text);
create type deep as (p pair, n int4[]);
create type granted as (grants aclitem[], n int4);
create type floatrange as range (subtype = float8);
create type pairrange as range (subtype = pair);
create domain amount as numeric;
create domain pairs as pair[];
create domain few_pairs as pairs check (coalesce(cardinality(value), 0) < 10);
create type plain;
create function plain_in(cstring) returns plain language internal immutable strict as 'textin';
create function plain_out(plain) returns cstring language internal immutable strict as 'textout';
create type plain (input = plain_in, output = plain_out, like = text);
"""
"""Types of the pairs; `plain` is one without a binary send function."""
_WIDE = "(select string_agg(md5(n::text), '') from generate_series(1, 3000) as n)"
"""96,000 characters that hardly compress, so that they lie in several TOAST chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two tables: the rows of each as a VALUES list or a SELECT, none where it is empty."""

    name: str
    columns: str
    left: str
    right: str
    right_columns: str = ""
    """The columns on the right where they are others than on the left."""
    equal: bool = False
    """Whether PostgreSQL takes the values for equal (=): the level `fast` may confuse them, by design."""
    needs: str = ""
    """A query that returns true where the server can hold the values at all."""

    @property
    def kind(self) -> str:
        """Return the family the pair belongs to: the type, or what its rows are about."""
        return self.name.partition(": ")[0]

    def definition(self, side: str) -> str:
        """Return the columns of a side."""
        return self.right_columns or self.columns if side == "right" else self.columns

    def rows(self, side: str) -> str:
        """Return the rows of a side as a query, empty where it has none."""
        rows = self.right if side == "right" else self.left
        return f"values {rows}" if rows.startswith("(") else rows


def _single(
    kind: str, *pairs: tuple[str, str, str], equal: tuple[tuple[str, str, str], ...] = (), needs: str = ""
) -> list[Pair]:
    """Return pairs of single values of one type: name, left, right; those in `equal` are so to PostgreSQL."""
    return [
        Pair(name=f"{kind}: {name}", columns=f"v {kind}", left=f"({left})", right=f"({right})", equal=same, needs=needs)
        for group, same in ((pairs, False), (equal, True))
        for name, left, right in group
    ]


def _rows(*pairs: tuple[str, str, str, str]) -> list[Pair]:
    return [Pair(name=f"rows: {name}", columns=columns, left=left, right=right) for name, columns, left, right in pairs]


def _other_type(*pairs: tuple[str, str, str, str]) -> list[Pair]:
    """Return pairs of columns of different types that look the same: left type and value, right type and value.

    At the level `fast` the definition tokens tell them apart, the digests need not.
    """
    return [
        Pair(
            name=f"types: {left} and {right}",
            columns=f"v {left}",
            right_columns=f"v {right}",
            left=f"({value})",
            right=f"({other})",
        )
        for left, value, right, other in pairs
    ]


_XML = "select (select count(*) from pg_catalog.pg_config where name = 'CONFIGURE' and setting like '%libxml%') > 0"

PAIRS: tuple[Pair, ...] = (
    *_single(
        "text",
        ("null and empty", "null", "''"),
        ("null and its name", "null", "'NULL'"),
        ("empty and blank", "''", "' '"),
        ("trailing blank", "'a'", "'a '"),
        ("leading blank", "'a'", "' a'"),
        ("case", "'a'", "'A'"),
        ("line ends", "E'a\\n'", "E'a\\r\\n'"),
        ("tab and blank", "E'\\t'", "' '"),
        ("backslashes", "E'\\\\'", "E'\\\\\\\\'"),
        ("backslash and line end", "E'\\\\n'", "E'\\n'"),
        ("control characters", "E'\\x01'", "E'\\x02'"),
        ("delete and nothing", "E'a\\x7f'", "'a'"),
        ("quotes", "'\"a\"'", "'a'"),
        ("parentheses", "'(a)'", "'a'"),
        ("percent and braces", "'%s{}'", "'%s{}{}'"),
        ("composed and decomposed", "U&'\\00e9'", "U&'e\\0301'"),
        ("compatible forms", "U&'\\fb01'", "'fi'"),
        ("homoglyphs", "'a'", "U&'\\0430'"),
        ("zero width", "'ab'", "U&'a\\200bb'"),
        ("byte order mark", "U&'\\feffa'", "'a'"),
        ("beyond the basic plane", "U&'\\+01F600'", "U&'\\+01F601'"),
        ("sharp s", "U&'\\00df'", "'ss'"),
        ("last byte of a wide value", f"{_WIDE} || 'a'", f"{_WIDE} || 'b'"),
        ("first byte of a wide value", f"'a' || {_WIDE}", f"'b' || {_WIDE}"),
        ("length of a wide value", _WIDE, f"left({_WIDE}, -1)"),
        ("last byte of a compressed value", "repeat('x', 200000) || 'a'", "repeat('x', 200000) || 'b'"),
        ("length of a compressed value", "repeat('x', 200000)", "repeat('x', 199999)"),
    ),
    *_single("varchar(10)", ("trailing blank", "'a'", "'a '"), ("null and empty", "null", "''")),
    *_single("char(3)", ("other letter", "'a'", "'b'"), ("null and blanks", "null", "''")),
    *_single("bpchar", equal=(("trailing blanks", "'a'", "'a  '"),)),
    *_single('"char"', ("letters", "'a'", "'b'"), ("null and zero byte", "null", "''")),
    *_single("name", ("case", "'a'", "'A'")),
    *_single("citext", ("letters", "'a'", "'b'"), equal=(("case", "'a'", "'A'"),)),
    *_single(
        "bytea",
        ("null and empty", "null", r"'\x'"),
        ("empty and zero byte", r"'\x'", r"'\x00'"),
        ("one zero byte and two", r"'\x00'", r"'\x0000'"),
        ("bytes and their name", r"'\x61'", r"'\x5c783631'"),
        ("last bit of a wide value", f"{_WIDE}::bytea || '\\x00'::bytea", f"{_WIDE}::bytea || '\\x01'::bytea"),
    ),
    *_single("bool", ("true and false", "true", "false"), ("null and false", "null", "false")),
    *_single("int2", ("sign", "1", "-1"), ("zero and null", "0", "null")),
    *_single("int4", ("sign", "1", "-1"), ("zero and null", "0", "null"), ("zero and minus one", "0", "-1")),
    *_single(
        "int8",
        ("sign", "1", "-1"),
        ("high word and low word", "1", "4294967296"),
        ("high word and low word of negatives", "-1", "8589934590"),
        ("truncated to 32 bits", "1", "4294967297"),
    ),
    *_single(
        "numeric",
        ("sign", "1", "-1"),
        ("not a number and null", "'NaN'", "null"),
        ("not a number and infinity", "'NaN'", "'Infinity'"),
        ("infinities", "'Infinity'", "'-Infinity'"),
        ("last of many digits", "repeat('9', 1000)::numeric", "(repeat('9', 999) || '8')::numeric"),
        ("beyond floating point", "0.1", "0.10000000000000000000000001"),
        ("tiny and zero", "1e-1000", "0"),
        equal=(
            ("scale", "1.0", "1.00"),
            ("scale of zero", "0", "0.0"),
            ("scale of a round number", "1000", "1000.0"),
        ),
    ),
    *_single("amount", equal=(("scale in a domain", "1.0", "1.00"),)),
    *_single(
        "float8",
        ("not a number and null", "'NaN'", "null"),
        ("infinities", "'Infinity'", "'-Infinity'"),
        ("neighbours", "'0.1'", "'0.10000000000000002'"),
        ("smallest and zero", "5e-324", "0"),
        equal=(("signed zero", "'-0.0'", "'0.0'"),),
    ),
    *_single("float4", ("neighbours", "'0.1'", "'0.10000001'"), equal=(("signed zero", "'-0'", "'0'"),)),
    *_single("money", ("cents", "'1.00'::money", "'1.01'::money"), ("sign", "1::money", "(-1)::money")),
    *_single("oid", ("numbers", "1", "2")),
    *_single(
        "date",
        ("infinities", "'infinity'", "'-infinity'"),
        ("infinity and a far day", "'infinity'", "'5874897-12-31'"),
        ("before and after Christ", "'0001-01-01 BC'", "'0001-01-01'"),
    ),
    *_single("time", ("midnights", "'00:00'", "'24:00'"), ("microseconds", "'1:00:00.000001'", "'1:00:00'")),
    *_single("timetz", ("zones of one moment", "'12:00+00'", "'13:00+01'")),
    *_single(
        "timestamp",
        ("microseconds", "'2000-01-01 00:00:00.123456'", "'2000-01-01 00:00:00.123457'"),
        ("infinities", "'infinity'", "'-infinity'"),
        ("infinity and null", "'infinity'", "null"),
        ("before and after Christ", "'0001-01-01 BC'", "'0001-01-01'"),
        ("high word and low word", "'2000-01-01 00:00:00.000001'", "'2000-01-01 01:11:34.967296'"),
    ),
    *_single(
        "timestamptz",
        ("zones", "'2000-01-01 00:00+00'", "'2000-01-01 00:00+01'"),
        ("infinities", "'infinity'", "'-infinity'"),
        ("before a time of one's own", "'1900-01-01 00:00+00'", "'1900-01-01 00:00:01+00'"),
    ),
    *_single(
        "interval",
        ("seconds", "'1 second'", "'1.000001 seconds'"),
        ("sign", "'1 day'", "'-1 day'"),
        equal=(
            ("a day and 24 hours", "'1 day'", "'24 hours'"),
            ("a month and 30 days", "'1 month'", "'30 days'"),
            ("what cancels and nothing", "'1 month -30 days'", "'0'"),
        ),
    ),
    *_single(
        "interval",
        ("infinities", "'infinity'", "'-infinity'"),
        needs="select current_setting('server_version_num')::int >= 170000",
    ),
    *_single(
        "json",
        ("order of keys", """'{"a":1,"b":2}'""", """'{"b":2,"a":1}'"""),
        ("white space", """'{"a":1}'""", """'{"a": 1}'"""),
        ("twice the same key", """'{"a":1,"a":2}'""", """'{"a":2}'"""),
        ("escapes", r"""'"\u0061"'""", """'"a"'"""),
    ),
    *_single(
        "jsonb",
        ("its null and null", "'null'", "null"),
        ("its null and a missing key", """'{"a":null}'""", "'{}'"),
        ("empty object and array", "'{}'", "'[]'"),
        ("empty array and one in an array", "'[]'", "'[[]]'"),
        ("nesting", "'[1,[2]]'", "'[[1],2]'"),
        ("number and text", "'1'", """'"1"'"""),
        ("true and text", "'true'", """'"true"'"""),
        ("scalar and array of it", "'1'", "'[1]'"),
        ("key and value", """'{"a":"b"}'""", """'{"b":"a"}'"""),
        ("key and element", """'{"a":"b"}'""", """'["a","b"]'"""),
        ("values of two keys", """'{"a":1,"b":2}'""", """'{"a":2,"b":1}'"""),
        ("order of elements", "'[1,2]'", "'[2,1]'"),
        equal=(("scale", "'1.0'", "'1.00'"),),
    ),
    *_single("jsonpath", ("mode", "'$.a'", "'strict $.a'")),
    *_single(
        "int4[]",
        ("lower bounds", "'{1,2}'", "'[0:1]={1,2}'"),
        ("dimensions", "'{1,2,3,4}'", "'{{1,2},{3,4}}'"),
        ("shapes", "'{{1},{2}}'", "'{{1,2}}'"),
        ("empty and null", "'{}'", "null"),
        ("empty and a null in it", "'{}'", "'{NULL}'"),
        ("position of a null", "'{1,NULL}'", "'{NULL,1}'"),
        ("order", "'{1,2}'", "'{2,1}'"),
        ("zero and null", "'{0}'", "'{NULL}'"),
    ),
    *_single(
        "text[]",
        ("null and its name", "'{NULL}'", "'{\"NULL\"}'"),
        ("empty and null", "'{\"\"}'", "'{NULL}'"),
        ("delimiter inside", "'{a,b}'", "'{\"a,b\"}'"),
        ("where one ends", "'{ab,c}'", "'{a,bc}'"),
    ),
    *_single("numeric[]", equal=(("scale", "'{1.0}'", "'{1.00}'"),)),
    *_single(
        "pair",
        ("of nulls and null", "row(null, null)", "null"),
        ("shifted", "row('a', null)", "row(null, 'a')"),
        ("delimiter inside", "row('a,b', 'c')", "row('a', 'b,c')"),
        ("empty and null", "row('', null)", "row(null, '')"),
    ),
    *_single(
        "deep",
        ("null inside", "row(row(null, null), '{}')", "row(null, '{}')"),
        ("delimiter inside", "row(row('a,b', 'c'), null)", "row(row('a', 'b,c'), null)"),
        ("last of an array inside", "row(null, '{1,2}')", "row(null, '{1,3}')"),
    ),
    *_single("granted", ("privileges inside", "row('{postgres=r/postgres}', 1)", "row('{postgres=w/postgres}', 1)")),
    *_single(
        "few_pairs",
        ("delimiter inside", "array[row('a,b', 'c')]::pair[]", "array[row('a', 'b,c')]::pair[]"),
        ("empty and null", "'{}'", "null"),
    ),
    *_single("mood", ("labels", "'sad'", "'ok'"), ("null", "null", "'sad'")),
    *_single(
        "int4range",
        ("empty and null", "'empty'", "null"),
        ("empty and everything", "'empty'", "'(,)'"),
        ("upper bounds", "'[1,2)'", "'[1,3)'"),
        ("without lower and without upper bound", "'(,1)'", "'[1,)'"),
    ),
    *_single(
        "numrange",
        ("kinds of lower bound", "'[1,2)'", "'(1,2)'"),
        ("kinds of upper bound", "'[1,2)'", "'[1,2]'"),
        equal=(("scale of a bound", "'[1.0,2)'", "'[1.00,2)'"),),
    ),
    *_single("tsrange", ("infinity and no bound", "'[2000-01-01,infinity)'", "'[2000-01-01,)'")),
    *_single("floatrange", ("bounds", "'[0.1,1]'", "'[0.10000000000000002,1]'")),
    *_single("pairrange", ("bounds", "pairrange(row('a', 'b'), null)", "pairrange(null, row('a', 'b'))")),
    *_single(
        "int4multirange",
        ("empty and null", "'{}'", "null"),
        ("gap", "'{[1,2),[3,4)}'", "'{[1,4)}'"),
        ("order of bounds", "'{[1,2),[4,5)}'", "'{[1,2),[4,6)}'"),
    ),
    *_single("varbit", ("empty and zero", "''", "'0'"), ("lengths", "'00'", "'000'"), ("bits", "'10'", "'01'")),
    *_single("bit(9)", ("ninth bit", "'000000000'", "'000000001'")),
    *_single(
        "inet",
        ("host and network", "'10.0.0.1'", "'10.0.0.1/24'"),
        ("version 4 inside version 6", "'10.0.0.1'", "'::ffff:10.0.0.1'"),
        ("address", "'10.0.0.1/24'", "'10.0.0.2/24'"),
    ),
    *_single("cidr", ("lengths", "'10.0.0.0/8'", "'10.0.0.0/16'")),
    *_single("macaddr", ("last byte", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'")),
    *_single("macaddr8", ("last byte", "'08:00:2b:01:02:03:04:05'", "'08:00:2b:01:02:03:04:06'")),
    *_single(
        "tsvector",
        ("positions", "'a b'", "'a:1 b:2'"),
        ("weights", "'a:1A'", "'a:1B'"),
        ("one position and two", "'a:1'", "'a:1,2'"),
        ("where a word ends", "'ab c'", "'a bc'"),
    ),
    *_single(
        "tsquery",
        ("operators", "'a & b'", "'a | b'"),
        ("distances", "'a <-> b'", "'a <2> b'"),
        ("prefix", "'a'", "'a:*'"),
        ("nesting", "'a & b | c'", "'a & (b | c)'"),
    ),
    *_single(
        "xml",
        ("forms of an empty element", "'<a/>'", "'<a></a>'"),
        ("white space", "'<a><b/></a>'", "'<a> <b/></a>'"),
        ("leading line end", "'<a/>'", "E'\\n<a/>'"),
        ("declaration", "'<a/>'", "'<?xml version=\"1.0\"?><a/>'"),
        ("declared encoding", '\'<?xml version="1.0" encoding="UTF-8"?><a/>\'', "'<?xml version=\"1.0\"?><a/>'"),
        ("comment", "'<a/>'", "'<a/><!-- -->'"),
        needs=_XML,
    ),
    *_single("xml[]", ("leading line end", "array['<a/>'::xml]", "array[E'\\n<a/>'::xml]"), needs=_XML),
    *_single(
        "hstore",
        ("null and its name", "'a=>NULL'", "'a=>\"NULL\"'"),
        ("null and empty", "'a=>NULL'", "'a=>\"\"'"),
        ("null and nothing", "'a=>NULL'", "''"),
        ("key and value", "'a=>b'", "'b=>a'"),
        ("delimiter inside", "'a=>\"1,b=>2\"'", "'a=>1,b=>2'"),
    ),
    *_single("ltree", ("case", "'a.b'", "'a.B'"), ("levels", "'a.b'", "'a'")),
    *_single("cube", ("dimensions", "'(1)'", "'(1,0)'"), ("point and box", "'(1)'", "'(0),(1)'")),
    *_single("isbn13", ("numbers", "'978-0-393-04002-9'", "'978-0-306-40615-7'")),
    *_single("plain", ("case", "'a'", "'A'"), ("null and empty", "null", "''"), ("blank", "'a'", "'a '")),
    *_single("point", ("signed zero", "'(0,0)'", "'(-0.0,0)'"), ("order", "'(1,2)'", "'(2,1)'")),
    *_single("lseg", ("direction", "'[(0,0),(1,1)]'", "'[(1,1),(0,0)]'")),
    *_single("path", ("open and closed", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'")),
    *_single("polygon", ("first corner", "'((0,0),(0,1),(1,1))'", "'((0,1),(1,1),(0,0))'")),
    *_single("circle", ("radius", "'<(0,0),1>'", "'<(0,0),1.0000000000000002>'")),
    *_single("box", ("corner", "'(1,1),(0,0)'", "'(1,1),(0,-1)'")),
    *_single("line", ("scaled", "'{1,-1,0}'", "'{2,-2,0}'")),
    *_single(
        "uuid", ("last digit", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'")
    ),
    *_single("pg_lsn", ("zero and null", "'0/0'", "null"), ("halves", "'0/1'", "'1/0'")),
    *_single("pg_snapshot", ("in progress", "'10:20:'", "'10:20:15'")),
    *_single("xid", ("numbers", "'1'", "'2'")),
    *_single("xid8", ("epoch", "'1'", "'4294967297'")),
    *_single("tid", ("halves", "'(0,1)'", "'(1,0)'"), ("offset", "'(0,1)'", "'(0,2)'")),
    *_single("regclass", ("relations", "'pg_class'", "'pg_type'")),
    *_single("regtype", ("types", "'int4'", "'int8'")),
    *_single("int2vector", ("order", "'1 2'", "'2 1'")),
    *_single("oidvector", ("order", "'1 2'", "'2 1'")),
    *_single("refcursor", ("case", "'a'", "'A'")),
    *_single(
        "aclitem[]",
        ("privileges", "'{postgres=r/postgres}'", "'{postgres=rw/postgres}'"),
        ("grant options", "'{postgres=r/postgres}'", "'{postgres=r*/postgres}'"),
        ("empty and null", "'{}'", "null"),
        ("order", "'{postgres=r/postgres,=r/postgres}'", "'{=r/postgres,postgres=r/postgres}'"),
    ),
    *_single("aclitem", ("privileges", "'postgres=r/postgres'", "'postgres=rw/postgres'")),
    *_rows(
        ("delimiter between columns", "a text, b text", "('a,b', 'c')", "('a', 'b,c')"),
        ("where a column ends", "a text, b text", "('ab', 'c')", "('a', 'bc')"),
        ("quotes between columns", "a text, b text", "('a\",\"b', 'c')", "('a', 'b\",\"c')"),
        ("a column shifted beside a null", "a text, b text", "('a', null)", "(null, 'a')"),
        ("empty and null exchanged", "a text, b text", "('', null)", "(null, '')"),
        ("columns exchanged", "a text, b text", "('a', 'b')", "('b', 'a')"),
        ("equal columns changed alike", "a text, b text", "('a', 'a')", "('b', 'b')"),
        ("columns exchanged between rows", "a int4, b text", "(1, 'x'), (2, 'y')", "(1, 'y'), (2, 'x')"),
        (
            "a whole column shifted by one row",
            "a int4, b text",
            "select n, md5(n::text) from generate_series(1, 50) as n",
            "select n, md5((n % 50 + 1)::text) from generate_series(1, 50) as n",
        ),
        ("rows exchanged", "a int4, b text", "(1, 'x'), (2, 'y')", "(2, 'y'), (1, 'x')"),
        ("one copy and two", "a text", "('a')", "('a'), ('a')"),
        ("one copy and three", "a text", "('a')", "('a'), ('a'), ('a')"),
        ("two copies and none", "a text", "('a'), ('a')", ""),
        ("two copies of another row", "a text", "('a'), ('a')", "('b'), ('b')"),
        ("copies of two rows", "a text", "('a'), ('a'), ('b'), ('b')", "('a'), ('b'), ('b'), ('b')"),
        ("empty on one side", "a text", "('a')", ""),
        ("a row of nulls and none", "a text, b int4", "(null, null)", ""),
        ("numbers with the same sum", "a int4", "(1), (4)", "(2), (3)"),
        ("without columns", "", "select from generate_series(1, 2)", "select from generate_series(1, 3)"),
        ("without columns and empty", "", "select", ""),
    ),
    *_other_type(
        ("int2", "1", "int4", "1"),
        ("int4", "1", "int8", "1"),
        ("bytea", r"'\x61'", "text", "'a'"),
        ("text", "'a'", "varchar", "'a'"),
        ("text", "'a'", "name", "'a'"),
        ("char(2)", "'a'", "char(3)", "'a'"),
        ("json", "'{}'", "text", "'{}'"),
        ("json", "'1'", "jsonb", "'1'"),
        ("float4", "1", "float8", "1"),
        ("date", "'2000-01-02'", "int4", "1"),
        ("timestamp", "'2000-01-01'", "timestamptz", "'2000-01-01 00:00+00'"),
        ("text[]", "'{a}'", "varchar[]", "'{a}'"),
        ("bool", "true", "int2", "1"),
    ),
)
