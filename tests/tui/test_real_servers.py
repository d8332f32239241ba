"""The screens over a watch of real servers: what happens to them is seen, and what is asked for is done."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

from replcheck.cli.live_board import Board
from replcheck.cli.live_claims import ClaimsFeed
from replcheck.cli.live_commands import LiveCommands
from replcheck.cli.live_feed import WatchFeed
from replcheck.config import load
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import NodeState
from replcheck.postgres.programs import run_program
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveFlags, live_request
from replcheck.runs.own_cluster import scratch_root
from replcheck.store import KEEP_FOR_EVER
from replcheck.tui.app import WatchApp
from replcheck.tui.options import Options
from tests.staged import newest_only
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
