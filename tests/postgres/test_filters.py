"""Row filters on real servers: what they select, what a server's catalogs refuse, and what an audit makes of them."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replcheck.audit.options import Level
from replcheck.errors import StatementFailed, UsageError
from replcheck.events import NodeObserved, RelationStarted
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.lab.planted import PlantedFault
from replcheck.model.audit import DifferenceKind
from replcheck.model.filters import FilterUsed
from replcheck.model.node import NodeTarget
from replcheck.model.outcome import Outcome, Verdict
from replcheck.postgres import digests
from replcheck.postgres.catalog import Relation, read_relations
from replcheck.postgres.digests import LAST_BLOCK, RowHash
from replcheck.postgres.filter_checks import checked_condition
from replcheck.postgres.filters import FilterRefusedError, row_filter
from replcheck.postgres.local import connect
from replcheck.postgres.session import Limits, Session, open_session
from replcheck.report.document import audit_document
from replcheck.report.verdict import outcome_of, sentence
from tests.auditing import divergences_of, notes_of, relation_of, run_audit_of
from tests.commands import assert_one_line, run_command
from tests.staged import at, audit, between_plan_and_read, newest_only, session_on

CANARY = "zqcanary"

_VISITS = """
create type mood as enum ('low', 'high');
create type cast_mood as enum ('low', 'high');
create function evil(cast_mood) returns text language sql immutable as 'select ''x''::text';
create cast (cast_mood as text) with function evil(cast_mood) as implicit;
create type pair as (x int, y int);
create domain code as text;
create table visits (
    id int primary key, clinic_id int2, big int8, price numeric, ratio float8, note text, kind varchar(10),
    flag char(3), seen_on date, at timestamp, visited_at timestamptz, open bool, key uuid, mood mood,
    evil_mood cast_mood, doc jsonb,
    tags text[], pair pair, code code, low int, part int, "Odd ""name" int, raw bytea
);
insert into visits select n, n % 5, n * 10000000000, n / 4.0, n / 4.0, case when n % 7 > 0 then 'note ' || n end,
    case n % 3 when 0 then 'x' when 1 then 'Y' else 'it''s' end, 'a', date '2026-01-01' + n,
    timestamp '2026-01-01' + n * interval '6 hours', timestamptz '2026-01-01 00:00+00' + n * interval '6 hours',
    case n % 3 when 0 then true when 1 then false end, md5(n::text)::uuid,
    case when n % 2 = 0 then 'low' else 'high' end::mood,
    'low', '{}', '{}', null, 'c' || n % 2, n % 4, n % 6, n % 2, '\\x00'
from generate_series(1, 200) n
"""

SELECTING = [
    "clinic_id = 3",
    "code = 'c1'",
    "coalesce(code, 'c0') = 'c0'",
    "visited_at < '2026-01-20'",
    "visited_at < timestamptz '2026-01-20 00:00+02'",
    "visited_at between '2026-01-20' and '2026-01-30'",
    "at < '2026-01-20 10:00:00' and seen_on >= date '2026-01-10'",
    "seen_on in ('2026-01-10', '2026-01-11')",
    "at < date '2026-01-20'",
    "big > 100000000000 and price < 20 and ratio < 20.5",
    "price + clinic_id > 3 * ratio - 20",
    "id % 10 = 3 or id % 10 = -3 and not clinic_id = 1",
    "mod(id + 1, 10) = 3",
    "note is null",
    "note is not null and note <> 'note 3'",
    "note like 'note 1%'",
    "note not like '%1'",
    "note COLLATE \"C\" < 'note 3'",
    "note COLLATE \"C\" ilike 'NOTE 1_'",
    "note COLLATE \"C\" ~ '^note [12]+$'",
    "note COLLATE \"C\" !~* '^NOTE [12]+$'",
    "upper(note COLLATE \"C\") = 'NOTE 17'",
    "length(note) > 6 and left(note, 5) = 'note ' and right(note, 1) = '7'",
    "kind = 'it''s' or kind in ('x', 'z')",
    "kind not in ('x') and flag = 'a'",
    "open",
    "not open",
    "open is not true",
    "open is null",
    "open is distinct from true",
    "open is not distinct from null",
    "(clinic_id = 3) = open",
    "clinic_id = 3 is true",
    "key = 'c4ca4238-a0b9-2382-0dcc-509a6f75849b'",
    "key = 'c4ca4238-a0b9-2382-0dcc-509a6f75849b'::uuid",
    "mood = 'low'",
    "mood > 'low'",
    "coalesce(note, 'x') = 'x'",
    "coalesce(clinic_id, 3) = 3 and abs(-id) < 50 and ceil(price) = floor(price)",
    "low = 1 and part = 3",
    '"Odd ""name" = 1',
    "- id > - 20",
    "id = - - 20",
    "2 * id + 1 = 41 or id - 1 - 1 = 7",
    "ID = 5 Or Id = 6",
]
"""Filters that a server must take; each selects some of 200 rows, the same ones as it does as it was written."""

UNFIT = {
    "nobody = 1": "a column that",
    '"Clinic_id" = 1': "a column that",
    "nobody = 1 and no_one = 2": "2 columns",
    "clinic_id = 'x'": "SQLSTATE 22P02",
    "clinic_id = note": "SQLSTATE 42883",
    "clinic_id": "not boolean",
    "note": "not boolean",
    'lower(note COLLATE "C")': "condition",
    "doc = '{}'": "type jsonb",
    "tags = '{}'": "type _text",
    "pair = '(1,2)'": "SQLSTATE 0A000",
    "pair is null": "somebody made",
    "code < 'c1'": "COLLATE",
    "evil_mood = 'low'": "somebody made",
    "raw = '\\x00'": "type bytea",
    "note < 'note 3'": "COLLATE",
    "note between 'a' and 'b'": "COLLATE",
    "kind >= 'x'": "COLLATE",
    "visited_at < date '2026-01-20'": "immutable",
    "at < timestamptz '2026-01-20'": "immutable",
    "seen_on = visited_at": "immutable",
    "visited_at in (date '2026-01-20')": "immutable",
    "visited_at between date '2026-01-20' and '2026-01-21'": "immutable",
    "coalesce(visited_at, at) < '2026-01-20'": "several types",
    "visited_at < 'now'": "date or time",
    "seen_on = 'today'": "date or time",
    "seen_on in ('2026-01-01', 'tomorrow')": "date or time",
    "at between '2026-01-01' and 'now'": "date or time",
    "coalesce(seen_on, 'yesterday') = '2026-01-01'": "date or time",
    "visited_at < '2026-01-20 Europe/Berlin'": "date or time",
    "seen_on is distinct from ('now')": "date or time",
    "open = (seen_on < 'now')": "date or time",
}
"""Filters that only a server's catalogs can refuse, each with a word of why."""


def sql_of(text: str) -> str:
    return f"visits: {text}"


@pytest.fixture(scope="module")
def visits(cluster: LabCluster) -> Iterator[str]:
    """A database with a table of many types."""
    name = cluster.create_database("visits")
    with connect(cluster.primary.dsn(name), node="primary") as connection:
        for statement in _VISITS.split(";\n"):
            connection.execute(statement)
    cluster.catch_up()
    yield name
    cluster.drop_database(name)


@pytest.fixture
async def session(cluster: LabCluster, visits: str) -> AsyncIterator[Session]:
    """A session of the audit's role on a standby."""
    target = NodeTarget(name="standby1", dsn=cluster.audit_dsn("standby1"))
    opened = await open_session(target, database=visits, purpose="test", limits=Limits())
    yield opened
    await opened.close()


async def filtered(session: Session, text: str) -> Relation:
    [relation] = [found for found in (await read_relations(session)).values() if found.name == "visits"]
    chosen = row_filter(sql_of(text), origin="--where")
    return replace(relation, row_filter=chosen, condition=await checked_condition(session, relation, chosen))


async def test_a_filter_selects_what_it_selects_as_it_was_written(session: Session) -> None:
    how = RowHash(seeds=(1,))
    for text in SELECTING:
        await session.fetch("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relation = await filtered(session, text)
        as_written = f"select count(*), count(*) filter (where {text}) from public.visits as t"
        ((rows, selected),) = await session.fetch(as_written)
        assert 0 < selected < rows, text
        [whole] = (await digests.digest_whole(session, relation, how)).digests
        assert whole.rows == selected, text
        swept = (await digests.digest_sweep(session, relation, how, (1, 2))).digests
        cut = (await digests.digest_ranges(session, relation, how, [(0, 1), (1, 2), (2, LAST_BLOCK)], 16)).digests
        _, listed = await digests.list_rows(session, relation, how, [(0, LAST_BLOCK)])
        assert swept == cut
        assert sum(part.rows for part in cut) == len(listed) == selected
        assert sum(part.sums[0] for part in cut) == sum(row.sums[0] for row in listed) == whole.sums[0]
        await session.rollback()


@pytest.mark.parametrize("text", UNFIT)
async def test_what_a_server_makes_of_a_filter_can_refuse_it(session: Session, text: str) -> None:
    with pytest.raises((FilterRefusedError, UsageError)) as refused:
        await filtered(session, text)
    said = str(refused.value)
    assert UNFIT[text] in said
    assert refused.value.__cause__ is None
    assert "nobody" not in said
    assert not session.in_transaction


async def test_a_collation_that_calls_different_bytes_equal_is_refused(
    cluster: LabCluster, session: Session, visits: str
) -> None:
    try:
        with connect(cluster.primary.dsn(visits), node="primary") as connection:
            connection.execute(
                "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
    except StatementFailed:
        pytest.skip("this server was built without ICU, which alone has such collations")
    cluster.primary.execute("create table folded (note text collate folding)", dbname=visits)
    cluster.catch_up()
    [relation] = [found for found in (await read_relations(session)).values() if found.name == "folded"]
    with pytest.raises(FilterRefusedError, match="not deterministic"):
        await checked_condition(session, relation, row_filter("folded: note = 'x'", origin="--where"))


def where(*filters: str) -> dict[str, Any]:
    return {"filters": tuple(row_filter(text, origin="--where") for text in filters)}


@pytest.fixture(scope="module")
def torn(clusters_root: Path, newest_major: int) -> Iterator[tuple[LabCluster, dict[str, PlantedFault]]]:
    """A cluster whose first standby holds one changed and lacks another row, both of tables of 2000 rows."""
    with LabCluster.create(clusters_root, name=f"torn_{os.getpid()}", major=newest_major) as cluster:
        for name in ("changed", "lost"):
            cluster.primary.execute(
                f"create table {name} as select n as id, n % 10 as part, repeat('x', 100) as note"
                " from generate_series(1, 2000) n"
            )
            cluster.primary.execute(f"vacuum {name}")
        cluster.catch_up()
        planted = {
            "changed": apply_fault(cluster, "flip-row-bytes", node="standby1", relation="changed"),
            "lost": apply_fault(cluster, "lose-row", node="standby1", relation="lost"),
        }
        cluster.wait_streaming()
        cluster.catch_up()
        yield cluster, planted


def id_of(cluster: LabCluster, planted: PlantedFault) -> int:
    [(found,)] = cluster.primary.execute(
        f"select id from {planted.relation} where ctid = %s::text::tid", [f"({planted.block},{planted.offset})"]
    )
    number: int = found
    return number


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("name", ["changed", "lost"])
def test_only_rows_inside_the_filter_are_accused(
    torn: tuple[LabCluster, dict[str, PlantedFault]], name: str, level: Level
) -> None:
    cluster, planted = torn
    odd = id_of(cluster, planted[name])
    options: dict[str, Any] = {"databases": ("postgres",), "tables": (f"public.{name}",), "level": level}
    chosen = where(f"postgres.public.{name}: id <> {odd} and note <> '{CANARY}'")
    outside, events = run_audit_of(cluster, **options, **chosen)
    assert (outside.verdict, outside.divergences) == (Verdict.CONSISTENT, ())
    assert relation_of(outside, name).rows == 1999
    assert CANARY not in repr(events)
    inside, _ = run_audit_of(cluster, **options, **where(f"public.{name}: id = {odd} or part in (1, 2)"))
    assert inside.verdict is Verdict.DIVERGED
    [found] = divergences_of(inside, name)
    kind = DifferenceKind.CHANGED if name == "changed" else DifferenceKind.MISSING
    assert (found.node, found.kind, found.count) == ("standby1", kind, 1)
    assert [str(place) for place in found.ranges] == [f"({planted[name].block},{planted[name].offset})"]
    assert f"id = {odd}" not in found.query


def test_a_row_that_is_torn_out_of_the_filter_is_missing(torn: tuple[LabCluster, dict[str, PlantedFault]]) -> None:
    """A standby's version of a row that no longer passes the filter must not hide that row."""
    cluster, planted = torn
    odd = id_of(cluster, planted["changed"])
    with connect(cluster.node("standby1").dsn(), node="standby1") as connection:
        there = connection.execute("select id, part, note from changed where id = %s", [odd]).fetchone()
    if there == (odd, odd % 10, "x" * 100):
        pytest.skip("the flipped bit is not in a column that can be filtered")
    text = f"(id = {odd} and part = {odd % 10} and note = '{'x' * 100}') or id < 0"
    result, _ = run_audit_of(cluster, databases=("postgres",), tables=("changed",), **where(f"changed: {text}"))
    assert {found.kind for found in divergences_of(result, "changed")} == {DifferenceKind.MISSING}


def test_a_filtered_audit_says_so(torn: tuple[LabCluster, dict[str, PlantedFault]]) -> None:
    cluster, planted = torn
    odd = id_of(cluster, planted["lost"])
    chosen = where(f"postgres.public.lost: id <> {odd} and note <> '{CANARY}'")
    result, _ = run_audit_of(cluster, databases=("postgres",), tables=("public.lost",), catalogs=False, **chosen)
    digest = chosen["filters"][0].digest
    assert (result.verdict, result.scope.whole) == (Verdict.CONSISTENT, False)
    assert result.scope.filters == (FilterUsed(pattern="postgres.public.lost", digest=digest),)
    assert relation_of(result, "lost").filter_digest == digest
    [note] = notes_of(result, "lost")
    assert (note.code, note.by_design) == ("filtered", True)
    told = sentence(result)
    assert "was compared and matched, but of 1 relation only the rows that its filter selects" in told
    assert "the audit was limited by --database, --table, --where and --no-catalogs" in told
    assert CANARY not in json.dumps(audit_document(result))


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (["nothing_like_it: id = 1"], "no relation matches 'nothing_like_it'"),
        (["other.public.lost: id = 1"], "no relation matches 'other.public.lost'"),
        (["lost: id = 1", "public.l*: id = 2"], "matched by 2 filters"),
        (["public.counted: last_value = 1"], "cannot be filtered (sequence)"),
        (["pg_catalog.pg_class: relname = 'x'"], "cannot be filtered (catalog)"),
        (["pg_catalog.pg_largeobject: loid = 1"], "cannot be filtered (large objects)"),
        (["lost: nobody = 1"], "a column that public.lost does not have"),
    ],
)
def test_a_filter_that_fits_nothing_ends_the_run_before_a_row_is_read(
    torn: tuple[LabCluster, dict[str, PlantedFault]], filters: list[str], said: str
) -> None:
    cluster, _ = torn
    cluster.primary.execute("create sequence if not exists counted")
    cluster.catch_up()
    with pytest.raises(UsageError) as refused:
        run_audit_of(cluster, databases=("postgres",), **where(*filters))
    assert said in refused.value.message
    assert "nobody" not in f"{refused.value.message}{refused.value.hint}"


@newest_only
def test_a_relation_that_loses_the_filters_column_is_unchecked(cluster: LabCluster, database: str) -> None:
    primary = cluster.primary
    primary.execute(
        "create table shrinking as select n as id, n as part from generate_series(1, 500) n", dbname=database
    )
    primary.execute("create table steady as table shrinking", dbname=database)
    cluster.catch_up()

    def shrink() -> None:
        primary.execute("alter table shrinking drop column part", dbname=database)
        cluster.catch_up()

    act = between_plan_and_read("shrinking", shrink)
    staged = audit(cluster, database, act, **where("shrinking: part < 100", "steady: part < 100"))
    assert {note.code for note in notes_of(staged.result, "shrinking") if not note.by_design} == {"filter"}
    assert (staged.relation("shrinking").verdict, staged.verdict) == (Verdict.UNCHECKED, Verdict.UNCHECKED)
    assert (staged.relation("steady").verdict, staged.relation("steady").rows) == (Verdict.CONSISTENT, 99)
    assert outcome_of(staged.result) is Outcome.UNCHECKED


@newest_only
def test_a_filter_that_fails_on_a_row_leaves_the_relation_unchecked(cluster: LabCluster, database: str) -> None:
    cluster.primary.execute(
        "create table zeros as select n as id, n % 7 as part from generate_series(1, 99) n", dbname=database
    )
    cluster.catch_up()
    staged = audit(cluster, database, **where("zeros: id % part = 1"))
    assert staged.verdict is Verdict.UNCHECKED
    assert {note.code for note in notes_of(staged.result, "zeros") if not note.by_design} == {"sqlstate_22012"}


@newest_only
def test_a_relation_that_is_locked_at_the_start_is_checked_when_it_is_planned(
    cluster: LabCluster, database: str
) -> None:
    cluster.primary.execute("create table held as select n as id from generate_series(1, 99) n", dbname=database)
    cluster.catch_up()
    with session_on(cluster.primary, database) as holder:
        holder.execute("lock table held in access exclusive mode")
        act = at(NodeObserved, lambda: None)
        staged = audit(cluster, database, act, settle_budget_s=0.5, **where("held: id < 10"))
    assert staged.verdict in (Verdict.UNCHECKED, Verdict.INCONCLUSIVE)
    assert staged.result.divergences == ()
    after = audit(cluster, database, **where("held: id < 10"))
    assert (after.verdict, after.relation("held").rows) == (Verdict.CONSISTENT, 9)


@newest_only
def test_rows_that_move_across_the_filter_under_the_audit_are_explained(cluster: LabCluster, database: str) -> None:
    primary = cluster.primary
    primary.execute(
        "create table moving as select n as id, n % 2 as side from generate_series(1, 3000) n", dbname=database
    )
    cluster.catch_up()

    def move(event: object) -> None:
        if isinstance(event, RelationStarted):
            primary.execute("update moving set side = 1 - side where id % 3 = 0", dbname=database)

    for _ in range(3):
        staged = audit(cluster, database, every=move, align_budget_s=0.0, **where("moving: side = 1"))
        assert (staged.verdict, staged.result.divergences) == (Verdict.CONSISTENT, ())
        assert staged.relation("moving").rows is not None


def test_no_text_of_a_filter_is_told_or_kept(torn: tuple[LabCluster, dict[str, PlantedFault]], tmp_path: Path) -> None:
    cluster, planted = torn
    odd = id_of(cluster, planted["lost"])
    nodes = ["--primary", cluster.audit_dsn("primary"), "--replica", cluster.audit_dsn("standby1")]
    words = ["audit", *nodes, "--database", "postgres", "--table", "public.lost", "--verbose", "--debug"]
    for form, text, status in (
        ("human", f"public.lost: note <> '{CANARY}' and id <> {odd}", 0),
        ("json", f"public.lost: note <> '{CANARY}'", 2),
        ("json", f"public.lost: note <> '{CANARY}' and nobody = 1", 3),
    ):
        ended = run_command(*words, "--where", text, "--format", form, "--events", "events.jsonl", home=tmp_path)
        assert ended.status == status, ended
        texts = [ended.out, ended.err]
        texts += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
        assert not [found for found in texts if CANARY in found]
        if form == "human":
            assert "--where" in ended.out
    configuration = tmp_path / "given.toml"
    configuration.write_text(
        f'cluster = "clinic"\n[nodes]\na = {{ dsn = "{cluster.audit_dsn("primary")}" }}\n'
        f'b = {{ dsn = "{cluster.audit_dsn("standby1")}" }}\n'
        f'[audit.where]\n"postgres.public.lost" = "id <> {odd}"\n'
    )
    ended = run_command("audit", "--config", str(configuration), *words[5:], "--format", "json", home=tmp_path)
    assert ended.status == 0, ended
    assert json.loads(ended.out)["scope"]["filters"][0]["pattern"] == "postgres.public.lost"
    (tmp_path / "given.toml").write_text(configuration.read_text() + '"public.*" = "pg_sleep(1) is null"\n')
    assert "pg_sleep" in assert_one_line(run_command("audit", "--config", str(configuration), home=tmp_path))
