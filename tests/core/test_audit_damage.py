"""Catalogs that a node cannot read: whose fault it is, and when it is believed."""

from dataclasses import replace

import psycopg
import pytest

from replcheck.audit.damage import CatalogDamage
from replcheck.errors import AuthenticationRefused, NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.model.audit import DifferenceKind
from replcheck.model.outcome import Verdict
from replcheck.postgres.failures import connect_failure
from tests.core.proofs import relation

PG_CLASS = replace(relation(1259), schema="pg_catalog", name="pg_class", filenode=0, filenode_now=1259)


def unreadable(detail: str = 'invalid page in block 3 of relation "base/7/1259"', sqlstate: str = "XX001") -> NodeError:
    return StatementFailed("refused", node="db2", sqlstate=sqlstate, detail=detail, block=3)


def test_one_failure_is_none_and_the_second_is_told_of_the_node_that_stands_alone():
    damage = CatalogDamage("clinic", 7)
    damage.read("db1", [PG_CLASS])
    damage.read("db3", [PG_CLASS])
    assert damage.saw("db2", unreadable()) is None
    assert (damage.unsettled, damage.divergences) == (True, [])
    lack = damage.saw("db2", unreadable())
    assert lack is not None
    assert (lack.code, lack.verdict) == ("catalog_damage", Verdict.UNCHECKED)
    assert not damage.unsettled
    [found] = damage.divergences
    assert (found.database, found.relation, found.node) == ("clinic", "pg_catalog.pg_class", "db2")
    assert (found.kind, found.sqlstate, found.block) == (DifferenceKind.UNREADABLE, "XX001", 3)
    assert damage.votes == ["db2"]


def test_a_failure_that_has_passed_is_forgotten():
    damage = CatalogDamage("clinic", 7)
    assert damage.saw("db2", unreadable()) is None
    damage.read("db2", [])
    assert not damage.unsettled
    assert damage.saw("db2", unreadable()) is None


def test_what_nobody_else_can_read_accuses_nobody():
    damage = CatalogDamage("clinic", 7)
    for node in ("db1", "db2", "db1", "db2"):
        damage.saw(node, unreadable())
    assert damage.unwitnessed
    assert (damage.divergences, damage.votes) == ([], [])
    damage.read("db3", [])
    assert not damage.unwitnessed
    assert {found.node for found in damage.divergences} == {"db1", "db2"}
    assert damage.votes == [None, None]


def test_where_the_server_does_not_say_which_catalog_it_is_all_of_them_are_named():
    damage = CatalogDamage("clinic", 7)
    damage.read("db1", [PG_CLASS])
    for _ in range(2):
        damage.saw("db2", unreadable("index pg_x contains unexpected zero page at block 1", "XX002"))
    assert [found.relation for found in damage.divergences] == ["pg_catalog.*"]


@pytest.mark.parametrize(
    ("error", "here"),
    [
        (unreadable(), True),
        (unreadable("invalid page in block 0 of relation base/7/2662"), True),
        (unreadable('invalid page in block 0 of relation "base/8/1259"'), False),
        (unreadable('invalid page in block 0 of relation "global/1262"'), True),
        (unreadable("", "XX002"), True),
        (unreadable("", "XX000"), False),
        (unreadable("", "42501"), False),
        (StatementCancelled("cancelled", node="db2", sqlstate="57014"), False),
        (NodeLost("lost", node="db2"), False),
    ],
)
def test_only_what_a_node_cannot_read_of_this_database_concerns_it(error, here):
    assert CatalogDamage("clinic", 7).concerns(error) is here


@pytest.mark.parametrize(
    ("said", "sqlstate"),
    [
        ('invalid page in block 3 of relation "base/7/1259"', "XX001"),
        ("invalid page in block 3 of relation base/7/1259", "XX001"),
        ('could not open file "base/7/1259": No such file or directory', "58P01"),
        ('could not read blocks 3..3 in file "base/7/1259": read only 0 of 8192 bytes', "XX001"),
    ],
)
def test_a_database_that_cannot_be_entered_for_damage_is_no_node_that_does_not_answer(said, sqlstate):
    text = f'connection failed: connection to server on socket "/run/.s.PGSQL.5432" failed: FATAL:  {said}\n'
    error = connect_failure(psycopg.OperationalError(text), node="db2", address="db2:5432")
    assert isinstance(error, StatementFailed)
    assert (error.sqlstate, error.detail) == (sqlstate, said)
    assert CatalogDamage("clinic", 7).concerns(error)


def test_another_reason_not_to_be_let_in_stays_one():
    text = 'connection failed: FATAL:  role "canary" is not permitted to log in\n'
    error = connect_failure(psycopg.OperationalError(text), node="db2", address="db2:5432")
    assert isinstance(error, AuthenticationRefused)
    assert "canary" not in error.message
