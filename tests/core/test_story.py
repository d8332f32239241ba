"""The demo's story: in plain words, never wider than the terminal, and never claiming what a scene does not say."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from replcheck.model.audit import DifferenceKind
from replcheck.model.demo import (
    AuditEnded,
    BackupDamaged,
    BackupTaken,
    ClusterStarted,
    CopyMade,
    DemoBegun,
    DemoEnded,
    DrillEnded,
    FaultDone,
    Part,
    PartBegun,
    RowLookedUp,
    SealMade,
    UsualChecksRead,
    WritingStarted,
)
from replcheck.report.story import Storyteller
from replcheck.report.style import Style
from tests import factories
from tests.core import drills

GOLDEN = Path(__file__).parents[1] / "data" / "demo.txt"
FOLDER = Path("/var/lib/replcheck-lab")
FIRST = AuditEnded(
    part=Part.FIRST_AUDIT, result=factories.consistent(), took_s=4.2, transactions=420, usual_per_second=101.2
)
FOUND = factories.divergence(DifferenceKind.CHANGED, count=1)
ENDED = DemoEnded(problems=(), broken="db3", healed=True, drilled=True, took_s=61.0, kept="", folder=FOLDER)
SCENES = (
    DemoBegun(folder=FOLDER, kept=False),
    PartBegun(part=Part.CLUSTER),
    ClusterStarted(version="18.1", primary="db1", standbys=("db2", "db3"), took_s=3.4),
    PartBegun(part=Part.WRITING),
    WritingStarted(size_bytes=80 << 20, connections=6, per_second=101.2),
    PartBegun(part=Part.FIRST_AUDIT),
    FIRST,
    PartBegun(part=Part.FAULT),
    FaultDone(node="db3", relation="public.visit", block=12, offset=3),
    UsualChecksRead(
        node="db3",
        relation="public.visit",
        state="streaming",
        lag_bytes=120,
        checksum_failures=0,
        rows=4000,
        primary_rows=4000,
    ),
    PartBegun(part=Part.SECOND_AUDIT),
    replace(FIRST, part=Part.SECOND_AUDIT, result=factories.diverged(divergences=(FOUND,))),
    RowLookedUp(agreeing=("db1", "db2"), odd=("db3",)),
    PartBegun(part=Part.NEW_COPY),
    CopyMade(node="db3", took_s=2.5),
    replace(FIRST, part=Part.NEW_COPY),
    PartBegun(part=Part.BACKUP),
    BackupTaken(size_bytes=108 << 20, took_s=2.1),
    SealMade(seal=drills.seal(), took_s=3.2, transactions_before=200, transactions_after=210),
    PartBegun(part=Part.DRILL),
    DrillEnded(part=Part.DRILL, result=drills.result(), took_s=12.0),
    PartBegun(part=Part.DAMAGED_DRILL),
    BackupDamaged(file="base/5/16384", block=70, relation="clinic.chart"),
    DrillEnded(part=Part.DAMAGED_DRILL, result=drills.failed(), took_s=12.0),
    ENDED,
)


def told(*scenes, width=80, ascii_only=False):
    page = io.StringIO()
    console = Console(file=page, width=width, highlight=False, no_color=True)
    teller = Storyteller(console, Style(ascii_only=ascii_only))
    for scene in scenes:
        teller(scene)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


def test_the_story_is_the_agreed_one():
    text = told(*SCENES)
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_only_what_is_to_be_copied_is_wider_than_the_terminal(width):
    wide = [line for line in told(*SCENES, width=width).splitlines() if len(line) > width]
    assert [
        line
        for line in wide
        if "SELECT" not in line and "--re" not in line and "--from" not in line and "--primary" not in line
    ] == []


def test_a_plain_terminal_gets_plain_letters():
    assert told(*SCENES, ascii_only=True).isascii()


def test_every_part_has_its_words():
    text = told(*(PartBegun(part=part) for part in Part))
    assert [line[:2] for line in text.splitlines() if line and line[0] != " "] == [
        f"{n}." for n in range(1, len(Part) + 1)
    ]


def test_problems_are_told_and_nothing_is_promised():
    text = told(replace(ENDED, problems=("a page checksum failed on db3",)))
    assert "THE DEMO FAILED" in text
    assert "a page checksum failed on db3" in text
    assert "AS PROMISED" not in text


def test_alignments_that_were_not_exact_are_not_called_so():
    assert "all of which" in told(replace(FIRST, result=exactly_aligned()))
    assert "4 pairs of snapshots, 2 of which" in " ".join(told(FIRST).split())


def test_a_demo_without_time_for_a_new_copy_does_not_speak_of_one():
    assert "new copy" not in told(replace(ENDED, healed=False))


def test_a_demo_without_a_drill_does_not_speak_of_one():
    assert "backup was restored" in " ".join(told(ENDED).split())
    assert "backup was restored" not in " ".join(told(replace(ENDED, drilled=False)).split())


def test_a_kept_cluster_is_not_called_removed():
    text = told(replace(ENDED, kept="demo"))
    assert "removed" not in text
    assert f"replcheck lab down --name demo --dir {FOLDER}" in text


def exactly_aligned():
    replica = replace(factories.replica("db2"), alignments=(factories.alignment(),))
    return factories.consistent(replicas=(replica,))
