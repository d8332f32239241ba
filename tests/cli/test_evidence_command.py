"""`replcheck evidence` as it is typed: what it finds, what it writes, and what it refuses; the audits are fakes."""

import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from replcheck.cli.main import main
from replcheck.evidence.statement import document_digest
from replcheck.report.published import schema_text
from replcheck.runs import audit as audit_use_case
from replcheck.runs.evidence import evidence_head
from tests.cli.test_check_command import as_nobody
from tests.commands import Ended, assert_one_line, environment
from tests.evidences import payload_of, resigned, with_payload
from tests.factories import consistent, diverged
from tests.fakes import returning

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
cluster = "clinic"
[nodes]
a = { dsn = "host=a password=canary" }
b = { dsn = "host=b" }
[output]
store = "clinic.db"
"""


def said(words, capsys=None, *, result=None):
    """Run one command here; an audit finds `result`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_use_case, "default_auditor", lambda: returning(result or consistent()))
        status = main(words)
    if capsys is None:
        return Ended(int(status), "", "")
    streams = capsys.readouterr()
    assert "canary" not in streams.out + streams.err
    return Ended(int(status), streams.out, streams.err)


def prepare(folder, patch):
    """Make a folder with a configuration the current one."""
    for variable, value in environment(folder).items():
        patch.setenv(variable, value)
    for variable in ("REPLCHECK_CONFIG", "REPLCHECK_DEBUG", "REPLCHECK_FORMAT", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        patch.delenv(variable, raising=False)
    patch.chdir(folder)
    (folder / "replcheck.toml").write_text(f"{CONFIGURATION}signing_key = 'clinic.key'\n", encoding="utf-8")


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A folder with a history of three signed audits and a note; all paths in it are relative."""
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, patch)
        assert said(["evidence", "keys"]).status == 0
        for result in (consistent(), diverged(), consistent()):
            said(["audit"], result=result)
        assert said(["evidence", "note", "latest", "--reviewer", "Amal", "--text", "seen"]).status == 0
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run one command in a folder with a configuration."""
    prepare(tmp_path, monkeypatch)
    return lambda *words, result=None: said(words, capsys, result=result)


@pytest.fixture
def audited(run, tmp_path, history):
    """Run commands in a copy of the folder with the history."""
    shutil.copytree(history, tmp_path, dirs_exist_ok=True)
    return run


def exported(run, tmp_path, *words):
    ended = run("evidence", "export", "--output", "clinic.jsonl", *words)
    assert ended.status == 0, ended
    return tmp_path / "clinic.jsonl"


def lines_of(path):
    return path.read_bytes().splitlines()


def rewritten(path, lines):
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


VERIFY = ("evidence", "verify", "--file", "clinic.jsonl", "--public-key", "clinic.key.pub")


# --- keys ---


def test_a_pair_of_keys_is_made_closed_and_never_again(run, tmp_path):
    ended = run("evidence", "keys", "other.key")
    assert ended.status == 0
    assert stat.S_IMODE((tmp_path / "other.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "other.key.pub").stat().st_mode) == 0o644
    [key_id] = re.findall(r"key id +([0-9a-f]{64})", ended.out)
    before = (tmp_path / "other.key").read_bytes()
    assert "PRIVATE" not in ended.out
    assert "exists already" in assert_one_line(run("evidence", "keys", "other.key"))
    assert (tmp_path / "other.key").read_bytes() == before
    assert key_id in run("evidence", "keys", "other.key", "--show").out


def test_half_a_pair_is_never_overwritten(run, tmp_path):
    (tmp_path / "other.key.pub").write_text("kept", encoding="utf-8")
    assert "other.key.pub exists already" in assert_one_line(run("evidence", "keys", "other.key"))
    assert not (tmp_path / "other.key").exists()


def test_a_key_goes_where_the_configuration_says(run, tmp_path):
    assert run("evidence", "keys").status == 0
    assert (tmp_path / "clinic.key").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the public key"),
        (b"", "is no Ed25519 public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is no Ed25519 public key in PEM"),
        ("private", "holds a private key, and verifying needs the public one"),
    ],
)
def test_a_public_key_that_is_none_is_one_line(audited, tmp_path, content, said):
    exported(audited, tmp_path)
    if content is not None:
        (tmp_path / "x").write_bytes((tmp_path / "clinic.key").read_bytes() if content == "private" else content)
    ended = audited("evidence", "verify", "--file", "clinic.jsonl", "--public-key", "x")
    assert said in assert_one_line(ended)


@pytest.mark.parametrize("command", [("audit",), ("evidence", "export"), ("evidence", "note", "latest")])
def test_a_private_key_that_others_can_read_is_refused(audited, tmp_path, command):
    (tmp_path / "clinic.key").chmod(0o644)
    more = ("--reviewer", "a", "--text", "b") if "note" in command else ()
    assert "can be read by others" in assert_one_line(audited(*command, *more))


# --- verify ---


def test_a_history_and_its_export_are_whole(audited, tmp_path):
    ended = audited("evidence", "verify")
    assert (ended.status, ended.err) == (0, "")
    assert "WHOLE  5 records of clinic, 1 to 5: none was changed, removed, put in or reordered." in ended.out
    assert "keep the head elsewhere, and ask again" in " ".join(ended.out.split())
    told = ended.out.partition("A history cannot tell")[2].splitlines()
    assert not told[-1].lstrip().startswith("and ask again")
    exported(audited, tmp_path)
    ended = audited(*VERIFY)
    assert (ended.status, ended.err) == (0, "")
    assert "nor cut off" in ended.out
    assert "5 with a verified signature" in ended.out


def test_only_the_file_and_the_public_key_are_needed(audited, tmp_path):
    exported(audited, tmp_path)
    for path in tmp_path.glob("*"):
        if path.name not in {"clinic.jsonl", "clinic.key.pub"}:
            path.unlink()
    assert audited(*VERIFY).status == 0


def test_what_was_found_follows_its_schema(audited, tmp_path):
    exported(audited, tmp_path)
    schema = json.loads(schema_text("evidence"))
    whole = audited(*VERIFY, "--format", "json")
    rewritten(tmp_path / "clinic.jsonl", lines_of(tmp_path / "clinic.jsonl")[:3])
    broken = audited(*VERIFY, "--format", "json")
    for ended, status, verdict, broken_at in ((whole, 0, "whole", None), (broken, 2, "broken", 4)):
        document = json.loads(ended.out)
        jsonschema.Draft202012Validator(schema).validate(document)
        assert (ended.status, document["exit_code"], document["verdict"]) == (status, status, verdict)
        assert document["chains"][0]["broken_at"] == broken_at


def test_a_file_without_a_key_is_not_proven(audited, tmp_path):
    exported(audited, tmp_path)
    ended = audited("evidence", "verify", "--file", "clinic.jsonl")
    assert ended.status == 1
    assert "no signature was verified" in ended.out


def test_each_tampering_is_one_line_that_names_the_record(audited, tmp_path):
    path = exported(audited, tmp_path)
    lines = lines_of(path)
    changed = payload_of(lines[2])
    changed["predicate"]["run"]["outcome"] = "proven"
    for tampered, said in (
        ([*lines[:2], with_payload(lines[2], changed), *lines[3:]], "record 3 was changed"),
        ([*lines[:2], *lines[3:]], "record 3 is missing: record 4 follows record 2"),
        ([*lines[:2], lines[3], lines[2], *lines[4:]], "record 3 is missing: record 4 follows record 2"),
        ([*lines[:2], lines[1], *lines[2:]], "record 3 is missing: record 2 stands in its place"),
        ([*lines[:4], resigned(lines[4], "thief"), lines[5]], "record 5 is signed by key"),
        (lines[:4], "records were cut off behind record 4"),
        ([*lines[:2], b"nothing", *lines[3:]], "record 3 cannot be read"),
    ):
        rewritten(path, tampered)
        ended = audited(*VERIFY)
        assert (ended.status, ended.err) == (2, "")
        assert ended.out.startswith("✘ BROKEN  ")
        assert said in " ".join(ended.out.split())
        assert ended.out.count("✘") == 1


def test_a_history_without_a_key_is_whole_and_unvouched(run, tmp_path):
    (tmp_path / "replcheck.toml").write_text(CONFIGURATION, encoding="utf-8")
    run("audit")
    ended = run("evidence", "verify")
    assert ended.status == 1
    assert "none is signed" in " ".join(ended.out.split())
    (tmp_path / "replcheck.toml").write_text(f"{CONFIGURATION}signing_key = 'clinic.key'\n", encoding="utf-8")
    run("evidence", "keys")
    assert run("evidence", "verify").status == 1
    run("audit")
    ended = run("evidence", "verify")
    assert ended.status == 1
    assert "2 are not signed (1 to 2): whoever could write there could have made them; a later signature says only" in (
        " ".join(ended.out.split())
    )
    archived = run("evidence", "export", "--archive", "--until", "0s", "--output", "2026.jsonl")
    assert "warning: 2 records are not signed (1 to 2): from now on the checkpoint vouches" in archived.err
    assert run("evidence", "verify").status == 0


def test_a_run_without_the_key_behind_signed_ones_is_named(audited, tmp_path):
    (tmp_path / "replcheck.toml").write_text(CONFIGURATION, encoding="utf-8")
    audited("audit")
    (tmp_path / "replcheck.toml").write_text(f"{CONFIGURATION}signing_key = 'clinic.key'\n", encoding="utf-8")
    audited("audit")
    ended = audited("evidence", "verify", "--format", "json")
    chain = json.loads(ended.out)["chains"][0]
    jsonschema.Draft202012Validator(json.loads(schema_text("evidence"))).validate(json.loads(ended.out))
    assert (ended.status, chain["unvouched"], chain["unvouched_at"], chain["unsigned_behind"]) == (1, 1, [[6, 6]], 6)
    ended = audited("evidence", "verify")
    assert "Record 6 stands behind signed ones: somebody ran without the key, or forged it." in (
        " ".join(ended.out.split())
    )
    exported(audited, tmp_path)
    assert audited(*VERIFY).status == 1
    done = by_the_page(tmp_path)
    assert (done.returncode, "record 6 is not signed" in done.stderr) == (1, True)


def test_keys_of_earlier_times_are_named_in_the_configuration(audited, tmp_path):
    (tmp_path / "clinic.key").rename(tmp_path / "old.key")
    (tmp_path / "clinic.key.pub").rename(tmp_path / "old.key.pub")
    audited("evidence", "keys")
    audited("audit")
    ended = audited("evidence", "verify")
    assert ended.status == 2
    assert "record 1 is signed by key" in ended.out
    with (tmp_path / "replcheck.toml").open("a", encoding="utf-8") as file:
        file.write("public_keys = ['old.key.pub']\n")
    assert audited("evidence", "verify").status == 0


def test_a_head_that_is_not_the_newest_shows_nothing_of_records_cut_off_behind_it(audited, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        [(head,)] = connection.execute("SELECT sha256 FROM evidence_records WHERE sequence = 3")
        connection.execute("DELETE FROM evidence_records WHERE sequence = 5")
        connection.execute("DELETE FROM evidence_marks")
        connection.commit()
    ended = audited("evidence", "verify", "--head", head)
    said = " ".join(ended.out.split())
    told = "nor cut off up to record 3, that of --head; whether any was cut off behind record 4, that head does not"
    assert (ended.status, told in said, "the newest one as --head" in said) == (0, True, True)
    document = json.loads(audited("evidence", "verify", "--head", head, "--format", "json").out)
    jsonschema.Draft202012Validator(json.loads(schema_text("evidence"))).validate(document)
    assert document["summary"].endswith(f"{told} show.")
    assert (document["chains"][0]["anchored"], document["chains"][0]["anchored_at"]) == (True, 3)


def test_the_head_that_was_kept_finds_a_tail_that_was_cut_off(audited, tmp_path):
    head = evidence_head(tmp_path / "clinic.db", "clinic")
    assert head is not None
    ended = audited("evidence", "verify", "--head", head.sha256)
    said = " ".join(ended.out.split())
    assert (ended.status, "nor cut off up to record 5, that of --head." in said) == (0, True)
    assert "A history cannot tell" not in said
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("DELETE FROM evidence_records WHERE sequence = 5")
        connection.execute("DELETE FROM evidence_marks")
        connection.commit()
    assert audited("evidence", "verify").status == 0
    ended = audited("evidence", "verify", "--head", head.sha256)
    assert ended.status == 2
    assert "no record up to 4 has the SHA-256 of --head" in ended.out
    assert "64 hexadecimal digits" in assert_one_line(audited("evidence", "verify", "--head", "abc"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "cannot read none.jsonl: no such file"),
        ("empty.jsonl", b"", "empty.jsonl is no exported evidence"),
        ("other.jsonl", b'{"a": 1}\n{"b": 2}\n', "other.jsonl is no exported evidence"),
        ("binary.jsonl", bytes(range(256)) * 50, "binary.jsonl is no exported evidence"),
    ],
)
def test_what_is_no_export_is_one_line(run, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert said in assert_one_line(run("evidence", "verify", "--file", name))


def test_a_history_of_a_newer_version_and_one_without_evidence_are_one_line(audited, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("DELETE FROM evidence_records")
        connection.commit()
        assert "holds no evidence of clinic yet" in assert_one_line(audited("evidence", "verify"))
        connection.execute("UPDATE replcheck_meta SET value = '99'")
        connection.commit()
    for command in ("verify", "export"):
        assert "has schema version 99" in assert_one_line(audited("evidence", command))


# --- what runs tell of their records ---


def test_the_json_of_a_run_names_its_record_outside_of_what_that_covers(audited, tmp_path):
    told = json.loads(audited("audit", "--format", "json", result=diverged()).out)
    path = exported(audited, tmp_path)
    record = payload_of(lines_of(path)[5])
    assert (told["evidence"]["sequence"], told["evidence"]["signed"]) == (6, True)
    assert told["evidence"]["sha256"] == payload_of(lines_of(path)[6])["predicate"]["export"]["head"]
    assert record["subject"][0]["digest"]["sha256"] == document_digest(told)
    jsonschema.Draft202012Validator(json.loads(schema_text("audit"))).validate(told)
    assert json.loads(audited("report", "latest", "--format", "json").out) == told
    listed = json.loads(audited("history", "--format", "json").out)
    jsonschema.Draft202012Validator(json.loads(schema_text("history"))).validate(listed)
    assert listed["runs"][0]["evidence"] == told["evidence"]
    shown = json.loads(audited("history", "show", "latest", "--format", "json").out)
    jsonschema.Draft202012Validator(json.loads(schema_text("run"))).validate(shown)
    assert shown["evidence"] == told["evidence"]
    assert f"record 6, SHA-256 {told['evidence']['sha256']}" in audited("history", "show", "latest").out


def test_a_run_without_a_history_has_no_record(run):
    run("evidence", "keys")
    told = json.loads(run("audit", "--no-store", "--format", "json").out)
    assert told["evidence"] is None


def test_a_report_that_was_changed_after_it_was_recorded_is_not_told(audited, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("UPDATE results SET document = replace(document, '18.1', '18.2')")
        connection.commit()
    message = assert_one_line(audited("report", "latest"))
    assert "it was changed after it was recorded" in message
    assert audited("evidence", "verify").status == 0
    ended = audited("evidence", "verify", "--reports")
    assert ended.status == 2
    assert "the report of run" in ended.out


# --- a period is told as it was recorded ---

PERIOD = ("report", "--since", "1d")


def changed(tmp_path, statement, *values):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def test_a_period_finds_a_report_that_was_changed_after_it_was_recorded(audited, tmp_path):
    whole = json.loads(audited(*PERIOD, "--format", "json").out)
    assert (whole["record"]["altered"], whole["record"]["without_record"], whole["unread"]) == ([], 0, [])
    run_id = json.loads(audited("history", "--format", "json").out)["runs"][0]["run_id"]
    changed(tmp_path, "UPDATE results SET document = replace(document, '18.1', '18.2') WHERE run_id = ?", run_id)
    ended = audited(*PERIOD, "--format", "json")
    told = json.loads(ended.out)
    jsonschema.Draft202012Validator(json.loads(schema_text("period"))).validate(told)
    assert (ended.status, told["record"]["altered"]) == (3, [run_id])
    assert told["unread"] == [{"run_id": run_id, "reason": "it was changed after it was recorded"}]
    for form in ("human", "html", "markdown"):
        ended = audited(*PERIOD, "--format", form)
        assert ended.status == 3
        assert "1 run of the period is not as recorded" in ended.out
        assert "changed after it was recorded" in ended.out
    assert "the history was changed after it was recorded" in audited(*PERIOD, "--format", "claims").out


def test_a_period_finds_an_end_that_was_changed_after_it_was_recorded(audited, tmp_path):
    runs = json.loads(audited("history", "--format", "json").out)["runs"]
    run_id = next(run["run_id"] for run in runs if run["outcome"] == "refuted")
    changed(
        tmp_path,
        "UPDATE run_records SET outcome = 'proven', exit_status = 0, verdict = 'consistent' WHERE run_id = ?",
        run_id,
    )
    ended = audited(*PERIOD, "--format", "json")
    told = json.loads(ended.out)
    assert (ended.status, told["record"]["altered"]) == (3, [run_id])
    assert told["unread"][0]["reason"] == "its end was changed after it was recorded"


def test_a_period_says_which_runs_have_no_record_to_be_compared_with(audited, tmp_path):
    assert "3 runs of the period with what was recorded of them" in audited(*PERIOD).out
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("DELETE FROM evidence_records WHERE sequence > 3")
        connection.commit()
    told = json.loads(audited(*PERIOD, "--format", "json").out)
    assert told["record"]["without_record"] == 1
    assert "1 run has no record here, and nothing here vouches for that" in " ".join(audited(*PERIOD).out.split())


# --- disks that are full, and histories that may only be read ---


def in_a_process(tmp_path, *words, blocks=None, stdout=subprocess.PIPE):
    """Run a command that may write no file beyond so many blocks of 512 bytes: that is what a full disk looks like."""
    limit = f"ulimit -f {blocks}; " if blocks is not None else ""
    done = subprocess.run(
        ["/bin/sh", "-c", f'{limit}exec "$0" -m replcheck "$@"', sys.executable, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
    )
    return Ended(done.returncode, done.stdout or "", done.stderr)


def test_an_export_to_a_full_disk_is_one_line_and_leaves_no_part_of_it(audited, tmp_path):
    for _ in range(12):
        audited("evidence", "note", "latest", "--reviewer", "Amal", "--text", "x" * 3000)
    whole = exported(audited, tmp_path).read_bytes()
    assert len(whole) > 90 * 512
    message = assert_one_line(in_a_process(tmp_path, "evidence", "export", "--output", "clinic.jsonl", blocks=70))
    assert "clinic.jsonl" in message
    assert (tmp_path / "clinic.jsonl").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir() if "jsonl" in path.name] == ["clinic.jsonl"]


def test_an_export_whose_reader_is_a_full_disk_is_one_line(audited, tmp_path):
    with Path("/dev/full").open("w") as full:
        assert "no space left on device" in assert_one_line(in_a_process(tmp_path, "evidence", "export", stdout=full))


def test_a_note_on_a_full_disk_is_one_line_and_the_chain_stays_whole(audited, tmp_path):
    words = ("evidence", "note", "latest", "--reviewer", "Amal", "--text", "x" * 3000)
    message = assert_one_line(in_a_process(tmp_path, *words, blocks=1))
    assert "history" in message
    ended = audited("evidence", "verify")
    assert (ended.status, "5 records" in ended.out) == (0, True)


def test_who_may_only_read_a_history_can_verify_show_and_report_it(audited, tmp_path):
    (tmp_path / "clinic.key").unlink()
    for words in (("evidence", "verify", "--reports"), ("history", "show", "latest"), ("report", "--since", "1d")):
        ended = as_nobody(tmp_path, *words)
        assert (ended.status, ended.err) == (0, ""), ended
    message = assert_one_line(as_nobody(tmp_path, *PERIOD, "--format", "html", "--output", "x.html"))
    assert "cannot write the report to x.html" in message


@contextmanager
def killed_writer(history):
    """Have a history's newest part in its write-ahead file, as a writer leaves it that is killed."""
    with closing(sqlite3.connect(history)) as connection:
        connection.execute("UPDATE run_records SET verdict = 'unheard of'")
        connection.commit()
        assert (history.parent / f"{history.name}-wal").stat().st_size > 0
        yield


def test_who_may_only_read_a_history_can_read_what_a_killed_writer_left(audited, tmp_path):
    with killed_writer(tmp_path / "clinic.db"):
        ended = as_nobody(tmp_path, "history")
    assert (ended.status, ended.err) == (0, ""), ended
    assert "unheard of" in ended.out


def test_who_may_only_read_a_history_is_told_what_its_copy_lacks(audited, tmp_path):
    copy = tmp_path / "copy"
    with killed_writer(tmp_path / "clinic.db"):
        shutil.copytree(tmp_path, copy)
    (copy / "clinic.db-shm").unlink()
    message = assert_one_line(as_nobody(copy, "history", "show", "latest"))
    assert message == (
        "replcheck: error: history clinic.db: its newest part lies in clinic.db-wal, which only who may write in their"
        " folder can read without clinic.db-shm\n"
        "hint: Copy all files whose names begin with clinic.db, or have somebody who may write there read it once.\n"
    )


def test_an_empty_file_beside_a_history_that_may_only_be_read_hides_nothing(audited, tmp_path):
    (tmp_path / "clinic.db-wal").touch()
    ended = as_nobody(tmp_path, "history", "show", "latest")
    assert (ended.status, ended.err) == (0, ""), ended


def test_a_note_in_a_history_that_may_only_be_read_is_one_line(audited, tmp_path):
    (tmp_path / "replcheck.toml").write_text(CONFIGURATION, encoding="utf-8")
    words = ("evidence", "note", "latest", "--reviewer", "Amal", "--text", "seen again")
    assert "clinic.db" in assert_one_line(as_nobody(tmp_path, *words))
    assert "5 records" in audited("evidence", "verify", "--public-key", "clinic.key.pub").out


# --- export, import, archive ---


def test_a_period_is_exported_as_records_that_follow_each_other(audited, tmp_path):
    assert "no record of that period" in assert_one_line(audited("evidence", "export", "--until", "1d"))
    path = exported(audited, tmp_path, "--since", "1d")
    assert len(lines_of(path)) == 6
    assert audited("evidence", "export").out.encode().splitlines()[:5] == lines_of(path)[:5]


def test_a_chain_that_is_not_whole_is_not_exported(audited, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("DELETE FROM evidence_records WHERE sequence = 3")
        connection.commit()
    message = assert_one_line(audited("evidence", "export", "--output", "clinic.jsonl"))
    assert "record 3 is missing" in message
    assert not (tmp_path / "clinic.jsonl").exists()


def test_a_forged_chain_is_not_signed_over_by_an_export(audited, tmp_path):
    assert audited("evidence", "verify").status == 0  # leaves its mark
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("DELETE FROM evidence_records WHERE sequence = 5")
        connection.commit()
    for words in (("--output", "clinic.jsonl"), ("--archive", "--until", "0s", "--output", "clinic.jsonl")):
        message = assert_one_line(audited("evidence", "export", *words))
        assert "records were cut off behind 4: the signed mark of its last verification names record 5" in message
        assert not (tmp_path / "clinic.jsonl").exists()


def test_a_history_whose_runs_belie_its_records_is_not_exported(audited, tmp_path):
    changed(tmp_path, "UPDATE run_records SET summary = 'all is well' WHERE outcome = 'refuted'")
    message = assert_one_line(audited("evidence", "export", "--output", "clinic.jsonl"))
    assert "record 3 is belied by the history" in message


def test_an_import_brings_the_chain_into_another_history_and_goes_on(audited, tmp_path):
    exported(audited, tmp_path)
    words = ("evidence", "import", "clinic.jsonl", "--store", "copy.db", "--public-key", "clinic.key.pub")
    assert "5 records of clinic, 1 to 5: 5 new in copy.db" in audited(*words).out
    assert ": 0 new in copy.db" in audited(*words).out
    audited("audit")
    exported(audited, tmp_path)
    assert ": 1 new in copy.db" in audited(*words).out
    verify = ("evidence", "verify", "--store", "copy.db", "--public-key", "clinic.key.pub")
    ended = audited(*verify)
    assert (ended.status, "6 records of clinic" in ended.out) == (0, True)


def test_an_import_takes_nothing_of_a_file_that_is_not_whole_nor_of_another_chain(audited, tmp_path):
    path = exported(audited, tmp_path)
    rewritten(path, lines_of(path)[:2] + lines_of(path)[3:])
    words = ("evidence", "import", "clinic.jsonl", "--store", "copy.db")
    assert "record 3 is missing" in assert_one_line(audited(*words))
    assert not (tmp_path / "copy.db").exists()
    exported(audited, tmp_path)
    assert audited(*words).status == 0
    (tmp_path / "clinic.db").unlink()
    audited("audit")
    exported(audited, tmp_path)
    assert "record 1 of clinic is another one in this history" in assert_one_line(audited(*words))


def test_an_archive_leaves_a_checkpoint_and_can_be_brought_back(audited, tmp_path):
    before = {run["run_id"]: run["evidence"] for run in json.loads(audited("history", "--format", "json").out)["runs"]}
    ended = audited("evidence", "export", "--archive", "--until", "0s", "--output", "2026.jsonl")
    assert ended.status == 0, ended
    audited("audit")
    ended = audited("evidence", "verify")
    assert ended.status == 0
    assert "2 records of clinic, 6 to 7" in ended.out
    assert "records 1 to 5, under a signed checkpoint" in ended.out
    assert "nothing here vouches for that (5 records of the chain in archives)" in " ".join(
        audited(*PERIOD).out.split()
    )
    after = {run["run_id"]: run["evidence"] for run in json.loads(audited("history", "--format", "json").out)["runs"]}
    assert after.items() >= before.items()
    exported(audited, tmp_path)
    both = ("evidence", "verify", "--file", "2026.jsonl", "--file", "clinic.jsonl", "--public-key", "clinic.key.pub")
    assert audited(*both).status == 0
    assert audited(*(word.replace("2026", "none").replace("clinic.jsonl", "2026.jsonl") for word in both)).status == 3
    assert "5 new" in audited("evidence", "import", "2026.jsonl").out
    ended = audited("evidence", "verify")
    assert (ended.status, "7 records of clinic, 1 to 7" in ended.out) == (0, True)


def test_an_archive_is_never_overwritten_and_never_unsigned(audited, tmp_path):
    (tmp_path / "2026.jsonl").write_text("kept", encoding="utf-8")
    archive = ("evidence", "export", "--archive", "--until", "0s", "--output", "2026.jsonl")
    assert "2026.jsonl exists already" in assert_one_line(audited(*archive))
    assert "needs to know up to when" in assert_one_line(audited("evidence", "export", "--archive"))
    unsigned = ("evidence", "export", "--archive", "--until", "0s", "--output", "new.jsonl", "--store", "clinic.db")
    assert "an archive needs a signed checkpoint" in assert_one_line(audited(*unsigned))
    assert "5 records of clinic, 1 to 5" in audited("evidence", "verify").out


def test_records_that_were_removed_without_a_checkpoint_are_missed(audited, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("UPDATE evidence_records SET envelope = NULL WHERE sequence <= 2")
        connection.commit()
    ended = audited("evidence", "verify")
    assert ended.status == 2
    assert "record 2 is missing, and no checkpoint tells of an archive" in ended.out


# --- notes ---


def test_a_note_is_a_record_of_its_own_about_another(audited, tmp_path):
    ended = audited(
        *("evidence", "note", "--record", "3", "--reviewer", "Amal", "--text", "db2 was copied anew"),
        *("--action", "the disk was changed"),
    )
    assert ended.status == 0
    assert ended.out.startswith("noted on record 3 of clinic, as record 6; signed by key")
    lines = lines_of(exported(audited, tmp_path))
    note = payload_of(lines[5])
    about = payload_of(lines[2])
    assert note["predicate"]["note"]["about"]["run_id"] == about["predicate"]["run"]["run_id"]
    assert note["subject"][0]["digest"]["sha256"] == payload_of(lines[3])["predicate"]["chain"]["previous"]
    assert note["predicate"]["note"]["corrective_action"] == "the disk was changed"
    assert audited("evidence", "verify").status == 0


def test_the_notes_on_a_run_are_shown_with_it(audited):
    audited(
        *("evidence", "note", "latest", "--reviewer", "Noor", "--text", "all is well", "--action", "none was needed")
    )
    told = json.loads(audited("history", "show", "latest", "--format", "json").out)
    jsonschema.Draft202012Validator(json.loads(schema_text("run"))).validate(told)
    assert [(note["reviewer"], note["text"], note["corrective_action"]) for note in told["notes"]] == [
        ("Amal", "seen", ""),
        ("Noor", "all is well", "none was needed"),
    ]
    assert [note["record"]["sequence"] for note in told["notes"]] == [5, 6]
    shown = audited("history", "show", "latest").out
    assert "Noted by Amal\n  seen\n" in shown
    assert "Noted by Noor\n  all is well\n  corrective action: none was needed\n" in shown
    assert shown.count(", signed by key\n") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a note is about one record"),
        (("latest", "--record", "1"), "a note is about one record"),
        (("latest", "--text", "x"), "a note needs its reviewer"),
        (("latest", "--reviewer", "x"), "a note needs its text"),
        (("--record", "99", "--reviewer", "x", "--text", "y"), "there is no record of clinic at place 99"),
        (("ffffff", "--reviewer", "x", "--text", "y"), "no run has this id"),
        (("latest", "--reviewer", "x", "--text", "y" * 5000), "a note has at most 4,000 letters"),
    ],
)
def test_a_note_that_makes_no_sense_is_one_line(audited, words, said):
    assert said in assert_one_line(audited("evidence", "note", *words))


# --- the documentation ---

PAGE = (ROOT / "docs" / "verify-evidence.md").read_text(encoding="utf-8")


def program(start):
    """Return the program in the documentation that begins so."""
    [found] = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if text.startswith(start)]
    return found


def by_the_page(tmp_path):
    (tmp_path / "verify.py").write_text(program('"""python verify.py'), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-I", "verify.py", "clinic.jsonl", "clinic.key.pub"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_thirty_lines_without_replcheck_verify_an_export(audited, tmp_path):
    assert len(program('"""python verify.py').splitlines()) <= 34
    assert "replcheck" not in re.sub(r"\.jsonl.*|urn:\S+", "", program('"""python verify.py'))
    lines = lines_of(exported(audited, tmp_path))
    done = by_the_page(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("records 1 to 5 of clinic are as they were made")
    statement = payload_of(lines[2])
    statement["predicate"]["run"]["outcome"] = "proven"
    for tampered in (
        [*lines[:2], with_payload(lines[2], statement), *lines[3:]],
        [*lines[:2], *lines[3:]],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
        [*lines[:2], lines[1], *lines[2:]],
        [*lines[:4], resigned(lines[4], "thief"), lines[5]],
        [*lines[:5], resigned(lines[5], None)],
        lines[:5],
        [*lines[:4], lines[5]],
        [*lines, lines[4]],
        [lines[5]],
    ):
        rewritten(tmp_path / "clinic.jsonl", tampered)
        done = by_the_page(tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert not done.stderr.rstrip().endswith(":")


def test_the_digest_of_a_report_is_the_one_that_the_page_computes(audited, tmp_path):
    report = audited("report", "latest", "--format", "json").out
    [code] = re.findall(r"\n\n((?:    .*\n|\n)*    print\(hashlib.*\n)", PAGE)
    done = subprocess.run(
        [sys.executable, "-c", re.sub("^    ", "", code, flags=re.MULTILINE)],
        input=report,
        capture_output=True,
        text=True,
        check=True,
    )
    record = payload_of(lines_of(exported(audited, tmp_path))[3])
    assert done.stdout.strip() == record["subject"][0]["digest"]["sha256"]
    assert datetime.fromisoformat(record["predicate"]["recorded"]["at"]) <= datetime.now(UTC)
