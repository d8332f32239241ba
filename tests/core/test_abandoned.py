"""A drill on a shared server is taken for dead only where its process can be looked for, and is not there."""

from dataclasses import replace

import pytest

from replcheck.postgres.dump_databases import Machine, is_gone

HERE = Machine(host="drill", machine="4f2a", boot="b1", pids="4026531836")
PROCESS = (7, 100)


def gone(there: Machine, *, started: int | None = None, here: Machine = HERE) -> bool:
    return is_gone(there, PROCESS, here=here, started_at=lambda _: started)


def test_a_process_that_has_ended_here_is_gone():
    assert gone(HERE)
    assert gone(HERE, started=101), "its number went to another process"


def test_a_process_that_runs_here_is_not_gone():
    assert not gone(HERE, started=100)


def test_what_ran_before_the_machine_was_started_again_is_gone():
    assert gone(replace(HERE, boot="b0"), started=100)


@pytest.mark.parametrize(
    "there",
    [
        replace(HERE, host="other"),
        replace(HERE, machine="77aa"),
        replace(HERE, pids="4026532999"),
        replace(HERE, boot=""),
        replace(HERE, machine="77aa", boot="b0"),
    ],
)
def test_a_drill_of_another_machine_or_container_with_the_same_name_is_left_alone(there):
    assert not gone(there)


def test_without_an_id_of_the_machine_another_start_may_be_that_of_another_machine():
    nameless = replace(HERE, machine="")
    assert not gone(replace(nameless, boot="b0"), here=nameless)
    assert gone(nameless, here=nameless)
