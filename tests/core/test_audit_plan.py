"""Every relation of a database ends in exactly one place, and patterns find the relations their authors meant."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import Plan, in_scope, matches, plan_relations
from replcheck.model.audit import RelationKind
from replcheck.postgres.catalog import Relation
from tests.core.proofs import relation

CATALOG_OID = 1_259


def plan(*relations: Relation, shared_here: bool = True, **options) -> Plan:
    chosen = AuditOptions(**options)
    return plan_relations(relations, chosen, database="clinic", shared_here=shared_here, role="auditor")


def catalog(name: str = "pg_class", **changes) -> Relation:
    return relation(CATALOG_OID, schema="pg_catalog", name=name, kind=RelationKind.CATALOG, **changes)


DIGESTED = [
    ("a table", relation()),
    ("a materialized view", relation(kind=RelationKind.MATERIALIZED_VIEW)),
    ("large objects", relation(2_613, kind=RelationKind.LARGE_OBJECTS)),
    ("a system catalog", catalog()),
    ("a shared catalog", catalog("pg_database", shared=True)),
    ("a mapped catalog", catalog(filenode=0)),
    ("an oddly named table", relation(name='Odd "name".x', schema="Other")),
]


@pytest.mark.parametrize("each", [each for _, each in DIGESTED], ids=[name for name, _ in DIGESTED])
def test_what_is_digested(each):
    assert plan(each) == Plan(digested=(each,), sequences=(), not_checked=())


def test_sequences_are_bracketed():
    sequence = relation(kind=RelationKind.SEQUENCE, access_method="")
    assert plan(sequence) == Plan(digested=(), sequences=(sequence,), not_checked=())


NOT_CHECKED = [
    ("foreign", relation(kind=None, access_method=""), True),
    ("unlogged", relation(persistence="u"), True),
    ("unlogged", relation(persistence="u", kind=RelationKind.SEQUENCE, access_method=""), True),
    ("temporary", relation(persistence="t"), True),
    ("unpopulated", relation(kind=RelationKind.MATERIALIZED_VIEW, populated=False), True),
    ("access_method", relation(access_method="columnar"), False),
    ("privilege", relation(readable=False), False),
    ("privilege", relation(schema_usable=False), False),
    ("privilege", relation(readable=False, kind=RelationKind.SEQUENCE, access_method=""), False),
    ("row_security", relation(row_security=True), False),
]


@pytest.mark.parametrize(("code", "each", "by_design"), NOT_CHECKED)
def test_what_is_not_checked_is_told_with_its_reason(code, each, by_design):
    planned = plan(each)
    assert not planned.digested
    assert not planned.sequences
    (note,) = planned.not_checked
    assert (note.code, note.by_design, note.relation, note.database) == (code, by_design, each.label, "clinic")
    assert note.reason


def test_what_the_role_may_not_see_comes_with_the_sql_that_grants_it():
    hints = [plan(each).not_checked[0].hint for each in (relation(readable=False), relation(schema_usable=False))]
    assert hints == ['GRANT pg_read_all_data TO "auditor";'] * 2
    assert plan(relation(row_security=True)).not_checked[0].hint == 'ALTER ROLE "auditor" BYPASSRLS;'


def test_what_was_excluded_is_told_so_before_any_other_reason():
    (note,) = plan(relation(name="tmp_1", readable=False), excludes=("tmp_*",)).not_checked
    assert (note.code, note.by_design) == ("excluded", True)


def test_shared_catalogs_are_read_in_one_database_only():
    shared = catalog("pg_database", shared=True)
    assert plan(shared, shared_here=False) == Plan(digested=(), sequences=(), not_checked=())
    assert plan(shared, shared_here=False, tables=("pg_catalog.*",)).digested == ()


def test_catalogs_are_left_out_where_the_user_says_so():
    planned = plan(catalog(), relation(), relation(2_613, kind=RelationKind.LARGE_OBJECTS), catalogs=False)
    assert [each.kind for each in planned.digested] == [RelationKind.TABLE, RelationKind.LARGE_OBJECTS]


def test_catalogs_that_are_asked_for_by_name_are_read():
    assert plan(catalog(), relation(), tables=("pg_catalog.pg_class",), catalogs=False).digested == (catalog(),)


def test_the_largest_relations_come_first():
    small, large, toasted = (
        relation(1, size_bytes=10),
        relation(2, size_bytes=50),
        relation(3, size_bytes=5, toast_bytes=90),
    )
    assert plan(small, large, toasted).digested == (toasted, large, small)


BOOLS = st.booleans()


@st.composite
def any_relations(draw) -> list[Relation]:
    oids = draw(st.lists(st.integers(1_000, 40_000), max_size=8, unique=True))
    return [
        relation(
            oid,
            name=draw(st.sampled_from(["visit", "tmp_1", "Odd.name"])),
            schema=draw(st.sampled_from(["public", "pg_catalog"])),
            kind=draw(st.sampled_from([None, *RelationKind])),
            persistence=draw(st.sampled_from("put")),
            access_method=draw(st.sampled_from(["", "heap", "columnar"])),
            shared=draw(BOOLS),
            readable=draw(BOOLS),
            schema_usable=draw(BOOLS),
            row_security=draw(BOOLS),
            populated=draw(BOOLS),
        )
        for oid in oids
    ]


@given(
    any_relations(), BOOLS, BOOLS, st.sampled_from([(), ("visit",), ("public.*",)]), st.sampled_from([(), ("tmp_*",)])
)
def test_every_relation_in_scope_lands_in_exactly_one_place(relations, shared_here, catalogs, tables, excludes):
    options = AuditOptions(catalogs=catalogs, tables=tables, excludes=excludes)
    planned = plan_relations(relations, options, database="clinic", shared_here=shared_here, role="auditor")
    scope = [each for each in relations if in_scope(each, options, "clinic", shared_here=shared_here)]
    left = [each for each in scope if each not in planned.digested and each not in planned.sequences]
    assert sorted(note.relation or "" for note in planned.not_checked) == sorted(each.label for each in left)
    assert len(planned.digested) + len(planned.sequences) + len(planned.not_checked) == len(scope)
    assert {each.kind for each in planned.sequences} <= {RelationKind.SEQUENCE}
    assert RelationKind.SEQUENCE not in {each.kind for each in planned.digested}
    for each in (*planned.digested, *planned.sequences):
        assert each.kind is not None
        assert each.persistence == "p"
        assert each.readable
        assert each.schema_usable
        assert not each.row_security


VISIT = relation(name="visit")


@pytest.mark.parametrize(
    "pattern",
    ["visit", "v*", "?isit", "[uv]isit", "*", "public.visit", "public.*", "*.visit", "clinic.public.visit", "cl*.*.v*"],
)
def test_a_pattern_finds_a_table(pattern):
    assert matches(VISIT, [pattern], "clinic")
    assert matches(VISIT, ["nothing", pattern], "clinic")


@pytest.mark.parametrize(
    "pattern",
    ["", "Visit", "visi", "visits", "public", "other.visit", "clinic.visit", "other.public.visit", "public.visit.x"],
)
def test_a_pattern_does_not_find_another_table(pattern):
    assert not matches(VISIT, [pattern], "clinic")


def test_a_bare_pattern_never_finds_a_system_catalog():
    assert not matches(catalog(), ["*", "pg_class"], "clinic")
    assert matches(catalog(), ["pg_catalog.pg_class"], "clinic")
    assert matches(catalog(), ["clinic.pg_catalog.*"], "clinic")


def test_names_with_capitals_are_found_as_they_are_written_and_dots_by_question_marks():
    odd = replace(VISIT, name="Odd.name")
    for pattern in ("Odd?name", "*", "public.Odd?name", "clinic.public.*"):
        assert matches(odd, [pattern], "clinic")
    for pattern in ("odd?name", "Odd.name", "public.Odd.name"):
        assert not matches(odd, [pattern], "clinic")


def test_a_star_does_not_go_over_a_dot():
    assert not matches(VISIT, ["clinic.visit", "cl*isit", "*.*.*.*"], "clinic")
    assert matches(VISIT, ["*.*", "*.*.*"], "clinic")


def test_no_pattern_finds_nothing():
    assert not matches(VISIT, [], "clinic")
