"""The command that a seal ends with can be typed as it is, as far as anything is known."""

from pathlib import Path

import pytest

from replcheck.cli.next_drill import next_drill
from replcheck.config import load

NODES = 'cluster = "clinic"\n[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'
BASE = '[backups.nightly]\nkind = "base"\npath = "/backups/base"\n'
DUMPS = '[backups.dumps]\nkind = "dump"\npath = "/dumps"\n'
SEALS = Path("/state/clinic.seals")


@pytest.mark.parametrize(
    ("text", "dump", "told"),
    [
        (None, None, "replcheck drill --from base:DIR --wal DIR --target seal:01a2"),
        (None, "/d/x y.dump", "replcheck drill --from 'dump:/d/x y.dump' --target seal:01a2"),
        (NODES, None, "replcheck drill --config CONFIG --from base:DIR --wal DIR --target seal:01a2"),
        (NODES + BASE + DUMPS, None, "replcheck drill --config CONFIG nightly --target seal:01a2"),
        (NODES + BASE + DUMPS, "/dumps/x.dump", "replcheck drill --config CONFIG dumps --target seal:01a2"),
        (NODES + BASE + DUMPS, "/d/x.dump", "replcheck drill --config CONFIG --from dump:/d/x.dump --target seal:01a2"),
        (
            NODES + BASE + BASE.replace("nightly", "weekly") + '[drill]\nbackup = "weekly"\n',
            None,
            "replcheck drill --config CONFIG weekly --target seal:01a2",
        ),
    ],
)
def test_the_command_names_what_is_known(tmp_path: Path, text: str | None, dump: str | None, told: str):
    config = tmp_path / "clinic.toml"
    config.write_text(text or "")
    command = next_drill(
        "01a2",
        SEALS / "01a2.seal.json",
        dump=dump,
        configuration=load(config) if text else None,
        config=config if text else None,
        folder=SEALS,
    )
    assert command == told.replace("CONFIG", str(config))


@pytest.mark.parametrize("folder", [None, Path("/elsewhere")])
def test_a_seal_that_drills_would_not_find_is_named_by_its_file(folder: Path | None):
    command = next_drill("01a2", SEALS / "01a2.seal.json", dump=None, configuration=None, config=None, folder=folder)
    assert command.endswith("--target seal:/state/clinic.seals/01a2.seal.json")
