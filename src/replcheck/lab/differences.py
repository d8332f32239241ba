"""Every difference that an audit is meant to see, planted on one standby of a cluster of the lab, many at once.

Rows are damaged in the files of a relation each; values are exchanged between the files of two tables that hold what
naive checkers confuse; definitions differ because the standby's files of a database are those of a changed copy of it.
`prepare` makes what is the same everywhere; nothing differs before `plant`.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from replcheck.errors import LabError, StatementFailed
from replcheck.lab.changes import CHANGES, Change, type_changes
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.lab.planted import PlantedFault
from replcheck.lab.value_pairs import PAIRS, SETUP, Pair
from replcheck.model.audit import CtidRange, DifferenceKind
from replcheck.model.selftest import Difference, NotTried
from replcheck.postgres.local import LocalConnection, connect, sql, translated
from replcheck.postgres.server import LocalServer

ROWS, VALUES, DEFINITIONS = "planted", "pairs", "definitions"
DATABASES = (ROWS, VALUES, DEFINITIONS)
"""Where differences are planted."""
_COPY = "definitions_changed"
INDEXED = "index_mismatch"
"""The table whose index loses an entry, in the first of the databases."""
ON_PRIMARY = "flip_on_primary"
"""The table that is damaged on the primary."""
UNTOUCHED = "untouched"

ROW_FAULTS = (
    *("flip-row-bytes", "flip-page-bytes", "zero-page", "break-page-header", "lose-row", "hide-row", "invent-row"),
    *("swap-rows", "lost-write", "truncate-file", "missing-file", "corrupt-toast", "lose-toast-chunk"),
    "sequence-behind",
)
"""Faults of a standby that show in the rows of the relation they are done to."""
_ELSEWHERE = (
    ("lose-row", "public.ledger_1", "a partition"),
    ("lose-row", "public.totals", "a materialized view"),
    ("lose-row", "pg_catalog.pg_description", "a catalog"),
    ("lose-row", "pg_catalog.pg_largeobject", "large objects"),
    ("flip-row-bytes", '"Odd "".Names"."We""ird. table"', "a table whose name needs quotes"),
)
"""The same in other kinds of relations."""
_TABLE = (
    "create table {} (id int primary key, content text, weight numeric, scan bytea) with (fillfactor = 90)",
    "alter table {} alter column scan set storage external",
    (
        "insert into {} select i, 'content ' || md5(i::text), i * 0.5,"
        " case when i % 50 = 0 then decode(repeat(md5(i::text), 300), 'hex') end from generate_series(1, 1500) i"
    ),
)
_OTHERS = (
    'create schema "Odd "".Names"',
    "create table public.ledger (id int, entry text) partition by hash (id)",
    "create table public.ledger_0 partition of public.ledger for values with (modulus 2, remainder 0)",
    "create table public.ledger_1 partition of public.ledger for values with (modulus 2, remainder 1)",
    "insert into public.ledger select i, md5(i::text) from generate_series(1, 500) i",
    "create materialized view public.totals as select id % 10 as tens, count(*) from public.ledger group by 1",
    "select count(lo_from_bytea(0, decode(repeat('ab', 3000), 'hex'))) from generate_series(1, 20)",
    "create sequence public.sequence_behind",
    "select setval('public.sequence_behind', 5000)",
)
_FREEZE_S = 30.0
_PLACE = re.compile(r"\((\d+),(\d+)\)")

Between = Callable[[], None]
"""Called between two steps; what it raises ends the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was made on the primary, ready to be planted."""

    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    indexes: bool
    """Whether the server has amcheck."""
    not_tried: tuple[NotTried, ...]


def prepare(cluster: LabCluster, *, quick: bool, between: Between) -> Prepared:
    """Make the databases with all tables, the same on every node; `quick` takes one pair of values of each type."""
    pairs, changes = _asked(quick=quick)
    for database in DATABASES:
        cluster.create_database(database)
    _make_tables(cluster.primary)
    indexes = _make_amcheck(cluster.primary)
    between()
    held, not_tried = _make_pairs(cluster.primary, pairs)
    between()
    made, impossible = _make_definitions(cluster, changes)
    if not indexes:
        not_tried.append(NotTried(name="an index lost an entry", reason="this server has no extension amcheck"))
    for database in (*DATABASES, _COPY):
        cluster.primary.execute("analyze", dbname=database)
        _freeze(cluster.primary, database)
    cluster.catch_up()
    return Prepared(pairs=held, changes=made, indexes=indexes, not_tried=(*not_tried, *impossible))


def plant(cluster: LabCluster, prepared: Prepared, node: str, *, between: Between) -> list[Difference]:
    """Plant everything on a standby and return what an audit should find there."""
    planted = [*_plant_rows(cluster, node, between)]
    if prepared.indexes:
        apply_fault(cluster, "index-mismatch", node=node, database=ROWS, relation=_label(INDEXED))
    between()
    _exchange_files(cluster, node, prepared.pairs)
    planted += [_of_pair(pair, node) for pair in prepared.pairs]
    planted += [_of_change(cluster, change, node) for change in prepared.changes]
    cluster.catch_up()
    return planted


def of_fault(fault: PlantedFault, name: str, group: str = "rows") -> Difference:
    """Return what an audit should find of a fault of the lab."""
    assert fault.relation is not None  # noqa: S101 - asked of faults of relations alone
    place = None
    if fault.block is not None and fault.offset is not None:
        place = _one_place(fault.block, fault.offset)
    return Difference(
        group=group,
        name=name,
        node=fault.node,
        database=fault.database or "",
        relations=(fault.relation,),
        kinds=frozenset({fault.kind} if fault.kind else ()),
        place=place,
    )


def index_difference(node: str) -> Difference:
    """Return what an audit with indexes should find of the index that lost an entry."""
    return Difference(
        group="indexes",
        name="an index lost an entry",
        node=node,
        database=ROWS,
        relations=(_label(INDEXED),),
        kinds=frozenset({DifferenceKind.INDEX}),
    )


def _asked(*, quick: bool) -> tuple[Sequence[Pair], Sequence[Change]]:
    same_columns = [pair for pair in PAIRS if not pair.right_columns]
    if quick:
        same_columns = list({pair.kind: pair for pair in reversed(same_columns)}.values())[::-1]
    return same_columns, (*CHANGES, *type_changes())


def _make_tables(primary: LocalServer) -> None:
    names = [fault.replace("-", "_") for fault in ROW_FAULTS if fault != "sequence-behind"]
    tables = [("public", name) for name in (*names, INDEXED, ON_PRIMARY, UNTOUCHED)]
    with connect(primary.dsn(ROWS), node=primary.name) as connection, translated(primary.name):
        for statement in _OTHERS:
            connection.execute(statement)
        for parts in (*tables, ('Odd ".Names', 'We"ird. table')):
            for template in _TABLE:
                connection.execute(sql.SQL(template).format(sql.Identifier(*parts)))


def _make_amcheck(primary: LocalServer) -> bool:
    try:
        primary.execute("create extension amcheck", dbname=ROWS)
    except StatementFailed:
        return False
    grant = sql.SQL("grant execute on function bt_index_check(regclass, boolean) to {}")
    primary.execute(grant.format(sql.Identifier(AUDIT_ROLE)), dbname=ROWS)
    return True


def _make_pairs(primary: LocalServer, pairs: Iterable[Pair]) -> tuple[tuple[Pair, ...], list[NotTried]]:
    """Make the tables of every pair that the server can hold, in one transaction."""
    held, not_tried = [], []
    with connect(primary.dsn(VALUES), node=primary.name, autocommit=False) as connection, translated(primary.name):
        for statement in filter(None, (part.strip() for part in SETUP.split(";\n"))):
            _attempt(connection, [sql.SQL(statement)])
        for pair in pairs:
            wanted = not pair.needs or connection.execute(sql.SQL(pair.needs)).fetchone() == (True,)
            if wanted and _attempt(connection, _pair_statements(pair)):
                held.append(pair)
            else:
                not_tried.append(NotTried(name=pair.name, reason="this server cannot hold these values"))
        connection.commit()
    return tuple(held), not_tried


def _pair_statements(pair: Pair) -> list[sql.Composed]:
    statements = []
    for side in ("left", "right"):
        table, rows = sql.Identifier(_side(pair, side)), pair.rows(side)
        statements.append(sql.SQL("create table {} ({})").format(table, sql.SQL(pair.definition(side))))
        if rows:
            statements.append(sql.SQL("insert into {} {}").format(table, sql.SQL(rows)))
    return statements


def _attempt(connection: LocalConnection, statements: Iterable[sql.SQL | sql.Composed]) -> bool:
    """Run statements in a savepoint; return whether the server could."""
    try:
        with translated("primary"), connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except StatementFailed:
        return False
    return True


def _make_definitions(
    cluster: LabCluster, changes: Iterable[Change]
) -> tuple[tuple[Change, ...], tuple[NotTried, ...]]:
    """Make a database, and a copy of it in which everything was changed; files keep their names in a copy."""
    primary = cluster.primary
    for change in (*changes, UNTOUCHED_CHANGE):
        for statement in change.before:
            primary.execute(sql.SQL(statement), dbname=DEFINITIONS)
    primary.execute(
        sql.SQL("create database {} template {}").format(sql.Identifier(_COPY), sql.Identifier(DEFINITIONS))
    )
    made, impossible = [], []
    for change in changes:
        try:
            for statement in change.after:
                primary.execute(sql.SQL(statement), dbname=_COPY)
        except StatementFailed as error:
            impossible.append(NotTried(name=change.name, reason=f"this server refuses it (SQLSTATE {error.sqlstate})"))
        else:
            made.append(change)
    return tuple(made), tuple(impossible)


UNTOUCHED_CHANGE = Change(
    name="nothing",
    relation=f"public.{UNTOUCHED}",
    before=("create table untouched (id int)", "insert into untouched values (1)"),
    after=(),
)
"""A table that stays what it is."""


def _freeze(primary: LocalServer, database: str) -> None:
    """Vacuum a database until no reader has a reason to write to a page of it; raise LabError where one keeps it.

    A page that is hinted or pruned later is logged as a whole, and a standby whose files were exchanged replays it into
    those of the other relation, or database. What a standby's feedback holds back is younger than its last message.
    """
    deadline = time.monotonic() + _FREEZE_S
    while True:
        primary.execute("vacuum (freeze)", dbname=database)
        left = primary.execute(
            "select from pg_class where relkind in ('r', 'm', 't') and not relisshared and relallvisible < relpages",
            dbname=database,
        )
        if not left:
            return
        if time.monotonic() > deadline:
            raise LabError(
                f"{len(left)} relations of database {database} could not be frozen within {_FREEZE_S:g} s",
                hint="An old snapshot or a prepared transaction holds them back; end it.",
            )
        time.sleep(0.1)


def _plant_rows(cluster: LabCluster, node: str, between: Between) -> Iterable[Difference]:
    for fault in ROW_FAULTS:
        between()
        done = apply_fault(cluster, fault, node=node, database=ROWS, relation=_label(fault.replace("-", "_")))
        yield of_fault(done, done.what)
    for fault, relation, of_what in _ELSEWHERE:
        between()
        done = apply_fault(cluster, fault, node=node, database=ROWS, relation=relation)
        yield of_fault(done, f"{done.what}, of {of_what}")


def _exchange_files(cluster: LabCluster, node: str, pairs: Iterable[Pair]) -> None:
    """Exchange, on a standby, the files of the two sides of each pair, and those of the changed copy."""
    primary, standby = cluster.primary, cluster.node(node)
    paths = dict(
        primary.execute("select relname, pg_relation_filepath(oid) from pg_class where relkind = 'r'", [], VALUES)
    )
    folders = [
        f"base/{oid}"
        for (oid,) in primary.execute(
            "select oid::int8 from pg_database where datname = any (%s)", [[DEFINITIONS, _COPY]]
        )
    ]
    for database in (VALUES, DEFINITIONS, _COPY):
        _freeze(primary, database)
    primary.execute("checkpoint")
    cluster.catch_up(only=node)
    standby.execute("checkpoint")
    standby.stop()
    for one, other in (*((paths[_side(p, "left")], paths[_side(p, "right")]) for p in pairs), folders):
        left, right = standby.data_dir / one, standby.data_dir / other
        aside = left.with_name("aside")
        left.rename(aside)
        right.rename(left)
        aside.rename(right)
    standby.start()
    cluster.wait_streaming()


def _of_pair(pair: Pair, node: str) -> Difference:
    return Difference(
        group="values",
        name=pair.name,
        node=node,
        database=VALUES,
        relations=tuple(_label(_side(pair, side)) for side in ("left", "right")),
    )


def _of_change(cluster: LabCluster, change: Change, node: str) -> Difference:
    place = None
    if change.row:
        [(ctid,)] = cluster.primary.execute(sql.SQL(change.row), dbname=_COPY)
        block, offset = map(int, _PLACE.fullmatch(ctid).groups())  # type: ignore[union-attr] # a tid, always
        place = _one_place(block, offset)
    return Difference(
        group="definitions",
        name=change.name,
        node=node,
        database=DEFINITIONS,
        relations=(change.relation,),
        kinds=change.kinds,
        place=place,
        also=change.also,
    )


def _one_place(block: int, offset: int) -> CtidRange:
    return CtidRange(first_block=block, first_offset=offset, last_block=block, last_offset=offset)


def _side(pair: Pair, side: str) -> str:
    return f"{side}_{PAIRS.index(pair)}"


def _label(name: str) -> str:
    return f"public.{name}"
