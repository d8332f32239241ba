"""A cable to a node: whole, it passes everything; cut, it swallows everything without a word."""

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from replcheck.lab.cluster import LabCluster
from replcheck.lab.relay import Relay
from replcheck.postgres import dsn
from replcheck.postgres.local import connect

ENCRYPTION_ASKED = struct.pack("!II", 8, 80877103)
"""SSLRequest (PostgreSQL manual, Message Formats); over a Unix socket the answer is N."""


def test_a_whole_cable_passes_everything(cluster: LabCluster) -> None:
    with Relay(cluster.primary) as relay, connect(relay.words(cluster.primary.dsn()), node="primary") as connection:
        rows = connection.execute("select repeat('x', 1000) from generate_series(1, 5000)").fetchall()
    assert len(rows) == 5000


def test_a_cut_cable_swallows_what_is_sent_and_ends_no_connection(cluster: LabCluster) -> None:
    with Relay(cluster.primary) as relay, plugged(relay) as before:
        before.sendall(ENCRYPTION_ASKED)
        assert before.recv(1) == b"N"
        relay.cut()
        before.sendall(ENCRYPTION_ASKED)
        with plugged(relay) as during:
            during.sendall(ENCRYPTION_ASKED)
            assert select.select([before, during], [], [], 0.3)[0] == []
            relay.mend()
            assert ended(before)
            assert ended(during)
        with connect(relay.words(cluster.primary.dsn()), node="primary") as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def ended(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def plugged(relay: Relay) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(f"{dsn.parse(relay.words(''))['host']}/.s.PGSQL.5432")
        yield end


def test_a_standby_behind_a_cut_cable_receives_nothing_and_catches_up_later(make_cluster, newest_major) -> None:
    cluster = make_cluster(major=newest_major, standbys=1)
    standby = cluster.node("standby1")
    with Relay(cluster.primary) as relay:
        standby.configure(primary_conninfo=f"{relay.words(cluster.primary.dsn())} application_name=standby1")
        standby.reload()
        cluster.catch_up()
        cluster.wait_streaming()
        relay.cut()
        cluster.primary.execute("create table later ()")
        time.sleep(0.3)
        assert standby.execute("select to_regclass('later')") == [(None,)]
        assert standby.execute("select status from pg_stat_wal_receiver") == [("streaming",)]
        relay.mend()
        cluster.catch_up()
        standby.follow(cluster.primary, slot="standby1")
        standby.reload()
