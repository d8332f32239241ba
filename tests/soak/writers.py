"""Writers that do to the busy tables whatever SQL allows, drawn from a seed.

Statements that fail are part of it: writers meet one another, and the definitions they expect are gone. Nothing is left
open or prepared once the load has stopped.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from types import TracebackType
from typing import Self

from replcheck.errors import ReplcheckError, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.local import LocalConnection, connect, sql, translated
from tests.soak.tables import BUSY, Column, Schema, Table

_SESSION = (
    "set lock_timeout = '1s'",
    "set statement_timeout = '15s'",
    "set client_min_messages = error",
    "set enable_seqscan = on",
)
_CONNECTION_LOST = ("08", "57P", "25006")
_RETRY_S = 0.1
_MOST_ROWS = 20_000
"""Above which numbered row no writer inserts, so that tables stay small."""


class RandomLoad:
    """The random load on a cluster's primary, from entering the context until its end; `rate` in actions a second."""

    def __init__(self, cluster: LabCluster, schema: Schema, *, seed: int, rate: float = 120, writers: int = 3) -> None:
        self._cluster = cluster
        self._schema = schema
        self._seed = seed
        self._pause_s = writers / rate
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"random writer {number}", daemon=True)
            for number in range(writers)
        ]
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Actions that failed, by name and SQLSTATE."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=60)
        self._finish_prepared()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, number: int) -> None:
        rng = Random(f"writer {self._seed} {number}")
        while not self._stopping.is_set():
            try:
                self._write(number, rng)
            except ReplcheckError:
                self._stopping.wait(_RETRY_S)

    def _write(self, number: int, rng: Random) -> None:
        primary = self._cluster.primary
        with connect(primary.dsn(), node=primary.name) as connection:
            for statement in _SESSION:
                connection.execute(statement)
            writer = Writer(connection, rng, self._schema, f"soak_{self._seed}_{number}_", self._stopping)
            due = time.monotonic()
            while not self._stopping.is_set():
                [action] = rng.choices(list(ACTIONS), weights=list(ACTIONS.values()))
                self._act(writer, action, primary.name)
                due = max(due + self._pause_s, time.monotonic() - 1.0)
                self._stopping.wait(max(0.0, due - time.monotonic()))
            writer.settle()

    def _act(self, writer: "Writer", action: Callable[["Writer"], None], node: str) -> None:
        try:
            with translated(node):
                action(writer)
            self.done[action.__name__] += 1
        except StatementFailed as failure:
            if failure.sqlstate.startswith(_CONNECTION_LOST):
                raise
            self.refused[f"{action.__name__} {failure.sqlstate}"] += 1

    def _finish_prepared(self) -> None:
        try:
            primary = self._cluster.primary
            for (gid,) in primary.execute("select gid from pg_prepared_xacts where starts_with(gid, 'soak_')"):
                primary.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
        except ReplcheckError:
            return


class Writer:
    """One connection with its random sequence; every action leaves it outside a transaction."""

    def __init__(
        self, connection: LocalConnection, rng: Random, schema: Schema, gid_prefix: str, stopping: threading.Event
    ) -> None:
        self._connection = connection
        self._rng = rng
        self._tables = schema.busy
        self._gid_prefix = gid_prefix
        self._stopping = stopping
        self._prepared: list[str] = []
        self._numbers = rng.randrange(1 << 30)

    def insert_rows(self) -> None:
        with self._transaction():
            self._insert(self._table())

    def update_rows(self) -> None:
        with self._transaction():
            for _ in range(self._rng.randrange(1, 4)):
                self._update(self._table())

    def delete_rows(self) -> None:
        with self._transaction():
            self._run(
                "delete from {} where id >= {} and id < {}",
                self._table().identifier,
                *self._range(self._rng.randrange(30)),
            )

    def savepoints(self) -> None:
        with self._transaction():
            for number in range(self._rng.choice((2, 8, 40, 90))):
                with self._connection.transaction(force_rollback=self._sometimes(0.25)):
                    table = self._table()
                    if number % 2:
                        self._insert(table, most=3)
                    else:
                        self._update(table, most=3)

    def lock_and_update(self) -> None:
        table = self._table()
        first, end = self._range(5)
        with self._transaction():
            for strength in ("for key share", "for share", "for no key update"):
                with self._connection.transaction(force_rollback=self._sometimes(0.3)):
                    self._run("select from {} where id >= {} and id < {} " + strength, table.identifier, first, end)
            self._update(table, most=5)

    def prepare_or_finish(self) -> None:
        if len(self._prepared) < 2 and self._sometimes(0.6):
            gid = f"{self._gid_prefix}{self._numbers}"
            self._numbers += 1
            with self._connection.transaction():
                self._insert(self._table(), most=5)
                self._update(self._table(), most=5)
                self._run("prepare transaction {}", gid)
            self._prepared.append(gid)
        elif self._prepared:
            self._run(f"{'commit' if self._sometimes(0.7) else 'rollback'} prepared {{}}", self._prepared.pop(0))

    def hold_open(self) -> None:
        with self._transaction():
            self._insert(self._table(), most=5)
            self._stopping.wait(self._rng.uniform(0.1, 1.5))
            self._update(self._table(), most=5)

    def truncate(self) -> None:
        table = self._table()
        with self._transaction():
            self._run("truncate {}", table.identifier)
            self._connection.execute(table.insert(1, min(table.rows, 400)))

    def rewrite(self) -> None:
        table = self._table()
        how = self._rng.choice(
            (
                "vacuum (full) {}",
                "vacuum (freeze) {}",
                "vacuum {}",
                "analyze {}",
                "reindex table {}",
                "alter table {} set unlogged",
                "alter table {} set logged",
                "alter table {} set (fillfactor = 60)",
            )
        )
        self._run(how, table.identifier)
        if how.endswith("set unlogged"):
            self._run("alter table {} set logged", table.identifier)

    def change_type(self) -> None:
        table = self._table()
        numbers = [column for column in table.columns[2:] if column.type in ("int", "bigint", "smallint", "numeric")]
        texts = [column for column in table.columns[1:] if column.type in ("text", "varchar(40)")]
        column = self._rng.choice(numbers or texts)
        types = ("int", "bigint", "numeric") if column in numbers else ("text", "varchar(9000)", "varchar")
        self._run(
            f"alter table {{}} alter column {{}} type {self._rng.choice(types)}",
            table.identifier,
            sql.Identifier(column.name),
        )

    def change_columns(self) -> None:
        table = self._table()
        column = sql.Identifier(f"extra {self._rng.randrange(3)}")
        self._run(
            self._rng.choice(
                (
                    "alter table {} add column {} text default 'unknown'",
                    "alter table {} add column {} int",
                    "alter table {} add column {} timestamptz default clock_timestamp()",
                    "alter table {} drop column if exists {}",
                    "alter table {} drop column if exists {}",
                )
            ),
            table.identifier,
            column,
        )

    def rename(self) -> None:
        table = self._table()
        other = sql.Identifier("renamed for a moment")
        self._run("alter table {} rename to {}", table.identifier, other)
        try:
            if self._sometimes(0.5):
                self._stopping.wait(0.05)
        finally:
            self._rename_back(table)

    def index(self) -> None:
        table = self._table()
        how = self._rng.choice(("create index {} on {} (plain)", "create index concurrently {} on {} (id)"))
        name = f"index {self._rng.randrange(3)}"
        self._run("drop index if exists {}", sql.Identifier(BUSY, name))
        self._run(how, sql.Identifier(name), table.identifier)

    def refresh(self) -> None:
        self._run("refresh materialized view {}", sql.Identifier(BUSY, "seen"))

    def draw_numbers(self) -> None:
        with self._transaction():
            for name in ("numbers", "cycle"):
                sequence = sql.Identifier(BUSY, name).as_string(None)
                self._run("select nextval({}) from generate_series(1, {})", sequence, self._rng.randrange(1, 40))
        if self._sometimes(0.05):
            self._run(
                "select setval({}, {})", sql.Identifier(BUSY, "numbers").as_string(None), self._rng.randrange(1, 9000)
            )

    def make_batch(self) -> None:
        name = sql.Identifier(BUSY, f"batch {self._rng.randrange(4)}")
        with self._transaction():
            self._run("drop table if exists {}", name)
            if self._sometimes(0.8):
                self._run("create table {} as select i, md5(i::text) from generate_series(1, 200) i", name)

    def inherit(self) -> None:
        with self._transaction():
            self._run("insert into {} values (1, 'one', 'more')", sql.Identifier(BUSY, "child"))
            self._run("update {} set plain = plain || 'x' where id < 3", sql.Identifier(BUSY, "parent"))
            self._run("delete from {} where length(plain) > 20", sql.Identifier(BUSY, "parent"))

    def large_objects(self) -> None:
        with self._transaction():
            self._run("select lo_from_bytea(0, decode(repeat('ab', {}), 'hex'))", self._rng.choice((10, 3000, 9000)))
            self._run(
                "select lo_unlink(oid) from pg_largeobject_metadata where oid > (select min(oid) from"
                " pg_largeobject_metadata) order by oid limit 1"
            )

    def catalogs(self) -> None:
        table = self._table()
        self._run(
            self._rng.choice(
                (
                    "comment on table {} is 'told'",
                    "grant select on {} to public",
                    "revoke select on {} from public",
                    "alter table {} alter column plain set statistics 50",
                )
            ),
            table.identifier,
        )
        self._run(
            self._rng.choice(
                (
                    "create or replace function busy_types.one() returns int language sql as 'select 1'",
                    "drop function if exists busy_types.one()",
                    "create role soak_passing",
                    "drop role soak_passing",
                    "alter type busy_types.mood add value if not exists 'new'",
                    "alter type busy_types.mood rename value 'glad' to 'happy'",
                    "alter type busy_types.mood rename value 'happy' to 'glad'",
                )
            )
        )

    def databases(self) -> None:
        self._run("drop database if exists soak_passing")
        if self._sometimes(0.6):
            self._run("create database soak_passing")

    def settle(self) -> None:
        """Finish what is still prepared."""
        while self._prepared:
            self._run("rollback prepared {}", self._prepared.pop())

    def _rename_back(self, table: Table) -> None:
        for _ in range(5):
            try:
                with translated("primary"):
                    self._run(
                        "alter table {} rename to {}",
                        sql.Identifier(table.schema, "renamed for a moment"),
                        sql.Identifier(table.name),
                    )
            except StatementFailed as failure:
                if failure.sqlstate != "55P03":
                    raise
            else:
                return

    def _insert(self, table: Table, most: int = 40) -> None:
        first = self._rng.randrange(1, _MOST_ROWS)
        self._connection.execute(table.insert(first, first + self._rng.randrange(1, most + 1)))

    def _update(self, table: Table, most: int = 25) -> None:
        column: Column = self._rng.choice(table.columns[1:])
        first, end = self._range(most)
        self._connection.execute(
            sql.SQL("update {} as t set {} = {} from (select {} as i) as n where t.id >= {} and t.id < {}").format(
                table.identifier,
                sql.Identifier(column.name),
                sql.SQL(column.value),
                sql.Literal(self._rng.randrange(1, _MOST_ROWS)),
                sql.Literal(first),
                sql.Literal(end),
            )
        )

    def _run(self, statement: str, *parts: sql.Identifier | str | int) -> None:
        composed = [part if isinstance(part, sql.Identifier) else sql.Literal(part) for part in parts]
        self._connection.execute(sql.SQL(statement).format(*composed))

    def _range(self, most: int) -> tuple[int, int]:
        first = self._rng.randrange(1, 1500) if self._sometimes(0.7) else self._rng.randrange(1, _MOST_ROWS)
        return first, first + self._rng.randrange(1, most + 2)

    def _transaction(self):
        return self._connection.transaction(force_rollback=self._sometimes(0.15))

    def _table(self) -> Table:
        return self._rng.choice(self._tables)

    def _sometimes(self, share: float) -> bool:
        return self._rng.random() < share


ACTIONS: Mapping[Callable[[Writer], None], int] = {
    Writer.insert_rows: 200,
    Writer.update_rows: 300,
    Writer.delete_rows: 150,
    Writer.savepoints: 30,
    Writer.lock_and_update: 60,
    Writer.prepare_or_finish: 40,
    Writer.hold_open: 8,
    Writer.truncate: 8,
    Writer.rewrite: 20,
    Writer.change_type: 8,
    Writer.change_columns: 10,
    Writer.rename: 5,
    Writer.index: 8,
    Writer.refresh: 8,
    Writer.draw_numbers: 40,
    Writer.make_batch: 12,
    Writer.inherit: 20,
    Writer.large_objects: 20,
    Writer.catalogs: 15,
    Writer.databases: 1,
}
"""The actions with their weights."""
