"""Which transactions a snapshot sees: the facts about them that an alignment must honour."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import pytest

from replcheck.audit.chase import Chase
from replcheck.audit.visibility import Position, Unsettled, View, position, unsettled, view_of
from replcheck.events import Aligned, ChunkCompared
from replcheck.lab.cluster import LabCluster
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Verdict
from replcheck.postgres.local import LocalConnection, connect
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.postgres.snapshots import Anchor, open_snapshot, read_anchor
from tests.conftest import MakeCluster
from tests.staged import (
    Background,
    at,
    audit,
    before_snapshots,
    newest_only,
    pause,
    resume,
    session_on,
    until,
    value,
)


@dataclass(frozen=True)
class Transaction:
    """Statements of one transaction, and what they touch."""

    statements: tuple[LiteralString, ...]
    rows: int
    """Tuple positions that one snapshot shows and the other does not, or shows otherwise."""
    subtransactions: int = 0
    prepared: bool = False


_CAUGHT: LiteralString = """
    do $$ begin
        begin update visit set note = 'caught' where id <= 5; exception when division_by_zero then null; end;
    end $$"""
_TWO_HUNDRED: LiteralString = """
    do $$ begin
        for i in 1..200 loop
            begin update visit set note = 'sub' where id = i; exception when division_by_zero then null; end;
        end loop;
    end $$"""
TRANSACTIONS = {
    "an insert": Transaction(("insert into visit select g, 'new' from generate_series(1001, 1005) g",), 5),
    "an update": Transaction(("update visit set note = 'changed' where id <= 5",), 10),
    "a deletion": Transaction(("delete from visit where id <= 5",), 5),
    "a released savepoint": Transaction(
        ("savepoint s", "update visit set note = 'saved' where id <= 5", "release s"), 10, subtransactions=1
    ),
    "a finished exception block": Transaction((_CAUGHT,), 10, subtransactions=1),
    "200 subtransactions": Transaction((_TWO_HUNDRED,), 400, subtransactions=200),
    "rows locked by a foreign key, then updated": Transaction(
        (
            "insert into bill select g, g from generate_series(1, 5) g",
            "savepoint s",
            "update visit set note = 'billed' where id <= 5",
            "release s",
        ),
        10,
        subtransactions=1,
    ),
    "rows locked by a foreign key, then deleted": Transaction(
        (
            "insert into bill select g, g from generate_series(1, 5) g",
            "savepoint s",
            "delete from bill",
            "delete from visit where id <= 5",
            "update visit set note = 'alone' where id = 6",
            "release s",
        ),
        7,
        subtransactions=1,
    ),
    "a prepared transaction": Transaction(("update visit set note = 'twice' where id <= 5",), 10, prepared=True),
}
each_transaction = pytest.mark.parametrize("what", TRANSACTIONS)


@pytest.fixture
def visits(cluster: LabCluster, database: str) -> str:
    """A database with visits and their bills, replayed everywhere."""
    for statement in (
        "create table visit (id int primary key, note text)",
        "create table bill (id int primary key, visit_id int references visit)",
        "insert into visit select g, 'old' from generate_series(1, 500) g",
    ):
        cluster.primary.execute(statement, dbname=database)
    cluster.catch_up()
    return database


class Held:
    """A transaction held open until it is ended one way or the other."""

    def __init__(self, connection: LocalConnection, transaction: Transaction, name: str) -> None:
        self._connection = connection
        self._prepared = name if transaction.prepared else None
        for statement in transaction.statements:
            connection.execute(statement)
        self.xids = self._own_xids()
        if self._prepared:
            connection.execute(f"prepare transaction '{self._prepared}'")
            connection.autocommit = True
        self.ended = False

    def _own_xids(self) -> frozenset[int]:
        """The transaction's xid and those of its subtransactions, from the rows that they wrote."""
        rows = self._connection.execute(
            "select pg_current_xact_id()::text::bigint union"
            " select transactionid::text::bigint from pg_locks"
            " where locktype = 'transactionid' and pid = pg_backend_pid() union"
            " select xmin::text::bigint from visit where pg_xact_status(xmin::text::xid8) = 'in progress'"
        ).fetchall()
        return frozenset(xid for (xid,) in rows)

    def end(self, how: str = "commit") -> None:
        if self.ended:
            return
        self.ended = True
        if self._prepared:
            self._connection.execute(f"{how} prepared '{self._prepared}'")
        else:
            self._connection.execute(how)


@contextmanager
def held(cluster: LabCluster, database: str, transaction: Transaction) -> Iterator[Held]:
    with session_on(cluster.primary, database) as connection:
        opened = Held(connection, transaction, f"held in {database}")
        # What is not flushed is not sent, and an audit would wait for it.
        cluster.catch_up()
        try:
            yield opened
        finally:
            opened.end("rollback")


@contextmanager
def _ended_between_snapshots(
    monkeypatch: pytest.MonkeyPatch, cluster: LabCluster, database: str, opened: Held, how: str
) -> Iterator[None]:
    """End a transaction when the primary's first snapshot is open and no replica's is, replayed everywhere."""

    def act(node: str, number: int) -> None:
        if node != "primary" and not opened.ended:
            opened.end(how)
            cluster.catch_up()

    before_snapshots(monkeypatch, database, act)
    yield


# --- the snapshots themselves ---


async def _open(cluster: LabCluster, node: str, database: str) -> Session:
    target = NodeTarget(name=node, dsn=cluster.audit_dsn(node, database))
    return await open_session(target, purpose="test", limits=Limits())


async def _look(session: Session, anchor: Anchor) -> View:
    reading = await open_snapshot(session, anchor)
    return view_of(
        xmin=reading.xmin,
        xmax=reading.xmax,
        known_before=reading.known_before,
        unfinished_before=reading.unfinished_before,
        in_progress=reading.in_progress,
        aborted=reading.aborted,
    )


async def _looks(
    cluster: LabCluster, database: str, opened: Held, how: str
) -> tuple[Unsettled, tuple[View, View], Unsettled]:
    """Compare snapshots taken while a transaction is open, then the primary's with a later one of a standby.

    The transaction ends in between, `how`; returned are both comparisons and what the first two snapshots see.
    """
    primary, standby = await _open(cluster, "primary", database), await _open(cluster, "standby1", database)
    try:
        anchor = await read_anchor(primary)
        cluster.catch_up()
        there, here = await _look(primary, anchor), await _look(standby, anchor)
        opened.end(how)
        cluster.catch_up()
        return unsettled(there, here), (there, here), unsettled(there, await _look(standby, anchor))
    finally:
        await primary.close()
        await standby.close()


@each_transaction
async def test_a_transaction_committed_between_two_snapshots_is_unsettled_with_all_its_parts(
    cluster: LabCluster, visits: str, what: str
) -> None:
    with held(cluster, visits, TRANSACTIONS[what]) as opened:
        before, views, after = await _looks(cluster, visits, opened, "commit")
    assert len(opened.xids) == 1 + TRANSACTIONS[what].subtransactions
    assert all(opened.xids <= view.in_progress for view in views)
    assert not opened.xids & (before.ahead | before.behind)
    assert opened.xids <= after.ahead
    assert not opened.xids & after.behind
    assert position(after) is Position.AHEAD


@newest_only
@each_transaction
async def test_a_transaction_rolled_back_between_two_snapshots_does_not_count(
    cluster: LabCluster, visits: str, what: str
) -> None:
    with held(cluster, visits, TRANSACTIONS[what]) as opened:
        _, _, after = await _looks(cluster, visits, opened, "rollback")
    assert not opened.xids & (after.ahead | after.behind)


@pytest.mark.parametrize("what", ["a released savepoint", "a finished exception block"])
def test_the_lock_of_an_ended_subtransaction_is_gone_while_its_xid_is_open(
    cluster: LabCluster, visits: str, what: str
) -> None:
    """Why pg_locks cannot tell which transactions are open."""
    with held(cluster, visits, TRANSACTIONS[what]) as opened:
        locks = "select array_agg(transactionid::text::bigint) from pg_locks where locktype = 'transactionid'"
        assert not opened.xids <= set(value(cluster.primary, locks))


def test_a_standby_lists_no_transaction_in_progress(cluster: LabCluster, visits: str) -> None:
    """Why a snapshot's own list cannot be used."""
    listed = "select cardinality(array(select pg_snapshot_xip(pg_current_snapshot())))"
    with held(cluster, visits, TRANSACTIONS["an update"]):
        cluster.catch_up()
        assert value(cluster.nodes["primary"], listed) >= 1
        assert value(cluster.nodes["standby1"], listed) == 0


# --- audits ---


def test_an_audit_under_open_transactions_is_exact(cluster: LabCluster, visits: str) -> None:
    everything = tuple(
        statement
        for what in ("200 subtransactions", "rows locked by a foreign key, then updated")
        for statement in TRANSACTIONS[what].statements
    )
    prepared = Transaction(("insert into visit select g, 'new' from generate_series(1001, 1005) g",), 0, prepared=True)
    with held(cluster, visits, Transaction(everything, 0)), held(cluster, visits, prepared):
        run = audit(cluster, visits)
    run.assert_consistent()
    assert run.exact
    assert run.relation("visit").rows == 500


@newest_only
@each_transaction
def test_rows_that_only_the_replicas_see_yet_are_in_flight_and_then_proven(
    cluster: LabCluster, visits: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = TRANSACTIONS[what]
    with (
        held(cluster, visits, transaction) as opened,
        _ended_between_snapshots(monkeypatch, cluster, visits, opened, "commit"),
    ):
        run = audit(cluster, visits, align_budget_s=0.0)
    run.assert_consistent()
    assert run.told(Aligned)[0].unsettled >= len(opened.xids)
    assert run.in_flight == transaction.rows


@newest_only
@pytest.mark.parametrize(
    "what",
    ["a deletion", "a released savepoint", "200 subtransactions", "rows locked by a foreign key, then updated"],
)
def test_rows_that_only_the_primary_sees_yet_are_in_flight_and_then_proven(
    cluster: LabCluster, visits: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction, standbys = TRANSACTIONS[what], cluster.standbys
    with session_on(cluster.primary, visits) as connection:
        opened: list[Held] = []

        def commit_unreplayed(node: str, number: int) -> None:
            if node == "primary" and not opened:
                for standby in standbys:
                    pause(standby)
                opened.append(Held(connection, transaction, f"held in {visits}"))
                opened[0].end()

        waited = Chase._replayed
        aligned: list[bool] = []

        def let_the_replicas_follow() -> None:
            for standby in standbys:
                resume(standby)

        async def replayed(self: Chase, *arguments: Any) -> bool:
            # A deleter shows in a row's header only where it is replayed: rows must not be listed before that is so.
            if opened and not aligned:
                let_the_replicas_follow()
            return await waited(self, *arguments)

        before_snapshots(monkeypatch, visits, commit_unreplayed)
        monkeypatch.setattr(Chase, "_replayed", replayed)
        try:
            run = audit(
                cluster,
                visits,
                at(Aligned, lambda: aligned.append(True)),
                at(ChunkCompared, let_the_replicas_follow, relation="visit"),
                align_budget_s=0.0,
            )
        finally:
            let_the_replicas_follow()
    run.assert_consistent()
    assert run.told(Aligned)[0].unsettled >= len(opened[0].xids)
    assert run.in_flight == transaction.rows


@newest_only
def test_a_rollback_between_the_snapshots_unsettles_nothing(
    cluster: LabCluster, visits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        held(cluster, visits, TRANSACTIONS["200 subtransactions"]) as opened,
        _ended_between_snapshots(monkeypatch, cluster, visits, opened, "rollback"),
    ):
        run = audit(cluster, visits, align_budget_s=0.0)
    run.assert_consistent()
    # A few commits of others may fall between the snapshots too.
    assert run.told(Aligned)[0].unsettled < 100
    assert run.in_flight == 0


@newest_only
def test_an_old_open_transaction_does_not_make_every_later_one_a_candidate(
    cluster: LabCluster, visits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    opened = Session.fetch_batch

    async def fetch_batch(self: Session, batches: Any) -> Any:
        rows = await opened(self, batches)
        [open_xids, since] = batches[-1][-1][1]
        asked.append(len(open_xids) + rows[0][0] - since)
        return rows

    monkeypatch.setattr(Session, "fetch_batch", fetch_batch)
    with held(cluster, visits, TRANSACTIONS["an update"]):
        with session_on(cluster.primary, visits, autocommit=True) as connection:
            connection.execute("set synchronous_commit = off")
            connection.execute(
                "do $$ begin for i in 1..200000 loop perform pg_current_xact_id(); commit; end loop; end $$"
            )
        window = "select pg_snapshot_xmax(s)::text::bigint - pg_snapshot_xmin(s)::text::bigint"
        assert value(cluster.primary, f"{window} from pg_current_snapshot() s") > 200_000
        run = audit(cluster, visits)
    run.assert_consistent()
    assert asked
    assert max(asked) < 1000


def test_a_commit_that_waits_for_a_missing_synchronous_standby_is_in_flight_for_as_long(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    primary, standby = cluster.primary, cluster.standbys[0]
    primary.execute("create table visit (id int primary key, note text)")
    primary.execute("insert into visit select g, 'old' from generate_series(1, 500) g")
    cluster.catch_up()
    primary.configure(synchronous_standby_names="nobody")
    primary.reload()
    until(lambda: value(primary, "show synchronous_standby_names") == "nobody", "the setting is in force")

    def insert() -> None:
        with connect(primary.dsn(), node="primary") as connection:
            connection.execute("insert into visit select g, 'new' from generate_series(1001, 1007) g")

    writer = Background(insert)
    until(lambda: value(standby, "select count(*) from visit") == 507, "the standby sees the commit")
    assert value(primary, "select count(*) from visit") == 500
    limits: dict[str, Any] = {"align_budget_s": 0.2, "settle_budget_s": 2.0}
    waiting = audit(cluster, "postgres", **limits)
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert waiting.result.divergences == ()
    assert waiting.unexplained == 0
    [replica] = waiting.relation("visit").replicas
    assert (replica.verdict, replica.rows_in_flight) == (Verdict.INCONCLUSIVE, 7)
    assert not any(alignment.exact for alignment in waiting.replica("standby1").alignments)

    primary.execute("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
    writer.join()
    released = audit(cluster, "postgres", **limits)
    released.assert_consistent()
    assert released.relation("visit").rows == 507


def test_a_commit_that_becomes_visible_late_is_proven_in_the_same_audit(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    primary, standby = cluster.primary, cluster.standbys[0]
    primary.execute("create table visit (id int primary key, note text)")
    cluster.catch_up()
    primary.configure(synchronous_standby_names="nobody")
    primary.reload()
    until(lambda: value(primary, "show synchronous_standby_names") == "nobody", "the setting is in force")
    writer = Background(lambda: primary.execute("insert into visit select g, 'new' from generate_series(1, 7) g"))
    until(lambda: value(standby, "select count(*) from visit") == 7, "the standby sees the commit")

    def let_go() -> None:
        primary.execute("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")

    run = audit(cluster, "postgres", at(ChunkCompared, let_go, relation="visit"), align_budget_s=0.2)
    writer.join()
    run.assert_consistent()
    assert run.in_flight == 7


@newest_only
def test_snapshots_grow_no_older_than_allowed_and_the_audit_goes_on_under_new_ones(
    cluster: LabCluster, database: str
) -> None:
    names = [f"visit{number}" for number in range(12)]
    with session_on(cluster.primary, database, autocommit=True) as connection:
        for name in names:
            connection.execute(f"create table {name} as select g as id, 'x' as note from generate_series(1, 100) g")
        connection.execute("create table moving as select 1 as id, 1 as v")
        ages: list[float] = []

        def watch_and_write(event: object) -> None:
            if isinstance(event, ChunkCompared):
                connection.execute("update moving set v = v + 1")
                time.sleep(0.35)
                [(age,)] = connection.execute(
                    "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8"
                    " from pg_stat_activity where application_name like 'replcheck lane%' and backend_xmin is not null"
                ).fetchall()
                ages.append(age)

        run = audit(cluster, database, every=watch_and_write, max_snapshot_age_s=1.0)
    run.assert_consistent()
    assert len(run.told(Aligned)) >= 3
    # A chunk may begin just before the age is reached; what the servers allow beyond it is five seconds.
    assert 0 < max(ages) <= 1.0 + 5.0
    assert {run.relation(name).rows for name in names} == {100}
