"""Which seal is taken, which are passed over, and when an archive that ends before a seal is excused no longer."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.drill.archiving import BEHIND, NOT_ARCHIVED, Lack, is_excused, lack_problem
from replcheck.drill.backups.supply import require_sealed_wal
from replcheck.drill.manifest import write_manifest
from replcheck.drill.plan import sealed_target
from replcheck.drill.seal_choice import Choice, choose_seal
from replcheck.drill.targets import parse_target
from replcheck.drill.trial import run_trial
from replcheck.drill.wal import Segment
from replcheck.errors import NotArchived
from replcheck.model.drill import BackupKind, Blame, DrillVerdict, Stage
from replcheck.model.seal import SealedDump, SealManifest
from replcheck.model.wal import Lsn
from tests.core.drills import BEGAN, COPY, FakeSource, seal, trial

HOUR = 3600.0
SIZE = 16 << 20
SYSTEM = COPY.system_identifier


def lack(age_s: float, *, owed: bool) -> Lack:
    return Lack(seal_id="01a2", made_at=BEGAN - timedelta(seconds=age_s), missing="000000010000000000000009", owed=owed)


@pytest.mark.parametrize(
    ("age_s", "owed", "excused"),
    [
        (60, True, True),
        (HOUR, True, True),
        (HOUR + 1, True, False),
        (HOUR + 1, False, True),
        (24 * HOUR, False, True),
        (24 * HOUR + 1, False, False),
        (-5, True, True),
    ],
)
def test_a_file_is_owed_for_an_hour_and_may_fill_for_a_day(age_s: float, owed: bool, excused: bool) -> None:
    missing = lack(age_s, owed=owed)
    assert is_excused(missing, now=BEGAN, delay_s=HOUR) is excused
    problem = lack_problem(missing, now=BEGAN, delay_s=HOUR)
    assert problem.code == (NOT_ARCHIVED if excused else BEHIND)
    assert problem.blame is (Blame.ENVIRONMENT if excused else Blame.BACKUP)
    assert missing.missing in problem.what
    assert ("pg_switch_wal()" in problem.hint) is excused


@given(st.floats(0, 1e7), st.floats(1, 1e7), st.booleans())
def test_no_lack_is_excused_for_ever_and_none_that_is_excused_was_not_before(
    age_s: float, delay_s: float, owed: bool
) -> None:
    if is_excused(lack(age_s, owed=owed), now=BEGAN, delay_s=delay_s):
        assert is_excused(lack(age_s / 2, owed=owed), now=BEGAN, delay_s=delay_s)
        assert age_s <= max(delay_s, 24 * HOUR) + 1


@pytest.mark.parametrize(("age_s", "verdict"), [(60, DrillVerdict.NOT_TRIED), (2 * HOUR, DrillVerdict.FAILED)])
def test_a_drill_to_a_seal_behind_the_archive_is_judged_by_the_age_of_the_seal(
    age_s: float, verdict: DrillVerdict
) -> None:
    error = NotArchived("000000010000000000000009", owed=True, progress="; recovery got to 0/9000000")
    target = sealed_target(parse_target("seal:01a2"), made(0, age_s, segment=0x0A))
    source = FakeSource(fails_in=Stage.RECOVER, error=error)
    found = run_trial(trial([], source=source, target=target), emit=lambda _: None, now=lambda: BEGAN)
    assert found.verdict is verdict
    assert "000000010000000000000009" in found.problems[0].what
    assert found.problems[0].what.endswith("; recovery got to 0/9000000")


def made(
    number: int, age_s: float, *, segment: int, system: int | None = SYSTEM, dump: str | None = None
) -> SealManifest:
    """Return a seal of some age whose restore point lies in a segment."""
    whole = seal()
    point = replace(whole.restore_point, lsn=Lsn(segment * SIZE + 0x100), created_at=BEGAN - timedelta(seconds=age_s))
    kept = SealedDump(file=f"/dumps/{dump}", database="clinic", format="custom", sha256="", size_bytes=1, program="18")
    return replace(
        whole,
        seal_id=f"01a{number}",
        restore_point=point,
        server=replace(whole.server, system_identifier=system or 0),
        dump=kept if dump else None,
    )


def chosen(tmp_path: Path, source: FakeSource, *seals: SealManifest, label: str | None = None) -> Choice:
    for each in seals:
        write_manifest(each, tmp_path)
    choice = choose_seal(source, label, tmp_path)
    assert choice is not None
    return choice


def test_the_newest_seal_that_the_archive_reaches_is_taken_and_the_others_are_told(tmp_path: Path) -> None:
    seals = [made(1, 9 * HOUR, segment=6), made(2, 2 * HOUR, segment=8), made(3, 60, segment=9)]
    choice = chosen(tmp_path, FakeSource(archived_to=8), *seals)
    assert choice.taken.manifest.seal_id == "01a2"
    assert choice.notes(BEGAN) == (
        "seal:latest passed over 01a3, made 1min ago: WAL file 000000010000000000000009 is not archived",
    )
    assert choice.problems(BEGAN, HOUR) == ()


def test_an_archive_that_stopped_is_not_hidden_behind_the_last_seal_that_it_reaches(tmp_path: Path) -> None:
    seals = [made(1, 90 * HOUR, segment=6), made(2, 30 * HOUR, segment=9), made(3, 60, segment=12)]
    choice = chosen(tmp_path, FakeSource(archived_to=7), *seals)
    assert choice.taken.manifest.seal_id == "01a1"
    [problem] = choice.problems(BEGAN, HOUR)
    assert (problem.code, problem.blame) == (BEHIND, Blame.BACKUP)
    assert "01a2" in problem.what
    found = run_trial(trial([], known=choice.problems(BEGAN, HOUR)), emit=lambda _: None, now=lambda: BEGAN)
    assert found.verdict is DrillVerdict.FAILED


def test_a_primary_that_fills_no_file_for_hours_is_no_archive_that_stopped(tmp_path: Path) -> None:
    seals = [made(1, 30 * HOUR, segment=6), made(2, 5 * HOUR, segment=7), made(3, 2 * HOUR, segment=7)]
    choice = chosen(tmp_path, FakeSource(archived_to=6), *seals)
    assert choice.taken.manifest.seal_id == "01a1"
    assert choice.problems(BEGAN, HOUR) == ()


def test_where_no_seal_can_be_reached_the_newest_tells_why_and_an_older_one_may_still_refute(tmp_path: Path) -> None:
    choice = chosen(tmp_path, FakeSource(archived_to=3), made(1, 30 * HOUR, segment=6), made(2, 60, segment=9))
    assert choice.taken.manifest.seal_id == "01a2"
    assert choice.notes(BEGAN) == ()
    assert [problem.code for problem in choice.problems(BEGAN, HOUR)] == [BEHIND]


@pytest.mark.parametrize(
    ("newer", "why"),
    [
        (made(2, 60, segment=8, system=7), "another database system"),
        (made(2, 60, segment=0), "the backup ended after it"),
    ],
)
def test_a_seal_that_no_backup_can_be_restored_to_is_passed_over(tmp_path: Path, newer: SealManifest, why: str) -> None:
    choice = chosen(tmp_path, FakeSource(archived_to=9), made(1, HOUR, segment=7), newer)
    assert choice.taken.manifest.seal_id == "01a1"
    assert why in choice.notes(BEGAN)[0]


def test_an_archive_that_cannot_be_asked_keeps_from_no_seal(tmp_path: Path) -> None:
    choice = chosen(tmp_path, FakeSource(), made(1, HOUR, segment=7), made(2, 60, segment=9))
    assert choice.taken.manifest.seal_id == "01a2"


def test_a_dump_is_compared_with_the_seal_that_it_was_taken_with(tmp_path: Path) -> None:
    dumps = FakeSource(kind=BackupKind.DUMP, found=[replace(COPY, label=name) for name in ("mon.dump", "tue.dump")])
    seals = [
        made(1, 90, segment=1, dump="mon.dump"),
        made(2, 80, segment=1, dump="tue.dump"),
        made(3, 70, segment=1),
        made(4, 60, segment=1, dump="gone.dump"),
    ]
    choice = chosen(tmp_path, dumps, *seals)
    assert choice.taken.manifest.seal_id == "01a2"
    assert [note.partition(": ")[2] for note in choice.notes(BEGAN)] == [
        "its dump gone.dump is not there",
        "it was made without a dump",
    ]
    assert chosen(tmp_path, dumps, label="mon.dump").taken.manifest.seal_id == "01a1"


def archive(folder: Path, *numbers: int) -> str:
    for number in numbers:
        (folder / Segment(number=number, timeline=1).name(SIZE)).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("there", "point", "owed"),
    [((4, 5), 6, False), ((4, 5), 7, True), ((4, 5, 6), 6, None), ((4, 6), 7, None), ((), 7, None), ((2, 3), 7, None)],
)
def test_an_archive_that_shows_to_end_before_a_seal_is_told_before_anything_is_fetched(
    tmp_path: Path, there: tuple[int, ...], point: int, owed: bool | None
) -> None:
    copy = replace(COPY, end_lsn=Lsn(4 * SIZE + 0x100))
    target = sealed_target(parse_target("seal:01a2"), made(2, 60, segment=point))
    if owed is None:
        require_sealed_wal(copy, target, archive(tmp_path, *there))
        return
    with pytest.raises(NotArchived) as raised:
        require_sealed_wal(copy, target, archive(tmp_path, *there))
    assert (raised.value.owed, raised.value.missing) == (owed, "000000010000000000000006")


def test_a_seal_of_another_cluster_is_not_said_to_be_missing_from_the_archive(tmp_path: Path) -> None:
    target = sealed_target(parse_target("seal:01a2"), made(2, 60, segment=9, system=7))
    require_sealed_wal(replace(COPY, end_lsn=Lsn(4 * SIZE)), target, archive(tmp_path, 4))
