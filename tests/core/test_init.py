"""What `init` writes and asks: names, shared words, no secret, no file overwritten; servers and answers are tables."""

import shlex
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcheck.config import load
from replcheck.config.writing import is_name
from replcheck.errors import NodeUnfit, UsageError
from replcheck.postgres import dsn
from replcheck.runs.init import Initialized, InitRequest, address_words, draft_of, initialize, node_names, shared_words
from replcheck.runs.request import AuditFlags, audit_request
from tests.core.test_discover import AT_DB1, Machines, places, receiver, streaming

WORDS = {**AT_DB1, "dbname": "clinic", "sslmode": "verify-full", "sslpassword": "canary"}


class Answers:
    """Answers questions by a word in them; remembers what was asked."""

    def __init__(self, **answers: str | list[str]) -> None:
        self.answers = {sign.replace("_", " "): answer for sign, answer in answers.items()}
        self.asked: list[str] = []

    def __call__(self, question: str, default: str) -> str:
        self.asked.append(question)
        for sign, answer in self.answers.items():
            if sign in question:
                return answer.pop(0) if isinstance(answer, list) else answer
        return default


def cluster(*standbys, cluster_name: str = "", **primary) -> Machines:
    machines = Machines()
    machines.put("db1", standby=False, receivers=streaming(*standbys, **primary), cluster_name=cluster_name)
    return machines


def two_standbys() -> Machines:
    machines = cluster(receiver("a", "10.0.0.2"), receiver("walreceiver", "10.0.0.3"))
    machines.put("10.0.0.2")
    machines.put("10.0.0.3")
    return machines


def written(machines: Machines, path: Path, *, ask=None, told=None, words=WORDS, **changes) -> Initialized:
    request = InitRequest(given=(("primary", words),), path=path / "replcheck.toml")
    tell = [].append if told is None else told.append
    return initialize(replace(request, **changes), ask=ask, tell=tell, discovery=machines.discovery())


def test_the_file_leads_an_audit_to_the_same_servers(tmp_path):
    result = written(two_standbys(), tmp_path, cluster="clinic")
    assert [name for name, _, _ in result.nodes] == ["db1", "a", "db3"]
    request = audit_request(AuditFlags(), load(result.path))
    assert request.cluster == "clinic"
    assert [dsn.parse(target.dsn) for target in request.targets] == [
        {"host": "db1", "user": "auditor", "dbname": "clinic", "sslmode": "verify-full"},
        *(
            {"host": host, "port": "5432", "user": "auditor", "dbname": "clinic", "sslmode": "verify-full"}
            for host in ("10.0.0.2", "10.0.0.3")
        ),
    ]


def test_what_nodes_share_is_written_once(tmp_path):
    text = written(two_standbys(), tmp_path).path.read_text()
    assert 'connect = "user=auditor dbname=clinic sslmode=verify-full"' in text
    assert text.count("auditor") == 1


def test_no_secret_is_written_and_the_reader_is_told_where_they_belong(tmp_path):
    told: list[str] = []
    text = written(two_standbys(), tmp_path, told=told).path.read_text()
    assert "canary" not in text + "".join(told)
    assert "# Left out of the connection strings that were given: password, sslpassword." in text
    assert "password file" in text


def test_only_its_owner_may_read_the_file_and_nothing_else_stays(tmp_path):
    path = written(two_standbys(), tmp_path).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_stays_as_it_is_and_no_server_is_asked(tmp_path):
    machines, path = two_standbys(), tmp_path / "replcheck.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        written(machines, tmp_path)
    assert (path.read_text(), machines.asked) == ("mine", [])
    assert written(machines, tmp_path, replace=True).complete
    assert load(path).nodes


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*: no such file or directory"):
        written(two_standbys(), tmp_path / "none")


def test_nobody_is_asked_without_a_way_to(tmp_path):
    result = written(cluster(receiver("a")), tmp_path)
    assert (result.complete, result.missing) == (False, ("a",))
    text = result.path.read_text()
    assert '# [nodes.a]\n# dsn = "host=HOST port=PORT"\n' in text
    assert 'Not found: the standby that streams over a Unix socket as application "a".' in text


def test_only_what_is_missing_is_asked(tmp_path):
    ask = Answers()
    written(two_standbys(), tmp_path, ask=ask, cluster="clinic")
    assert len(ask.asked) == 3
    assert all("zone" in question for question in ask.asked)
    (tmp_path / "replcheck.toml").unlink()
    result = written(two_standbys(), tmp_path, ask=(asked := Answers(zone_that_a_="rack-b")))
    assert asked.asked[0].startswith("Name of the cluster")
    assert (result.cluster, load(result.path).nodes["a"].zone) == ("clinic", "rack-b")


def test_an_address_is_asked_until_the_standby_answers_there(tmp_path):
    machines = cluster(receiver("a"), receiver("b"))
    machines.put("db2", "6000")
    told: list[str] = []
    ask = Answers(application_=["db9", "host='", "db2:6000", ""], zone="")
    result = written(machines, tmp_path, ask=ask, told=told)
    assert [name for name, _, _ in result.nodes] == ["db1", "a"]
    assert result.missing == ("b",)
    assert "nothing at" in told[0]
    assert "malformed" in told[1]
    assert dsn.parse(load(result.path).nodes["a"].dsn) == {"host": "db2", "port": "6000"}


def test_an_answer_is_not_asked_for_ever(tmp_path):
    ask = Answers(application="db9", Name="not a name")
    result = written(cluster(receiver("a")), tmp_path, ask=ask)
    assert sum("application" in question for question in ask.asked) == 3
    assert result.cluster == "clinic"


def test_a_password_in_an_answer_is_used_and_not_written(tmp_path):
    machines = cluster(receiver("a"))
    machines.put("db2")
    result = written(machines, tmp_path, ask=Answers(application="host=db2 password=canary2"), words={"host": "db1"})
    assert result.complete
    assert "canary" not in result.path.read_text()
    assert "password" in result.path.read_text()


def test_what_the_role_may_not_see_is_told_with_the_grant(tmp_path):
    told: list[str] = []
    text = written(cluster(hidden=2), tmp_path, told=told, words={"host": "db1"}).path.read_text()
    assert "2 connections receive WAL from db1:5432 that this role may not see" in told[0]
    assert told[1] == 'note: GRANT pg_monitor TO "auditor";'
    assert '# GRANT pg_monitor TO "auditor";' in text.splitlines()


def test_other_receivers_and_slots_without_one_are_noted(tmp_path):
    text = written(cluster(logical=("reports",), idle_slots=("db4",)), tmp_path).path.read_text()
    assert "# The logical subscriber reports of db1:5432 is no node." in text
    assert "# Nobody uses slot db4 of db1:5432: a standby that is down?" in text


@pytest.mark.parametrize("name", ["", "clinic prod", "x" * 64, "-a", 'a"b'])
def test_a_cluster_name_that_is_none_is_an_error(tmp_path, name):
    with pytest.raises(UsageError, match="--cluster is no name"):
        written(two_standbys(), tmp_path, cluster=name)


def test_two_servers_under_one_address_write_nothing(tmp_path):
    with pytest.raises(NodeUnfit):
        written(two_standbys(), tmp_path, given=(("primary", WORDS), ("replica1", WORDS)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "database", "name"),
    [("", "clinic", "clinic"), ("18/main", "postgres", "18-main"), ("", "späße & co", "sp-e-co"), ("", "/", "cluster")],
)
def test_the_clusters_name_comes_from_its_setting_or_the_database(tmp_path, setting, database, name):
    machines = Machines()
    machines.put("db1", standby=False, cluster_name=setting, database=database, receivers=streaming())
    assert written(machines, tmp_path).cluster == name


def named(*standbys: str, cluster_names: tuple[str, ...] = ()) -> list[str]:
    shown = [receiver(name, f"10.0.0.{place}") for place, name in enumerate(standbys, start=2)]
    own = dict(enumerate(cluster_names))
    machines = cluster(*shown, cluster_name=own.get(0, ""))
    for place in range(len(standbys)):
        machines.put(f"10.0.0.{place + 2}", cluster_name=own.get(place + 1, ""))
    return node_names(machines.explored(AT_DB1))


def test_nodes_are_named_as_they_call_themselves():
    assert named("rome", "oslo") == ["db1", "rome", "oslo"]
    assert named("rome", "oslo", cluster_names=("bern", "rome", "oslo")) == ["bern", "rome", "oslo"]
    assert named("walreceiver", cluster_names=("bern", "rome")) == ["bern", "rome"]
    assert named("a b", cluster_names=("bern", "rome")) == ["bern", "rome"]
    assert named("rome", cluster_names=("main", "main")) == ["db1", "rome"]


def test_nodes_without_a_good_name_of_their_own_are_numbered():
    assert named("walreceiver", "walreceiver") == ["db1", "db2", "db3"]
    assert named("18/main", "a b", "") == ["db1", "db2", "db3", "db4"]
    assert named("db3", "walreceiver") == ["db1", "db3", "db4"]
    assert named("db1", "db1") == ["db1", "db2", "db3"]


@given(st.lists(st.sampled_from(["db1", "db2", "db3", "db4", "", "walreceiver", "x", "a b"]), max_size=6))
def test_names_are_good_and_differ(standbys):
    names = named(*standbys)
    assert len(set(names)) == len(names) == len(standbys) + 1
    assert all(map(is_name, names))


@settings(max_examples=40)
@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_a_server_calls_itself_escapes_its_comment(tmp_path_factory, name, logical):
    machines = cluster(receiver(name, "10.0.0.2"), receiver(f"{name}'", "10.0.0.3"), logical=(logical,))
    machines.put("10.0.0.2")
    path = tmp_path_factory.mktemp("init")
    configuration = load(written(machines, path, cluster="clinic", words={"host": "db1"}).path)
    assert len(configuration.nodes) == 2
    assert configuration.audit.model_fields_set == frozenset()
    assert configuration.model_fields_set == {"config_version", "cluster", "connect", "nodes", "audit", "output"}


def test_shared_words_are_those_that_every_node_has():
    nodes = [{"user": "a", "dbname": "x", "service": "s", "port": "1"}, {"user": "a", "service": "s", "port": "1"}]
    assert shared_words(nodes) == {"user": "a"}


def test_a_node_that_lacks_what_others_share_keeps_lacking_it():
    machines = cluster()
    machines.put("db2")
    found = machines.explored({"host": "db1", "user": "a", "options": "-c x=1"}, {"host": "db2", "user": "a"})
    draft = draft_of(found, "clinic", ["x", "y"], ["", ""])
    assert draft.connect == "user=a"
    assert [dsn.parse(node.dsn) for node in draft.nodes] == [{"host": "db1", "options": "-c x=1"}, {"host": "db2"}]
    assert len(places(found)) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("db2", {"host": "db2"}),
        ("::1", {"host": "::1"}),
        ("[fe80::1]", {"host": "fe80::1"}),
        ("/run/pg:5433", {"host": "/run/pg", "port": "5433"}),
        ("postgresql://u@db2:1/x", {"host": "db2", "port": "1", "user": "u", "dbname": "x"}),
    ],
)
def test_addresses_are_understood_as_people_write_them(answer, words):
    assert address_words(answer) == words


@pytest.mark.parametrize("answer", [":5432", "host='", "postgresql://[", "[", "a\udc80", "a\x1b"])
def test_what_is_no_address_is_said_so(answer):
    with pytest.raises(UsageError):
        address_words(answer)


ENVIRONMENT = {
    "PGHOST": "db1",
    "PGPORT": "6000",
    "PGUSER": "a",
    "PGPASSWORD": "canary",
    "PGAPPNAME": "x",
    "PGHOSTADDR": "",
}


def test_what_the_environment_says_is_written_but_its_password():
    assert dsn.words_of("", ENVIRONMENT) == {"host": "db1", "port": "6000", "user": "a"}
    assert dsn.words_of("host=db2 user=b", ENVIRONMENT) == {"host": "db2", "port": "6000", "user": "b"}
    assert dsn.words_of("service=clinic", ENVIRONMENT) == {"service": "clinic"}
    assert dsn.words_of("", ENVIRONMENT | {"PGSERVICE": "clinic"}) == {"service": "clinic"}


def test_words_that_are_the_sessions_own_are_left_out():
    words = "host=db1 application_name=x client_encoding=latin1 replication=database target_session_attrs=primary"
    assert dsn.words_of(words, {}) == {"host": "db1"}


def test_a_list_of_hosts_is_several_servers():
    words = {"host": "db1,db2", "port": "1", "user": "a"}
    assert dsn.single_hosts(words) == [{"host": host, "port": "1", "user": "a"} for host in ("db1", "db2")]
    assert dsn.single_hosts({"user": "a"}) == [{"user": "a"}]
    assert dsn.single_hosts({"host": "a,b", "port": "1,2,3"}) == [{"host": "a,b", "port": "1,2,3"}]
    assert shlex.split(dsn.written(dsn.single_hosts({"host": "a,b", "hostaddr": "1.2.3.4,"})[1])) == ["host=b"]
