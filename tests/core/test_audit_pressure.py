"""When the servers bear more than was allowed, and when the audit goes on."""

from replcheck.audit.pressure import BRAKE_BYTES, BRAKE_PATIENCE_S, CALM_LOOKS, PauseLimits, Pressure, PressureWatch

MB = 1024**2


def watch(*, brakes=False, **limits):
    return PressureWatch(PauseLimits(**limits), brakes=brakes)


def test_without_limits_nothing_holds():
    busy = Pressure(at=0, lag_bytes={"db2": 10**12}, active_clients={"db1": 900}, xmin_age=10**9)
    assert watch().take(busy) == ()


def test_a_limit_is_exceeded_beyond_it_not_at_it():
    each = watch(lag_bytes=64 * MB)
    assert each.take(Pressure(at=0, lag_bytes={"db2": 64 * MB})) == ()
    assert each.take(Pressure(at=1, lag_bytes={"db2": 64 * MB + 1, "db3": 0})) == (
        "db2 is 64MB of WAL behind (limit 64MB)",
    )


def test_every_limit_tells_what_exceeds_it():
    each = watch(active_clients=40, xmin_age=1000)
    look = Pressure(at=0, active_clients={"db1": 41, "db2": 40}, xmin_age=1001)
    assert each.take(look) == (
        "41 clients are active on db1 (limit 40)",
        "a snapshot of the primary is 1,001 transactions old (limit 1,000)",
    )


def test_what_could_not_be_read_exceeds_nothing():
    assert watch(lag_bytes=1, active_clients=1, xmin_age=1, checkpoints_per_min=1).take(Pressure(at=0)) == ()


def test_the_audit_goes_on_after_several_calm_looks():
    each = watch(lag_bytes=1)
    assert each.take(Pressure(at=0, lag_bytes={"db2": 2}))
    for number in range(1, CALM_LOOKS):
        assert each.take(Pressure(at=number, lag_bytes={"db2": 0}))
    assert each.take(Pressure(at=CALM_LOOKS, lag_bytes={"db2": 0})) == ()


def test_one_busy_look_among_calm_ones_begins_the_count_anew():
    each = watch(lag_bytes=1)
    for at, lag in enumerate([2, 0, 2, 0]):
        assert each.take(Pressure(at=at, lag_bytes={"db2": lag}))
    assert each.take(Pressure(at=4, lag_bytes={"db2": 0})) == ()


def test_checkpoints_count_within_a_minute_and_from_the_first_look_on():
    each = watch(checkpoints_per_min=2)
    assert each.take(Pressure(at=0, checkpoints_requested=500)) == ()
    assert each.take(Pressure(at=30, checkpoints_requested=502)) == ()
    assert each.take(Pressure(at=59, checkpoints_requested=503)) != ()
    assert each.take(Pressure(at=100, checkpoints_requested=503)) != ()
    assert each.take(Pressure(at=101, checkpoints_requested=503)) == ()


def test_statistics_that_were_reset_are_counted_anew():
    each = watch(checkpoints_per_min=2)
    each.take(Pressure(at=0, checkpoints_requested=500))
    assert each.take(Pressure(at=1, checkpoints_requested=1)) == ()
    assert each.take(Pressure(at=2, checkpoints_requested=4)) != ()


def test_the_brake_holds_while_a_replica_falls_behind_more_than_it_was():
    each = watch(brakes=True)
    assert each.take(Pressure(at=0, lag_bytes={"db2": 500 * MB})) == ()
    assert each.take(Pressure(at=1, lag_bytes={"db2": 500 * MB + BRAKE_BYTES})) == ()
    assert each.take(Pressure(at=2, lag_bytes={"db2": 501 * MB + BRAKE_BYTES})) != ()


def test_the_brake_does_not_hold_for_ever_and_takes_hold_again_later():
    each = watch(brakes=True)
    behind, level = {"db2": 2 * BRAKE_BYTES}, {"db2": 0}
    each.take(Pressure(at=0, lag_bytes=level))
    assert each.take(Pressure(at=1, lag_bytes=behind))
    assert each.take(Pressure(at=BRAKE_PATIENCE_S, lag_bytes=behind))
    looks = [each.take(Pressure(at=BRAKE_PATIENCE_S + 2 + later, lag_bytes=behind)) for later in range(CALM_LOOKS)]
    assert looks[-1] == ()
    each.take(Pressure(at=200, lag_bytes=level))
    assert each.take(Pressure(at=201, lag_bytes=behind))


def test_without_the_brake_a_replica_may_fall_behind():
    each = watch(brakes=False)
    each.take(Pressure(at=0, lag_bytes={"db2": 0}))
    assert each.take(Pressure(at=1, lag_bytes={"db2": 10 * BRAKE_BYTES})) == ()
