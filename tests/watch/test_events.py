"""What happens to real servers is seen within two samples, with right times: the sampler and the fold together."""

import asyncio
import time
from dataclasses import replace

import pytest

from replcheck.lab.backups import ARCHIVING, archive_all, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.lab.failover import fail_over, switch_over
from replcheck.lab.faults import apply_fault, heal
from replcheck.lab.ledger import Ledger, LedgerLoad
from replcheck.lab.relay import Relay
from replcheck.model.live import EventKind, NodeState
from replcheck.watch.limits import WatchLimits
from tests.conftest import MakeCluster
from tests.watch.live import INTERVAL_S, LiveWatch, Seen, targets_of, watching

SLACK_S = 1.0
"""What a busy machine may add to any time."""


@pytest.fixture
def lab(make_cluster: MakeCluster, newest_major: int) -> LabCluster:
    return make_cluster(major=newest_major)


async def within_two_samples(watch: LiveWatch, kind: EventKind, node: str | None, *, since: int) -> Seen:
    """Return an event that must come by the second sample after `since`, partial ones aside."""
    seen = await watch.told(kind, node)
    whole = [sample for sample in watch.samples[since : seen.sample] if len(sample.answers) + len(sample.silences) > 1]
    assert len(whole) <= 2, f"{kind} took {len(whole)} samples"
    return seen


async def test_a_killed_standby_is_seen_within_two_samples_and_so_is_its_return(lab: LabCluster) -> None:
    async with watching(targets_of(lab), limits=WatchLimits(copies=3)) as watch:
        await asyncio.to_thread(lab.node("standby1").kill)
        killed = len(watch.samples)
        lost = await within_two_samples(watch, EventKind.STANDBY_LOST, "standby1", since=killed)
        assert watch.view.running_copies == 2
        await asyncio.to_thread(lab.node("standby1").start)
        started = len(watch.samples)
        back = await within_two_samples(watch, EventKind.NODE_BACK, "standby1", since=started)
        seconds = back.event.seconds
        assert seconds is not None
        assert abs(seconds - (back.clock - lost.clock)) < SLACK_S
        await watch.told(EventKind.COPIES_BACK)
        assert watch.kinds("standby1")[:2] == [EventKind.STANDBY_LOST, EventKind.NODE_BACK]
        assert EventKind.COPY_RECREATED not in watch.kinds()


async def test_a_killed_primary_is_detected_within_two_seconds_at_the_default_interval(lab: LabCluster) -> None:
    async with watching(targets_of(lab), interval_s=1.0) as watch:
        await watch.settled(2)
        began = time.monotonic()
        await asyncio.to_thread(lab.primary.kill)
        lost = await watch.told(EventKind.PRIMARY_LOST, "primary")
    assert lost.clock - began <= 2.0


async def test_a_failover_is_told_from_the_loss_to_the_new_copy(lab: LabCluster) -> None:
    async with watching(targets_of(lab), limits=WatchLimits(copies=3)) as watch:
        began = time.monotonic()
        done = await asyncio.to_thread(fail_over, lab)
        finished, promoted = time.monotonic(), len(watch.samples)
        told = await within_two_samples(watch, EventKind.PROMOTED, done.new, since=promoted)
        assert (told.event.timeline, told.event.lsn is not None) == (2, True)
        over = (await watch.told(EventKind.SWITCHED_OVER, done.new)).event
        assert over.detail == "primary"
        assert over.seconds is not None
        # Between the last sample before the kill and the first after the promotion.
        assert done.seconds <= over.seconds <= finished - began + 2 * INTERVAL_S + SLACK_S
        other = next(name for name in ("standby1", "standby2") if name != done.new)
        await watch.until(lambda: watch.node(other).timeline == 2)
        assert watch.node(other).upstream == done.new
        await asyncio.to_thread(heal, lab)
        await watch.told(EventKind.REJOINED, "primary")
        recreated = (await watch.told(EventKind.COPY_RECREATED, "primary")).event
        assert recreated.seconds is not None
        assert recreated.seconds >= over.seconds
        await watch.told(EventKind.COPIES_BACK)
        assert watch.view.primary == done.new
        assert watch.view.running_copies == 3
        assert EventKind.SPLIT_BRAIN not in watch.kinds()
        assert watch.kinds("primary")[0] is EventKind.PRIMARY_LOST
        assert [watch.kinds().count(kind) for kind in (EventKind.PROMOTED, EventKind.SWITCHED_OVER)] == [1, 1]


async def test_an_orderly_switch_over_loses_no_acknowledged_commit_and_is_timed(lab: LabCluster, tmp_path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with watching(targets_of(lab)) as watch:
        with LedgerLoad(lab, ledger) as load:
            await asyncio.to_thread(load.wait_for, 30)
            done = await asyncio.to_thread(switch_over, lab)
            await asyncio.to_thread(load.wait_for, 30)
        over = (await watch.told(EventKind.SWITCHED_OVER, done.new)).event
        assert over.seconds is not None
        assert over.seconds >= done.seconds - 0.1
        await watch.told(EventKind.REJOINED, "primary")
        assert not {EventKind.STRAYED, EventKind.WAL_LEFT_BEHIND} & set(watch.kinds())
    assert ledger.audit(lab.primary).lost == ()


async def test_a_paused_replay_is_seen_within_two_samples_and_told_apart_from_a_delay(lab: LabCluster) -> None:
    async with watching(targets_of(lab), limits=WatchLimits(lag_s=1)) as watch:
        await asyncio.to_thread(apply_fault, lab, "delay-apply", node="standby2")
        await asyncio.to_thread(apply_fault, lab, "pause-replay", node="standby1")
        paused = len(watch.samples)
        await within_two_samples(watch, EventKind.REPLAY_PAUSED, "standby1", since=paused)
        lab.primary.execute("create table later ()")
        assert "its replay is paused" in (await watch.told(EventKind.LAG_OVER, "standby1")).event.what
        assert (watch.node("standby2").apply_delay_s, watch.kinds("standby2")) == (3600.0, [])
        assert (watch.node("standby2").lag_s or 0) > 0
        await asyncio.to_thread(heal, lab)
        await watch.told(EventKind.REPLAY_RESUMED, "standby1")
        await watch.told(EventKind.LAG_BACK, "standby1")


async def test_a_standby_that_is_cut_off_from_its_primary_is_seen_within_two_samples(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        await asyncio.to_thread(apply_fault, lab, "cut-connection", node="standby1")
        cut = len(watch.samples)
        await within_two_samples(watch, EventKind.STANDBY_DETACHED, "standby1", since=cut)
        assert watch.node("standby1").state is NodeState.DETACHED
        await asyncio.to_thread(heal, lab)
        assert "streams again" in (await watch.told(EventKind.NODE_BACK, "standby1")).event.what


async def test_a_stream_that_falls_silent_is_seen_by_what_it_does_not_bring(lab: LabCluster) -> None:
    async with watching(targets_of(lab), limits=WatchLimits(stuck_s=1)) as watch:
        await asyncio.to_thread(apply_fault, lab, "freeze-stream", node="standby1")
        await watch.settled(8)
        assert watch.kinds() == []
        lab.primary.execute("create table later ()")
        event = (await watch.told(EventKind.STANDBY_DETACHED, "standby1")).event
        assert "has received nothing" in event.what
        await asyncio.to_thread(heal, lab)
        await watch.told(EventKind.NODE_BACK, "standby1")


@pytest.mark.long
async def test_a_standby_that_is_restarted_while_nothing_is_written_goes_on_streaming(lab: LabCluster) -> None:
    async with watching(targets_of(lab), limits=WatchLimits(stuck_s=1)) as watch:
        lab.primary.execute("create table written ()")
        lab.catch_up()
        await watch.settled(2)
        for _ in range(2):
            await asyncio.to_thread(lab.node("standby1").restart)
            await asyncio.to_thread(lab.wait_streaming)
            await watch.settled(8)
        assert watch.node("standby1").state is NodeState.STREAMING
        assert not [seen for seen in watch.seen if "received nothing" in seen.event.what]
        await asyncio.to_thread(apply_fault, lab, "freeze-stream", node="standby1")
        lab.primary.execute("create table later ()")
        assert "has received nothing" in (await watch.told(EventKind.STANDBY_DETACHED, "standby1")).event.what


async def test_a_watch_that_is_cut_off_from_a_standby_says_that_it_is_sent_to_still(lab: LabCluster) -> None:
    with Relay(lab.node("standby1")) as relay:
        targets = targets_of(lab)
        targets[1] = replace(targets[1], dsn=relay.words(targets[1].dsn))
        async with watching(targets, patience_s=INTERVAL_S) as watch:
            relay.cut()
            cut = len(watch.samples)
            await within_two_samples(watch, EventKind.STANDBY_LOST, "standby1", since=cut)
            assert watch.node("standby1").reason.endswith("while primary still sends to it")
            relay.mend()
            await watch.told(EventKind.NODE_BACK, "standby1")


async def test_a_broken_archive_is_seen_and_so_is_how_far_it_falls_behind(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    lab = make_cluster(major=newest_major, standbys=1, settings=ARCHIVING)
    archive = begin_archive(lab)
    lab.primary.execute("create table before ()")
    archive_all(lab, archive)
    async with watching(targets_of(lab), limits=WatchLimits(recovery_age_s=2)) as watch:
        await watch.until(lambda: watch.view.recovery_point.age_s == 0.0)
        await asyncio.to_thread(apply_fault, lab, "break-archive")
        failed = await until_failed(lab, watch)
        event = (await within_two_samples(watch, EventKind.ARCHIVE_FAILING, "primary", since=failed)).event
        assert event.detail
        lab.primary.execute("create table after ()")
        began = time.monotonic()
        over = await watch.told(EventKind.RECOVERY_POINT_OVER)
        assert over.clock - began <= 2 + 2 * INTERVAL_S + SLACK_S
        point = watch.view.recovery_point
        assert point.age_s is not None
        assert point.age_s > 2
        assert "fails" in point.reason
        await asyncio.to_thread(heal, lab)
        lab.primary.execute("create table healed ()")
        await asyncio.to_thread(archive_all, lab, archive)
        await watch.told(EventKind.ARCHIVE_WORKING, "primary")
        await watch.told(EventKind.RECOVERY_POINT_BACK)
        await watch.until(lambda: watch.view.recovery_point.age_s == 0.0)


async def until_failed(lab: LabCluster, watch: LiveWatch) -> int:
    """Wait until the server itself counts a failure, and return how many samples there were by then."""
    for _ in range(1_500):
        if lab.primary.execute("select failed_count > 0 from pg_stat_archiver") == [(True,)]:
            return len(watch.samples)
        await asyncio.sleep(0.02)
    pytest.fail("no failure was counted")


async def test_an_idle_primary_keeps_its_recovery_point_and_its_standbys_without_lag(
    make_cluster: MakeCluster, newest_major: int
) -> None:
    # Without autovacuum, which commits statistics.
    lab = make_cluster(major=newest_major, standbys=1, settings={**ARCHIVING, "autovacuum": "off"})
    archive = begin_archive(lab)
    lab.primary.execute("create table before ()")
    archive_all(lab, archive)
    async with watching(targets_of(lab), limits=WatchLimits(recovery_age_s=1, lag_s=1)) as watch:
        lab.primary.execute("checkpoint")
        lab.primary.execute("select pg_log_standby_snapshot()")
        await watch.settled(8)
        assert watch.view.recovery_point.age_s == 0.0
        assert watch.node("standby1").lag_s == 0.0
        assert watch.kinds() == []


async def test_a_split_brain_is_seen_within_two_samples_and_its_end_too(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        await asyncio.to_thread(apply_fault, lab, "promote", node="standby1")
        promoted = len(watch.samples)
        told = await within_two_samples(watch, EventKind.SPLIT_BRAIN, None, since=promoted)
        assert told.event.detail == "primary, standby1"
        assert watch.view.split_brain
        assert watch.view.primary is None
        await asyncio.to_thread(lab.node("primary").kill)
        over = (await watch.told(EventKind.SPLIT_BRAIN_OVER)).event
        assert over.seconds is not None
        assert (await watch.told(EventKind.SWITCHED_OVER, "standby1")).event.seconds == 0.0
        assert watch.view.primary == "standby1"


async def test_a_standby_that_is_copied_anew_is_told_as_a_new_copy(lab: LabCluster) -> None:
    async with watching(targets_of(lab)) as watch:
        await asyncio.to_thread(lab.node("standby1").kill)
        await watch.told(EventKind.STANDBY_LOST, "standby1")
        await asyncio.to_thread(lab.copy_anew, "standby1")
        event = (await watch.told(EventKind.COPY_RECREATED, "standby1")).event
        back = (await watch.told(EventKind.NODE_BACK, "standby1")).event
        assert event.seconds is not None
        assert back.seconds is not None
        assert event.seconds >= back.seconds - SLACK_S


async def test_a_standby_that_nobody_configured_is_found(lab: LabCluster) -> None:
    async with watching(targets_of(lab)[:2]) as watch:
        event = (await watch.told(EventKind.NODE_FOUND)).event
        assert event.node == "standby2"
        await watch.until(lambda: len(watch.view.nodes) == 3)
        assert watch.node("standby2").state is NodeState.STREAMING
        await asyncio.to_thread(lab.node("standby2").kill)
        await watch.told(EventKind.STANDBY_LOST, "standby2")
        assert watch.node("standby2").state is NodeState.LOST
        await asyncio.to_thread(lab.node("standby2").start)
        await watch.told(EventKind.NODE_BACK, "standby2")


async def test_a_cascade_is_seen_with_each_upstream(lab: LabCluster) -> None:
    await asyncio.to_thread(lab.add_standby, "standby3", "standby2")
    async with watching(targets_of(lab)) as watch:
        await watch.until(lambda: watch.node("standby3").upstream == "standby2")
        assert watch.node("standby2").upstream == "primary"
        assert watch.view.running_copies == 4
        lab.primary.execute("create table later ()")
        await watch.settled(8)
        assert watch.kinds() == []


async def test_a_damaged_page_that_is_read_is_told(lab: LabCluster) -> None:
    from replcheck.lab.schema import create_schema

    create_schema(lab.primary, "postgres", patients=100)
    lab.catch_up()
    async with watching(targets_of(lab)) as watch:
        planted = await asyncio.to_thread(apply_fault, lab, "flip-page-bytes", node="standby1")
        assert planted.relation is not None
        await watch.until(lambda: watch.node("standby1").state is NodeState.STREAMING)
        await asyncio.to_thread(_read_all, lab, planted.relation)
        await watch.told(EventKind.CHECKSUM_FAILURE, "standby1")


def _read_all(lab: LabCluster, relation: str) -> None:
    from replcheck.errors import StatementFailed

    with pytest.raises(StatementFailed):
        lab.node("standby1").execute(f"select count(*), max(t::text) from {relation} t")
