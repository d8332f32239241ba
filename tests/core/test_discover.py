"""Finding a cluster from one of its servers; the servers are a table of addresses."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from replcheck.errors import AuthenticationRefused, NodeUnfit, NodeUnreachable
from replcheck.postgres.discovery import Receiver, Receivers, SelfImage, sockets_beside
from replcheck.runs.discover import Discovery, Server, Words, candidates_of
from tests.core.nodes import facts

NOBODY = Receivers(standbys=(), logical=(), hidden=0, idle_slots=())
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def receiver(name: str, address: str | None = None, **changes: Any) -> Receiver:
    made = Receiver(
        application_name=name, address=address, hostname=None, state="streaming", sync_state="async", slot=None
    )
    return replace(made, **changes)


def streaming(*standbys: Receiver, **changes: Any) -> Receivers:
    return replace(NOBODY, standbys=standbys, **changes)


class Machines:
    """Servers by host and port; each has started at a moment of its own."""

    def __init__(self) -> None:
        self.servers: dict[tuple[str, str], Server | Exception] = {}
        self.asked: list[tuple[str, str]] = []

    def put(
        self,
        host: str,
        port: str = "5432",
        *,
        standby: bool = True,
        upstream: tuple[str, int] | None = None,
        receivers: Receivers = NOBODY,
        cluster_name: str = "",
        slot: str | None = None,
        system: str = "7412345678901234567",
        sees: bool = True,
        database: str = "clinic",
    ) -> Server:
        known = facts(host, in_recovery=standby, upstream=upstream)
        identity = replace(
            known.identity,
            system_identifier=system,
            started_at=BEGUN + timedelta(seconds=len(self.servers)),
            host="" if host.startswith("/") else host,
            own_port=int(port),
        )
        made = Server(
            words={"host": host, "port": port},
            facts=replace(known, identity=identity, privileges=replace(known.privileges, monitors=sees)),
            image=SelfImage(cluster_name=cluster_name, database=database, slot=slot),
            receivers=receivers,
        )
        self.servers[host, port] = made
        return made

    async def probe(self, name: str, words: Words) -> Server:
        place = (words["host"], words.get("port", "5432"))
        self.asked.append(place)
        found = self.servers.get(place)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise NodeUnreachable(f"nothing at {place}", node=name)
        return replace(found, words=words)

    def sockets(self, folder: str, port: str) -> list[str]:
        return [own for host, own in self.servers if host == folder and own != port]

    def discovery(self) -> Discovery:
        return Discovery(probe=self.probe, sockets=self.sockets)

    def explored(self, *given: Words) -> Discovery:
        discovery = self.discovery()
        asyncio.run(discovery.begin([(f"node{number}", words) for number, words in enumerate(given)]))
        return discovery


def places(discovery: Discovery) -> list[tuple[str, str]]:
    return [(server.words["host"], server.words.get("port", "5432")) for server in discovery.servers]


def names(discovery: Discovery) -> list[str | None]:
    found = [discovery.receiver_of(server) for server in discovery.servers]
    return [known.application_name if known else None for known in found]


AT_DB1 = {"host": "db1", "user": "auditor", "password": "canary"}


def test_standbys_are_found_where_they_stream_from():
    machines = Machines()
    machines.put("db1", standby=False, receivers=streaming(receiver("a", "10.0.0.2"), receiver("b", "10.0.0.3")))
    machines.put("10.0.0.2")
    machines.put("10.0.0.3")
    found = machines.explored(AT_DB1)
    assert places(found) == [("db1", "5432"), ("10.0.0.2", "5432"), ("10.0.0.3", "5432")]
    assert names(found) == [None, "a", "b"]
    assert found.servers[1].words["password"] == "canary"


def test_a_standby_leads_to_its_primary_and_from_there_to_the_others():
    machines = Machines()
    machines.put("10.0.0.3", upstream=("10.0.0.2", 5432))
    machines.put("10.0.0.2", upstream=("db1", 5433), receivers=streaming(receiver("c", "10.0.0.3")))
    machines.put(
        "db1", "5433", standby=False, receivers=streaming(receiver("b", "10.0.0.2"), receiver("d", "10.0.0.4"))
    )
    machines.put("10.0.0.4", "5433")
    found = machines.explored({"host": "10.0.0.3"})
    assert places(found)[0] == ("db1", "5433")
    assert sorted(places(found)[1:]) == [("10.0.0.2", "5432"), ("10.0.0.3", "5432"), ("10.0.0.4", "5433")]
    assert sorted(name for name in names(found) if name) == ["b", "c", "d"]


def test_standbys_of_standbys_are_found_from_the_top():
    machines = Machines()
    machines.put("db1", standby=False, receivers=streaming(receiver("a", "10.0.0.2")))
    machines.put("10.0.0.2", receivers=streaming(receiver("b", "10.0.0.3")))
    machines.put("10.0.0.3")
    assert names(machines.explored(AT_DB1)) == [None, "a", "b"]


def test_a_standby_whose_sender_may_not_be_seen_says_which_grant_shows_it():
    machines = Machines()
    machines.put("db2", sees=False)
    with pytest.raises(NodeUnfit) as refused:
        machines.explored({"host": "db2"})
    assert 'GRANT pg_monitor TO "auditor";' in refused.value.hint


def test_a_sender_that_is_out_of_reach_is_told():
    machines = Machines()
    machines.put("db2", upstream=("db1", 5432))
    with pytest.raises(NodeUnfit, match="its sender can't be used: nothing at") as refused:
        machines.explored({"host": "db2"})
    assert "--primary" in refused.value.hint


def test_standbys_that_stream_in_a_circle_end_in_an_error():
    machines = Machines()
    machines.put("db1", upstream=("db2", 5432))
    machines.put("db2", upstream=("db1", 5432))
    with pytest.raises(NodeUnfit, match="no primary was found"):
        machines.explored({"host": "db1"})


def test_a_named_standby_below_another_leads_to_the_primary_too():
    machines = Machines()
    machines.put("db3", upstream=("db2", 5432))
    machines.put("db2", upstream=("db1", 5432))
    machines.put("db1", standby=False)
    found = machines.explored({"host": "db3"}, {"host": "db2"})
    assert sorted(places(found)) == [("db1", "5432"), ("db2", "5432"), ("db3", "5432")]


def test_what_answers_there_and_is_no_standby_of_the_cluster_is_no_node():
    machines = Machines()
    shown = [receiver(f"r{number}", f"10.0.0.{number}") for number in (2, 3, 4)]
    machines.put("db1", standby=False, receivers=streaming(*shown))
    machines.put("10.0.0.2", system="1")
    machines.put("10.0.0.3", standby=False)
    machines.servers["10.0.0.4", "5432"] = AuthenticationRefused("it refuses the role", node="x")
    found = machines.explored(AT_DB1)
    assert places(found) == [("db1", "5432")]
    assert [(lost.receiver, lost.trouble) for lost in found.unlocated] == [
        (shown[0], ""),
        (shown[1], ""),
        (shown[2], "it refuses the role"),
    ]


def test_over_unix_sockets_the_servers_beside_are_tried_and_told_apart_by_their_slots():
    machines = Machines()
    shown = (receiver("walreceiver", slot="one"), receiver("walreceiver", slot="two"))
    machines.put("/run/pg", standby=False, receivers=streaming(*shown))
    machines.put("/run/pg", "5433", slot="two")
    machines.put("/run/pg", "5434", slot="one")
    machines.put("/run/pg", "5435", system="1")
    found = machines.explored({"host": "/run/pg"})
    assert {server.words["port"]: found.receiver_of(server) for server in found.servers[1:]} == {
        "5434": shown[0],
        "5433": shown[1],
    }


def test_without_slots_their_cluster_names_tell_them_apart():
    machines = Machines()
    machines.put("/run/pg", standby=False, receivers=streaming(receiver("two"), receiver("one")))
    machines.put("/run/pg", "5433", cluster_name="one")
    machines.put("/run/pg", "5434", cluster_name="two")
    found = machines.explored({"host": "/run/pg"})
    assert dict(zip(places(found), names(found), strict=True)) == {
        ("/run/pg", "5432"): None,
        ("/run/pg", "5433"): "one",
        ("/run/pg", "5434"): "two",
    }


def test_with_nothing_to_tell_them_apart_each_server_is_one_standby():
    machines = Machines()
    machines.put("/run/pg", standby=False, receivers=streaming(*(receiver("walreceiver") for _ in range(3))))
    machines.put("/run/pg", "5433")
    machines.put("/run/pg", "5434")
    found = machines.explored({"host": "/run/pg"})
    assert sorted(places(found)) == [("/run/pg", "5432"), ("/run/pg", "5433"), ("/run/pg", "5434")]
    assert len(found.unlocated) == 1


def test_no_server_is_taken_twice_whatever_it_is_called():
    machines = Machines()
    shown = (receiver("walreceiver"), receiver("walreceiver"), receiver("y"))
    machines.put("/run/pg", standby=False, receivers=streaming(*shown))
    machines.put("/run/pg", "5433")
    machines.put("/run/pg", "5434", cluster_name="y")
    found = machines.explored({"host": "/run/pg"})
    assert sorted(places(found)) == [("/run/pg", "5432"), ("/run/pg", "5433"), ("/run/pg", "5434")]


def test_a_standby_over_a_socket_of_another_machine_is_not_guessed():
    machines = Machines()
    machines.put("db1", standby=False, receivers=streaming(receiver("a")))
    found = machines.explored(AT_DB1)
    assert [lost.receiver.application_name for lost in found.unlocated] == ["a"]
    assert machines.asked == [("db1", "5432")]


def test_the_server_that_was_asked_already_is_not_its_own_standby():
    machines = Machines()
    machines.put("127.0.0.1", standby=False, receivers=streaming(receiver("a", "127.0.0.1")))
    found = machines.explored({"host": "127.0.0.1"})
    assert places(found) == [("127.0.0.1", "5432")]
    assert len(found.unlocated) == 1


def test_replicas_that_were_named_are_recognized():
    machines = Machines()
    machines.put("db1", standby=False, receivers=streaming(receiver("a"), receiver("b", "10.0.0.3")))
    machines.put("db2", "6000", cluster_name="a")
    machines.put("10.0.0.3")
    found = machines.explored(AT_DB1, {"host": "db2", "port": "6000"})
    assert list(zip(places(found), names(found), strict=True)) == [
        (("db1", "5432"), None),
        (("db2", "6000"), "a"),
        (("10.0.0.3", "5432"), "b"),
    ]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"system": "1"}, "belongs to another cluster"),
        ({"standby": False}, "is a primary, as is"),
    ],
)
def test_a_named_replica_that_is_none_is_an_error(second, message):
    machines = Machines()
    machines.put("db1", standby=False)
    machines.put("db2", **second)
    with pytest.raises(NodeUnfit, match=message):
        machines.explored(AT_DB1, {"host": "db2"})


def test_one_server_named_twice_is_an_error():
    machines = Machines()
    machines.put("db1", standby=False)
    with pytest.raises(NodeUnfit, match="is the server that answers at"):
        machines.explored(AT_DB1, AT_DB1)


def test_an_address_that_is_told_is_believed_only_if_that_standby_answers():
    machines = Machines()
    shown = receiver("a", slot="one")
    machines.put("db1", standby=False, receivers=streaming(shown))
    machines.put("db2", slot="two")
    machines.put("db3", slot="one", receivers=streaming(receiver("below", "10.0.0.9")))
    machines.put("10.0.0.9")
    found = machines.explored(AT_DB1)
    [lost] = found.unlocated
    for wrong in ("db1", "db2"):
        with pytest.raises(NodeUnfit):
            asyncio.run(found.locate(lost, {"host": wrong}, "a"))
    asyncio.run(found.locate(lost, {"host": "db3"}, "a"))
    assert found.unlocated == []
    assert list(zip(places(found), names(found), strict=True))[1:] == [
        (("db3", "5432"), "a"),
        (("10.0.0.9", "5432"), "below"),
    ]


def hosts_of(shown: Receiver, **sender: str) -> list[str]:
    words = {"host": "db1", "port": "6000"} | sender
    return list(dict.fromkeys(found["host"] for found in candidates_of(shown, words, "5432", lambda *_: [])))


@pytest.mark.parametrize("name", ["/tmp/evil", "a,b", "a b", "-x", "a\nb", "", "a'"])
def test_a_host_name_that_is_none_is_never_tried(name):
    assert hosts_of(receiver("a", "10.0.0.2", hostname=name)) == ["10.0.0.2"]


def test_names_come_first_where_a_certificate_is_checked_against_them():
    shown = receiver("a", "10.0.0.2", hostname="db2.internal")
    assert hosts_of(shown) == ["10.0.0.2", "db2.internal"]
    assert hosts_of(shown, sslmode="verify-full") == ["db2.internal", "10.0.0.2"]


def test_the_ports_of_the_sender_are_tried_and_the_usual_one():
    found = candidates_of(receiver("a", "::2"), {"host": "db1", "port": "6000", "user": "u"}, "6001", lambda *_: [])
    assert list(found) == [{"host": "::2", "port": port, "user": "u"} for port in ("6000", "6001", "5432")]


def test_only_sockets_of_the_same_account_are_tried(tmp_path, monkeypatch):
    for name in (".s.PGSQL.5432", ".s.PGSQL.5433", ".s.PGSQL.5434.lock", ".s.PGSQL.x", ".s.PGSQL.5431"):
        (tmp_path / name).touch()
    assert sockets_beside(str(tmp_path), "5432") == ["5431", "5433"]
    assert sockets_beside(str(tmp_path), "5439") == []
    real = type(tmp_path).stat

    def stat(path, **options):
        known = real(path, **options)
        return known if path.suffix != ".5433" else type("Foreign", (), {"st_uid": known.st_uid + 1})()

    monkeypatch.setattr(type(tmp_path), "stat", stat)
    assert sockets_beside(str(tmp_path), "5432") == ["5431"]
