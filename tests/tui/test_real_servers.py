"""The screens over a watch of real servers: what happens to them is seen, and what is asked for is done."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import pytest

from replcheck.cli.live_board import Board
from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.live_commands import LiveCommands
from replcheck.cli.live_feed import WatchFeed
from replcheck.config import load
from replcheck.lab.cluster import LabCluster
from replcheck.model.audit import AuditResult, StopCode
from replcheck.model.live import NodeState
from replcheck.model.outcome import Verdict
from replcheck.postgres.programs import run_program
from replcheck.runs.history import list_runs, read_report
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveFlags, live_request
from replcheck.runs.own_cluster import scratch_root
from replcheck.store import KEEP_FOR_EVER, RunFilter
from replcheck.tui.app import WatchApp
from replcheck.tui.audit_state import Phase
from replcheck.tui.options import Options
from tests.commands import assert_nothing_left
from tests.staged import make_slow_tables, newest_only
from tests.tui.test_screens import page, until


@contextmanager
def watched(cluster: LabCluster, folder: Path, more: str = "") -> Iterator[WatchApp]:
    """Watch the cluster beside an app that is not running yet."""
    nodes = "\n".join(f'{name} = {{ dsn = "{cluster.audit_dsn(name)}" }}' for name in cluster.nodes)
    path = folder / "replcheck.toml"
    policy = "[policy]\ncopies = { running = 3, proven = 2 }\n"
    path.write_text(f'cluster = "clinic"\n[nodes]\n{nodes}\n{policy}{more}')
    configuration, store, board = load(path), folder / "clinic.db", Board()
    request = live_request(LiveFlags(interval="0.3s", audits=False), configuration)
    commands = LiveCommands(request, configuration, store, board)
    claims = ClaimsFeed(configuration, store, board)
    settings = LiveSettings(
        store=store, keep=KEEP_FOR_EVER, sinks=[board.take_live, commands.take, claims.take], tell=board.note
    )
    feed = WatchFeed(request, settings, board)
    feed.start()
    claims.start()
    try:
        yield WatchApp(board, commands, Options(cluster="clinic", zone=UTC))
    finally:
        claims.close()
        commands.close()
        feed.close()


def state_of(app: WatchApp, name: str) -> NodeState | None:
    node = app.model.node(name)
    return node.state if node else None


@newest_only
async def test_a_standby_that_is_stopped_is_seen_lost_and_seen_back(cluster, tmp_path):
    name = cluster.standbys[0].name
    with watched(cluster, tmp_path) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await until(pilot, lambda: "3 of 3" in page(app) or state_of(app, name) is NodeState.STREAMING)
            await asyncio.to_thread(cluster.node(name).stop)
            try:
                await until(pilot, lambda: "✘ lost" in page(app) and f"standby {name} is lost" in page(app))
                await until(pilot, lambda: "copies" in page(app) and "✘ breached" in page(app))
            finally:
                await asyncio.to_thread(cluster.node(name).start)
            await until(pilot, lambda: state_of(app, name) is NodeState.STREAMING)
            await until(pilot, lambda: "✘ lost" not in page(app))


@newest_only
async def test_an_audit_by_key_proves_the_copies_before_your_eyes(cluster, database, tmp_path):
    with watched(cluster, tmp_path) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await until(pilot, lambda: app.commands.offers().audit is not None)
            await pilot.press("2", "a")
            await until(pilot, lambda: "Audit now" in page(app))
            await pilot.press("y")
            await until(pilot, lambda: app.model.audit is not None and not app.model.audit.running)
            await until(pilot, lambda: "✔ proven" in page(app) and "✔ consistent" in page(app))
            await pilot.press("1")
            await until(pilot, lambda: (app.model.proven_copies or 0) == len(cluster.nodes))
            await pilot.press("4")
            await until(pilot, lambda: "audit" in page(app) and "✔ consistent" in page(app))
            await pilot.press("enter")
            await until(pilot, lambda: "replcheck audit of clinic" in page(app))


def phase_of(app: WatchApp) -> Phase | None:
    return app.model.audit.phase if app.model.audit else None


def chunks_of(app: WatchApp) -> int:
    return app.model.audit.chunks if app.model.audit else 0


def at_work(cluster: LabCluster) -> list[str]:
    """Return the sessions of an audit that read or keep a snapshot, on all nodes together."""
    return [session for session, busy in sessions_of_audit(cluster) if busy]


def sessions_of_audit(cluster: LabCluster) -> list[tuple[str, bool]]:
    """Return every session of an audit on any node, and whether it reads or keeps a snapshot."""
    return [session for server in cluster.nodes.values() for session in server.execute(_SESSIONS)]


_SESSIONS = """
    select application_name, state <> 'idle' or backend_xmin is not null from pg_stat_activity
    where application_name like 'replcheck %' and application_name not in ('replcheck lab', 'replcheck watch')
"""


@pytest.fixture
def slow(cluster: LabCluster, database: str) -> str:
    """What to configure for an audit that takes some seconds, table after table."""
    make_slow_tables(cluster.primary, database, [f"slow{number}" for number in range(12)], seconds=0.3)
    cluster.catch_up()
    return f'[audit]\ndatabases = ["{database}"]\ncatalogs = false\njobs = 1\n'


async def begin_audit(app: WatchApp, pilot, cluster: LabCluster) -> None:
    """Start an audit by its key, and wait until it has read something."""
    await until(pilot, lambda: app.commands.offers().audit is not None)
    await pilot.press("2", "a")
    await until(pilot, lambda: "Audit now" in page(app))
    await pilot.press("y")
    await until(pilot, lambda: phase_of(app) is Phase.READING and chunks_of(app) > 0 and bool(at_work(cluster)))


@newest_only
async def test_an_audit_that_is_held_by_key_reads_nothing_until_it_is_let_go(cluster, slow, tmp_path):
    with watched(cluster, tmp_path, slow) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await begin_audit(app, pilot, cluster)
            await pilot.press("space")
            await until(pilot, lambda: phase_of(app) is Phase.HELD)
            before = chunks_of(app)
            await until(pilot, lambda: "holding still: paused" in page(app) and not at_work(cluster))
            await pilot.pause(0.3)
            read, began = chunks_of(app), time.monotonic()
            assert read - before <= 2, "more was read than had been asked for"
            while time.monotonic() - began < 1.5:
                await pilot.pause(0.1)
                assert (phase_of(app), chunks_of(app), at_work(cluster)) == (Phase.HELD, read, [])
            await pilot.press("space")
            await until(pilot, lambda: phase_of(app) is Phase.ENDED and chunks_of(app) > read)
            await until(pilot, lambda: "✔ proven" in page(app))
    result = only_audit(tmp_path)
    assert (result.verdict, result.held_s >= 1.5) == (Verdict.CONSISTENT, True)


@newest_only
async def test_an_audit_that_is_cancelled_by_key_ends_as_interrupted_and_leaves_nothing(cluster, slow, tmp_path):
    with watched(cluster, tmp_path, slow) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await begin_audit(app, pilot, cluster)
            await pilot.press("x")
            await until(pilot, lambda: "End the audit?" in page(app))
            await pilot.press("y")
            await until(pilot, lambda: phase_of(app) is Phase.ENDED and "? unchecked" in page(app))
            # The watch goes on beside it, so only what is the audit's own must be gone.
            await until(pilot, lambda: not sessions_of_audit(cluster))
            await pilot.press("4")
            await until(pilot, lambda: "RUNS" in page(app) and "? unchecked" in page(app))
            await pilot.press("enter")
            await until(pilot, lambda: "audit of clinic: unchecked" in page(app))
    assert only_audit(tmp_path).stop_code is StopCode.INTERRUPTED
    assert_nothing_left(cluster)


@newest_only
async def test_an_audit_that_is_cancelled_while_it_is_held_ends_too(cluster, slow, tmp_path):
    with watched(cluster, tmp_path, slow) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await begin_audit(app, pilot, cluster)
            await pilot.press("space")
            await until(pilot, lambda: "holding still: paused" in page(app))
            await pilot.press("x")
            await until(pilot, lambda: "End the audit?" in page(app))
            await pilot.press("y")
            await until(pilot, lambda: phase_of(app) is Phase.ENDED and not sessions_of_audit(cluster))
    assert only_audit(tmp_path).stop_code is StopCode.INTERRUPTED


def only_audit(folder: Path) -> AuditResult:
    """Return the result of the one run in the history."""
    [past] = list_runs(folder / "clinic.db", RunFilter(), limit=None).runs
    result = read_report(folder / "clinic.db", past.run.run_id).result
    assert isinstance(result, AuditResult)
    return result


@newest_only
async def test_a_drill_by_key_brings_a_backup_back_before_your_eyes(cluster, tmp_path):
    primary, dump = cluster.primary, tmp_path / "nightly.dump"
    run_program(primary.programs, "pg_dump", ["-Fc", "--file", str(dump), "--dbname", primary.dsn()], timeout_s=60)
    scratch = scratch_root(cluster.directory)
    more = f'[backups.nightly]\nkind = "dump"\npath = "{dump}"\n[drill]\nscratch = "{scratch}"\n'
    with watched(cluster, tmp_path, more) as app:
        async with app.run_test(size=(100, 40)) as pilot:
            await until(pilot, lambda: bool(app.commands.offers().drills))
            await pilot.press("3", "d")
            await until(pilot, lambda: "Drill nightly now" in page(app))
            await pilot.press("y")
            await until(pilot, lambda: app.model.drill is not None and not app.model.drill.running, seconds=120)
            # A dump alone tells nothing of the rows that it was taken from.
            await until(pilot, lambda: "~ partial" in page(app) and "✔ restore it" in page(app))
            assert app.model.drill is not None
            assert app.model.drill.cluster == "clinic"
            await pilot.press("4")
            await until(pilot, lambda: "drill" in page(app) and "restored, rows not" in page(app))
