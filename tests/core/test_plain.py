"""What JSON is given: facts only, in the words of the contract."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from replcheck.model.names import printable, qualified
from replcheck.model.node import NodeTarget
from replcheck.model.plain import to_plain, utc_text
from replcheck.model.run import new_run_id
from replcheck.model.wal import Lsn
from tests import factories


def test_times_are_utc_whatever_their_offset():
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert utc_text(moment) == "2026-03-01T06:30:00.000Z"


def test_lsns_are_written_as_postgresql_does_and_not_as_numbers():
    assert to_plain({"lsn": Lsn.parse("16/B374D848")}) == {"lsn": "16/B374D848"}


def test_a_fact_becomes_an_object():
    assert to_plain(factories.finding()) == {
        "code": "setting",
        "node": "db2",
        "what": "work_mem is 4MB here and 64MB on the primary",
        "outcome": "proven",
    }


def test_what_is_no_fact_is_refused_rather_than_written_as_its_repr():
    with pytest.raises(TypeError, match="object is no plain fact"):
        to_plain([object()])


def test_a_target_never_shows_its_connection_string():
    assert "secret" not in repr(NodeTarget(name="db1", dsn="password=secret"))


def test_run_ids_sort_by_time_and_differ():
    begun = datetime(2026, 3, 1, tzinfo=UTC)
    ids = [new_run_id(begun + timedelta(milliseconds=step)) for step in range(20)]
    assert ids == sorted(ids)
    assert new_run_id(begun) != new_run_id(begun)
    assert {run_id[14] for run_id in ids} == {"7"}


def test_names_that_could_steer_a_terminal_are_escaped():
    assert printable("a\x1b[2J\nb\u202ec") == r"a\x1b[2J\nb\u202ec"
    assert printable("état médical") == "état médical"


def test_names_are_quoted_where_sql_needs_it():
    assert qualified("public", "Visit 2") == 'public."Visit 2"'
    assert qualified("1st", "a") == '"1st".a'
