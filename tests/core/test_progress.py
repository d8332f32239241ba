"""Progress is a fold over events: cheap to feed, honest at both ends."""

import io
import time

from rich.console import Console

from replcheck.events import (
    ChunkCompared,
    DatabasePlanned,
    NodeCameBack,
    NodeWentAway,
    RelationStarted,
    RunFinished,
    Waited,
)
from replcheck.model.outcome import Outcome, Verdict
from replcheck.report.progress import AuditProgress, draw
from tests.factories import BEGUN

PLANNED = DatabasePlanned(at=BEGUN, database="clinic", relations=2, size_bytes=100 << 20)


def chunk(verdict: Verdict = Verdict.CONSISTENT, size_bytes: int = 10 << 20) -> ChunkCompared:
    return ChunkCompared(
        at=BEGUN,
        lane=1,
        database="clinic",
        relation="public.visit",
        first_block=0,
        last_block=99,
        rows=1000,
        size_bytes=size_bytes,
        elapsed_s=0.5,
        verdict=verdict,
    )


def folded(*events) -> AuditProgress:
    progress = AuditProgress()
    for event in events:
        progress(event)
    return progress


def drawn(progress: AuditProgress, elapsed_s: float = 10, width: int = 80) -> str:
    page = io.StringIO()
    Console(file=page, width=width).print(draw(progress, elapsed_s))
    return page.getvalue()


def test_the_share_is_of_bytes_compared():
    assert folded(PLANNED, chunk(), chunk()).share == 0.2


def test_a_chunk_to_be_read_again_does_not_count():
    progress = folded(PLANNED, chunk(Verdict.INCONCLUSIVE), chunk())
    assert progress.share == 0.1
    assert progress.chunks_deferred == 1


def test_nothing_is_done_before_the_end_and_everything_after_it():
    progress = folded(PLANNED, *[chunk() for _ in range(12)])
    assert progress.share == 0.99
    progress(RunFinished(at=BEGUN, run_id="r", outcome=Outcome.PROVEN, summary=""))
    assert progress.share == 1.0


def test_time_left_follows_from_the_pace_so_far():
    progress = folded(PLANNED, chunk(), chunk())
    assert progress.seconds_left(10) == 40
    assert folded(PLANNED).seconds_left(10) is None


def test_the_bar_tells_rows_bytes_time_and_relation():
    text = drawn(folded(PLANNED, RelationStarted(at=BEGUN, database="d", relation="public.v", size_bytes=1), chunk()))
    for part in ("10%", "100 rows/s", "10MB of 100MB", "1min 30s left", "d.public.v"):
        assert part in text


def test_a_wait_is_shown_with_its_reason():
    assert "replica is behind" in drawn(
        folded(PLANNED, Waited(at=BEGUN, node="db2", reason="replica is behind", elapsed_s=2))
    )


def test_a_node_that_is_away_is_shown_until_it_is_back():
    progress = folded(PLANNED, NodeWentAway(at=BEGUN, node="db2", reason="connection lost"))
    assert "db2 is away: connection lost" in drawn(progress)
    progress(NodeCameBack(at=BEGUN, node="db2", elapsed_s=1))
    assert "away" not in drawn(progress)


def test_two_lines_fit_the_terminal():
    progress = folded(PLANNED, RelationStarted(at=BEGUN, database="d", relation="x" * 200, size_bytes=1), chunk())
    lines = drawn(progress, width=80).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80


def test_fifty_events_a_second_cost_next_to_nothing():
    progress, begun = AuditProgress(), time.perf_counter()
    for _ in range(5000):
        progress(chunk())
    assert (time.perf_counter() - begun) / 100 < 0.005
