"""The pure parts of seals: how relations are cut, what is unsettled, how a copy is judged, how a manifest is kept."""

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.sequences import Bracket
from replcheck.audit.visibility import View
from replcheck.drill.manifest import read_manifest, write_manifest
from replcheck.drill.point import ended_before, unsettled_at
from replcheck.drill.seal_dump import dump_digest
from replcheck.drill.sealed_comparison import Findings, differing_parts, matched_rows, row_differences
from replcheck.drill.sealed_parts import MOST_PARTS, Gathering, merged, part_blocks, part_ranges
from replcheck.drill.seals import find_seal, seal_folder
from replcheck.drill.sequence_positions import judge_position
from replcheck.errors import DrillBlocked
from replcheck.model.audit import RelationKind, Scope
from replcheck.model.drill import LayerName, LayerState
from replcheck.model.seal import (
    EXACT,
    MANIFEST_FORMAT,
    NotSealed,
    PartDigest,
    RestorePoint,
    SealedDatabase,
    SealedRelation,
    SealedSequence,
    SealedServer,
    SealFacts,
    SealManifest,
    SealResult,
    SealVerdict,
    SequencePosition,
    SignatureState,
    StoredSeal,
)
from replcheck.model.wal import Lsn
from replcheck.postgres.catalog import Relation
from replcheck.postgres.digests import LAST_BLOCK, Digest
from replcheck.postgres.sealing import LaterLook
from replcheck.report.seal import sentence
from tests.core.drills import BEGAN, seal

RELATION = Relation(
    oid=16400, schema="public", name="visit", kind=RelationKind.TABLE, persistence="p", filenode=1, filenode_now=1,
    shared=False, access_method="heap", row_security=False, readable=True, schema_usable=True, populated=True,
)  # fmt: skip


def manifest(seal_id: str = "0195aaaa-1", **changes: object) -> SealManifest:
    """Return a small seal."""
    made = SealManifest(
        format=MANIFEST_FORMAT,
        seal_id=seal_id,
        cluster="clinic",
        tool_version="1",
        encoding=EXACT,
        portable_encoding=None,
        seeds=("12345678901234567890",),
        restore_point=RestorePoint(
            name="replcheck_x", lsn=Lsn(0x1000), created_at=datetime(2026, 3, 1, tzinfo=UTC), timeline=1, attempts=1
        ),
        server=SealedServer(
            system_identifier=7538704911336240405,
            version_num=180006,
            major=18,
            version="18.6",
            machine="x86_64-pc-linux-gnu",
            hash_probe="5",
            block_size=8192,
            data_checksums=True,
        ),
        scope=Scope(databases=(), tables=(), excludes=(), catalogs=True),
        databases=(
            SealedDatabase(
                name="app\udcff",
                oid=5,
                encoding="UTF8",
                xmin=7,
                xmax=9,
                unsettled=(7, 1 << 40),
                relations=(sealed_relation([PartDigest(rows=2, sums=("-5",), marked=1)]),),
                sequences=(),
            ),
        ),
        not_sealed=(),
        facts=SealFacts(roles=("clinic",), tablespaces=(), databases=()),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def sealed_relation(parts: list[PartDigest]) -> SealedRelation:
    return SealedRelation(
        schema="public", name="visit", kind=RelationKind.TABLE, oid=16400, filenode=1, token=5,
        rows=sum(part.rows for part in parts), size_bytes=0, part_blocks=16, parts=tuple(parts),
    )  # fmt: skip


def gathering(blocks: int) -> Gathering:
    width = part_blocks(blocks)
    return Gathering(database="app", relation=RELATION, width=width, ranges=part_ranges(blocks, width), blocks=blocks)


# --- how a relation is cut ---


@given(st.integers(0, 10_000_000))
def test_parts_cover_every_block_once_and_are_never_too_many(blocks: int) -> None:
    ranges = part_ranges(blocks, part_blocks(blocks))
    assert len(ranges) <= MOST_PARTS
    assert ranges[0][0] == 0
    assert ranges[-1][1] == LAST_BLOCK
    assert all(end == first for (_, end), (first, _) in pairwise(ranges))
    assert len(merged(ranges)) <= 2
    assert merged(ranges)[-1] == ranges[-1]


@given(st.integers(0, 3000), st.integers(0, 1000))
def test_every_part_is_read_once_whatever_fails_in_between(blocks: int, seed: int) -> None:
    left, random = gathering(blocks), Random(seed)
    while not left.done:
        taken = left.take()
        assert taken is not None
        fate = random.random()
        if fate < 0.2:
            left.put_back(taken)
        elif fate < 0.4 and left.halve(taken):
            continue
        elif fate < 0.45 and not left.by_column:
            left.read_by_column()
            left.keep(taken, [Digest(9, (9,))] * len(taken), [0] * len(taken), [9], 0.1)
        else:
            digests = [Digest(number, (number,)) for number in range(taken.first, taken.end)]
            total = sum(range(taken.first, taken.end))
            left.keep(taken, digests, [0] * len(taken), [total], random.choice([0.001, 5.0]))
    assert left.take() is None
    assert [left.parts[number].rows for number in sorted(left.parts)] == list(range(len(left.ranges)))
    assert left.sums == [sum(range(len(left.ranges)))]


# --- what is unsettled ---


@given(st.data())
def test_only_what_had_committed_before_the_point_and_is_unseen_can_matter(data: st.DataObject) -> None:
    """Commits are drawn in an order; the snapshot, the point and the look lie anywhere in it, in that order."""
    xids = range(10, 20)
    begins = {xid: data.draw(st.integers(0, 100)) for xid in xids}
    ends = {xid: begins[xid] + data.draw(st.integers(1, 100)) for xid in xids}
    visible = {xid: ends[xid] + data.draw(st.integers(0, 5)) for xid in xids}
    order = sorted(xids, key=lambda xid: begins[xid])
    assigned = {xid: 10 + number for number, xid in enumerate(order)}
    aborts = {assigned[xid] for xid in xids if data.draw(st.booleans())}
    snapshot = data.draw(st.integers(0, 200))
    point = snapshot + data.draw(st.integers(0, 20))
    look = point + data.draw(st.integers(0, 20))
    begun = {assigned[xid] for xid in xids if begins[xid] <= snapshot}
    seen = {assigned[xid] for xid in xids if visible[xid] <= snapshot}
    view = View(
        xmin=10,
        xmax=max(seen, default=9) + 1,
        in_progress=frozenset(xid for xid in begun - seen if xid <= max(seen, default=9)),
        doubtful=frozenset(),
        aborted=frozenset(),
    )
    gone = {assigned[xid] for xid in xids if visible[xid] <= look}
    later = LaterLook(
        own_xid=99,
        xmax=max((assigned[xid] for xid in xids if begins[xid] <= look), default=9) + 1,
        in_progress=frozenset(assigned[xid] for xid in xids if begins[xid] <= look) - gone,
        aborted=frozenset(gone & aborts),
    )
    in_the_copy = {assigned[xid] for xid in xids if ends[xid] <= point} - aborts
    unsettled = unsettled_at(view, later)
    assert in_the_copy - seen <= unsettled
    assert not unsettled & seen
    assert not unsettled & later.aborted


def test_what_ran_when_the_point_was_made_needs_no_other_try() -> None:
    view = View(xmin=5, xmax=8, in_progress=frozenset({5}), doubtful=frozenset({6}), aborted=frozenset())
    assert ended_before(frozenset({5, 6, 9}), view) == {6}


# --- how a copy is judged ---


def test_differences_are_told_by_kind_with_the_least_count_and_where() -> None:
    copy = gathering(70)
    sealed = sealed_relation([PartDigest(rows=10, sums=(str(number),)) for number in range(5)])
    for number, (rows, total) in enumerate([(10, "0"), (7, "9"), (10, "8"), (12, "7"), (9, "6")]):
        copy.parts[number] = PartDigest(rows=rows, sums=(total,))
    assert differing_parts(sealed, copy) == [1, 2, 3, 4]
    assert matched_rows(sealed, copy) == 10
    found = row_differences(sealed, copy, {1, 2, 3, 4})
    assert [(each.kind, each.count, each.first_block, each.last_block) for each in found] == [
        ("missing", 4, 16, 69),
        ("changed", 1, 32, 47),
        ("extra", 2, 48, 63),
    ]


def test_doubts_make_a_layer_inconclusive_and_differences_fail_it() -> None:
    findings = Findings(rows=5, relations=1)
    assert findings.report(LayerName.SEAL, 0.1).state is LayerState.PASSED
    findings.doubts.append("a is not sealed")
    assert findings.report(LayerName.SEAL, 0.1).state is LayerState.INCONCLUSIVE
    findings.differences += row_differences(
        sealed_relation([PartDigest(rows=1, sums=("1",))]), _one_part(PartDigest(rows=1, sums=("2",))), {0}
    )
    assert findings.report(LayerName.SEAL, 0.1).state is LayerState.FAILED


def test_a_layer_that_compared_nothing_proves_nothing() -> None:
    report = Findings().report(LayerName.SEAL, 0.1)
    assert (report.state, report.reason) == (LayerState.INCONCLUSIVE, "nothing was there to compare")


def test_a_seal_of_no_relation_is_none() -> None:
    whole = seal()
    assert whole.verdict is SealVerdict.SEALED
    empty = replace(whole, databases=tuple(replace(each, relations=(), sequences=()) for each in whole.databases))
    assert empty.databases
    assert empty.verdict is SealVerdict.NOT_SEALED
    stored = StoredSeal(manifest=empty, file="/seals/x", sha256="ab", signature=SignatureState.UNSIGNED)
    result = SealResult(
        run_id="1", started_at=BEGAN, finished_at=BEGAN, elapsed_s=1.0, snapshot_s=1.0, seal=stored, primary="db1"
    )
    assert sentence(result).startswith("nothing was there to seal at ")


def _one_part(part: PartDigest) -> Gathering:
    copy = gathering(1)
    copy.parts[0] = part
    return copy


@pytest.mark.parametrize(
    ("last", "dumped", "bracket"),
    [(10, False, Bracket.INSIDE), (9, False, Bracket.OUTSIDE), (20 + 33, False, Bracket.INSIDE),
     (20 + 34, False, Bracket.OUTSIDE), (60, True, Bracket.INSIDE), (9, True, Bracket.OUTSIDE)],
)  # fmt: skip
def test_a_sequence_stands_between_what_was_read_before_and_after(last: int, dumped: bool, bracket: Bracket) -> None:
    def position(value: int) -> SequencePosition:
        return SequencePosition(
            last_value=value, log_count=0, called=True, increment=1, minimum=1, maximum=1 << 40, cache=1, cycles=False
        )

    sealed = SealedSequence(
        schema="public", name="s", oid=1, before=position(10), after=position(20), after_dump=position(60)
    )
    assert judge_position(sealed, position(last), dumped=dumped) is bracket


# --- how a manifest is kept ---


def test_a_manifest_comes_back_as_it_was_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    kept = write_manifest(manifest(), tmp_path / "seals")
    assert stat.S_IMODE(Path(kept.file).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "seals").stat().st_mode) == 0o700
    assert read_manifest(Path(kept.file)) == kept
    assert kept.signature is SignatureState.UNSIGNED
    assert [path.name for path in (tmp_path / "seals").iterdir()] == ["0195aaaa-1.seal.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document["seal"]["databases"][0]["relations"][0].update(rows=3), "changed after"),
        (lambda document: document.update(schema="replcheck/seal-file/2"), "this replcheck reads"),
        (lambda document: document.pop("sha256"), "changed after"),
        (lambda document: document.pop("seal"), "changed after"),
        (lambda document: document.update(envelope={"payload": "x"}), "no envelope"),
    ],
)
def test_a_manifest_that_was_changed_is_not_believed(tmp_path: Path, change, said: str) -> None:
    path = Path(write_manifest(manifest(), tmp_path).file)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DrillBlocked, match=said):
        read_manifest(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_manifest_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.seal.json"
    path.write_text(content)
    with pytest.raises(DrillBlocked, match="cannot be believed"):
        read_manifest(path)


def test_seals_are_found_by_id_beginning_newest_and_file(tmp_path: Path) -> None:
    for name in ("0195aaaa-1", "0195aaaa-2", "0195bbbb-1"):
        write_manifest(manifest(name), tmp_path)
    (tmp_path / ".0195cccc.seal.json.tmp").write_text("half")
    assert find_seal("latest", tmp_path).manifest.seal_id == "0195bbbb-1"
    assert find_seal("0195b", tmp_path).manifest.seal_id == "0195bbbb-1"
    assert find_seal("0195aaaa-1", tmp_path).manifest.seal_id == "0195aaaa-1"
    assert find_seal(str(tmp_path / "0195aaaa-2.seal.json"), None).manifest.seal_id == "0195aaaa-2"
    for named, said in [
        ("0195aaaa", "beginning of 2 seals"),
        ("0196", "there is no seal 0196"),
        ("latest", "there is no seal"),
    ]:
        with pytest.raises(DrillBlocked, match=said):
            find_seal(named, tmp_path if named != "latest" else tmp_path / "none")


def test_seals_lie_beside_the_history() -> None:
    assert seal_folder("clinic", None, {"HOME": "/home/amal"}) == Path("/home/amal/.local/state/replcheck/clinic.seals")
    assert seal_folder("clinic", None, {}) is None


def test_what_was_left_out_by_design_changes_no_verdict() -> None:
    by_design = NotSealed(database="app", relation="public.t", code="unlogged", reason="x", by_design=True)
    assert manifest(not_sealed=(by_design,)).verdict is SealVerdict.SEALED
    assert manifest(not_sealed=(replace(by_design, by_design=False),)).verdict is SealVerdict.IN_PART
    assert manifest(databases=()).verdict is SealVerdict.NOT_SEALED


def test_a_folder_of_a_dump_is_digested_with_its_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "toc.dat").write_bytes(b"toc")
        (folder / f"{name}.dat").write_bytes(b"rows")
    (first, size), (second, _) = dump_digest(tmp_path / "a"), dump_digest(tmp_path / "b")
    assert first != second
    assert size == 7
