"""A database with relations of every kind that PostgreSQL stores rows in, as data: how to make them, what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass

HOSTILE_NAMES = (
    'quo"te',
    "apos'trophe",
    "per%cent%s%(x)s",
    "{braces}{0}",
    "new\nline",
    "tab\tand\x01control",
    "back\\slash\\",
    "名前-ünï-🙂",
    "e\u0301",
    "x" * 63,
    "é" * 31,
    "; drop table plain; --",
    '"; drop table plain; --',
    "/* comment",
    "select",
    "$1",
    "a.b.c",
    "*",
    "[a-z]?",
    " ",
    "UPPER",
)
ALIASES = ("t", "p", "r", "d", "g", "b", "n", "part", "low", "high", "block", "place", "first", "last", "h0", "h1")
"""Names that the statements of an audit use themselves, as names of columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One relation, or a few that belong together."""

    make: str
    rows: Mapping[str, int]
    """Of each relation that is compared, the rows it holds itself."""
    since: int = 0
    """The first major that has it."""


def _table(name: str, make: str, rows: int, since: int = 0) -> Exhibit:
    return Exhibit(make=make, rows={name: rows}, since=since)


_TYPES = """
do $do$ begin
    create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
exception when feature_not_supported then
    create collation caseless from "C";
end $do$;
create extension citext;
create extension file_fdw;
create extension postgres_fdw;
create type mood as enum ('sad', 'ok');
create type pair as (a text, b text);
create type granted as (grants aclitem[], n int);
create domain few_pairs as pair[] check (cardinality(value) < 10);
create type pairrange as range (subtype = pair);
create domain plenty as pairrange;
create type plain_text;
create function plain_in(cstring) returns plain_text language internal immutable strict as 'textin';
create function plain_out(plain_text) returns cstring language internal immutable strict as 'textout';
create type plain_text (input = plain_in, output = plain_out, like = text);
"""

EXHIBITS: Mapping[str, Exhibit] = {
    "a table with a key": _table(
        "plain", "create table plain (id int primary key, v text); insert into plain select n, n from g(1000) n", 1000
    ),
    "a table without a key": _table(
        "no_key", "create table no_key (v text); insert into no_key select n from g(10) n", 10
    ),
    "duplicate rows": _table(
        "duplicates", "create table duplicates (v text); insert into duplicates select 'a' from g(500)", 500
    ),
    "a table without columns": _table("bare", "create table bare (); insert into bare select from g(7)", 7),
    "an empty table": _table("empty", "create table empty (v text)", 0),
    "rows deleted and updated": _table(
        "worn",
        "create table worn (id int, v text); insert into worn select n, 'a' from g(300) n;"
        " delete from worn where id % 3 = 0; update worn set v = 'b' where id % 3 = 1",
        200,
    ),
    "inheritance": Exhibit(
        make="create table parent (v int); create table child (w int) inherits (parent);"
        " create table grandchild () inherits (child); insert into parent select from g(3);"
        " insert into child select from g(4); insert into grandchild select from g(5)",
        rows={"parent": 3, "child": 4, "grandchild": 5},
    ),
    "partitions of partitions": Exhibit(
        make="create table parts (id int, k text) partition by range (id);"
        " create table parts_low partition of parts for values from (1) to (51) partition by list (k);"
        " create table parts_low_a partition of parts_low for values in ('a') partition by hash (id);"
        " create table parts_low_a_0 partition of parts_low_a for values with (modulus 2, remainder 0);"
        " create table parts_low_a_1 partition of parts_low_a for values with (modulus 2, remainder 1);"
        " create table parts_low_rest partition of parts_low default;"
        " create table parts_rest partition of parts default;"
        " insert into parts select n, case when n % 2 = 0 then 'a' else 'b' end from g(100) n",
        rows={"parts_low_a_0": -1, "parts_low_a_1": -1, "parts_low_rest": 25, "parts_rest": 50},
    ),
    "materialized views": Exhibit(
        make="create materialized view seen as select n from g(20) n;"
        " create materialized view unseen as select n from g(20) n with no data",
        rows={"seen": 20},
    ),
    "values out of line": _table(
        "toasted",
        "create table toasted (v text, w bytea); alter table toasted alter v set storage external;"
        " insert into toasted select repeat(md5(n::text), 1000), repeat('x', 100000)::bytea from g(20) n",
        20,
    ),
    "generated columns": _table(
        "generated",
        "create table generated (a int, b int generated always as (a * 2) stored);"
        " insert into generated select n from g(10) n",
        10,
    ),
    "virtual columns": Exhibit(
        make="create table virtual_too (a int, b int generated always as (a / 0) virtual);"
        " create table virtual_only (a int, b int generated always as (1) virtual);"
        " alter table virtual_only drop a; insert into virtual_too select n from g(10) n;"
        " insert into virtual_only select from g(6)",
        rows={"virtual_too": 10, "virtual_only": 6},
        since=18,
    ),
    "dropped columns": Exhibit(
        make="create table dropped (a int, b text, c int); insert into dropped select n, n, n from g(10) n;"
        " alter table dropped drop b; insert into dropped select n, n from g(5) n;"
        " create table all_dropped (a int); insert into all_dropped select from g(5);"
        " alter table all_dropped drop a",
        rows={"dropped": 15, "all_dropped": 5},
    ),
    "columns added with a default": _table(
        "added",
        "create table added (a int); insert into added select n from g(10) n;"
        " alter table added add b text default 'before', add c pair default ('x', null), add d mood default 'ok';"
        " insert into added select n from g(5) n",
        15,
    ),
    "1,600 columns": _table(
        "wide",
        "do $do$ begin execute (select format('create table wide (%s)', string_agg('c' || n || ' int', ','))"
        " from g(1600) n); end $do$; insert into wide (c1, c1600) select n, n from g(5) n",
        5,
    ),
    "types without a send function": _table(
        "unsendable",
        "create table unsendable (a aclitem[], b aclitem, c plain_text, d granted, e granted[], f plain_text[]);"
        " insert into unsendable values ('{postgres=r/postgres}', 'postgres=w/postgres', 'a',"
        " row('{postgres=r/postgres}', 1), array[row(null, 1)::granted], '{a,NULL}'),"
        " (null, null, null, null, null, null)",
        2,
    ),
    "types inside types": _table(
        "nested",
        "create table nested (a few_pairs, b pairrange, c plenty[], d pairmultirange, e parent, f mood[], g citext);"
        " insert into nested values (array[row('a,b', null)]::pair[], pairrange(row('a', 'b'), null), null,"
        " '{}', row(1), '{sad,ok}', 'A'), (null, null, null, null, null, null, null)",
        2,
    ),
    "a table of a type": _table("typed", "create table typed of pair; insert into typed values ('a', 'b')", 1),
    "a table of an extension": _table(
        "of_extension",
        "create table of_extension (v int); alter extension citext add table of_extension;"
        " insert into of_extension select n from g(3) n",
        3,
    ),
    "a table named as a catalog": Exhibit(
        make='create table "pg_class" (oid int, relpages int, reltuples int);'
        " insert into public.pg_class select n, n, n from g(4) n;"
        " create table pg_largeobject (loid int); insert into public.pg_largeobject select n from g(5) n",
        rows={"public.pg_class": 4, "public.pg_largeobject": 5},
    ),
    "a table with collations": _table(
        "collated",
        'create table collated (a text collate "C", b text collate "POSIX", c text collate caseless,'
        " primary key (c)); insert into collated values ('a', 'b', 'C')",
        1,
    ),
    "a table in a tablespace": _table(
        "elsewhere",
        "create table elsewhere (v int) tablespace aside; insert into elsewhere select n from g(12) n",
        12,
    ),
    "columns named as an audit's own names": _table(
        "aliases",
        f"create table aliases ({', '.join(f'{name} int' for name in ALIASES)});"
        f" insert into aliases select {', '.join('n' for _ in ALIASES)} from g(5) n",
        5,
    ),
    "rows of an open prepared transaction": _table(
        "half_done", "create table half_done (v int); insert into half_done select n from g(5) n", 5
    ),
    "extended statistics": _table(
        "counted",
        "create table counted (a int, b int); insert into counted select n % 3, n % 2 from g(100) n;"
        " create statistics counted_together (ndistinct, dependencies, mcv) on a, b from counted; analyze counted;"
        " grant select on counted to public",
        100,
    ),
}
BY_DESIGN: Mapping[str, tuple[str, str]] = {
    "materialized view never filled": ("unseen", "unpopulated"),
    "unlogged table": ("not_logged", "unlogged"),
    "unlogged sequence": ("not_logged_id_seq", "unlogged"),
    "temporary table": ("passing", "temporary"),
    "temporary sequence": ("passing_id_seq", "temporary"),
    "foreign table of a file": ("lines", "foreign"),
    "foreign table of another server": ("far", "foreign"),
    "foreign partition": ("parts_far", "foreign"),
}
"""Relations that are not compared by design, with the code of their note."""
_NOT_REPLICATED = """
create unlogged table not_logged (id int generated always as identity);
insert into not_logged default values;
create server files foreign data wrapper file_fdw;
create foreign table lines (line text) server files options (filename '/dev/null');
create server nowhere foreign data wrapper postgres_fdw options (host '/nonexistent');
create foreign table far (id int) server nowhere;
create foreign table parts_far partition of parts for values from (1001) to (2001) server nowhere;
"""
SEQUENCES: Mapping[str, str] = {
    "never used": "create sequence unused",
    "used": "create sequence used; select nextval('used') from g(100)",
    "by fives": "create sequence fives increment 5; select nextval('fives') from g(50)",
    "descending": "create sequence descending increment -1; select nextval('descending') from g(50)",
    "descending by sevens": "create sequence sevens increment -7 cache 3; select nextval('sevens') from g(50)",
    "going round": "create sequence round_and_round maxvalue 3 cycle; select nextval('round_and_round') from g(8)",
    "with a cache": "create sequence cached cache 50; select nextval('cached') from g(60)",
    "exhausted": "create sequence exhausted maxvalue 3; select nextval('exhausted') from g(3)",
    "exhausted downwards": "create sequence exhausted_down increment -1 minvalue -3;"
    " select nextval('exhausted_down') from g(3)",
    "set": "create sequence was_set; select setval('was_set', 1000000)",
    "set and not called": "create sequence was_set_anew; select setval('was_set_anew', 42, false)",
    "small": "create sequence small as smallint; select nextval('small') from g(10)",
    "at the largest number": "create sequence largest; select setval('largest', 9223372036854775807)",
    "of an identity column": "create table with_identity (id int generated always as identity);"
    " insert into with_identity select from g(5)",
}


def script(major: int) -> str:
    """Return the SQL that makes the zoo on a server of this major."""
    exhibits = [exhibit.make for exhibit in EXHIBITS.values() if exhibit.since <= major]
    ranges = "create function g(int) returns setof int language sql as 'select n from generate_series(1, $1) as n'"
    objects = "select lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex')) from g(3); select lo_create(0)"
    return ";\n".join([ranges, _TYPES, *exhibits, _NOT_REPLICATED, *SEQUENCES.values(), objects])
