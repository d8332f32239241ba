"""Which layers prove which backup, and where a seal lies: every layer is accounted for, with its reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.config.model import (
    BaseBackup,
    CommandBackup,
    Configuration,
    DumpBackup,
    PgBackRestBackup,
    SnapshotBackup,
)
from replcheck.drill.choice import can_start, chosen
from replcheck.drill.plan import (
    LayerWishes,
    dump_of,
    finder,
    layers_for,
    sealed_target,
    source_of,
    where_it_lies,
)
from replcheck.errors import DrillBlocked, ProgramError
from replcheck.model.drill import BackupKind, LayerName, LayerState, Target, TargetKind
from replcheck.model.node import NodeTarget
from replcheck.model.wal import Lsn
from replcheck.postgres.assertions import parse_assertion
from tests.core import drills
from tests.core.drills import COPY, LATEST, SEAL

NODES = (NodeTarget(name="db1", dsn="host=db1"),)
ASSERTIONS = (parse_assertion("any", "exists (select from visit)"),)


def planned(kind, *, wanted=None, seal=None, nodes=(), assertions=(), dumps=None):
    wishes = LayerWishes(wanted=wanted, seal=seal, nodes=nodes, assertions=assertions, programs=finder({}), dumps=dumps)
    return layers_for(kind, wishes)


@given(
    st.sampled_from(BackupKind),
    st.none() | st.frozensets(st.sampled_from(LayerName), min_size=1),
    st.booleans(),
    st.sampled_from([(), NODES]),
    st.sampled_from([(), ASSERTIONS]),
)
def test_every_layer_runs_or_has_its_reason(kind, wanted, sealed, nodes, assertions):
    dumps = Path("/dumps") if kind is BackupKind.DUMP else None
    seal = drills.seal() if sealed else None
    layers, absent = planned(kind, wanted=wanted, seal=seal, nodes=nodes, assertions=assertions, dumps=dumps)
    names = [layer.name for layer in layers] + [report.name for report in absent]
    assert sorted(names, key=lambda name: name.value) == sorted(LayerName, key=lambda name: name.value)
    assert all(report.state is LayerState.NOT_RUN and report.by_design and report.reason for report in absent)
    if wanted is not None:
        assert {layer.name for layer in layers} <= wanted


@pytest.mark.parametrize(
    ("kind", "running"),
    [
        (BackupKind.BASE, set(LayerName)),
        (BackupKind.SNAPSHOT, set(LayerName) - {LayerName.MANIFEST}),
        (BackupKind.DUMP, {LayerName.SEAL, LayerName.AMCHECK, LayerName.ASSERTIONS, LayerName.COMPLETENESS}),
    ],
)
def test_all_that_makes_sense_runs(kind, running):
    layers, _ = planned(kind, seal=drills.seal(), nodes=NODES, assertions=ASSERTIONS)
    assert {layer.name for layer in layers} == running


def test_the_primary_is_not_read_and_no_seal_compared_unasked():
    layers, absent = planned(BackupKind.BASE)
    assert not [layer for layer in layers if layer.name.compares_rows]
    assert {report.name: report.reason for report in absent if report.name.compares_rows} == {
        LayerName.SEAL: "no seal was named as the target",
        LayerName.PRIMARY: "no primary was named",
    }


def test_a_seal_lies_at_its_position_in_the_wal():
    seal = drills.seal()
    target = sealed_target(SEAL, seal)
    assert (target.seal_id, target.name) == (seal.seal_id, seal.restore_point.name)
    assert where_it_lies(target, seal).lsn == seal.restore_point.lsn
    assert where_it_lies(LATEST, None) is LATEST
    assert can_start(COPY, where_it_lies(target, seal))
    assert dump_of(seal) is None


positions = st.integers(min_value=1, max_value=20).map(Lsn)


@given(st.lists(st.none() | positions, min_size=1, max_size=6), positions)
def test_the_newest_backup_is_chosen_that_ended_before_the_target_or_does_not_tell(ends, position):
    copies = [
        replace(COPY, label=str(number), start_lsn=None, end_lsn=end, taken_at=None) for number, end in enumerate(ends)
    ]
    target = Target(kind=TargetKind.LSN, text=str(position), lsn=position)
    fitting = [copy.label for copy in copies if copy.end_lsn is None or copy.end_lsn <= position]
    if fitting:
        assert chosen(copies, None, target).label == fitting[0]
    else:
        with pytest.raises(DrillBlocked, match="ended after the target"):
            chosen(copies, None, target)
    assert chosen(copies, None, LATEST).label == "0"
    last = copies[-1]
    if last.label in fitting:
        assert chosen(copies, last.label, target) is last
    else:
        with pytest.raises(DrillBlocked, match="taken after the target") as raised:
            chosen(copies, last.label, target)
        assert raised.value.code == "target_before_backup"
    assert chosen(copies, last.label, LATEST) is last


def test_a_backup_without_an_end_is_judged_by_its_start():
    copy = replace(COPY, start_lsn=Lsn(50), end_lsn=None)
    assert not can_start(copy, Target(kind=TargetKind.LSN, text="0/31", lsn=Lsn(49)))
    assert can_start(copy, Target(kind=TargetKind.LSN, text="0/32", lsn=Lsn(50)))


def test_where_nothing_lies_the_place_is_named():
    with pytest.raises(DrillBlocked, match="there is no backup in /backups"):
        chosen([], None, LATEST, place="/backups")


@pytest.mark.parametrize(
    "section",
    [
        BaseBackup(kind="base", path="/x"),
        SnapshotBackup(kind="snapshot", path="/x"),
        DumpBackup(kind="dump", path="/x"),
        PgBackRestBackup(kind="pgbackrest", stanza="x"),
        CommandBackup(kind="command", provision=("/x",), destroy=("/x",)),
    ],
    ids=lambda section: section.kind,
)
def test_every_kind_of_backup_has_its_source(section):
    assert source_of("nightly", section, scratch_dsn=None, programs=finder({})).kind.value == section.kind
    assert section.kind in str(Configuration.model_json_schema())


def test_programs_are_those_of_the_configured_folder_or_none():
    with pytest.raises(ProgramError):
        finder({"17": "/nonexistent"})(17)


def test_a_target_of_another_kind_is_no_seal():
    assert where_it_lies(SEAL, None) is SEAL
    assert SEAL.kind is TargetKind.SEAL


@pytest.mark.parametrize(
    ("count", "hint"),
    [
        (1, "There is only b0."),
        (2, "There are: b0, b1."),
        (7, "The newest are b0, b1, b2, b3, b4, and there are 2 more."),
    ],
)
def test_a_label_that_is_not_there_is_told_with_those_that_are(count: int, hint: str) -> None:
    copies = [replace(COPY, label=f"b{number}") for number in range(count)]
    with pytest.raises(DrillBlocked) as raised:
        chosen(copies, "nightly", LATEST)
    assert raised.value.hint == hint
