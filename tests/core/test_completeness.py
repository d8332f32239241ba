"""What a copy lacks beside rows is a loss only where no transaction that the seal does not see may explain it."""

from dataclasses import replace

import pytest

from replcheck.drill.layers.completeness import _of_database, _of_server, _unsettled
from replcheck.model.drill import Blame
from replcheck.model.seal import DatabaseFacts, SealFacts
from replcheck.postgres.copy_completeness import DatabaseState, ServerState
from tests.core.test_seals import manifest

FACTS = DatabaseFacts(
    name="app",
    encoding="UTF8",
    collate="C",
    ctype="C",
    extensions={"hstore": "1.8"},
    collation_versions={},
    large_objects=0,
    sequences=1,
    relations=2,
    invalid_indexes=(),
    unpopulated_views=(),
)
STATE = DatabaseState(
    relations=1,
    sequences=1,
    unlogged=0,
    large_objects=0,
    dangling_roles=0,
    extensions=(),
    absent_extensions=(),
    unpopulated=(),
    invalid_indexes=("public.i",),
    sequences_behind=(),
    sequences_unread=(),
    stale_collations=(),
)


@pytest.mark.parametrize(("unsettled", "blame"), [((), Blame.BACKUP), ((7,), Blame.ENVIRONMENT)])
def test_an_unsettled_transaction_may_have_dropped_what_a_copy_lacks(unsettled: tuple[int, ...], blame: Blame) -> None:
    made = manifest(facts=SealFacts(roles=("clinic",), tablespaces=(), databases=(FACTS,)))
    [database] = made.databases
    seal = replace(made, databases=(replace(database, name="app", unsettled=unsettled),))
    found = list(_of_database("app", STATE, FACTS, unsettled=_unsettled(seal, "app")))
    found += _of_server(ServerState(roles=(), placeholders=(), invalid_databases=()), seal)
    assert {problem.code for problem in found} == {
        "index_invalid",
        "extension_missing",
        "relation_missing",
        "role_missing",
    }
    assert {problem.blame for problem in found} == {blame}
