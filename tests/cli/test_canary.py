"""Row values, keys and secrets stay in the database: no output of a real run holds one, whatever the servers say.

Everything that must not be seen holds one word, so one search through all that a run wrote finds any of it.
"""

import json
import os
import shlex
import shutil
import sqlite3
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest

from replcheck.errors import StatementFailed, StoreError
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.postgres.local import connect, sql
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import libpq_quoted, make_private_folder
from replcheck.report.published import events_schema
from replcheck.store import open_live_reader
from tests.commands import Ended, finished, run_command, run_here, started, wait_for

CANARY = "zqcanary"
NUMBER = 7_310_964_258_317
"""A number that stands for a value, where words cannot."""
SECRET = f"{CANARY}-Pässword=1 '%41"
BROKEN = "standby1"

_SCHEMA = f"""
create type label as enum ('{CANARY}-label', 'other');
create domain checked as text check (value <> '{CANARY}-forbidden');
create table patient (
    id text primary key, name text not null default '{CANARY}-default', number bigint,
    kind label default '{CANARY}-label', doc jsonb, raw bytea, tags text[], checked checked
);
insert into patient
select '{CANARY}-key-' || i, '{CANARY}-name-' || i, {NUMBER}, '{CANARY}-label', jsonb_build_object('{CANARY}', i),
       convert_to('{CANARY}', 'utf8'), array['{CANARY}', null], '{CANARY}'
from generate_series(1, 400) i;
create table partitioned (id text) partition by list (id);
create table partition_1 partition of partitioned for values in ('{CANARY}-bound');
insert into partitioned values ('{CANARY}-bound');
create table wide (id int primary key, scan text);
alter table wide alter column scan set storage external;
insert into wide select i, repeat('{CANARY}', 2000) from generate_series(1, 20) i;
create table torn as table patient;
create table gone as table patient;
create table lost as table patient;
create sequence counter;
select setval('counter', {NUMBER});
select lo_from_bytea(0, convert_to(repeat('{CANARY}', 500), 'utf8'));
comment on table patient is '{CANARY}-comment';
create view seen as select '{CANARY}-view' as v;
create materialized view kept as select * from patient;
create foreign data wrapper elsewhere;
create server far foreign data wrapper elsewhere options (host '{CANARY}-host');
create user mapping for public server far options (password '{CANARY}-password');
create foreign table remote (id int) server far options (path '{CANARY}-path');
create subscription fed connection 'host=/nonexistent password={CANARY}' publication p with (connect = false);
alter role {AUDIT_ROLE} set zqown.secret = '{CANARY}-setting'
"""

SECRET_SETTINGS = {
    "archive_mode": "on",
    "archive_command": f"true --token={CANARY}",
    "restore_command": f"false --token={CANARY}",
    "archive_cleanup_command": f"true --token={CANARY}",
    "recovery_end_command": f"true --token={CANARY}",
    "ssl_passphrase_command": f"echo {CANARY}",
    "zqown.secret": f"{CANARY}-setting",
}
"""Settings that the audit's role may read, pg_monitor being a member of pg_read_all_settings."""
HIDDEN = frozenset({"archive_mode", "zqown.secret"})
"""Of these, one that is no secret, and one that SHOW tells alone."""

_LEAKY_TYPE = """
create type leaky_{number};
create function in_{number}(cstring) returns leaky_{number} language internal immutable strict as 'textin';
create function out_{number}(leaky_{number}) returns cstring language internal immutable strict as 'textout';
create type leaky_{number} (input = in_{number}, output = out_{number}, like = text);
create function send_{number}(leaky_{number}) returns bytea language plpgsql as
$$ begin raise exception '%', public.out_{number}($1)
   using errcode = '{sqlstate}', detail = public.out_{number}($1); end $$;
update pg_type set typsend = 'send_{number}(leaky_{number})'::regprocedure where oid = 'leaky_{number}'::regtype;
create table leaks_{number} (value leaky_{number});
insert into leaks_{number} values ('{value}')
"""
"""A type whose owner's own code speaks of the value it should send, with the SQLSTATE of its choice."""

_FAILING_COLUMN = f"""
create table computed (content text, number int generated always as (content::int) virtual);
insert into computed values ('{CANARY}-no-number')
"""


def execute(cluster: LabCluster, statements: str, dbname: str = "postgres") -> None:
    for statement in statements.split(";\n"):
        cluster.primary.execute(statement, dbname=dbname)


@pytest.fixture(scope="module")
def secretive(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A cluster full of what must not be seen, one of whose standbys is broken in many ways."""
    with LabCluster.create(clusters_root, name=f"secretive_{os.getpid()}", major=newest_major) as cluster:
        execute(cluster, _SCHEMA)
        cluster.primary.execute(
            sql.SQL("alter role {} password {}").format(sql.Identifier(AUDIT_ROLE), sql.Literal(SECRET))
        )
        cluster.create_database("leaking")
        for number, (sqlstate, value) in enumerate(LEAKS):
            execute(cluster, _LEAKY_TYPE.format(number=number, sqlstate=sqlstate, value=value), "leaking")
        if newest_major >= 18:
            cluster.create_database("computing")
            execute(cluster, _FAILING_COLUMN, "computing")
        standby = cluster.nodes["standby2"]
        conninfo = standby.settings()["primary_conninfo"].partition(" application_name=")[0]
        standby.configure(primary_conninfo=f"{conninfo} password={CANARY} application_name={CANARY}")
        for server in cluster.nodes.values():
            server.configure(**SECRET_SETTINGS)
            server.restart()
        cluster.wait_streaming()
        cluster.catch_up()
        for fault, relation in (
            ("flip-row-bytes", "torn"),
            ("lose-row", "lost"),
            ("missing-file", "gone"),
            ("lose-toast-chunk", "wide"),
            ("break-page-header", "kept"),
            ("lose-row", "pg_catalog.pg_description"),
            ("sequence-behind", "counter"),
        ):
            apply_fault(cluster, fault, node=BROKEN, relation=relation)
        cluster.wait_streaming()
        cluster.catch_up()
        yield cluster


LEAKS = (
    ("P0001", f"{CANARY}-raised"),
    ("22P02", f"invalid input syntax: {CANARY}"),
    ("XX000", f"cache lookup failed for {CANARY}"),
    ("XX001", f"invalid page in block 3 of {CANARY}"),
    ("58P01", f"could not open {CANARY}"),
    ("57014", f"canceling statement: {CANARY}"),
    ("08006", f"connection lost: {CANARY}"),
)
"""SQLSTATEs and texts that owners of a type may choose, some of them such that a server's own would be shown."""

SECRET_WORDS = (
    f"dbname=postgres user={AUDIT_ROLE} password={libpq_quoted(SECRET)}"
    f" application_name={CANARY} passfile=/nonexistent/{CANARY}"
)
REPLICAS = ("standby1", "standby2")


def words(cluster: LabCluster, *more: str, form: str = "words") -> list[str]:
    """Return the command of an audit, the nodes addressed with the password in their connection strings."""

    def dsn(name: str) -> str:
        server = cluster.nodes[name]
        if form == "bare":
            return f"{server.address} dbname=postgres user={AUDIT_ROLE}"
        return f"{server.address} {SECRET_WORDS}"

    nodes = [word for name in REPLICAS for word in ("--replica", dsn(name))]
    return ["audit", "--primary", dsn("primary"), *nodes, "--node-timeout", "2s", *more]


def assert_unseen(home: Path, ended: Ended) -> None:
    """Search all that a run wrote: its streams and every file in its folder, but those that the test put there."""
    texts = {"standard output": ended.out, "standard error": ended.err}
    for path in home.rglob("*"):
        if path.is_file() and not path.name.startswith("given"):
            texts[str(path.relative_to(home))] = path.read_bytes().decode("latin-1")
            texts[f"the evidence in {path.relative_to(home)}"] = said_in_records(path)
    hexed = (CANARY.encode().hex(), CANARY.encode("utf-16-le").hex())
    for where, text in texts.items():
        for sign in (CANARY, CANARY.upper(), *hexed, str(NUMBER), "ssword=1", "\\u00e4ssword"):
            at = text.find(sign)
            assert at < 0, f"{where} holds {sign}: {text[max(0, at - 200) : at + 100]}"


_KEPT = "select envelope from evidence_records where envelope is not null"
"""Of records that were moved into an archive, a history keeps the places alone."""


def said_in_records(path: Path) -> str:
    """Return the statements in a history or in an exported file, whose records hold them as base64."""
    lines = [line.decode("latin-1") for line in path.read_bytes().splitlines() if line.startswith(b'{"payload":')]
    if path.suffix == ".db":
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            lines += [envelope for (envelope,) in connection.execute(_KEPT)]
    return "\n".join(b64decode(json.loads(line)["payload"]).decode() for line in lines)


def given(home: Path, name: str, text: str) -> Path:
    """Write a file that a run reads; such files may hold what a run's own may not."""
    path = home / f"given-{name}"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def configuration(cluster: LabCluster, home: Path, *output: str) -> Path:
    """Write a configuration whose nodes are those of the cluster, with the password in it."""
    lines = ['cluster = "clinic"', f"connect = {json.dumps(SECRET_WORDS, ensure_ascii=False)}", "[nodes]"]
    lines += [f"{name} = {{ dsn = {json.dumps(server.address)} }}" for name, server in cluster.nodes.items()]
    return given(home, "clinic.toml", "\n".join([*lines, "[audit]", 'settle_budget = "2s"', "[output]", *output, ""]))


EVERYTHING = ("--verbose", "--debug", "--events", "events.jsonl", "--database", "postgres")


def test_the_role_could_read_what_servers_reveal(secretive: LabCluster) -> None:
    """Else nothing that is left out of a report would show anything."""
    with connect(
        f"{secretive.nodes['standby2'].address} dbname=postgres user={AUDIT_ROLE} password={libpq_quoted(SECRET)}",
        node="standby2",
    ) as connection:
        shown = dict(connection.execute("select name, setting from pg_settings").fetchall())
        assert all(CANARY in shown[name] for name in ("primary_conninfo", *SECRET_SETTINGS) if name not in HIDDEN)
        [(receiver,)] = connection.execute("select conninfo from pg_stat_wal_receiver").fetchall()
        assert CANARY in receiver


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_report_of_broken_rows_shows_none_of_them(secretive: LabCluster, tmp_path: Path, form: str) -> None:
    ended = run_command(*words(secretive, *EVERYTHING, "--format", form), home=tmp_path)
    assert ended.status == 2, ended
    assert "torn" in ended.out
    assert_unseen(tmp_path, ended)
    for kind in ("missing", "changed", "unreadable"):
        assert kind in ended.out.lower()
    assert (tmp_path / "events.jsonl").stat().st_size > 1000
    schema = jsonschema.Draft202012Validator(events_schema())
    for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines():
        schema.validate(json.loads(line))
    again = run_command("report", "latest", "--verbose", "--format", form, home=tmp_path)
    assert again == Ended(0, ended.out, "")
    store = tmp_path / ".local/state/replcheck/unnamed.db"
    with sqlite3.connect(store) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)
    connection.close()


def test_a_report_written_to_a_file_and_a_named_clusters_store_hold_none(
    secretive: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = configuration(secretive, tmp_path)
    ended = run_command(
        *("audit", "--config", str(path), "--output", "report.json", "--format", "json", *EVERYTHING), home=tmp_path
    )
    assert ended.status == 2, ended
    assert json.loads((tmp_path / "report.json").read_text())["cluster"] == "clinic"
    assert (tmp_path / ".local/state/replcheck/clinic.db.audit.lock").exists()
    assert_unseen(tmp_path, ended)
    for again in (
        ("report", "latest", "--verbose"),
        ("report", "latest", "--format", "json"),
        ("report", "--since", "1d", "--verbose"),
        *(("report", "latest", "--format", form) for form in ("html", "markdown", "junit")),
        *(("report", "--since", "1d", "--format", form) for form in ("json", "html", "markdown", "junit", "claims")),
        ("history",),
        ("history", "show", "latest", "--format", "json"),
    ):
        words = (*again, "--config", str(path), "--debug")
        ended = run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
        assert (ended.status, ended.err) == (0, "")
        assert_unseen(tmp_path, ended)


def test_evidence_tells_who_found_what_and_no_row_of_it(secretive: LabCluster, tmp_path: Path) -> None:
    path = configuration(secretive, tmp_path, 'signing_key = "clinic.key"')
    narrow = ("--table", "torn", "--table", "lost", "--table", "wide", "--database", "postgres", "--verbose", "--debug")
    runs: tuple[tuple[tuple[str, ...], int], ...] = (
        (("evidence", "keys"), 0),
        (("audit", *narrow), 2),
        (("audit", "--database", "nosuch", "--debug"), 3),
        (("evidence", "note", "latest", "--reviewer", "Amal", "--text", "looked at", "--action", "copied anew"), 0),
        (("evidence", "verify", "--reports"), 0),
        (("evidence", "verify", "--format", "json"), 0),
        (("evidence", "export", "--output", "clinic.jsonl"), 0),
        (("history", "show", "latest"), 0),
        (("evidence", "export", "--archive", "--until", "0s", "--output", "archive.jsonl"), 0),
        (("evidence", "import", "archive.jsonl"), 0),
        (("evidence", "import", "clinic.jsonl", "--store", "copy.db", "--public-key", "clinic.key.pub"), 0),
    )
    for command, status in runs:
        ended = run_command(*command, "--config", str(path), home=tmp_path)
        assert ended.status == status, ended
        assert_unseen(tmp_path, ended)
    for moved in ("archive.jsonl", "copy.db"):
        assert "public.torn" in said_in_records(tmp_path / moved), "nothing of what could be told was searched"
    said = said_in_records(tmp_path / "clinic.jsonl")
    begin, found, failed, note, closed = (json.loads(line)["predicate"] for line in said.splitlines())
    assert begin["begin"]["earlier_runs"] == 0
    assert (found["run"]["verdict"], found["run"]["state"]) == ("diverged", "ended")
    assert {each["relation"] for each in found["result"]["diverged"]} >= {"public.torn", "public.lost"}
    assert [replica["name"] for replica in found["result"]["replicas"]] == list(REPLICAS)
    assert (failed["run"]["state"], failed["result"]) == ("failed", None)
    assert (note["note"]["about"]["sequence"], closed["export"]["last"]) == (3, 4)


def test_what_an_owners_own_code_raises_is_never_told(secretive: LabCluster, tmp_path: Path) -> None:
    path = configuration(secretive, tmp_path)
    ended = run_command(
        *("audit", "--config", str(path), "--database", "leaking", "--no-catalogs", "--format", "json"),
        *("--verbose", "--debug", "--events", "events.jsonl"),
        home=tmp_path,
    )
    assert_unseen(tmp_path, ended)
    report = json.loads(ended.out)
    # The servers agree in what they refuse: nobody differs, nothing was compared.
    assert report["divergences"] == []
    assert ended.status == 3, ended
    refused = {note["relation"] for note in report["not_checked"] if not note["by_design"]}
    assert refused == {f"public.leaks_{number}" for number in range(len(LEAKS))}


def test_a_computed_column_that_fails_is_no_leak(secretive: LabCluster, tmp_path: Path, newest_major: int) -> None:
    if newest_major < 18:
        pytest.skip("columns are computed when they are read from PostgreSQL 18 on")
    ended = run_command(*words(secretive, "--database", "computing", "--verbose", "--debug"), home=tmp_path)
    assert_unseen(tmp_path, ended)
    assert "computed" in ended.out


def test_secrets_in_the_environment_and_its_files_stay_there(secretive: LabCluster, tmp_path: Path) -> None:
    narrow = ("--table", "partition_1", "--database", "postgres", "--verbose", "--debug")
    escaped = SECRET.replace("\\", "\\\\").replace(":", "\\:")
    passfile = given(tmp_path, "passwords", f"*:*:*:{AUDIT_ROLE}:{escaped}\n")
    for variables in ({"PGPASSWORD": SECRET}, {"PGPASSFILE": str(passfile)}):
        ended = run_command(*words(secretive, *narrow, form="bare"), home=tmp_path, **variables)
        assert ended.status == 0, ended
        assert_unseen(tmp_path, ended)
    services = "".join(
        f"[{name}]\nhost={server.socket_dir}\nport={server.port}\nuser={AUDIT_ROLE}\ndbname=postgres\npassword={SECRET}\n"
        f"application_name={CANARY}\n"
        for name, server in secretive.nodes.items()
    )
    service_file = given(tmp_path, "services", services)
    replicas = [word for name in REPLICAS for word in ("--replica", f"service={name}")]
    ended = run_command(
        *("audit", "--primary", "service=primary", *replicas, *narrow), home=tmp_path, PGSERVICEFILE=str(service_file)
    )
    assert ended.status == 0, ended
    assert "service primary" in ended.out
    assert_unseen(tmp_path, ended)


@pytest.mark.parametrize(
    "dsn",
    [
        pytest.param(f"{{address}} user={AUDIT_ROLE} password={CANARY} application_name={CANARY}", id="wrong password"),
        pytest.param(f"postgresql://{AUDIT_ROLE}:{CANARY}@{{quoted}}:{{port}}/postgres", id="wrong password in a URI"),
        pytest.param(f"host=/nonexistent password={CANARY}", id="unreachable"),
        pytest.param(f"{{address}} sslmode={CANARY}", id="impossible value"),
        pytest.param(f"{{address}} options=-c{CANARY}={CANARY}", id="refused option"),
    ],
)
def test_a_connection_that_fails_tells_no_secret(secretive: LabCluster, tmp_path: Path, dsn: str) -> None:
    server = secretive.nodes["standby1"]
    quoted = str(server.socket_dir).replace("/", "%2F")
    filled = dsn.format(address=server.address, port=server.port, quoted=quoted)
    primary = f"{secretive.primary.address} {SECRET_WORDS}"
    ended = run_command("audit", "--primary", primary, "--replica", filled, "--debug", home=tmp_path)
    assert ended.status == 3
    assert ended.out == ""
    assert_unseen(tmp_path, ended)


@pytest.mark.parametrize(
    "dsn",
    [
        pytest.param(f"host=/x port={CANARY}", id="port"),
        pytest.param(f"host=/x port=1 password='{CANARY}", id="open quote"),
        pytest.param(f"host=/x {CANARY}", id="word alone"),
        pytest.param(f"{CANARY}=1 host=/x", id="unknown word"),
        pytest.param(f"postgresql://u:{CANARY}@[::1/db", id="open bracket"),
        pytest.param(f"postgresql://u:{CANARY}@h/db?{CANARY}={CANARY}", id="unknown option"),
        pytest.param(f"postgresql://u:%zz{CANARY}@h/db", id="percent sign"),
        pytest.param(f"postgres://u:{CANARY}@%2Fx:{CANARY}/db", id="port of a URI"),
        pytest.param(f"http://u:{CANARY}@h/", id="another scheme"),
        pytest.param(CANARY, id="no name"),
    ],
)
def test_a_malformed_connection_string_is_not_quoted(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("audit", "--primary", "host=/x", "--replica", dsn, "--debug")
    ended = run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert ended.status == 3
    assert_unseen(tmp_path, ended)


_NODES = '[nodes]\na = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f'cluster = "clinic"\nconnect = "password={CANARY} x"\n{_NODES}', id="connect"),
        pytest.param(f'cluster = "clinic"\n{_NODES}c = {{ dsn = "password=\'{CANARY}" }}\n', id="dsn"),
        pytest.param(
            f'cluster = "clinic"\n{_NODES}c = {{ dsn = "host=c", password = "{CANARY}" }}\n', id="unknown key"
        ),
        pytest.param(f'cluster = "clinic"\n{_NODES}c = {{ dsn = ["{CANARY}"] }}\n', id="no text"),
        pytest.param(f'cluster = "clinic"\nconnect = password={CANARY}\n{_NODES}', id="no quotes"),
        pytest.param(f'cluster = "clinic"\n{_NODES}c = {{ dsn = "password={CANARY} }}\n', id="open quote"),
        pytest.param(f'cluster = "{CANARY} {CANARY}"\n{_NODES}', id="cluster"),
        pytest.param(f'cluster = "clinic"\n{_NODES}[audit]\njobs = "{CANARY}"\n', id="number"),
        pytest.param(f'cluster = "clinic"\n{_NODES}[audit]\nlevel = "{CANARY}"\n', id="choice"),
        pytest.param(f'cluster = "clinic"\n{_NODES}[audit]\nnode_timeout = "{CANARY}"\n', id="duration"),
        pytest.param(f'cluster = "clinic"\n{_NODES}[output]\nstore = "postgresql://u:{CANARY}@h/db"\n', id="store"),
        pytest.param(f'cluster = "clinic"\n{_NODES}[output]\ntime_zone = "{CANARY}"\n', id="time zone"),
    ],
)
def test_a_configuration_that_is_wrong_is_not_quoted(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given(tmp_path, "bad.toml", text)
    words = ("audit", "--config", "given-bad.toml", "--debug")
    ended = run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert ended.status == 3
    assert_unseen(tmp_path, ended)


def test_the_search_finds_what_it_looks_for(secretive: LabCluster, tmp_path: Path) -> None:
    """A server's log does quote values: the search would see them in a run's output."""
    server = secretive.nodes["standby2"]
    with pytest.raises(StatementFailed):
        server.execute("select send_0(value) from leaks_0", dbname="leaking")
    shutil.copy(server.log_file, tmp_path / "log")
    with pytest.raises(AssertionError, match="log holds"):
        assert_unseen(tmp_path, Ended(0, "", ""))
    with pytest.raises(AssertionError, match="standard error holds"):
        assert_unseen(tmp_path / "nowhere", Ended(0, "", shlex.quote(SECRET)))


class _Monitor(BaseHTTPRequestHandler):
    """Writes down what it is told, with the headers, where the search will find it."""

    heard: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        word = self.path.removeprefix(f"/{CANARY}") or "success"
        with self.heard.open("ab") as file:
            file.write(f"{word}\n{self.headers}".encode() + body + b"\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the library's
        """Say nothing."""


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[str]:
    """The address of a monitor of cron jobs, the path of which is secret."""
    handler = type("Monitor", (_Monitor,), {"heard": tmp_path / "heard"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{CANARY}"
        server.shutdown()
        thread.join()


POLICY = """
[policy.copies]
claim = "Three copies"
window = "1h"
share = 99
[policy.consistency]
max_age = "24h"
[policy.recovery-point]
max_age = "5min"
window = "1h"
[policy.failover]
max_time = "60s"
[policy.replacement]
max_time = "30min"
[policy.placement]
[policy.integrity]
[policy.evidence]
[audit]
databases = ["postgres"]
settle_budget = "2s"
"""


def test_a_check_tells_controls_and_neither_rows_nor_secrets(
    secretive: LabCluster,
    tmp_path: Path,
    monitor: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every form of it, the ping, the metrics, its record and its reports, behind an audit that found broken rows."""
    path = configuration(secretive, tmp_path, 'signing_key = "clinic.key"', 'ping_env = "MONITOR"', 'store = "c.db"')
    path.write_text(
        path.read_text(encoding="utf-8").replace('[audit]\nsettle_budget = "2s"\n', POLICY), encoding="utf-8"
    )
    runs: tuple[tuple[tuple[str, ...], int], ...] = (
        (("evidence", "keys"), 0),
        (("check", "--run", "audit", "--verbose", "--debug", "--metrics", "clinic.prom"), 2),
        (("check", "--format", "json", "--output", "check.json"), 2),
        (("check", "--format", "junit"), 2),
        (("check", "--format", "nagios", "--stale-after", "1h"), 2),
    )
    for command, status in runs:
        ended = run_command(*command, "--config", str(path), home=tmp_path, MONITOR=monitor)
        assert ended.status == status, (command, ended)
        assert "not heard" not in ended.err
        assert_unseen(tmp_path, ended)
    for again in (
        *(("report", "latest", "--format", form) for form in ("human", "json", "html", "markdown", "junit")),
        *(
            ("report", "--since", "1d", "--format", form)
            for form in ("human", "html", "markdown", "json", "junit", "claims")
        ),
        ("evidence", "verify", "--reports"),
        ("evidence", "export", "--output", "clinic.jsonl"),
    ):
        words = (*again, "--config", str(path), "--debug")
        ended = run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
        assert ended.status == 0, (again, ended)
        assert_unseen(tmp_path, ended)
    heard = (tmp_path / "heard").read_text(encoding="utf-8")
    assert heard.count("/start\n") == heard.count("/fail\n") == 3
    assert "breached" in heard
    assert "consistency" in (tmp_path / "clinic.prom").read_text(encoding="utf-8")
    assert "standby1 was found diverged" in (tmp_path / "check.json").read_text(encoding="utf-8")


def test_a_drill_that_a_check_makes_first_tells_no_row_of_what_it_restores(
    secretive: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor of what it cannot restore: the program that restores quotes the value that it stumbles over."""
    sound, garbled = dumps(secretive)
    path = configuration(secretive, tmp_path, 'signing_key = "clinic.key"', 'store = "c.db"')
    backups = "".join(f'[backups.{file.stem}]\nkind = "dump"\npath = "{file}"\n' for file in (sound, garbled))
    more = f'{backups}[drill]\nscratch = "{secretive.directory / "scratch"}"\n[policy.restore]\nevery = "7d"\n'
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    words = ("--run", "drill", "--verbose", "--debug", "--format", "json", "--metrics", "clinic.prom")
    assert run_command("evidence", "keys", "--config", str(path), home=tmp_path).status == 0
    ended = run_command("check", *words, "--config", str(path), home=tmp_path)
    assert ended.status == 2, ended
    assert_unseen(tmp_path, ended)
    done = {each["subject"]: each for each in json.loads(ended.out)["due"]}
    assert {name: each["outcome"] for name, each in done.items()} == {"sound": "partial", "garbled": "refuted"}
    for again in (
        *(("report", done[name]["run_id"], "--format", form) for name in done for form in ("human", "json", "html")),
        *(("report", "--since", "1d", "--format", form) for form in ("markdown", "json")),
        ("history", "show", done["garbled"]["run_id"]),
        ("evidence", "verify", "--reports"),
    ):
        ended = run_here(*again, "--config", str(path), "--debug", home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
        assert (ended.status, ended.err) == (0, ""), again
        assert_unseen(tmp_path, ended)


def dumps(cluster: LabCluster) -> tuple[Path, Path]:
    """Dump the rows, and once more with a word where a number has to stand; return both files."""
    primary, shelf = cluster.primary, cluster.directory / "dumps"
    make_private_folder(shelf, primary.account)
    sound, garbled = shelf / "sound.sql", shelf / "garbled.sql"
    arguments = ["--file", str(sound), "--dbname", primary.dsn()]
    run_program(primary.programs, "pg_dump", arguments, account=primary.account, timeout_s=120)
    shutil.copy(sound, garbled)
    text = sound.read_text(encoding="utf-8")
    assert f"\t{NUMBER}\t" in text
    garbled.write_text(text.replace(f"\t{NUMBER}\t", f"\t{CANARY}\t", 1), encoding="utf-8")
    return sound, garbled


@contextmanager
def named(cluster: LabCluster, node: str) -> Iterator[None]:
    """Have a standby tell its own name to the primary: that is no secret, and a watch calls standbys by it."""
    standby = cluster.nodes[node]
    before = standby.settings()["primary_conninfo"]
    standby.configure(primary_conninfo=before.replace(f"application_name={CANARY}", f"application_name={node}"))
    standby.reload()
    # It goes on under its old name for a moment.
    wait_for(lambda: (node,) in cluster.primary.execute("select application_name from pg_stat_replication"))
    try:
        yield
    finally:
        standby.configure(primary_conninfo=before)
        standby.reload()
        cluster.wait_streaming()


@pytest.mark.parametrize("shown", ["--plain", pytest.param("--headless", marks=pytest.mark.long)])
def test_a_watch_tells_nodes_and_proofs_and_neither_rows_nor_secrets(
    secretive: LabCluster, tmp_path: Path, shown: str
) -> None:
    """Its lines, events, samples and history, while it reads every row over and over and finds broken ones."""
    path = configuration(secretive, tmp_path, 'store = "c.db"')
    text = path.read_text(encoding="utf-8").replace("[audit]\n", '[audit]\ndatabases = ["postgres"]\n')
    text = text.replace("[nodes]\n", f'[nodes]\ngone = {{ dsn = "host=/nonexistent password={CANARY}" }}\n')
    path.write_text(text, encoding="utf-8")
    words = (shown, "--interval", "0.3s", "--scrub", "60s", "--record", "samples.jsonl", "--events", "events.jsonl")
    with named(secretive, "standby2"), started("watch", *words, "--config", str(path), home=tmp_path) as process:
        wait_for(lambda: process.poll() is not None or "diverged" in proofs_in(tmp_path / "c.db"), within_s=150)
        assert process.poll() is None, process.communicate()
        process.terminate()
        ended = finished(process)
    assert ended.status == 0, ended
    assert_unseen(tmp_path, ended)
    assert "standby1" in ended.out
    told = {json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()}
    assert "cluster_event" in told
    samples = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert len(samples) > 4
    again = run_command("watch", "--replay", "samples.jsonl", "--plain", home=tmp_path)
    assert again.status == 0, again
    assert "3 of 4 copies run" in again.out
    assert_unseen(tmp_path, again)


def proofs_in(store: Path) -> set[str]:
    """Return the verdicts of the proofs that a history holds; none while it is being made."""
    try:
        return {proof.verdict.value for proof in open_live_reader(store).proofs("clinic")}
    except StoreError:
        return set()
