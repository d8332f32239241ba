"""A server that promotes at its target although it was told to pause: what it really did is asked, never assumed."""

from pathlib import Path

from tests.drill.physicals import Place, base_source, rows_in, trial
from tests.staged import newest_only, session_on

_SUBTRANSACTIONS = """
    do $$ begin
        for n in 1..70 loop
            begin insert into overflowing values (n); exception when division_by_zero then null; end;
        end loop;
    end $$
"""
"""More subtransactions than a standby can be told of (PGPROC_MAX_CACHED_SUBXIDS): while their transaction is open, no
snapshot of it is complete, and the server that recovers is not ready for connections."""


@newest_only
def test_a_server_that_cannot_pause_promotes_and_its_target_counts_as_reached(place: Place, scratch_root: Path):
    place.write("silent", rows=10)
    place.primary.execute("create table overflowing (n int)")
    with session_on(place.primary, "postgres") as open_one:
        open_one.execute(_SUBTRANSACTIONS)
        backup = place.base("overflowed")
        place.write("silent", rows=5)
        place.restore_point("silent_point")
        place.write("silent", rows=7)
        place.archive()
        with trial(base_source(backup, place.wal), scratch_root) as made:
            restored = made.run("silent_point")
            assert restored.recovery is not None
            assert (restored.recovery.in_recovery, restored.recovery.paused) == (False, False), "it paused after all"
            assert restored.recovery.reached
            assert rows_in(restored, "silent") == 15
            assert rows_in(restored, "overflowing") == 0
        open_one.rollback()
