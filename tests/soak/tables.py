"""Tables drawn by lot: columns of nearly every type, constraints, partitions, wide values and names that need quoting.

Pure: SQL as data. Relations lie in two schemas: nobody writes those in the quiet one, the random load those in the
busy one. Values are expressions of a row number, `n.i`, so that the same number always gives the same row.
"""

from dataclasses import dataclass
from random import Random

from replcheck.postgres.local import sql
from tests.postgres.zoo import HOSTILE_NAMES

QUIET = 'quiet "rows"'
BUSY = "busy % rows"
_WIDE = "(select string_agg(md5((n.i * 1000 + k)::text), '') from generate_series(1, {}) k)"
_TYPES: tuple[tuple[str, str], ...] = (
    ("smallint", "(n.i % 30000)::smallint"),
    ("int", "n.i * 7"),
    ("bigint", "n.i::bigint * 1000003"),
    ("numeric", "n.i * 0.250"),
    ("numeric", "case when n.i % 9 = 0 then 'NaN' else n.i / 7.0 end"),
    ("numeric(30,10)", "n.i / 3.0"),
    ("real", "n.i / 3::real"),
    ("double precision", "case n.i % 8 when 0 then 'NaN' when 1 then '-0' when 2 then '-Infinity' else sin(n.i) end"),
    ("money", "(n.i * 1.5)::numeric::money"),
    ("text", "md5(n.i::text)"),
    ("text", "case n.i % 3 when 0 then '' when 1 then null else E'a\\tb\\\\N' || n.i end"),
    ("text", "repeat(md5(n.i::text), 120)"),
    ("text", "case when n.i % 20 = 0 then " + _WIDE.format(150) + " end"),
    ("varchar(40)", "md5(n.i::text)"),
    ("char(12)", "left(md5(n.i::text), 5)"),
    ("name", "'n' || n.i"),
    ('"char"', 'chr(65 + n.i % 26)::"char"'),
    ("bytea", "decode(md5(n.i::text), 'hex')"),
    ("bytea", "case when n.i % 25 = 0 then decode(" + _WIDE.format(200) + ", 'hex') end"),
    ("boolean", "n.i % 2 = 0"),
    ("date", "date '1900-01-01' + n.i % 60000"),
    ("date", "case when n.i % 11 = 0 then 'infinity' else date '4000-01-01 BC' + n.i % 900 end"),
    ("time", "time '00:00' + n.i * interval '1.5 s'"),
    ("timetz", "timetz '10:00+05:30' + n.i * interval '1 min'"),
    ("timestamp", "timestamp '2020-01-01' + n.i * interval '77 min'"),
    ("timestamptz", "timestamptz '2020-01-01 00:00+00' + n.i * interval '13 s'"),
    ("interval", "n.i * interval '1 month 2 days 3.25 s'"),
    ("uuid", "md5(n.i::text)::uuid"),
    ("inet", "('10.1.' || n.i % 250 || '.7/24')::inet"),
    ("cidr", "('10.' || n.i % 250 || '.0.0/16')::cidr"),
    ("macaddr", "('08:00:2b:01:02:' || lpad(to_hex(n.i % 256), 2, '0'))::macaddr"),
    ("macaddr8", "('08:00:2b:01:02:03:04:' || lpad(to_hex(n.i % 256), 2, '0'))::macaddr8"),
    ("bit(10)", "(n.i % 1024)::bit(10)"),
    ("varbit", "case when n.i % 2 = 0 then B'1' else B'101' end"),
    ("json", "json_build_object('a', n.i, 'b', null)"),
    ("jsonb", "jsonb_build_object('a', n.i, 'b', array[1.0, 1.00])"),
    ("jsonpath", "'$.a[*] ? (@ > 1)'"),
    ("point", "point(n.i, '-0')"),
    ("line", "line(point(0, 0), point(1, n.i))"),
    ("lseg", "lseg(point(0, 0), point(1, n.i))"),
    ("box", "box(point(0, 0), point(1, n.i))"),
    ("path", "path(polygon(4, circle(point(0, 0), 1 + n.i % 9)))"),
    ("polygon", "polygon(3, circle(point(0, 0), 1 + n.i % 9))"),
    ("circle", "circle(point(0, n.i), 2)"),
    ("int4range", "int4range(n.i, n.i + 5)"),
    ("numrange", "case when n.i % 4 = 0 then 'empty' else numrange(n.i, null) end"),
    ("tstzrange", "tstzrange(timestamptz '2020-01-01 00:00+00', null)"),
    ("int8multirange", "int8multirange(int8range(n.i, n.i + 2), int8range(n.i + 5, n.i + 9))"),
    ("tsvector", "to_tsvector('simple', 'one two ' || n.i)"),
    ("tsquery", "to_tsquery('simple', 'one & n' || n.i)"),
    ("oid", "n.i::oid"),
    ("regclass", "'pg_class'::regclass"),
    ("regtype", "'int'::regtype"),
    ("xid8", "n.i::text::xid8"),
    ("tid", "format('(%s,1)', n.i)::tid"),
    ("pg_lsn", "'0/0'::pg_lsn + n.i"),
    ("pg_snapshot", "'10:20:10,14,15'"),
    ("int[]", "array[n.i, null, 3]"),
    ("text[]", "array['a' || n.i, '', null, '{b}']"),
    ("numeric[]", "array[[1.0, 1.00], [n.i, null]]"),
    ("aclitem[]", "'{postgres=r/postgres}'"),
    ("busy_types.mood", "(array['sad', 'ok', 'glad'])[1 + n.i % 3]::busy_types.mood"),
    ("busy_types.pair", "row(n.i::text, null)::busy_types.pair"),
    ("busy_types.pairs", "array[row('a,b', n.i::text), null]::busy_types.pair[]"),
    ("busy_types.amount", "n.i % 90"),
    ("busy_types.period", "busy_types.period(timestamptz '2020-01-01 00:00+00', null)"),
)
_SHARED_TYPES = (
    "create schema busy_types",
    "create type busy_types.mood as enum ('sad', 'ok', 'glad')",
    "create type busy_types.pair as (a text, b text)",
    "create domain busy_types.pairs as busy_types.pair[]",
    "create domain busy_types.amount as numeric check (value >= 0)",
    "create type busy_types.period as range (subtype = timestamptz)",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `value` is an expression of the row number `n.i`."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; its first column is `id`, its second a plain text that no index holds."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    rows: int
    keyed: bool
    partitions: str
    """`hash`, `range` or `list`; empty where it has none."""
    fillfactor: int

    @property
    def identifier(self) -> sql.Identifier:
        """Return its name as SQL."""
        return sql.Identifier(self.schema, self.name)

    def insert(self, first: int, last: int) -> sql.Composed:
        """Return the statement that inserts the rows of these numbers; rows that are there already are kept."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)
        values = sql.SQL(", ".join(column.value for column in self.columns))
        tail = sql.SQL(" on conflict do nothing" if self.keyed else "")
        return (
            sql.SQL("insert into {} ({}) select {} from generate_series({}, {}) as n(i)").format(
                self.identifier, names, values, sql.Literal(first), sql.Literal(last)
            )
            + tail
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """All that is made before the first audit."""

    quiet: tuple[Table, ...]
    busy: tuple[Table, ...]
    statements: tuple[sql.Composed, ...]
    """Each runs by itself."""


def random_schema(seed: int) -> Schema:
    """Return the tables of a seed."""
    rng = Random(f"schema {seed}")
    names = list(HOSTILE_NAMES) + [f"plain_{number}" for number in range(20)]
    rng.shuffle(names)
    quiet = [_table(rng, QUIET, names.pop()) for _ in range(rng.randrange(4, 8))]
    busy = [_table(rng, BUSY, names.pop()) for _ in range(rng.randrange(3, 7))]
    if rng.random() < 0.5:
        quiet.append(_large(rng, QUIET, names.pop()))
    if rng.random() < 0.5:
        busy.append(_large(rng, BUSY, names.pop()))
    statements = [sql.Composed([sql.SQL(statement)]) for statement in _SHARED_TYPES]
    statements += [sql.SQL("create schema {}").format(sql.Identifier(name)) for name in (QUIET, BUSY)]
    for table in (*quiet, *busy):
        statements += _creation(rng, table)
    for schema in (QUIET, BUSY):
        statements += _besides(rng, schema, rng.choice(quiet if schema == QUIET else busy))
    return Schema(quiet=tuple(quiet), busy=tuple(busy), statements=tuple(statements))


def _table(rng: Random, schema: str, name: str) -> Table:
    columns = [Column("id", "int", "n.i"), Column("plain", "text", "'row ' || md5(n.i::text)")]
    for number in range(rng.randrange(1, 8)):
        type_, value = rng.choice(_TYPES)
        if rng.random() < 0.2:
            value = f"case when n.i % 5 = 3 then null else {value} end"
        label = rng.choice(HOSTILE_NAMES)[:40] if rng.random() < 0.2 else "c"
        columns.append(Column(f"{label}{number}", type_, f"({value})::{type_}"))
    return Table(
        schema=schema,
        name=name,
        columns=tuple(columns),
        rows=rng.choice((8, 60, 300, 1200)),
        keyed=rng.random() < 0.7,
        partitions=rng.choice(("", "", "", "hash", "range", "list")),
        fillfactor=rng.choice((100, 100, 70, 30)),
    )


def _large(rng: Random, schema: str, name: str) -> Table:
    """Return a table of hundreds of pages, which is read in several chunks."""
    columns = (Column("id", "int", "n.i"), Column("plain", "text", "'row ' || md5(n.i::text)"))
    return Table(
        schema=schema,
        name=name,
        columns=columns,
        rows=rng.choice((4000, 9000)),
        keyed=True,
        partitions="",
        fillfactor=10,
    )


def _creation(rng: Random, table: Table) -> list[sql.Composed]:
    columns = [sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type)) for column in table.columns]
    if table.keyed:
        columns.append(sql.SQL("primary key (id)").format())
    made = sql.SQL("create table {} ({})").format(table.identifier, sql.SQL(", ").join(columns))
    if table.partitions:
        made += sql.SQL(
            f" partition by {'range' if table.partitions == 'list' and table.keyed else table.partitions} (id)"
        )
    else:
        made += sql.SQL(f" with (fillfactor = {table.fillfactor})")
    return [made, *_partitions(table), *_details(rng, table), table.insert(1, table.rows), *_scars(rng, table)]


def _partitions(table: Table) -> list[sql.Composed]:
    if not table.partitions:
        return []
    middle = max(2, table.rows // 2)
    if table.partitions == "hash":
        bounds = [f"for values with (modulus 3, remainder {number})" for number in range(3)]
    elif table.partitions == "list" and not table.keyed:
        bounds = [f"for values in ({', '.join(str(number) for number in range(1, middle))})", "default"]
    else:
        bounds = [f"for values from (minvalue) to ({middle})", "default"]
    return [
        sql.SQL("create table {} partition of {} ").format(
            sql.Identifier(table.schema, f"{table.name[:12]}_{number}"), table.identifier
        )
        + sql.SQL(bound)
        for number, bound in enumerate(bounds)
    ]


def _details(rng: Random, table: Table) -> list[sql.Composed]:
    """Return what is said of a table's columns before it is filled."""
    made = []
    for column in table.columns[2:]:
        if column.type in ("text", "bytea") and rng.random() < 0.6:
            storage = sql.SQL(rng.choice(("external", "main", "extended")))
            made.append(
                sql.SQL("alter table {} alter column {} set storage {}").format(
                    table.identifier, sql.Identifier(column.name), storage
                )
            )
        if column.type in ("int", "bigint", "varchar(40)", "uuid", "date") and rng.random() < 0.4:
            made.append(sql.SQL("create index on {} ({})").format(table.identifier, sql.Identifier(column.name)))
    if rng.random() < 0.3:
        made.append(sql.SQL("alter table {} add constraint positive check (id > -1000000)").format(table.identifier))
    return made


def _scars(rng: Random, table: Table) -> list[sql.Composed]:
    """Return what happened to a table after it was filled: columns dropped and added, rows updated and deleted."""
    made = []
    if len(table.columns) > 3 and rng.random() < 0.3 and table.schema == QUIET:
        last = sql.Identifier(table.columns[-1].name)
        made.append(sql.SQL("alter table {} drop column {}").format(table.identifier, last))
    if rng.random() < 0.3:
        made.append(sql.SQL("alter table {} add column added text default 'before'").format(table.identifier))
    if rng.random() < 0.4:
        made.append(sql.SQL("delete from {} where id % 7 = 2").format(table.identifier))
    if rng.random() < 0.4:
        made.append(sql.SQL("update {} set plain = plain || '!' where id % 5 = 1").format(table.identifier))
    return made


def _besides(rng: Random, schema: str, table: Table) -> list[sql.Composed]:
    """Return the other relations of a schema: sequences, a materialized view, large objects, tables of odd kinds."""
    named = {
        name: sql.Identifier(schema, name)
        for name in ("numbers", "cycle", "seen", "bare", "logless", "parent", "child", "wide")
    }
    source = sql.SQL("select * from {} limit 200").format(table.identifier)
    count = rng.choice((1, 500, 70_000))
    return [
        sql.SQL("create sequence {}").format(named["numbers"]),
        sql.SQL("select setval({}, 5000)").format(sql.Literal(named["numbers"].as_string(None))),
        sql.SQL("create sequence {} increment by -7 minvalue -700 maxvalue -1 cycle").format(named["cycle"]),
        sql.SQL("create materialized view {} as ").format(named["seen"]) + source,
        sql.SQL("create table {} ()").format(named["bare"]),
        sql.SQL("insert into {} select from generate_series(1, 5)").format(named["bare"]),
        sql.SQL("create table {} (id int primary key, plain text, scan bytea)").format(named["wide"]),
        sql.SQL("alter table {} alter column scan set storage external").format(named["wide"]),
        sql.SQL(
            "insert into {} select i, 'row ' || i, decode(repeat(md5(i::text), 200), 'hex')"
            " from generate_series(1, 40) i"
        ).format(named["wide"]),
        sql.SQL("create unlogged table {} as select 1 as one").format(named["logless"]),
        sql.SQL("create table {} (id int, plain text)").format(named["parent"]),
        sql.SQL("create table {} (more text) inherits ({})").format(named["child"], named["parent"]),
        sql.SQL("insert into {} select i, 'child ' || i, 'more' from generate_series(1, 40) i").format(named["child"]),
        sql.SQL(f"select lo_from_bytea(0, decode(repeat(md5('{count}'), {count // 100 + 1}), 'hex'))").format(),
    ]
