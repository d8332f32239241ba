"""What a writer of the mixed workload can do: each action is one transaction of a kind that comes up in real life."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from replcheck.postgres.local import LocalConnection, sql

_HOT_PATIENTS = 40
"""Patients that most writers go for, so that they meet: locks, multixacts, deadlocks."""
_KINDS = ("first", "follow-up", "emergency")


@dataclass(slots=True)
class Writer:
    """One connection with its random sequence; every action leaves it outside a transaction."""

    connection: LocalConnection
    rng: Random
    patients: int
    gid_prefix: str
    stopping: threading.Event
    prepared: list[str] = field(default_factory=list)
    prepared_so_far: int = 0

    def book_visit(self) -> None:
        """Insert a visit, whose foreign key locks the patient, and then update that patient: a multixact."""
        patient = self._patient()
        with self.connection.transaction():
            self._insert_visit(patient)
            with self.connection.transaction():
                self.connection.execute(
                    "update clinic.patient set balance = balance + 1, updated_at = clock_timestamp() where id = %s",
                    [patient],
                )

    def move_patient(self) -> None:
        """Update a patient by key, sometimes aborted."""
        with self.connection.transaction(force_rollback=self._sometimes(0.1)):
            self.connection.execute(
                "update clinic.patient set home = row(%s, 'city', %s)::clinic.address, tags = tags[1:3] || %s::text"
                " where id = %s",
                [f"street {self.rng.random()}", self.rng.randrange(500), f"t{self.rng.randrange(9)}", self._patient()],
            )

    def hit_counters(self) -> None:
        """Update a few hot rows, heap-only where the page has room."""
        with self.connection.transaction():
            for _ in range(self.rng.randrange(1, 5)):
                self.connection.execute("update clinic.counter set hits = hits + 1 where id = %s", [self._number(20)])

    def replace_ledger(self) -> None:
        """Delete and insert equal rows of a table without a key."""
        entry = f"entry {self.rng.randrange(10)}"
        with self.connection.transaction():
            self.connection.execute(
                "delete from clinic.ledger where ctid in (select ctid from clinic.ledger where entry = %s limit 3)",
                [entry],
            )
            self.connection.execute("insert into clinic.ledger select %s, 1 from generate_series(1, 3)", [entry])

    def delete_visits(self) -> None:
        """Delete old visits with what belongs to them."""
        with self.connection.transaction():
            self.connection.execute(
                "delete from clinic.visit where id in (select id from clinic.visit order by id limit %s)",
                [self._number(30)],
            )

    def lock_rows(self) -> None:
        """Lock rows in several strengths, from several subtransactions, and update one of them."""
        patient = self._patient()
        strengths = ("for key share", "for share", "for no key update", "for update")
        with self.connection.transaction():
            for strength in sorted(self.rng.sample(strengths, 2), key=strengths.index):
                with self.connection.transaction(force_rollback=self._sometimes(0.3)):
                    self.connection.execute(
                        sql.SQL("select from clinic.patient where id = %s ") + sql.SQL(strength), [patient]
                    )
            if self._sometimes(0.5):
                self.connection.execute("update clinic.patient set balance = balance / 2 where id = %s", [patient])

    def many_savepoints(self) -> None:
        """Open up to 200 savepoints in one transaction, all with an xid, some released, some rolled back."""
        patient = self._patient()
        with self.connection.transaction(force_rollback=self._sometimes(0.2)):
            for number in range(self.rng.choice((5, 70, 120, 200))):
                name = sql.Identifier(f"s{number}")
                self.connection.execute(sql.SQL("savepoint {}").format(name))
                self._insert_visit(patient)
                if number % 5 == 1:
                    self.connection.execute(sql.SQL("release {}").format(name))
                elif number % 11 == 2:
                    self.connection.execute(sql.SQL("rollback to {}").format(name))

    def exception_blocks(self) -> None:
        """Run up to 150 PL/pgSQL exception blocks in one transaction."""
        self.connection.execute("select clinic.book_many(%s, %s)", [self._patient(), self.rng.choice((10, 80, 150))])

    def prepare_or_finish(self) -> None:
        """Prepare a transaction, or commit or roll back one that was prepared a while ago."""
        if len(self.prepared) < 3 and self._sometimes(0.6):
            gid = f"{self.gid_prefix}{self.prepared_so_far}"
            with self.connection.transaction():
                self._insert_visit(self._patient())
                self.connection.execute("insert into clinic.ledger values ('prepared', 1)")
                self.connection.execute(sql.SQL("prepare transaction {}").format(sql.Literal(gid)))
            self.prepared.append(gid)
            self.prepared_so_far += 1
        elif self.prepared:
            self._finish(self.prepared.pop(0), commit=self._sometimes(0.7))

    def long_transaction(self) -> None:
        """Write, hold still for up to four seconds, write again, and commit or abort."""
        with self.connection.transaction(force_rollback=self._sometimes(0.3)):
            self._insert_visit(self._number(self.patients))
            self.stopping.wait(self.rng.uniform(0.5, 4))
            self.connection.execute("insert into clinic.ledger values ('long', 2)")

    def store_scan(self) -> None:
        """Write, replace or remove a value of many TOAST chunks, compressible or not."""
        size = self.rng.choice((0, 3_000, 20_000, 60_000))
        scan = self.rng.randbytes(size) if size else None
        with self.connection.transaction(force_rollback=self._sometimes(0.1)):
            self.connection.execute(
                "update clinic.visit set scan = %s where id in (select id from clinic.visit offset %s limit 1)",
                [scan, self.rng.randrange(200)],
            )
            self.connection.execute(
                "update clinic.patient set notes = repeat(%s, 300) where id = %s",
                [self.rng.choice("abc") * 40, self._patient()],
            )

    def store_document(self) -> None:
        """Make, overwrite and remove large objects."""
        with self.connection.transaction():
            self.connection.execute(
                "insert into clinic.document (object) values (lo_from_bytea(0, %s))", [self.rng.randbytes(5_000)]
            )
            self.connection.execute(
                "select lo_put(object, 100, %s) from clinic.document order by id desc limit 1",
                [self.rng.randbytes(3_000)],
            )
            self.connection.execute(
                "with gone as (delete from clinic.document where id in (select id from clinic.document order by id"
                " limit 1 for update skip locked) returning object) select lo_unlink(object) from gone"
            )

    def copy_measurements(self) -> None:
        """Load rows by COPY into the partitions and trim the oldest."""
        with self.connection.transaction():
            with self.connection.cursor().copy("copy clinic.measurement (visit_id, code, value) from stdin") as copy:
                for _ in range(self.rng.randrange(1, 200)):
                    copy.write_row((self.rng.randrange(10_000), "copied", self.rng.random()))
            self.connection.execute(
                "delete from clinic.measurement where code = 'copied' and taken < now() - interval '20 s'"
            )

    def draw_numbers(self) -> None:
        """Draw from sequences, one of which cycles downwards; rarely set one back."""
        with self.connection.transaction(force_rollback=self._sometimes(0.3)):
            self.connection.execute(
                "select nextval('clinic.ticket'), nextval('clinic.token') from generate_series(1, 5)"
            )
        if self._sometimes(0.05):
            self.connection.execute("select setval('clinic.ticket', %s)", [self._number(5_000)])

    def write_odd_names(self) -> None:
        """Update the table whose names need quoting."""
        self.connection.execute(
            """update "Odd Names"."We""ird, table" set "select" = %s, doc = doc || %s::jsonb where "Ключ" = %s""",
            [self.rng.choice([None, "", "a\tb", "\\N"]), f'{{"n": {self._number(99)}}}', self._number(120)],
        )

    def change_columns(self) -> None:
        """Add, rename or drop a column of a small table."""
        table = sql.Identifier("clinic", "form")
        column, other = (
            sql.Identifier(f"extra_{self.rng.randrange(3)}"),
            sql.Identifier(f"renamed_{self.rng.randrange(3)}"),
        )
        statement = self.rng.choice(
            (
                sql.SQL("alter table {} add column {} text default 'unknown'").format(table, column),
                sql.SQL("alter table {} add column {} int").format(table, column),
                sql.SQL("alter table {} rename column {} to {}").format(table, column, other),
                sql.SQL("alter table {} drop column if exists {}").format(table, column),
                sql.SQL("alter table {} drop column if exists {}").format(table, other),
            )
        )
        with self.connection.transaction():
            self.connection.execute(statement)
            self.connection.execute("update clinic.form set answer = 'changed' where id = %s", [self._number(200)])

    def make_table(self) -> None:
        """Make a table with rows and an index, or drop one made before."""
        name = sql.Identifier("clinic", f"batch_{self.rng.randrange(4)}")
        with self.connection.transaction(force_rollback=self._sometimes(0.2)):
            if self._sometimes(0.5):
                self.connection.execute(sql.SQL("drop table if exists {}").format(name))
            self.connection.execute(
                sql.SQL(
                    "create table {} as select i as id, md5(i::text) as content from generate_series(1, 300) i"
                ).format(name)
            )
            self.connection.execute(sql.SQL("create index on {} (content)").format(name))

    def change_labels(self) -> None:
        """Add a label to an enumeration, or rename one that rows of it may carry."""
        if self._sometimes(0.3):
            label = f"kind {self.rng.randrange(6)}"
            self.connection.execute(
                sql.SQL("alter type clinic.visit_kind add value if not exists {}").format(sql.Literal(label))
            )
            return
        with self.connection.transaction():
            [(old,)] = self.connection.execute(
                "select enumlabel from pg_enum where enumlabel in ('telephone', 'remote') limit 1"
            ).fetchall()
            new = "remote" if old == "telephone" else "telephone"
            self.connection.execute(
                sql.SQL("alter type clinic.visit_kind rename value {} to {}").format(sql.Literal(old), sql.Literal(new))
            )

    def rewrite(self) -> None:
        """Rewrite a table into a new file without changing its rows."""
        self.connection.execute(
            self.rng.choice(
                (
                    "vacuum full clinic.prescription",
                    "cluster clinic.prescription using prescription_drug",
                    "refresh materialized view clinic.summary",
                    "refresh materialized view concurrently clinic.summary",
                    "vacuum full clinic.counter",
                    "reindex table clinic.prescription",
                )
            )
        )

    def reload(self) -> None:
        """Truncate a table and load it again, in one transaction, sometimes aborted."""
        with self.connection.transaction(force_rollback=self._sometimes(0.3)):
            self.connection.execute("truncate clinic.archive")
            self.connection.execute(
                "insert into clinic.archive select i, md5((i + %s)::text) from generate_series(1, 500) i",
                [self.rng.randrange(100)],
            )

    def change_type(self) -> None:
        """Change a column's type: one way rewrites the table, the other only its definition."""
        with self.connection.transaction():
            self.connection.execute(
                self.rng.choice(
                    (
                        "alter table clinic.tariff alter column price type bigint",
                        "alter table clinic.tariff alter column price type int",
                        "alter table clinic.tariff alter column code type text",
                        "alter table clinic.tariff alter column code type varchar(20)",
                    )
                )
            )
            self.connection.execute("update clinic.tariff set price = price + 1 where id = %s", [self._number(200)])

    def adopt(self) -> None:
        """Take over what a broken connection of this writer, or a killed load with the same seed, left prepared."""
        found = self.connection.execute(
            "select gid from pg_prepared_xacts where starts_with(gid, %s) and database = current_database()",
            [self.gid_prefix],
        ).fetchall()
        self.prepared = [gid for (gid,) in found]
        numbers = [int(gid.removeprefix(self.gid_prefix)) for gid in self.prepared]
        self.prepared_so_far = max(numbers, default=-1) + 1

    def settle(self) -> None:
        """Finish what is still prepared."""
        while self.prepared:
            self._finish(self.prepared.pop(), commit=False)

    def _finish(self, gid: str, *, commit: bool) -> None:
        how = sql.SQL("commit prepared {}" if commit else "rollback prepared {}")
        self.connection.execute(how.format(sql.Literal(gid)))

    def _insert_visit(self, patient: int) -> None:
        self.connection.execute(
            "insert into clinic.visit (patient_id, kind, fee, findings) values (%s, %s, %s, %s::jsonb)",
            [patient, self.rng.choice(_KINDS), self._number(90), f'{{"pulse": {self._number(90)}}}'],
        )

    def _patient(self) -> int:
        """Return a patient's id, mostly a hot one."""
        return self._number(_HOT_PATIENTS if self._sometimes(0.7) else self.patients)

    def _number(self, highest: int) -> int:
        return self.rng.randint(1, highest)

    def _sometimes(self, share: float) -> bool:
        return self.rng.random() < share


ACTIONS: Mapping[Callable[[Writer], None], int] = MappingProxyType(
    {
        Writer.book_visit: 300,
        Writer.move_patient: 200,
        Writer.hit_counters: 200,
        Writer.replace_ledger: 80,
        Writer.delete_visits: 80,
        Writer.lock_rows: 100,
        Writer.many_savepoints: 12,
        Writer.exception_blocks: 12,
        Writer.prepare_or_finish: 40,
        Writer.long_transaction: 4,
        Writer.store_scan: 50,
        Writer.store_document: 20,
        Writer.copy_measurements: 20,
        Writer.draw_numbers: 50,
        Writer.write_odd_names: 50,
        Writer.change_columns: 10,
        Writer.make_table: 10,
        Writer.change_labels: 6,
        Writer.rewrite: 10,
        Writer.reload: 10,
        Writer.change_type: 6,
    }
)
"""The actions with their weights."""
