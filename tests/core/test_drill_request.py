"""What a drill is asked for: flags over environment over file, and nonsense refused before anything is looked at."""

from dataclasses import replace
from pathlib import Path

import pytest

from replcheck.config import load
from replcheck.errors import ConfigurationError, UsageError
from replcheck.model.drill import FROM, BackupKind, LayerName, TargetKind
from replcheck.model.run import UNNAMED_CLUSTER
from replcheck.runs.drill_request import DrillFlags, drill_request

NODES = 'cluster = "clinic"\n[nodes]\na = { dsn = "host=a password=canary" }\nb = { dsn = "host=b" }\n'
BACKUPS = """
[backups.nightly]
kind = "base"
path = "/backups/base"
wal = "/backups/wal"
[backups.dumps]
kind = "dump"
path = "/backups/dumps"
"""
DRILL = """
[drill]
backup = "nightly"
target = "before_migration"
scratch = "/scratch"
layers = ["seal", "manifest", "amcheck"]
require = ["manifest"]
max_time = "2h"
max_age = "5min"
timeout = "4h"
programs = { "16" = "/opt/pg16/bin" }
[drill.assertions]
any_visit = "exists (select from visit)"
"""
HERE = {"HOME": "/home/amal"}


@pytest.fixture
def configured(tmp_path):
    def configure(text):
        path = tmp_path / "clinic.toml"
        path.write_text(text)
        return load(path)

    return configure


def request(configuration=None, environment=HERE, **flags):
    return drill_request(DrillFlags(**flags), configuration, environment)


def test_everything_comes_from_the_file(configured):
    found = request(configured(NODES + BACKUPS + DRILL))
    assert (found.cluster, found.name, found.backup.path) == ("clinic", "nightly", "/backups/base")
    assert (found.target.kind, found.target.name) == (TargetKind.RESTORE_POINT, "before_migration")
    assert found.scratch == Path("/scratch")
    assert found.layers == {LayerName.SEAL, LayerName.MANIFEST, LayerName.AMCHECK}
    assert found.required == {LayerName.MANIFEST}
    assert (found.limits.max_time_s, found.limits.max_age_s, found.timeout_s) == (7200, 300, 14400)
    assert [assertion.name for assertion in found.assertions] == ["any_visit"]
    assert found.nodes == ()


def test_a_backup_may_require_other_layers_than_the_rest(configured):
    text = NODES + BACKUPS.replace("[backups.nightly]", '[backups.nightly]\nrequire = ["amcheck", "seal"]') + DRILL
    assert text.count("require =") == 2
    assert request(configured(text)).required == {LayerName.AMCHECK, LayerName.SEAL}
    assert request(configured(text), require=("manifest",)).required == {LayerName.MANIFEST}
    assert request(configured(text.replace('["amcheck", "seal"]', "[]"))).required == frozenset()


def test_a_flag_beats_the_environment_which_beats_the_file(configured):
    configuration = configured(NODES + BACKUPS + DRILL)
    environment = HERE | {"REPLCHECK_SCRATCH": "/from/environment"}
    assert request(configuration, environment).scratch == Path("/from/environment")
    found = request(
        configuration,
        environment,
        backup="dumps",
        target="latest",
        scratch=Path("/from/flag"),
        layers=("seal",),
        require=("seal",),
    )
    assert found.scratch == Path("/from/flag")
    assert (found.name, found.target.kind) == ("dumps", TargetKind.LATEST)
    assert found.layers == found.required == {LayerName.SEAL}


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("base:/backups/x", "base", "/backups/x"),
        ("snapshot:/mnt/snap", "snapshot", "/mnt/snap"),
        ("dump:/dumps/a:b.dump", "dump", "/dumps/a:b.dump"),
    ],
)
def test_a_backup_can_be_spelled_out(text, kind, place):
    found = request(source=text)
    assert (found.cluster, found.name) == (UNNAMED_CLUSTER, FROM)
    assert (found.backup.kind, found.backup.path) == (kind, place)


def test_the_archive_and_the_stanza_of_a_spelled_out_backup():
    assert request(source="base:/b", wal=Path("/wal")).backup.wal == "/wal"
    assert request(source="pgbackrest:clinic").backup.stanza == "clinic"


def test_places_are_told_from_the_root_whatever_folder_a_program_runs_in(tmp_path, monkeypatch, configured):
    monkeypatch.chdir(tmp_path)
    dump = request(source="dump:clinic.dump", globals=Path("globals.sql")).backup
    assert (dump.path, dump.globals) == (f"{tmp_path}/clinic.dump", f"{tmp_path}/globals.sql")
    base = request(source="base:../b", wal=Path("wal")).backup
    assert (base.path, base.wal) == (f"{tmp_path}/../b", f"{tmp_path}/wal")
    repository = '[backups.x]\nkind = "pgbackrest"\nstanza = "clinic"\nconfig = "pgbackrest.conf"\n'
    assert request(configured(NODES + repository)).backup.config == f"{tmp_path}/pgbackrest.conf"


@pytest.mark.parametrize("inside", ["backup", "backup/scratch", "wal/scratch", "link/scratch"])
def test_no_copy_is_made_inside_what_is_only_read(tmp_path, inside):
    for name in ("backup", "wal"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "wal")
    flags = DrillFlags(source=f"base:{tmp_path}/backup", wal=tmp_path / "wal", scratch=tmp_path / inside)
    with pytest.raises(UsageError, match="which is only read"):
        drill_request(flags, None, {"HOME": str(tmp_path)})
    drill_request(replace(flags, scratch=tmp_path / "elsewhere"), None, {"HOME": str(tmp_path)})


def test_a_cluster_without_replicas_has_backups_too(configured):
    alone = configured('cluster = "c"\n[nodes]\na = { dsn = "host=a" }\n' + BACKUPS)
    assert request(alone, backup="dumps").cluster == "c"
    assert [node.name for node in request(alone, backup="nightly", layers=("primary",)).nodes] == ["a"]


def test_the_only_backup_needs_no_name(configured):
    assert request(configured(NODES + BACKUPS.partition("[backups.dumps]")[0])).name == "nightly"


@pytest.mark.parametrize(
    ("text", "flags", "told"),
    [
        (None, {}, "no backup to drill"),
        (NODES, {}, "no backup to drill"),
        (NODES + BACKUPS, {}, "no backup to drill"),
        (NODES + BACKUPS, {"backup": "weekly"}, 'no backup "weekly" is configured'),
        (None, {"source": "/backups/x"}, "--from must be KIND:PATH"),
        (None, {"source": "command:x"}, "--from must be KIND:PATH"),
        (None, {"source": "base:"}, "--from must be KIND:PATH"),
        (None, {"source": "dump:/x", "wal": Path("/wal")}, "--wal makes no sense"),
        (None, {"wal": Path("/wal")}, "--wal was given without --from"),
        (None, {"source": "base:/x", "globals": Path("/g.sql")}, "--globals makes no sense"),
        (None, {"globals": Path("/g.sql")}, "--globals was given without --from"),
        (None, {"source": "base:/x", "backup": "y"}, "a configured backup and --from"),
        (None, {"source": "base:/x", "every": True, "copy": "y"}, "--all and --copy"),
        (None, {"source": "base:/x", "every": True, "keep": True}, "--all and --keep"),
        (None, {"source": "base:/x", "layers": ("pages",)}, '--layer "pages" is no layer'),
        (None, {"source": "base:/x", "require": ("pages",)}, '--require "pages" is no layer'),
        (None, {"source": "base:/x", "layers": ("seal",), "require": ("amcheck",)}, "required and left out: amcheck"),
        (None, {"source": "base:/x", "target": "2026-11-28 10:00:00"}, "no offset"),
        (None, {"source": "base:/x", "target": ""}, "'' cannot be the name of a restore point"),
        (None, {"source": "dump:/x", "layers": ("manifest",)}, "--layer manifest makes no sense for .* kind dump"),
        (None, {"source": "snapshot:/x", "require": ("manifest",)}, "--require manifest makes no sense"),
        (None, {"source": "dump:/x", "layers": ("primary",)}, "--layer primary makes no sense"),
        (None, {"source": "base:/x", "primary": "a"}, "--primary names no configured node"),
        (None, {"source": "base:/x", "primary": "host=a pass word=canary"}, "--primary"),
    ],
)
def test_nonsense_is_refused_in_one_line(configured, text, flags, told):
    with pytest.raises(UsageError, match=told) as caught:
        request(configured(text) if text else None, **flags)
    assert "canary" not in caught.value.message + caught.value.hint


def test_the_roles_of_a_dump_come_from_their_own_file():
    assert request(source="dump:/x").backup.globals is None
    assert request(source="dump:/x", globals=Path("/g.sql")).backup.globals == "/g.sql"


def test_an_assertion_that_writes_is_refused(configured):
    text = NODES + BACKUPS + '[drill]\nbackup = "nightly"\n[drill.assertions]\nbad = "drop table x"'
    with pytest.raises(ConfigurationError, match="bad"):
        request(configured(text))


def test_the_primary_is_read_only_where_that_was_asked_for(configured):
    configuration = configured(NODES + BACKUPS)
    assert request(configuration, backup="nightly").nodes == ()
    assert [node.name for node in request(configuration, backup="nightly", primary="a").nodes] == ["a"]
    assert [node.name for node in request(configuration, backup="nightly", require=("primary",)).nodes] == ["a", "b"]
    assert "canary" not in repr(request(configuration, backup="nightly", primary="host=a password=canary"))


def test_what_was_asked_is_told_apart_without_its_secrets(configured):
    configuration = configured(NODES + BACKUPS)
    base = request(configuration, backup="nightly")
    assert base.argument_digest == request(configuration, backup="nightly").argument_digest
    assert base.argument_digest != request(configuration, backup="dumps").argument_digest
    assert base.argument_digest != request(configuration, backup="nightly", target="x").argument_digest


SAMPLES = sorted((Path(__file__).parents[2] / "sample_configs").glob("*.toml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_backup_of_the_samples_can_be_asked_for(path):
    configuration = load(path)
    for name in configuration.backups:
        found = request(configuration, backup=name)
        assert found.backup == configuration.backups[name]
        assert len(found.assertions) == len(configuration.drill.assertions)


def test_there_is_a_sample_for_every_kind_of_backup():
    kinds = {backup.kind for path in SAMPLES for backup in load(path).backups.values()}
    assert kinds == {kind.value for kind in BackupKind}
