"""The claims of the policy for the screen: whether they hold now, and over their window."""

import pytest

from replcheck.config import load
from replcheck.errors import ConfigurationError
from replcheck.model.control import Standing
from replcheck.runs.claims import find_claims
from replcheck.store import AuditParts, open_history
from tests.core.test_live import proven, watch
from tests.core.test_store import record as record_of
from tests.core.test_store import start
from tests.core.watched import healthy, second
from tests.factories import consistent

NODES = """cluster = "clinic"
[nodes]
db1 = { dsn = "host=db1" }
db2 = { dsn = "host=db2" }
db3 = { dsn = "host=db3" }
"""
POLICY = """[policy]
copies = { running = 3, proven = 2, window = "1h", share = 99 }
integrity = {}
"""


@pytest.fixture
def store(tmp_path):
    """A history of a proof and of twenty seconds that were watched."""
    path = tmp_path / "clinic.db"
    history, begun = open_history(path), start(started_at=second(3))
    history.begin(begun)
    proofs = (proven("db2", 3), proven("db3", 3))
    history.finish(record_of(begun, finished_at=second(4)), {}, AuditParts(result=consistent(), proofs=proofs))
    watch(path, *(healthy(at) for at in range(20)))
    with history._engine.begin() as connection:
        # When it was written is told by this machine's clock, and that one is not the story's.
        connection.exec_driver_sql("UPDATE live_views SET written_at = '2026-03-01T12:00:20.000Z'")
    return path


@pytest.fixture
def configured(tmp_path):
    def loaded(text):
        (tmp_path / "c.toml").write_text(text)
        return load(tmp_path / "c.toml")

    return loaded


def test_a_claim_can_hold_now_and_not_over_its_window(store, configured):
    copies, integrity = find_claims(configured(NODES + POLICY), store, None, second(21))
    assert copies.over_time is not None
    assert (copies.now.standing, copies.over_time.standing) == (Standing.MET, Standing.UNCHECKED)
    assert "3 running, 3 proven now" in copies.over_time.measured
    assert "nothing watched for 59min" in copies.over_time.problems[0]
    assert integrity.over_time is None


def test_nothing_is_claimed_where_the_policy_asks_for_nothing(store, configured):
    assert find_claims(configured(NODES), store, None, second(21)) == ()


def test_what_was_seen_a_while_ago_says_nothing_of_now(store, configured):
    copies, _ = find_claims(configured(NODES + POLICY), store, None, second(400))
    assert copies.now.standing is Standing.UNCHECKED


def test_a_waiver_that_ran_out_is_told(store, configured):
    late = '[waivers]\nintegrity = { reason = "r", by = "b", until = 2026-02-01 }\n'
    with pytest.raises(ConfigurationError, match="waiver"):
        find_claims(configured(NODES + POLICY + late), store, None, second(21))
