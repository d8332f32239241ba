"""`replcheck doctor` on real servers: it foretells the audit's status, survives any node and tells no secret."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.local import sql
from replcheck.report.doctor import doctor_schema
from tests.commands import Ended, assert_nothing_left, assert_one_line, run_here
from tests.proxies import proxied

ROLES = {
    "granted": "in role pg_read_all_data, pg_monitor",
    "no_monitor": "in role pg_read_all_data",
    "only_monitor": "in role pg_monitor",
    "nothing": "",
    "super": "superuser",
    "bypass": "bypassrls in role pg_read_all_data, pg_monitor",
    "one_connection": "connection limit 1 in role pg_read_all_data, pg_monitor",
}


@pytest.fixture(scope="module")
def ward(clusters_root: Path, newest_major: int) -> Iterator[LabCluster]:
    """A primary and a standby with roles of all kinds and a database that hides rows."""
    with LabCluster.create(clusters_root, name=f"ward_{os.getpid()}", major=newest_major, standbys=1) as cluster:
        for name, attributes in ROLES.items():
            cluster.primary.execute(sql.SQL(f"create role {name} login {attributes}"))
        cluster.primary.execute("create table visit as select i from generate_series(1, 1000) as i")
        cluster.create_database("secretive")
        cluster.primary.execute("create table secret (i int)", dbname="secretive")
        cluster.primary.execute("alter table secret enable row level security", dbname="secretive")
        cluster.catch_up()
        yield cluster


def dsns(cluster: LabCluster, role: str, *names: str) -> list[str]:
    primary, *others = [f"{cluster.nodes[name].address} user={role} dbname=postgres" for name in names]
    return ["--primary", primary, *(word for dsn in others for word in ("--replica", dsn))]


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in this process, in an empty folder."""

    def ended(*words: str) -> Ended:
        return run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)

    return ended


@pytest.fixture
def doctor(ward: LabCluster, run: Run) -> Run:
    """A function that examines both nodes as a role."""

    def ended(role: str, *more: str) -> Ended:
        return run("doctor", *dsns(ward, role, "primary", "standby1"), *more)

    return ended


def codes(ended: Ended, *states: str) -> set[tuple[str, str | None]]:
    """Return code and node of the checks in one of these states, from a report in JSON."""
    document = json.loads(ended.out)
    jsonschema.validate(document, doctor_schema())
    checks = [check for node in document["nodes"] for check in node["checks"]] + document["together"]
    return {(check["code"], check["node"]) for check in checks if check["state"] in states}


@pytest.mark.parametrize(
    ("role", "scope", "status"),
    [
        ("granted", ("--database", "postgres"), 0),
        ("no_monitor", ("--database", "postgres"), 0),
        pytest.param("super", (), 0, marks=pytest.mark.long),
        ("bypass", (), 0),
        ("granted", (), 3),
        ("granted", ("--exclude", "secret"), 0),
        pytest.param("only_monitor", ("--database", "postgres"), 3, marks=pytest.mark.long),
        ("nothing", ("--database", "postgres", "--table", "visit"), 3),
        ("one_connection", ("--database", "postgres"), 3),
    ],
)
def test_the_doctor_foretells_whether_the_audit_is_proven(
    ward: LabCluster, doctor: Run, run: Run, role: str, scope: tuple[str, ...], status: int
) -> None:
    foretold = doctor(role, *scope)
    assert (foretold.status, foretold.err) == (status, ""), foretold
    words = shlex.split(foretold.out.splitlines()[-1])
    assert words[:2] == ["replcheck", "audit"]
    assert run(*words[1:], "--no-store").status == status
    assert_nothing_left(ward)


def test_every_node_is_told_whatever_is_wrong_with_the_others(ward: LabCluster, run: Run) -> None:
    wrong = f"{ward.nodes['standby1'].address} user={AUDIT_ROLE} dbname=postgres password=zqcanary"
    with proxied(ward.nodes["standby1"], pooler=True) as pooler:
        ended = run(
            "doctor",
            "--primary",
            ward.audit_dsn("primary"),
            *("--replica", wrong),
            *("--replica", "host=127.0.0.1 port=1 password=zqcanary"),
            *("--replica", pooler.dsn(ward.audit_dsn("standby1"))),
            *("--replica", ward.audit_dsn("primary")),
            *("--database", "postgres", "--format", "json"),
        )
    assert ended.status == 3
    assert "zqcanary" not in ended.out + ended.err
    assert ended.err == "replcheck: note: the command at the end lacks password: add it again\n"
    missing = {(code, node) for code, node in codes(ended, "missing")}
    assert missing == {
        ("refused", "replica1"),
        ("unreachable", "replica2"),
        ("pooler", "replica3"),
        ("same_server", "replica4"),
        ("role", "replica4"),
        ("primaries", None),
    }
    assert_nothing_left(ward)


def test_the_grants_it_tells_are_enough(ward: LabCluster, doctor: Run) -> None:
    ward.primary.execute("create role patient login")
    try:
        document = json.loads(doctor("patient", "--format", "json").out)
        checks = [check for node in document["nodes"] for check in node["checks"] if check["state"] != "ok"]
        told = {statement for check in checks for statement in check["sql"]}
        grants = {f'GRANT {granted} TO "patient";' for granted in ("pg_read_all_data", "pg_monitor")}
        assert told == grants | {'ALTER ROLE "patient" BYPASSRLS;'}
        for statement in told:
            ward.primary.execute(sql.SQL(statement))
        ward.catch_up()
        healed = doctor("patient", "--format", "json")
        assert (healed.status, codes(healed, "missing", "unknown")) == (0, set())
    finally:
        ward.primary.execute("drop role patient")


def test_a_report_can_go_to_a_file_and_quiet_says_only_what_to_type(doctor: Run, tmp_path: Path) -> None:
    written = doctor("granted", "--exclude", "secret", "--output", "report.txt")
    assert (written.status, written.out, written.err) == (0, "", "")
    assert "READY" in (tmp_path / "report.txt").read_text(encoding="utf-8")
    brief = doctor("granted", "--quiet")
    assert brief.status == 3
    assert "NOT READY" in brief.out
    assert "What the role may do" not in brief.out


def test_a_database_that_nobody_has_is_a_mistake(doctor: Run) -> None:
    told = assert_one_line(doctor("granted", "--database", "nonesuch"))
    assert 'no database matches "nonesuch"' in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no cluster to audit"),
        (("--primary", "host='zqcanary", "--replica", "x=y"), "--primary is malformed: a quoted value"),
        (("--primary", "host=a", "--replica", "host=b", "--jobs", "0"), "invalid value for '--jobs'"),
        (("--primary", "host=a", "--replica", "host=b", "--output", "none/x"), "cannot write the report to none/x"),
        (("--config", "none.toml"), "cannot read configuration none.toml"),
    ],
)
def test_bad_usage_is_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    told = assert_one_line(run("doctor", *words))
    assert message in told
    assert "zqcanary" not in told
