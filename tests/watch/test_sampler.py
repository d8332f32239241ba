"""The sampler on real servers that restart, hang, refuse and vanish: it never ends, and no node delays another."""

import asyncio
import time
from dataclasses import replace

import pytest

from replcheck.lab.cluster import LabCluster
from replcheck.lab.failover import switch_over
from replcheck.lab.relay import Relay
from replcheck.model.live import EventKind, NodeAnswer, NodeSilence, NodeState, SilenceCode
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.local import sql
from replcheck.watch.sampler import Sampler
from tests.conftest import MakeCluster
from tests.proxies import proxied
from tests.watch.live import INTERVAL_S, LiveWatch, targets_of, watching


@pytest.fixture
def lab(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    return make_cluster(major=newest_major, standbys=1)


def answers(watch: LiveWatch, name: str) -> bool:
    return isinstance(watch.results(name)[-1], NodeAnswer)


def code(watch: LiveWatch, name: str) -> SilenceCode | None:
    last = watch.results(name)[-1]
    return last.code if isinstance(last, NodeSilence) else None


def backends(cluster: LabCluster, node: str) -> list[tuple[int]]:
    return cluster.node(node).execute("select pid from pg_stat_activity where application_name = 'replcheck watch'")


async def test_every_node_is_asked_at_the_interval_over_one_connection(lab: LabCluster) -> None:
    async with watching(targets_of(lab), interval_s=0.2) as watch:
        await watch.settled(10)
        assert len(backends(lab, "primary")) == len(backends(lab, "standby1")) == 1
        times = [sample.at for sample in watch.samples if len(sample.answers) == 2]
    assert len(times) >= 8
    assert (times[-1] - times[0]).total_seconds() >= 0.2 * (len(times) - 2)
    assert await gone(lab, "primary")


async def gone(cluster: LabCluster, node: str) -> bool:
    for _ in range(200):
        if not backends(cluster, node):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_restarted_server_is_silent_for_a_while_and_answers_again(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        began = watch.node("standby1").started_at
        await asyncio.to_thread(lab.node("standby1").restart)
        await watch.until(lambda: watch.node("standby1").started_at not in {began, None})
        await watch.until(lambda: watch.node("standby1").state is NodeState.STREAMING)


async def test_a_session_survives_the_promotion_of_its_server(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        before = backends(lab, "standby1")
        await asyncio.to_thread(lab.node("standby1").promote)
        await watch.told(EventKind.PROMOTED, "standby1")
        assert backends(lab, "standby1") == before
        last = watch.results("standby1")[-1]
        assert isinstance(last, NodeAnswer)
        assert (last.role, last.timeline, last.promoted_lsn is not None) == (NodeRole.PRIMARY, 2, True)


async def test_an_ended_session_is_made_again_within_the_same_look(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        for _ in range(3):
            lab.primary.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'replcheck watch'"
            )
            await watch.settled(2)
        assert {type(result) for result in watch.results("primary")} == {NodeAnswer}


async def test_a_changed_password_puts_a_node_out_of_sight_until_the_new_one_is_there(lab: LabCluster) -> None:
    passfile = lab.directory / "audit.pgpass"
    kept = passfile.read_text()
    async with watching(targets_of(lab)) as watch:
        lab.primary.execute("alter role replcheck_audit password 'another'")
        await watch.settled()
        assert answers(watch, "primary")
        lab.primary.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'replcheck watch'"
        )
        await watch.told(EventKind.OUT_OF_SIGHT, "primary")
        assert code(watch, "primary") is SilenceCode.REFUSED
        assert EventKind.PRIMARY_LOST not in watch.kinds()
        passfile.write_text(kept.rpartition(":")[0] + ":another\n")
        await watch.told(EventKind.NODE_BACK, "primary")
        told = repr(watch.samples)
        assert "another" not in told
        assert kept.rpartition(":")[2].strip() not in told


async def test_a_role_without_a_free_connection_is_refused_and_not_lost(lab: LabCluster) -> None:
    lab.primary.execute("alter role replcheck_audit connection limit 0")
    lab.catch_up()
    async with watching(targets_of(lab)) as watch:
        assert code(watch, "primary") is SilenceCode.REFUSED
        lab.primary.execute("alter role replcheck_audit connection limit -1")
        await watch.until(lambda: answers(watch, "primary"))
        assert EventKind.PRIMARY_LOST not in watch.kinds()


async def test_a_name_that_nobody_knows_delays_no_other_node(lab: LabCluster) -> None:
    lost = NodeTarget(name="nowhere", dsn="host=replcheck.invalid dbname=postgres user=nobody")
    async with watching([lost, *targets_of(lab)]) as watch:
        begun = len(watch.results("primary"))
        await watch.settled(8)
        assert code(watch, "nowhere") in {SilenceCode.UNREACHABLE, SilenceCode.TIMEOUT}
        assert watch.node("nowhere").state is NodeState.UNSEEN
        assert len(watch.results("primary")) - begun >= 4


async def test_a_server_that_hangs_is_silent_in_time_and_delays_no_other_node(lab: LabCluster) -> None:
    async with watching(targets_of(lab), patience_s=1.0) as watch:
        standby = lab.node("standby1")
        standby.freeze()
        began, asked = time.monotonic(), len(watch.results("primary"))
        try:
            lost = await watch.told(EventKind.STANDBY_LOST, "standby1")
        finally:
            standby.thaw()
        assert lost.clock - began < 1.0 + 2 * INTERVAL_S + 1.0
        assert code(watch, "standby1") is SilenceCode.TIMEOUT
        assert len(watch.results("primary")) - asked >= 3
        await watch.told(EventKind.NODE_BACK, "standby1")


async def test_a_network_that_swallows_everything_is_a_silence_and_its_end_is_seen(lab: LabCluster) -> None:
    with Relay(lab.primary) as relay:
        targets = targets_of(lab)
        targets[0] = replace(targets[0], dsn=relay.words(targets[0].dsn))
        async with watching(targets, patience_s=0.6) as watch:
            assert answers(watch, "primary")
            relay.cut()
            await watch.told(EventKind.PRIMARY_LOST, "primary")
            assert code(watch, "primary") is SilenceCode.TIMEOUT
            relay.mend()
            await watch.told(EventKind.NODE_BACK, "primary")


async def test_a_server_that_starts_says_so(lab: LabCluster) -> None:
    standby = lab.node("standby1")
    async with watching(targets_of(lab)) as watch:
        await asyncio.to_thread(standby.stop)
        await watch.told(EventKind.STANDBY_LOST, "standby1")
        standby.configure(hot_standby="off")
        await asyncio.to_thread(lambda: standby.start(until_ready=False))
        await watch.until(lambda: watch.node("standby1").state is NodeState.STARTING)
        standby.configure(hot_standby="on")
        await asyncio.to_thread(standby.restart)
        await watch.told(EventKind.NODE_BACK, "standby1")


async def test_a_pooler_is_no_node(lab: LabCluster) -> None:
    with proxied(lab.primary, pooler=True) as pooler:
        targets = targets_of(lab)
        targets[0] = replace(targets[0], dsn=pooler.dsn(targets[0].dsn))
        async with watching(targets) as watch:
            assert code(watch, "primary") is SilenceCode.UNFIT
            assert watch.node("primary").state is NodeState.UNSEEN or watch.node("primary").state is NodeState.UNSURE
            assert "pooler" in watch.node("primary").reason


async def test_a_node_whose_name_leads_to_another_server_after_a_switch_over_shows_what_it_is(lab: LabCluster) -> None:
    servers = [lab.primary]
    with proxied(lambda _: servers[0]) as floating:
        targets = [NodeTarget(name="writer", dsn=floating.dsn(lab.audit_dsn("primary")))]
        async with watching(targets) as watch:
            servers[0] = lab.node("standby1")
            await asyncio.to_thread(switch_over, lab)
            event = (await watch.told(EventKind.PROMOTED, "writer")).event
            assert event.timeline == 2
            await watch.told(EventKind.SWITCHED_OVER)


async def test_one_look_at_all_nodes_ends_with_closed_connections(lab: LabCluster) -> None:
    await asyncio.to_thread(lab.node("standby1").kill)
    sample = await Sampler(targets_of(lab)).once()
    assert [answer.node for answer in sample.answers] == ["primary"]
    assert [silence.node for silence in sample.silences] == ["standby1"]
    assert await gone(lab, "primary")


async def test_one_look_waits_for_a_node_that_takes_long_to_let_it_in(lab: LabCluster) -> None:
    standby = lab.node("standby1")
    standby.freeze()
    asyncio.get_running_loop().call_later(2, standby.thaw)
    sample = await Sampler(targets_of(lab)).once()
    assert {answer.node for answer in sample.answers} == {"primary", "standby1"}


async def test_what_the_taker_raises_ends_the_sampler_and_its_connections(lab: LabCluster) -> None:
    def refuse(_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await Sampler(targets_of(lab), 0.1).run(refuse, asyncio.Event())
    assert await gone(lab, "primary")


async def test_a_sampler_stops_at_once_also_while_it_waits_for_a_server_that_hangs(lab: LabCluster) -> None:
    lab.node("standby1").freeze()
    try:
        async with watching(targets_of(lab)[:1]) as watch:
            await watch.settled(1)
        stop = asyncio.Event()
        running = asyncio.create_task(Sampler(targets_of(lab), 0.1).run(lambda _: None, stop))
        await asyncio.sleep(0.5)
        stop.set()
        began = time.monotonic()
        await running
        assert time.monotonic() - began < 2
    finally:
        lab.node("standby1").thaw()


async def test_a_privilege_that_is_taken_away_makes_a_standby_unsure(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        lab.primary.execute(sql.SQL("revoke pg_monitor from replcheck_audit"))
        await watch.until(lambda: watch.node("standby1").state is NodeState.UNSURE)
        await watch.settled()
        assert watch.kinds("standby1") == []
        lab.primary.execute(sql.SQL("grant pg_monitor to replcheck_audit"))
        await watch.until(lambda: watch.node("standby1").state is NodeState.STREAMING)
