"""`replcheck drill` on real backups of a real primary: it proves, refutes, names what is wrong and leaves nothing."""

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import psycopg
import pytest

from replcheck.drill.seals import find_seal
from replcheck.drill.wal import Segment, segment_number
from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive, damaged_copy
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.model.run import short_id
from replcheck.postgres import processes
from replcheck.postgres.programs import run_program
from replcheck.report.published import events_schema, schema_text
from tests.cli.test_canary import CANARY, assert_unseen
from tests.commands import Ended, assert_one_line, run_command, run_here, started, wait_for
from tests.drill.physicals import contents
from tests.drill.provided_servers import provided, write_commands

_SCHEMA = f"""
create table visit (id int primary key, note text);
insert into visit select i, '{CANARY}-' || i from generate_series(1, 20000) i;
create table chart as select i as id, repeat('{CANARY}', 20) as scan from generate_series(1, 5000) i;
create extension amcheck
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinic:
    """A primary that archives, with a backup and a later seal of it."""

    cluster: LabCluster
    archive: Path
    backup: Path
    state: Path
    """The folder that a home's state is copied from, with the seal in it."""

    @property
    def words(self) -> list[str]:
        return ["drill", "--from", f"base:{self.backup}", "--wal", str(self.archive)]


@pytest.fixture(scope="module")
def clinic(clusters_root: Path, newest_major: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    name = f"drilled_{os.getpid()}"
    with LabCluster.create(
        clusters_root, name=name, major=newest_major, standbys=0, settings={**ARCHIVING, "autovacuum": "off"}
    ) as cluster:
        for statement in _SCHEMA.split(";\n"):
            cluster.primary.execute(statement)
        archive = begin_archive(cluster)
        backup = base_backup(cluster, "monday")
        cluster.primary.execute("update visit set note = note || 'later' where id % 3 = 0")
        home = tmp_path_factory.mktemp("sealing")
        sealed = run_command("seal", "--primary", cluster.audit_dsn("primary"), home=home)
        assert sealed.status == 0, sealed
        assert_unseen(home, sealed)
        cluster.primary.execute("delete from visit where id < 100")
        archive_all(cluster, archive)
        yield Clinic(cluster=cluster, archive=archive, backup=backup, state=home / ".local")


@pytest.fixture(scope="module")
def damaged(clinic: Clinic) -> tuple[Path, str, int]:
    """A copy of the backup, beside it, with one bit of a row flipped; and the file and the block of that."""
    return damaged_copy(clinic.cluster, clinic.backup, "chart")


@pytest.fixture
def scratch(clinic: Clinic) -> Iterator[Path]:
    """A folder for scratch directories, which does not exist yet."""
    folder = clinic.cluster.directory / "scratch"
    assert not folder.exists()
    yield folder
    run_command("drill", "--clean", "--scratch", str(folder), home=clinic.cluster.directory.parent)
    assert not folder.exists()


@pytest.fixture
def home(clinic: Clinic, tmp_path: Path) -> Path:
    """A home that knows the seal."""
    shutil.copytree(clinic.state, tmp_path / ".local")
    return tmp_path


def drill(clinic: Clinic, home: Path, scratch: Path, *more: str, backup: Path | None = None) -> Ended:
    words = clinic.words if backup is None else ["drill", "--from", f"base:{backup}", "--wal", str(clinic.archive)]
    return run_command(*words, "--scratch", str(scratch), *more, home=home)


def test_a_backup_is_proven_by_its_seal_and_nothing_of_it_is_left_or_shown(clinic, home, scratch):
    before = contents(clinic.backup)
    options = ("--target", "seal:latest", "--verbose", "--debug", "--events", "events.jsonl")
    ended = drill(clinic, home, scratch, *options)
    assert ended.status == 0, ended
    assert "RESTORED" in ended.out
    assert "matches the seal" in " ".join(ended.out.split())
    assert not scratch.exists()
    assert contents(clinic.backup) == before
    assert_unseen(home, ended)
    schema = jsonschema.Draft202012Validator(events_schema())
    kinds = []
    for line in (home / "events.jsonl").read_text(encoding="utf-8").splitlines():
        schema.validate(json.loads(line))
        kinds.append(json.loads(line)["event"])
    assert {"backup_chosen", "stage_began", "stage_ended", "layer_finished", "run_finished"} <= set(kinds)
    assert run_command("report", "latest", "--verbose", home=home) == Ended(0, ended.out, "")
    shown = run_command("history", "show", "latest", home=home)
    assert shown.status == 0
    assert "restored" in shown.out
    document = json.loads(run_command("report", "latest", "--format", "json", home=home).out)
    jsonschema.Draft202012Validator(json.loads(schema_text("drill"))).validate(document)
    assert document["scratch"]["removed"]


def test_a_damaged_backup_is_refuted_by_name_and_its_rows_stay_unseen(
    clinic, damaged, home, scratch, monkeypatch, capfd
):
    copy, file, block = damaged
    primary = f"{clinic.cluster.primary.address} dbname=postgres user={AUDIT_ROLE} password={CANARY}"
    options = ("--target", "seal:latest", "--verbose", "--debug", "--events", "events.jsonl", "--format", "json")
    ended = drill(clinic, home, scratch, *options, "--primary", primary, backup=copy)
    assert ended.status == 2, ended
    layers = {layer["name"]: layer for layer in json.loads(ended.out)["layers"]}
    assert file in layers["backup manifest"]["problems"][0]["what"]
    assert str(block) in str(layers["page checksums"]["problems"])
    assert {found["relation"] for found in layers["rows against a seal"]["differences"]} == {"public.chart"}
    assert layers["rows against the primary"]["state"] == "not run"
    assert_unseen(home, ended)
    for which in (("latest",), ("--since", "1d")):
        for form in ("json", "html", "markdown", "junit"):
            words = ("report", *which, "--format", form)
            reported = run_here(*words, home=home, monkeypatch=monkeypatch, capfd=capfd)
            assert (reported.status, reported.err) == (0, ""), reported
            assert_unseen(home, reported)


def test_a_seal_that_is_not_archived_yet_is_not_tried_and_latest_passes_over_it(clinic, home, scratch):
    sealed = run_command("seal", "--primary", clinic.cluster.audit_dsn("primary"), "--format", "json", home=home)
    assert sealed.status == 0, sealed
    seal_id = json.loads(sealed.out)["seal_id"]
    ended = drill(clinic, home, scratch, "--target", f"seal:{seal_id}")
    assert ended.status == 3, ended
    assert "is not archived yet" in ended.out
    assert "SELECT pg_switch_wal();" in " ".join(ended.out.split())
    # Also where the recovery itself has to find out, since a restore_command cannot be listed.
    config = home / "silent.toml"
    config.write_text(_CONFIGURED.format(backup=clinic.backup, archive=clinic.archive, delay="1h"))
    options = ("--config", str(config), "--scratch", str(scratch), "--target", f"seal:{seal_id}")
    ended = run_command("drill", *options, home=home)
    assert ended.status == 3, ended
    assert "is not archived yet" in " ".join(ended.out.split())
    assert "recovery got to" in ended.out
    ended = drill(clinic, home, scratch, "--target", "seal:latest", "--layer", "seal")
    assert ended.status == 0, ended
    assert f"seal:latest passed over {short_id(seal_id)}" in " ".join(ended.out.split())


@pytest.mark.long
def test_an_archive_that_lacks_an_old_seal_is_refuted(clinic, home, scratch):
    sealed = run_command("seal", "--primary", clinic.cluster.audit_dsn("primary"), "--format", "json", home=home)
    assert sealed.status == 0, sealed
    stopped = home / "stopped"
    shutil.copytree(clinic.archive, stopped)
    archive_all(clinic.cluster, clinic.archive)
    second = run_command("seal", "--primary", clinic.cluster.audit_dsn("primary"), home=home)
    assert second.status == 0, second
    time.sleep(1.5)
    config = home / "stopped.toml"
    config.write_text(_CONFIGURED.format(backup=clinic.backup, archive=stopped, delay="1s"))
    options = ("--config", str(config), "--scratch", str(scratch), "--layer", "seal")
    ended = run_command("drill", *options, "--target", "seal:latest", home=home)
    assert ended.status == 2, ended
    told = " ".join(ended.out.split())
    assert "the archive has stopped or is behind" in told
    assert "drill.archive_delay allows 1s" in told


_CONFIGURED = """\
cluster = "unnamed"
[nodes]
db1 = {{ dsn = "host=/nonexistent/1" }}
db2 = {{ dsn = "host=/nonexistent/2" }}
[backups.nightly]
kind = "base"
path = "{backup}"
restore_command = "cp '{archive}/%f' %p"
[drill]
archive_delay = "{delay}"
"""


@pytest.mark.long
def test_a_missing_segment_is_named_with_how_far_recovery_got(clinic, home, scratch):
    # With a later file behind it: at its end an archive may just not have come so far.
    clinic.cluster.primary.execute("select pg_logical_emit_message(true, 'test', 'x')")
    archive_all(clinic.cluster, clinic.archive)
    archive = home / "given-wal"
    shutil.copytree(clinic.archive, archive)
    sealed = find_seal("latest", home / ".local/state/replcheck/unnamed.seals").manifest
    size, point = sealed.server.segment_bytes, sealed.restore_point
    missing = Segment(number=segment_number(point.lsn, size), timeline=point.timeline).name(size)
    (archive / missing).unlink()
    words = ("drill", "--from", f"base:{clinic.backup}", "--wal", str(archive), "--scratch", str(scratch))
    ended = run_command(*words, "--target", "seal:latest", home=home)
    assert ended.status == 2, ended
    assert missing in ended.out


def test_a_copy_that_is_kept_can_be_asked_and_is_removed_by_clean(clinic, home, scratch):
    ended = drill(clinic, home, scratch, "--keep", "--layer", "checksums", "--quiet")
    assert ended.status == 1, ended
    [command] = [line.strip() for line in ended.out.splitlines() if line.strip().startswith("psql ")]
    with psycopg.connect(command.removeprefix('psql "').removesuffix('"')) as connection:
        assert connection.execute("select count(*) from visit").fetchall() == [(19_901,)]
        assert connection.execute("show listen_addresses").fetchall() == [("",)]
    assert (scratch / f"drill-{json.loads(_latest(home))['run_id']}").stat().st_mode & 0o777 == 0o700
    cleaned = run_command("drill", "--clean", "--scratch", str(scratch), home=home)
    assert cleaned.status == 0
    assert "was removed" in cleaned.out
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param("recover", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("fetch", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("prove", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("fetch", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("recover", signal.SIGTERM, marks=pytest.mark.long),
        ("prove", signal.SIGINT),
        pytest.param("prove", signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_a_drill_that_is_ended_at_any_stage_leaves_the_backup_and_nothing_else(clinic, home, scratch, stage, number):
    before = contents(clinic.backup)
    words = [*clinic.words, "--scratch", str(scratch), "--target", "seal:latest", "--events", "events.jsonl"]
    with started(*words, home=home) as process:
        wait_for(lambda: _reached(home / "events.jsonl", stage))
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert contents(clinic.backup) == before
    assert "Traceback" not in errors
    if number is signal.SIGKILL:
        assert any(scratch.iterdir())
        following = drill(clinic, home, scratch, "--layer", "assertions")
        assert "left by a drill that was killed, was removed" in following.err
    else:
        assert process.returncode == 3, out + errors
        assert f"ended by {number.name}" in " ".join(out.split())
    assert not scratch.exists()
    assert _servers_below(scratch) == []


def test_a_scratch_folder_that_holds_anything_else_is_left_alone(clinic, home, scratch):
    mine = home / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    ended = drill(clinic, home, mine)
    assert ended.status == 3, ended
    assert "letter" in ended.out
    assert [entry.name for entry in mine.iterdir()] == ["letter"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "base:/nonexistent/x"], None),
        (["--from", "dump:/nonexistent/x"], None),
        (["--from", "pgbackrest:nonesuch"], None),
        (["--from", "tape:/dev/st0"], "--from must be KIND:PATH"),
        (["nightly"], "no backup"),
        (["--from", "base:/x", "--target", "seal:nonesuch"], "no seal"),
        (["--from", "base:/x", "--target", "2026-13-01"], "is no time"),
        (["--from", "base:/x", "--require", "pages"], "is no layer"),
        (["--from", "base:/x", "--output", "/nonexistent/report"], "cannot write the report"),
        (["--from", "base:/x", "--events", "-"], "both want standard output"),
        (["--copy"], ""),
    ],
)
def test_bad_input_ends_in_one_line_or_a_report_and_status_3(tmp_path, monkeypatch, capfd, words, told):
    ended = run_here("drill", *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    if told is None:
        assert ended.status == 3, ended
        assert "NOT TRIED" in ended.out
        assert "Traceback" not in ended.out + ended.err
    else:
        assert told in assert_one_line(ended)


def configured(home: Path, scratch: Path, backup: str, drill_keys: str = "") -> tuple[str, ...]:
    """Write a configuration with one backup and return the words of its drill; the seals of the home are its own."""
    (home / "clinic.toml").write_text(
        f'cluster = "unnamed"\n[nodes]\ndb1 = {{ dsn = "host=/nonexistent/1" }}\n[backups.nightly]\n{backup}\n'
        f'[drill]\nscratch = "{scratch}"\n{drill_keys}\n'
    )
    return ("drill", "nightly", "--config", "clinic.toml")


@pytest.mark.long
@pytest.mark.parametrize("sound", [True, False], ids=["right rows", "wrong rows"])
def test_a_server_that_commands_provide_is_held_against_the_seal_and_destroyed(clinic, damaged, home, scratch, sound):
    sealed = find_seal("latest", home / ".local/state/replcheck/unnamed.seals").manifest
    backup = clinic.backup if sound else damaged[0]
    commands = write_commands(home, clinic.cluster, backup, clinic.archive, sealed.restore_point.name)
    backup_keys = 'kind = "command"\nprovision = ["{}"]\ndestroy = ["{}"]'.format(*commands)
    words = configured(home, scratch, backup_keys, 'layers = ["seal"]')
    ended = run_command(*words, "--target", "seal:latest", "--format", "json", home=home)
    left = _servers_below(provided(clinic.cluster))
    processes.kill_all_in(provided(clinic.cluster) / "data")
    assert ended.status == (0 if sound else 2), json.loads(ended.out)["problems"]
    [layer] = [layer for layer in json.loads(ended.out)["layers"] if layer["name"] == "rows against a seal"]
    assert layer["state"] == ("passed" if sound else "failed")
    assert [found["relation"] for found in layer["differences"]] == ([] if sound else ["public.chart"])
    assert not provided(clinic.cluster).exists(), "it was not destroyed"
    assert left == []
    assert_unseen(home, ended)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("max_age", "the newest recovered commit was as old as"),
        ("max_time", "the recovery took"),
    ],
)
def test_a_sound_backup_that_exceeds_a_limit_is_refuted_with_the_limit(clinic, home, scratch, key, told):
    # Recovery asks at its end for a later timeline, and that alone takes longer than is allowed in all.
    slow = "case %f in 00000002.history) sleep 1.1;; esac; " if key == "max_time" else ""
    fetch = f"{slow}cp '{clinic.archive}/%f' %p"
    keys = f'kind = "base"\npath = "{clinic.backup}"\nrestore_command = "{fetch}"'
    words = configured(home, scratch, keys, f'layers = ["checksums"]\n{key} = "1s"')
    ended = run_command(*words, home=home)
    assert ended.status == 2, ended
    said = " ".join(ended.out.split())
    assert told in said
    assert f"drill.{key} allows 1s" in said
    assert ("drill.max_age" in said) is (key == "max_age")


def test_each_of_several_copies_is_drilled_and_the_worst_decides(clinic, damaged, home, scratch):
    keys = f'kind = "base"\npath = "{clinic.backup.parent}"\nwal = "{clinic.archive}"'
    words = configured(home, scratch, keys, 'layers = ["seal"]')
    ended = run_command(*words, "--all", "--target", "seal:latest", "--format", "json", home=home)
    assert ended.status == 2, ended
    drills = json.loads(ended.out)["drills"]
    assert {drill["copy"]["label"].rpartition("/")[2]: drill["verdict"] for drill in drills} == {
        "monday": "restored",
        "monday-damaged": "failed",
    }


@pytest.mark.parametrize("form", ["custom", pytest.param("directory", marks=pytest.mark.long)])
def test_the_jobs_of_a_dump_reach_pg_restore(clinic, home, scratch, form):
    primary = clinic.cluster.primary
    folder = clinic.cluster.directory / f"programs-{form}"
    folder.mkdir(mode=0o755)
    for program in primary.programs.bindir.iterdir():
        (folder / program.name).symlink_to(program)
    (folder / "pg_restore").unlink()
    (folder / "pg_restore").write_text(
        f"#!/bin/sh\necho \"$@\" >> '{home}/said'\nexec '{primary.programs.path('pg_restore')}' \"$@\"\n"
    )
    (folder / "pg_restore").chmod(0o755)
    dump = home / "dump"
    run_program(primary.programs, "pg_dump", ["--format", form, "--file", str(dump), "--dbname", primary.dsn()])
    keys = f'layers = ["completeness"]\nprograms = {{ "{primary.programs.major}" = "{folder}" }}'
    words = configured(home, scratch, f'kind = "dump"\npath = "{dump}"\njobs = 3', keys)
    ended = run_command(*words, home=home)
    assert ended.status == 1, ended.out
    said = (home / "said").read_text().splitlines()
    restores = [line for line in said if "--dbname" in line]
    assert restores
    assert all("--jobs=3" in line.split() for line in restores), said


def _latest(home: Path) -> str:
    with sqlite3.connect(home / ".local/state/replcheck/unnamed.db") as connection:
        [(document,)] = connection.execute("select document from results order by run_id desc limit 1").fetchall()
    connection.close()
    return str(document)


def _reached(events: Path, stage: str) -> bool:
    if not events.exists():
        return False
    lines = [
        json.loads(line) for line in events.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"
    ]
    return any(line["event"] == "stage_began" and line["stage"] == stage for line in lines)


def _servers_below(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and processes.is_alive(int(entry.name)):
            try:
                works_in = (entry / "cwd").readlink()
            except OSError:
                continue
            found += [int(entry.name)] if works_in.is_relative_to(folder) else []
    return found
