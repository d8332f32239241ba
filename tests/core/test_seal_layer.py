"""The layer of the seal compares a dump only with the seal that it was taken under, and never guesses at a file."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case
from replcheck.drill.layers.seal import SealLayer
from replcheck.drill.stages import Stages
from replcheck.model.drill import BackupKind, CopyFacts, LayerState, Target, TargetKind
from replcheck.model.seal import SealedDump
from tests.core import drills


def test_a_copy_of_another_cluster_by_a_command_is_compared_with_no_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "managed").mkdir()
    dump = SealedDump(
        file="/dumps/a", database="clinic", format="custom", sha256="", size_bytes=1, program="18", created="now"
    )
    restored = Restored(kind=BackupKind.COMMAND, dsn="", server=None, programs=None, databases=None, recovery=None)
    case = Case(
        copy=CopyFacts(label="managed", kind=BackupKind.COMMAND),
        target=Target(kind=TargetKind.SEAL, text="seal:latest"),
        restored=restored,
        data_dir=None,
        stages=Stages(lambda _: None),
    )
    report = asyncio.run(SealLayer(None)._compare_dump(drills.seal(dump=dump), case, restored, cast(Any, None), 0.0))
    assert report.state is LayerState.NOT_RUN
    assert report.reason.endswith("from which dump a command restored it cannot be told")
