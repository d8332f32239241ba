"""Checks of real servers: green while all is well, and with each fault the control that it breaks, in every format."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from replcheck.lab.faults import apply_fault, heal
from tests.check.clinic import Clinic, clinic
from tests.commands import finished, started, wait_for

DATA = Path(__file__).parents[1] / "data"
ASKED = ("copies", "consistency", "recovery-point", "restore", "placement", "integrity", "evidence")
GREEN = dict.fromkeys(ASKED, "met")


@pytest.fixture(scope="module")
def place(clusters_root: Path, newest_major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A clinic in which all is well, and nothing is asked of failures that never happened."""
    home = tmp_path_factory.mktemp("clinic")
    with clinic(clusters_root, home, name=f"faults_{os.getpid()}", major=newest_major) as made:
        made.drops = ("failover", "replacement")
        made.write()
        made.commit()
        made.check("--run", "audit,drill")
        made.wait_until(GREEN)
        yield made


def plain(text: str) -> str:
    """Return a report without what differs from run to run."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)", "TIME"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?", "RUN"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"\d+(?:\.\d+)?(?:ms|s|min|h|d)(?: \d+(?:ms|s|min|h))?\b", "SPAN"),
        (r"\d+(?:\.\d+)?(?:kB|MB)", "SIZE"),
        (r"\d+(?:\.\d+)?%", "PERCENT"),
        (r"/\S+/sockets:\d+", "SOCKET"),
        (r"\b[0-9A-F]{24}\b", "FILE"),
        (r"\b[0-9A-F]+/[0-9A-F]{5,8}\b", "LSN"),
        (r" \((?:SPAN \w+(?:, )?)+\)", ""),
        (r"\d[\d,]* records", "N records"),
        (r"\d[\d,]* signed", "N signed"),
    ):
        text = re.sub(pattern, word, text)
    return text


def golden(name: str, text: str) -> None:
    path = DATA / f"check-real-{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_where_all_is_well_it_is_silent_and_every_format_says_so(place, tmp_path):
    place.commit()
    place.wait_until(GREEN)
    ended = place.run("check", "--metrics", str(tmp_path / "x.prom"))
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    families = {family.name: family for family in text_string_to_metric_families((tmp_path / "x.prom").read_text())}
    assert [sample.value for sample in families["replcheck_check_status"].samples] == [0]
    running = {sample.labels["node"]: sample.value for sample in families["replcheck_node_running"].samples}
    assert running == {"primary": 1, "standby1": 1, "standby2": 1}
    ended = place.run("check", "--format", "nagios")
    assert ended.status == 0
    assert ended.out.startswith(
        "REPLCHECK OK - all that is asked of clinic is met: 7 controls | copies_running=3;;3:;0"
    )
    golden("met", plain(place.run("check", "--verbose").out))


def test_two_nodes_on_one_host_are_found_out(place):
    both = 'distinct = ["host", "zone"]'
    place.write({both: both})
    try:
        place.wait_until(GREEN | {"placement": "breached"})
        ended = place.run("check")
        assert ended.status == 2
        golden("one-host", plain(ended.out))
    finally:
        place.write()


def test_an_expired_proof_breaches_the_consistency(place):
    place.write({'max_age = "24h"\nwarn    = "18h"': 'max_age = "1ms"\nwarn    = "1ms"'})
    try:
        found = place.standings()
        assert (found["consistency"], found["copies"]) == ("breached", "unchecked")
        assert place.run("check").status == 2
    finally:
        place.write()


def test_a_stopped_standby_breaches_the_copies_alone(place):
    # A watch writes what it saw every ten seconds: how much of the window is short depends on when it is asked.
    place.write({"share   = 99.9": "# no share"})
    place.cluster.node("standby2").stop()
    try:
        place.wait_until(GREEN | {"copies": "breached"})
        ended = place.run("check")
        assert ended.status == 2
        golden("stopped", plain(ended.out))
        assert place.run("check", "--format", "nagios").status == 2
        assert 'failures="1" errors="0"' in place.run("check", "--format", "junit").out
    finally:
        place.write()
        place.cluster.node("standby2").start()
        place.cluster.wait_streaming()
        place.audit()
    place.wait_until(GREEN)


def test_a_standby_that_is_far_behind_is_at_risk(place):
    place.config.write_text(place.config.read_text() + '[watch]\nmax_lag = "1kB"\n')
    apply_fault(place.cluster, "pause-replay", node="standby1")
    try:
        for _ in range(20):
            place.commit()
        place.wait_until({"copies": "at risk"})
        ended = place.run("check", "--control", "copies")
        assert ended.status == 1
        assert re.search(r"standby1 is \S+[kM]B behind \(limit 1kB\)", ended.out)
    finally:
        heal(place.cluster)
        place.write()
    place.cluster.catch_up()
    place.wait_until(GREEN)


@pytest.mark.long
def test_a_broken_archive_breaches_the_recovery_point_alone(place):
    place.write({'max_age = "5min"': 'max_age = "20s"', 'warn    = "4min"': 'warn    = "19s"'})
    apply_fault(place.cluster, "break-archive")
    try:
        place.commit()
        place.wait_until(GREEN | {"recovery-point": "breached"}, within_s=90)
        told = r"the archive reaches to \S+ before now: archiving [0-9A-F]{24} fails \(limit 20s\)"
        # On a slow machine it is too far behind before the first attempt to archive has failed.
        wait_for(lambda: re.search(told, place.run("check").out) is not None)
        assert place.run("check").status == 2
    finally:
        heal(place.cluster)
        place.write()
    place.wait_until(GREEN, within_s=90)


@pytest.mark.long
def test_a_divergence_breaches_the_consistency_alone(place):
    apply_fault(place.cluster, "lose-row", node="standby2", relation="public.visit")
    try:
        place.audit(status=2)
        place.wait_until(GREEN | {"consistency": "breached"})
        golden("diverged", plain(place.run("check").out))
    finally:
        heal(place.cluster)
        place.cluster.catch_up()
        place.audit()
    place.wait_until(GREEN)


@pytest.mark.long
def test_a_failed_drill_breaches_the_restore_and_leaves_the_recovery_point_at_risk(place):
    with place.broken_wal():
        place.drill(status=2)
    place.wait_until(GREEN | {"restore": "breached", "recovery-point": "at risk"})
    golden("failed-drill", plain(place.run("check").out))
    place.drill()
    place.wait_until(GREEN)


def test_two_checks_at_once_are_one_check(place):
    with started("check", home=place.home) as first, started("check", home=place.home) as second:
        ends = [finished(first), finished(second)]
    statuses = sorted(ended.status for ended in ends)
    # Either they met, and one of them was turned away, or the second began when the first had ended.
    assert statuses in ([0, 0], [0, 3]), ends
    if statuses == [0, 3]:
        assert "is already running" in next(ended.err for ended in ends if ended.status == 3)


def test_a_check_that_is_killed_is_recorded_by_the_next_one(place):
    before = len(place.reader().runs_of("clinic", "check", 1000))
    with started("check", home=place.home) as process:
        wait_for(lambda: len(place.reader().runs_of("clinic", "check", 1000)) > before or process.poll() is not None)
        process.kill()
        process.communicate()
    assert place.run("check").status in (0, 1)
    assert place.run("evidence", "verify").status == 0
