"""What relations are made of: a difference counts only where a second alignment shows the very same one again."""

from dataclasses import replace

import pytest

from replcheck.audit.definitions import DefinitionWatch, definition_difference, redefined
from replcheck.audit.proof import RelationProof
from replcheck.postgres.catalog import Relation
from tests.core.proofs import FIRST_OID, proof, relation

PRIMARY = "db1"
REPLICAS = frozenset({"db2", "db3"})


def listing(there: Relation | None, **replicas: Relation | None) -> dict[str, dict[int, Relation]]:
    """Return what each node lists: one relation, or none."""
    nodes = {PRIMARY: there, **replicas}
    return {name: {} if found is None else {found.oid: found} for name, found in nodes.items()}


def look(watch: DefinitionWatch, each: RelationProof, here: Relation | None, *, exact: bool = True) -> str:
    """Compare the second node's definition with the primary's, and return what is held against it."""
    watch.compare(each, listing(each.relation, db2=here), frozenset({"db2"} if exact else ()))
    return each.tallies["db2"].different_definition


THERE = relation()
DIFFERENT = [
    (None, "the relation is missing"),
    (replace(THERE, name="other"), "the relation has another name"),
    (replace(THERE, schema="other"), "the relation has another name"),
    (replace(THERE, token=5), "the columns are defined otherwise"),
    (replace(THERE, filenode=5), "the relation lies in another file"),
]


@pytest.mark.parametrize(("here", "what"), DIFFERENT)
def test_a_difference_is_named_and_held_against_a_replica_at_the_second_look(here, what):
    assert definition_difference(THERE, here) == what
    watch, each = DefinitionWatch(PRIMARY), proof("db2", "db3")
    assert look(watch, each, here) == ""
    assert watch.suspects(REPLICAS) == [FIRST_OID]
    assert look(watch, each, here) == what
    assert each.tallies["db3"].different_definition == ""
    assert watch.suspects(REPLICAS) == []


def test_equal_definitions_do_not_differ():
    assert definition_difference(THERE, relation(size_bytes=99, toast_bytes=9)) == ""


@pytest.mark.parametrize("here", [here for here, _ in DIFFERENT])
def test_a_difference_that_is_gone_at_the_next_look_is_forgotten(here):
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    for _ in range(3):
        assert look(watch, each, here) == ""
        assert look(watch, each, THERE) == ""
    assert watch.suspects(REPLICAS) == []


def test_two_looks_that_show_different_things_hold_nothing_against_a_replica():
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    for here, _ in DIFFERENT * 2:
        if here is None or here.schema == "public":
            assert look(watch, each, here) == ""


@pytest.mark.parametrize("here", [here for here, _ in DIFFERENT])
def test_under_an_inexact_alignment_a_difference_is_only_looked_at_again(here):
    """A transaction in flight may be all that differs."""
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    for _ in range(5):
        assert look(watch, each, here, exact=False) == ""
        assert watch.suspects(REPLICAS) == [FIRST_OID]
    assert look(watch, each, here) == ""
    assert look(watch, each, here, exact=False) == ""
    assert look(watch, each, here) != ""


def test_two_looks_at_two_rewrites_hold_nothing_against_a_replica():
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    for newest in range(FIRST_OID + 8, FIRST_OID + 14):
        before = each.relation
        now = relation(filenode=newest, filenode_now=newest)
        each.replan(now, known_blocks=1, sweep=False, alignment=newest, newest=newest)
        assert look(watch, each, before) == ""


def test_two_looks_at_two_changes_of_the_columns_hold_nothing_against_a_replica():
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    for token in range(1, 6):
        before = each.relation
        each.replan(relation(token=token), known_blocks=1, sweep=False, alignment=token, newest=token)
        assert look(watch, each, before) == ""


def test_the_newest_file_is_not_compared_since_it_is_not_of_the_snapshot():
    assert definition_difference(THERE, replace(THERE, filenode_now=5)) == ""


def test_a_suspected_relation_is_looked_at_again_with_any_replica_that_needs_it():
    watch, each = DefinitionWatch(PRIMARY), proof("db2", "db3")
    watch.suspect(each)
    assert watch.suspects(frozenset({"db3"})) == [FIRST_OID]
    assert watch.suspects(frozenset({"db4"})) == []
    watch.compare(each, listing(THERE, db2=THERE), REPLICAS)
    assert watch.suspects(frozenset({"db2"})) == []
    assert watch.suspects(frozenset({"db3"})) == [FIRST_OID]
    watch.forget(each)
    assert watch.suspects(REPLICAS) == []


def test_suspecting_a_relation_again_does_not_forget_what_was_seen_of_it():
    watch, each = DefinitionWatch(PRIMARY), proof("db2")
    other = replace(THERE, token=5)
    look(watch, each, other)
    watch.suspect(each)
    assert look(watch, each, other) != ""


def test_a_relation_that_only_a_replica_has_counts_at_the_second_look():
    watch, scope = DefinitionWatch(PRIMARY), frozenset({FIRST_OID})
    watch.note_extras(listing(None, db2=THERE, db3=None), scope, REPLICAS)
    assert watch.extras == {}
    assert watch.unsettled_extras == {(FIRST_OID, "db2")}
    watch.note_extras(listing(None, db2=THERE, db3=THERE), scope, REPLICAS)
    assert watch.extras == {"db2": {FIRST_OID: THERE}}
    assert watch.unsettled_extras == {(FIRST_OID, "db3")}


def test_a_relation_that_the_primary_has_at_the_next_look_is_no_extra():
    watch, scope = DefinitionWatch(PRIMARY), frozenset({FIRST_OID})
    for _ in range(3):
        watch.note_extras(listing(None, db2=THERE), scope, REPLICAS)
        watch.note_extras(listing(THERE, db2=THERE), scope, REPLICAS)
    assert watch.extras == {}
    assert not watch.unsettled_extras


def test_under_an_inexact_alignment_an_extra_relation_is_only_looked_for_again():
    watch, scope = DefinitionWatch(PRIMARY), frozenset({FIRST_OID})
    for _ in range(5):
        watch.note_extras(listing(None, db2=THERE), scope, frozenset())
    assert watch.extras == {}
    assert watch.unsettled_extras == {(FIRST_OID, "db2")}


def test_a_replica_that_no_list_was_read_of_is_still_to_be_listed():
    watch = DefinitionWatch(PRIMARY)
    assert watch.never_listed(["db2", "db3"]) == {"db2", "db3"}
    watch.note_extras(listing(None, db2=None), frozenset(), frozenset())
    assert watch.never_listed(["db2", "db3"]) == {"db3"}
    assert watch.never_listed(["db2"]) == frozenset()


def test_relations_that_nobody_asked_for_are_no_extras():
    watch = DefinitionWatch(PRIMARY)
    for _ in range(2):
        watch.note_extras(listing(None, db2=THERE), frozenset(), REPLICAS)
    assert watch.extras == {}
    assert not watch.unsettled_extras


@pytest.mark.parametrize("change", [{"token": 1}, {"filenode_now": 1}, {"filenode_now": None}, {"filenode": 1}])
def test_a_relation_with_another_token_or_file_was_redefined(change):
    assert redefined(THERE, replace(THERE, **change))


def test_a_relation_that_only_grew_was_not_redefined():
    assert not redefined(THERE, replace(THERE, size_bytes=1 << 30))
