"""Changes of a database beside its rows, as data: what a copy of it may have otherwise, and where that shows.

Each is done to a copy of the database, so that the same name means two different things on two nodes.
"""

from dataclasses import dataclass

from replcheck.lab.value_pairs import PAIRS
from replcheck.model.audit import DifferenceKind

CHANGED = frozenset({DifferenceKind.CHANGED})
_EXTRA = frozenset({DifferenceKind.EXTRA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: what is made in both databases, and then done to the copy."""

    name: str
    relation: str
    """Where it shows, schema-qualified and quoted."""
    before: tuple[str, ...] = ()
    after: tuple[str, ...]
    kinds: frozenset[DifferenceKind] = frozenset()
    """Kinds it may be reported as; empty where any will do, as for rows of catalogs."""
    row: str = ""
    """A query on the copy for the position (ctid) of the catalog's row that differs; empty where none is meant."""
    also: tuple[str, ...] = ()
    """Relations that the change may show in too: those whose own rows of the catalogs it touches."""


def _table(
    name: str, relation: str, *after: str, columns: str = "id int", kinds: frozenset[DifferenceKind] = CHANGED
) -> Change:
    """Return a change of a table of three rows in schema public."""
    return Change(
        name=name,
        relation=f"public.{relation}",
        before=(
            f"create table {relation} ({columns})",
            f"insert into {relation} select i from generate_series(1, 3) as i",  # noqa: S608 - literals of this module
        ),
        after=after,
        kinds=kinds,
    )


def _catalog(
    name: str, catalog: str, row: str, before: tuple[str, ...], after: tuple[str, ...], of: str = ""
) -> Change:
    """Return a change that shows in a row of a catalog, found by a condition; `of` is the table it is about."""
    return Change(
        name=name,
        relation=f"pg_catalog.{catalog}",
        before=before,
        after=after,
        row=f"select ctid::text from pg_catalog.{catalog} where {row}",  # noqa: S608 - both are literals below
        also=(f"public.{of}",) if of else (),
    )


_DOUBLED = "create {}function doubled(int) returns int language sql as 'select {} * $1'"

CHANGES: tuple[Change, ...] = (
    _table("a table is missing", "gone", "drop table gone"),
    Change(
        name="a table exists only there",
        relation="public.added",
        after=("create table added (id int)", "insert into added values (1)"),
        kinds=_EXTRA,
    ),
    _table("a table has another name", "renamed", "alter table renamed rename to named_otherwise"),
    _table(
        "a table lies in another schema", "moved", "create schema elsewhere", "alter table moved set schema elsewhere"
    ),
    _table("a column is added", "widened", "alter table widened add column more text"),
    _table("a column is dropped", "narrowed", "alter table narrowed drop column note", columns="id int, note text"),
    _table("a column has another name", "relabelled", "alter table relabelled rename column id to number"),
    _table("a column has another type", "retyped", "alter table retyped alter column id type bigint"),
    _table("a table was rewritten with the same rows", "rewritten", "vacuum full rewritten"),
    _table("a table was emptied", "emptied", "truncate emptied"),
    Change(
        name="a column's type is another, its bytes the same",
        relation="public.loosened",
        before=("create table loosened (word varchar(20))", "insert into loosened values ('a')"),
        after=("alter table loosened alter column word type text",),
        kinds=CHANGED,
    ),
    Change(
        name="a label of an enumeration is another",
        relation="public.feelings",
        before=(
            "create type feeling as enum ('good', 'bad')",
            "create table feelings (felt feeling)",
            "insert into feelings values ('good')",
        ),
        after=("alter type feeling rename value 'good' to 'fine'",),
        kinds=CHANGED,
    ),
    Change(
        name="a materialized view was refreshed to other rows",
        relation="public.drawn",
        before=("create materialized view drawn as select random() as number",),
        after=("refresh materialized view drawn",),
        kinds=CHANGED,
    ),
    Change(
        name="a sequence has another increment",
        relation="public.counted",
        before=("create sequence counted",),
        after=("alter sequence counted increment by 7",),
        kinds=CHANGED,
    ),
    Change(
        name="a sequence is ahead",
        relation="public.ahead",
        before=("create sequence ahead", "select setval('ahead', 1000)"),
        after=("select setval('ahead', 5000)",),
        kinds=CHANGED,
    ),
    _catalog(
        "a view has another query",
        "pg_rewrite",
        "ev_class = 'public.seen'::regclass",
        ("create view seen as select 1 as one",),
        ("create or replace view seen as select 2 as one",),
    ),
    _catalog(
        "a function has another body",
        "pg_proc",
        "proname = 'doubled'",
        (_DOUBLED.format("", 2),),
        (_DOUBLED.format("or replace ", 3),),
    ),
    _catalog(
        "a privilege was granted",
        "pg_class",
        "relname = 'granted'",
        ("create table granted (id int)",),
        ("grant select on granted to public",),
        of="granted",
    ),
    _catalog(
        "an index exists only there",
        "pg_index",
        "indexrelid = 'public.indexed_id'::regclass",
        ("create table indexed (id int)",),
        ("create index indexed_id on indexed (id)",),
        of="indexed",
    ),
    _catalog(
        "a constraint exists only there",
        "pg_constraint",
        "conname = 'positive'",
        ("create table constrained (id int)",),
        ("alter table constrained add constraint positive check (id > 0)",),
        of="constrained",
    ),
    _catalog(
        "a default is another",
        "pg_attrdef",
        "adrelid = 'public.defaulted'::regclass",
        ("create table defaulted (id int default 1)",),
        ("alter table defaulted alter column id set default 2",),
        of="defaulted",
    ),
    _catalog(
        "a trigger is disabled",
        "pg_trigger",
        "tgname = 'watched'",
        (
            "create table triggered (id int)",
            (
                "create trigger watched before update on triggered for each row"
                " execute function suppress_redundant_updates_trigger()"
            ),
        ),
        ("alter table triggered disable trigger watched",),
        of="triggered",
    ),
    _catalog(
        "a policy for rows is another",
        "pg_policy",
        "polname = 'mine'",
        ("create table policed (id int)", "create policy mine on policed using (id = 1)"),
        ("alter policy mine on policed using (true)",),
        of="policed",
    ),
    _catalog(
        "a comment is another",
        "pg_description",
        "description = 'right'",
        ("create table described (id int)", "comment on table described is 'left'"),
        ("comment on table described is 'right'",),
    ),
    _catalog(
        "a large object holds other bytes",
        "pg_largeobject",
        "loid = 424242",
        ("select lo_from_bytea(424242, 'left')",),
        ("select lo_put(424242, 0, 'right')",),
    ),
    _catalog(
        "a large object has other privileges",
        "pg_largeobject_metadata",
        "oid = 424243",
        ("select lo_from_bytea(424243, 'same')",),
        ("grant select on large object 424243 to public",),
    ),
)


def type_changes() -> tuple[Change, ...]:
    """Return the pairs of types whose values look the same, as changes of a column."""
    pairs = [pair for pair in PAIRS if pair.right_columns]
    return tuple(
        Change(
            name=pair.name,
            relation=f"public.typed_{number}",
            before=(
                f"create table typed_{number} ({pair.columns})",
                f"insert into typed_{number} values {pair.left}",  # noqa: S608 - literals of value_pairs
            ),
            after=(
                (
                    f"alter table typed_{number} alter column v type {pair.right_columns.partition(' ')[2]}"
                    f" using {pair.right}::{pair.right_columns.partition(' ')[2]}"
                ),
            ),
            kinds=CHANGED,
        )
        for number, pair in enumerate(pairs)
    )
