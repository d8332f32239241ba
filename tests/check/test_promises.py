"""The sample policy against real servers: green, and each promise that is broken turns its control alone red.

One cluster lives through it all, so each test leaves every control as it found it: met. Limits are the sample's; where
that would take too long to exceed, a limit is made as tight as the healthy cluster was just shown to keep.
"""

import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from replcheck.errors import ReplcheckError
from replcheck.lab.failover import fail_over
from replcheck.lab.faults import apply_fault, heal
from replcheck.model.control import ControlName
from replcheck.model.live import EventKind
from tests.check.clinic import Clinic, clinic
from tests.commands import wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
GREEN = dict.fromkeys([name.value for name in ControlName], "met")


@pytest.fixture(scope="module")
def place(clusters_root: Path, newest_major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A clinic that has lived through the loss of its primary, and has shown all that its policy promises."""
    home = tmp_path_factory.mktemp("promises")
    with clinic(clusters_root, home, name=f"promises_{os.getpid()}", major=newest_major) as made:
        lose_primary(made)
        made.audit()
        made.drill()
        made.wait_until(GREEN)
        yield made


@pytest.fixture(autouse=True)
def green_again(place: Clinic) -> Iterator[None]:
    yield
    place.wait_until(GREEN)


def lose_primary(place: Clinic, *, after_s: float = 0.0) -> None:
    """Kill the primary, promote a standby after a while, and copy the old primary anew."""
    switched, recreated = place.seen(EventKind.SWITCHED_OVER), place.seen(EventKind.COPY_RECREATED)
    # A file of WAL that no standby has yet goes with the primary, and its successor may fill that file anew: then none
    # of its copy's files is newer than where the primary was seen, and the copy is not known to be one.
    place.cluster.catch_up()
    place.cluster.primary.kill()
    time.sleep(after_s)
    fail_over(place.cluster)
    wait_for(lambda: place.seen(EventKind.SWITCHED_OVER) > switched)
    heal(place.cluster)
    wait_for(lambda: place.seen(EventKind.COPY_RECREATED) > recreated)


@contextmanager
def limits(place: Clinic, changes: dict[str, str]) -> Iterator[None]:
    place.write(changes)
    try:
        yield
    finally:
        place.write()


def red(place: Clinic, name: str, others: Mapping[str, str] | None = None, *, restarted: bool = False) -> None:
    """Wait until one control is breached, and all others are met but those that are named.

    Where a standby was `restarted`, with all its WAL from before removed, a recorder may take it for one made anew,
    which is owed a proof: then replacement may be at risk.
    """
    expected = GREEN | {name: "breached"} | dict(others or {})
    if restarted:
        del expected["replacement"]
    document = place.wait_until(expected)
    assert (document["verdict"], document["exit_code"]) == ("breached", 2)
    standing = next(one["standing"] for one in document["controls"] if one["name"] == "replacement")
    assert standing != "breached" or name == "replacement"


def measured_s(place: Clinic, name: str, *measures: str) -> int:
    """Return the greatest of some measures of a control, in whole seconds, rounded up."""
    controls: list[dict[str, Any]] = place.check("--control", name)["controls"]
    [control] = [control for control in controls if control["name"] == name]
    greatest: float = max(measure["value"] for measure in control["measures"] if measure["name"] in measures)
    return math.ceil(greatest)


def test_the_policy_of_the_sample_is_green(place):
    ended = place.run("check")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    document = place.check()
    claims = {control["name"]: control["claim"] for control in document["controls"]}
    assert claims["copies"] == "Three copies, at least two of them transactionally consistent at any given moment"
    assert claims["recovery-point"] == "Snapshots down to the last five minutes"
    assert claims["failover"] == "Failure is detected and switched over automatically"
    assert document["summary"] == "all that is asked of clinic is met: 9 controls."


def test_a_lost_copy_breaks_the_promise_of_three(place):
    name = place.cluster.standbys[-1].name
    place.cluster.node(name).stop()
    red(place, "copies", {"replacement": "at risk"})  # it is not recreated yet, and its time has not run out
    place.cluster.node(name).start()
    place.cluster.wait_streaming()
    place.audit()


def test_a_diverged_copy_breaks_the_promise_of_consistency(place):
    apply_fault(place.cluster, "lose-row", node=place.cluster.standbys[-1].name, relation="public.visit")
    place.audit(status=2)
    red(place, "consistency", restarted=True)
    heal(place.cluster)
    place.cluster.catch_up()
    place.audit()


def test_no_consistent_copy_breaks_the_promise_of_two_of_them_at_any_moment(place):
    with limits(place, {"share   = 99.9": "# no share"}):  # now, and not only for too long
        for standby in place.cluster.standbys:
            apply_fault(place.cluster, "lose-row", node=standby.name, relation="public.visit")
        place.audit(status=2)
        red(place, "copies", {"consistency": "breached"}, restarted=True)  # the one needs the other
    heal(place.cluster)
    place.cluster.catch_up()
    place.audit()


def test_a_broken_archive_breaks_the_promise_of_five_minutes(place):
    limit_s = max(10, 2 + measured_s(place, "recovery-point", "age", "worst_age", "drilled_age"))
    tight = {
        'max_age = "5min"': f'max_age = "{limit_s}s"',
        'warn    = "4min"': f'warn    = "{limit_s - 1}s"',
        'window  = "60s"': 'window  = "20s"',
    }
    with limits(place, tight):
        place.commit()
        place.wait_until(GREEN)
        apply_fault(place.cluster, "break-archive")
        place.commit()
        red(place, "recovery-point")
        heal(place.cluster)


def test_a_backup_that_does_not_restore_breaks_the_promise_of_restores(place):
    with place.broken_wal():
        place.drill(status=2)
    red(place, "restore", {"recovery-point": "at risk"})  # the last drill did not come to the archive's end
    place.drill()


def test_a_slow_failover_breaks_the_promise_of_switching_over(place):
    limit_s = 2 + measured_s(place, "failover", "time")
    with limits(place, {'max_time        = "60s"': f'max_time        = "{limit_s}s"'}):
        place.wait_until(GREEN)
        lose_primary(place, after_s=limit_s)
        place.audit()
        red(place, "failover")


def test_a_copy_that_is_recreated_late_breaks_the_promise_of_replacement(place):
    limit_s = 1 + measured_s(place, "replacement", "time")
    with limits(place, {'max_time = "30min"': f'max_time = "{limit_s}s"'}):
        place.wait_until(GREEN)
        name = place.cluster.standbys[-1].name
        recreated = place.seen(EventKind.COPY_RECREATED)
        place.cluster.node(name).kill()
        time.sleep(limit_s)
        place.cluster.copy_anew(name)
        wait_for(lambda: place.seen(EventKind.COPY_RECREATED) > recreated)
        place.audit()
        red(place, "replacement")


def test_two_copies_in_one_rack_break_the_promise_of_racks(place):
    first, second, *_ = place.cluster.nodes
    place.racks[second] = place.rack(first)
    place.write()
    red(place, "placement")
    place.racks.clear()
    place.write()


def test_a_page_whose_checksum_fails_breaks_the_promise_of_integrity(place):
    standby = place.cluster.standbys[-1]
    apply_fault(place.cluster, "flip-page-bytes", node=standby.name, relation="public.visit")
    with suppress(ReplcheckError):
        standby.execute("select count(note) from visit")
    red(place, "integrity", restarted=True)
    heal(place.cluster)
    place.cluster.catch_up()
    place.audit()


def test_a_record_that_was_changed_breaks_the_promise_of_evidence(place):
    change = "update evidence_records set envelope = replace(envelope, ?, ?) where sequence = ?"
    with closing(sqlite3.connect(place.store, timeout=30)) as database, database:
        [(sequence, envelope)] = database.execute(
            "select sequence, envelope from evidence_records order by sequence desc limit 1"
        )
        database.execute(change, (envelope, envelope.replace("A", "B", 1), sequence))
    try:
        # Without a record of its own: it would be appended to what is put right again.
        place.wait_until(GREEN | {"evidence": "breached"}, "--no-store")
        assert place.run("evidence", "verify").status == 2
    finally:
        with closing(sqlite3.connect(place.store, timeout=30)) as database, database:
            database.execute(change, (envelope.replace("A", "B", 1), envelope, sequence))
