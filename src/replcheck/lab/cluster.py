"""A cluster of the lab: a primary and its standbys, made, started, stopped and removed.

Standbys are copied by pg_basebackup and stream through replication slots. Nothing about them is a pretence but their
settings, which favour a quick start over durability (fsync is off).
"""

import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import fsencode, getpid
from pathlib import Path
from tempfile import gettempdir
from types import MappingProxyType, TracebackType
from typing import Self

from replcheck.errors import LabError
from replcheck.lab import state as lab_state
from replcheck.lab import templates
from replcheck.lab.state import FaultState, LabState, NodeState
from replcheck.model.wal import Lsn
from replcheck.postgres import processes
from replcheck.postgres.local import sql
from replcheck.postgres.processes import ProcessState
from replcheck.postgres.programs import (
    Account,
    Programs,
    can_enter,
    find_programs,
    readable_programs,
    server_account,
)
from replcheck.postgres.server import SOCKET_PATH_LIMIT, LocalServer, libpq_quoted, make_private_folder

AUDIT_ROLE = "replcheck_audit"
"""A role with the privileges that an audit needs and no other; it has a password, kept in the password file."""
PRIMARY = "primary"

_PASSFILE = "audit.pgpass"
_FIRST_PORT = 5432
_ACCESS = f"""\
local all {AUDIT_ROLE} scram-sha-256
local replication {AUDIT_ROLE} reject
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
"""
_SETTINGS = MappingProxyType(
    {
        "autovacuum_naptime": "5s",
        "fsync": "off",
        "hot_standby": "on",
        "max_connections": "100",
        "max_prepared_transactions": "200",
        "max_replication_slots": "10",
        "max_wal_senders": "10",
        "max_wal_size": "512MB",
        "shared_buffers": "16MB",
        "wal_level": "replica",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "200ms",
    }
)

_PER_NODE = frozenset(
    {"data_directory", "hba_file", "port", "cluster_name", "primary_conninfo", "primary_slot_name"}
    | {"unix_socket_directories", "recovery_min_apply_delay"}
)
"""Settings that a standby does not take over from its upstream."""


class LabCluster:
    """A cluster of the lab; the handle keeps nothing but its state file, so that it can be opened again by name."""

    def __init__(self, state: LabState, programs: Programs, account: Account | None) -> None:
        self._state = state
        self._programs = programs
        self._account = account

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        name: str = "lab",
        major: int | None = None,
        standbys: int = 2,
        checksums: bool = True,
        feedback: bool = True,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Make and start a cluster in a folder of its own under `root`, and wait until its standbys stream.

        `major` is the newest version found where it is None; `feedback` is the standbys' hot_standby_feedback;
        `settings` go to every node. Where `listen_addresses` is among them, free ports are chosen, else the Unix
        socket alone is used. Raise LabError or ProgramError where it cannot be made; nothing is left then.
        """
        account = server_account()
        programs = readable_programs(find_programs(major), account)
        cluster = cls(_new_state(root, name, programs.major, account, checksums=checksums), programs, account)
        try:
            nodewide = {**_SETTINGS, "hot_standby_feedback": "on" if feedback else "off", **settings}
            cluster._make_primary(root, nodewide)
            cluster._make_standbys([f"standby{number}" for number in range(1, standbys + 1)], PRIMARY)
            cluster.wait_streaming()
        except BaseException:
            cluster.destroy()
            raise
        return cluster

    @classmethod
    def open(cls, root: Path, name: str = "lab") -> Self:
        """Return the cluster of that name under `root`, running or not; raise LabError where there is none."""
        return cls.from_state(LabState.load_from(root / name))

    @classmethod
    def from_state(cls, state: LabState) -> Self:
        """Return the cluster of a state file."""
        account = server_account()
        return cls(state, readable_programs(find_programs(state.major), account), account)

    @property
    def state(self) -> LabState:
        """Return what the state file says."""
        return self._state

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self._state.name

    @property
    def directory(self) -> Path:
        """Return the folder that holds all of the cluster."""
        return self._state.directory

    @property
    def nodes(self) -> Mapping[str, LocalServer]:
        """Return the nodes by name, in the order in which they were made."""
        return MappingProxyType({node.name: self._server(node) for node in self._state.nodes})

    @property
    def primary(self) -> LocalServer:
        """Return the node that takes writes: a running one where there is one, the first made where two do."""
        candidates = [node for node in self.nodes.values() if not node.is_standby]
        if not candidates:
            raise LabError(f"cluster {self.name} has no primary")
        return next((node for node in candidates if node.running), candidates[0])

    @property
    def standbys(self) -> tuple[LocalServer, ...]:
        """Return the nodes that are standbys now."""
        return tuple(node for node in self.nodes.values() if node.is_standby)

    def node(self, name: str) -> LocalServer:
        """Return a node by name; raise LabError where there is none."""
        try:
            return self.nodes[name]
        except KeyError:
            raise LabError(
                f"cluster {self.name} has no node {name}", hint=f"Its nodes are: {', '.join(self.nodes)}."
            ) from None

    def upstream(self, name: str) -> str | None:
        """Return the name of the node that a standby was made to stream from."""
        return next(node.upstream for node in self._state.nodes if node.name == name)

    def audit_dsn(self, node: str, dbname: str = "postgres") -> str:
        """Return a connection string for the audit role; the password is in the password file it names."""
        return f"{self.node(node).address} {self.audit_words(dbname)}"

    def audit_words(self, dbname: str = "postgres") -> str:
        """Return what the connection strings of the audit role have in common, whichever the node."""
        password_file = libpq_quoted(str(self.directory / _PASSFILE))
        return f"user={AUDIT_ROLE} dbname={libpq_quoted(dbname)} passfile={password_file}"

    def create_database(self, name: str) -> str:
        """Create a database on the primary and return its name."""
        self.primary.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database on the primary, with the connections to it."""
        self.primary.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def add_standby(self, name: str, upstream: str | None = None, **settings: str) -> LocalServer:
        """Copy a new standby from a running node, the primary by default, start it and wait until it streams.

        From a standby, the new one cascades. `settings` are its own.
        """
        self._make_standbys([name], upstream or self.primary.name, settings)
        self.wait_streaming()
        return self.nodes[name]

    def start(self) -> None:
        """Start every node that does not run, standbys after what they stream from."""
        for node in self.nodes.values():
            node.start()

    def stop(self) -> None:
        """Stop every node, the primary first, so that its standbys receive all of its WAL."""
        for node in (self.primary, *self.standbys):
            node.stop()

    def wait_streaming(self, *, timeout_s: float = 30) -> None:
        """Wait until every running standby has a WAL receiver that streams; raise LabError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for node in self.standbys:
            while node.running and node.execute("select status from pg_stat_wal_receiver") != [("streaming",)]:
                if time.monotonic() > deadline:
                    raise LabError(f"node {node.name} does not stream", hint=f"See the end of {node.log_file}.")
                time.sleep(0.02)

    def catch_up(self, timeout_s: float = 30, *, only: str | None = None) -> Lsn:
        """Wait until the running standbys have replayed all that the primary had written, and return that position.

        All of them, or the one named by `only`.
        The primary commits a message in its WAL first, so that everything before it is flushed and sent even where
        nobody writes. Raise LabError where a standby is not there after `timeout_s` seconds.
        """
        primary = self.primary
        # Its own position, not the flush position: that can lie inside a record, which no standby replays up to.
        [(written,)] = primary.execute("select pg_logical_emit_message(true, 'replcheck lab', '')::text")
        deadline = time.monotonic() + timeout_s
        for node in [standby for standby in self.standbys if only in (None, standby.name)]:
            while node.running and not _replayed(node, written):
                if time.monotonic() > deadline:
                    raise LabError(
                        f"node {node.name} had not replayed {written} after {timeout_s:g} s",
                        hint="Its replay may be paused or its connection cut: replcheck lab heal",
                    )
                time.sleep(0.01)
        return Lsn.parse(written)

    def set_upstreams(self, upstreams: Mapping[str, str | None]) -> None:
        """Note from whom nodes stream from now on, None for a primary."""
        nodes = (replace(node, upstream=upstreams.get(node.name, node.upstream)) for node in self._state.nodes)
        self._state = self._state.changed(nodes=tuple(nodes))

    def set_load(self, load: ProcessState | None) -> None:
        """Note the background workload in the state file."""
        self._state = self._state.changed(load=load)

    def set_faults(self, faults: tuple[FaultState, ...]) -> None:
        """Note the faults that are not healed in the state file."""
        self._state = self._state.changed(faults=faults)

    def copy_anew(self, name: str) -> None:
        """Throw a node's data away and copy it again from its upstream, whatever it has become; it streams then."""
        node, source = self.node(name), self.node(self.upstream(name) or self.primary.name)
        if source.name == name:
            raise LabError(f"node {name} has nothing to be copied from")
        processes.kill_all_in(node.data_dir)
        processes.remove_shared_memory(node.data_dir)
        shutil.rmtree(node.data_dir, ignore_errors=True)
        source.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s", [name]
        )
        node.configure(recovery_min_apply_delay=None)
        _copy_and_follow(node, source)
        self.wait_streaming()

    def destroy(self) -> None:
        """Stop everything of the cluster and delete its folder; what a crash left too."""
        remove(self._state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    def _server(self, node: NodeState) -> LocalServer:
        return LocalServer(
            name=node.name,
            programs=self._programs,
            account=self._account,
            directory=self.directory / node.name,
            socket_dir=self._state.socket_dir,
            port=node.port,
        )

    def _add_node(self, name: str, upstream: str | None, *, tcp: bool) -> LocalServer:
        if not lab_state.NAME.fullmatch(name) or name in self.nodes:
            raise LabError(f"{name!r} cannot be the name of a new node", hint="Use small letters, digits and _.")
        port = _free_port() if tcp else _FIRST_PORT + len(self._state.nodes)
        node = NodeState(name=name, port=port, upstream=upstream)
        self._state = self._state.changed(nodes=(*self._state.nodes, node))
        return self._server(node)

    def _make_primary(self, root: Path, settings: Mapping[str, str]) -> None:
        primary = self._add_node(PRIMARY, None, tcp="listen_addresses" in settings)
        primary.prepare(settings=settings, access=_ACCESS)
        templates.new_data_dir(
            root, self._programs, primary.data_dir, account=self._account, checksums=self._state.checksums
        )
        primary.start()
        self._make_audit_role(primary)

    def _make_audit_role(self, primary: LocalServer) -> None:
        password = secrets.token_urlsafe(18)
        path = self.directory / _PASSFILE
        path.touch(mode=0o600)
        path.write_text(f"*:*:*:{AUDIT_ROLE}:{password}\n", encoding="utf-8")
        primary.execute(
            sql.SQL("create role {} login password {} in role pg_read_all_data, pg_monitor").format(
                sql.Identifier(AUDIT_ROLE), sql.Literal(password)
            )
        )

    def _make_standbys(self, names: list[str], upstream: str, own: Mapping[str, str] = MappingProxyType({})) -> None:
        source = self.node(upstream)
        shared = {name: value for name, value in source.settings().items() if name not in _PER_NODE}
        made = [self._add_node(name, upstream, tcp=bool(shared.get("listen_addresses"))) for name in names]
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(_make_standby, node, source, {**shared, **own}) for node in made]:
                done.result()


def remove(state: LabState) -> None:
    """Stop every process of a cluster and delete its folders; nothing is assumed about what state it is in."""
    if state.load is not None and state.load.alive:
        processes.end(state.load.pid)
    data_dirs = [state.directory / node.name / "data" for node in state.nodes]
    with ThreadPoolExecutor() as pool:
        list(pool.map(_end_server, data_dirs))
    lab_state.remove_files(state)


def remove_abandoned(root: Path) -> list[str]:
    """Remove the clusters under `root` whose maker is gone, as after a kill, and return their names.

    For callers whose clusters must not outlive them (tests, the demo); those of `replcheck lab up` are meant to.
    """
    abandoned = [state for state in lab_state.find_states(root) if not (state.created_by and state.created_by.alive)]
    for state in abandoned:
        remove(state)
    return [state.name for state in abandoned]


def remove_root(root: Path) -> None:
    """Remove the templates where no cluster is left, and the folder itself where we made it and it is empty."""
    if not any(root.glob(f"*/{lab_state.MARKER}")):
        templates.remove_templates(root)
        lab_state.remove_root(root)


def _end_server(data_dir: Path) -> None:
    if data_dir.is_dir():
        processes.kill_all_in(data_dir)
        processes.remove_shared_memory(data_dir)


def _new_state(root: Path, name: str, major: int, account: Account | None, *, checksums: bool) -> LabState:
    """Make the cluster's folder with its marker, and the folder for its sockets."""
    if not lab_state.NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot be the name of a cluster",
            hint="Use small letters, digits and _, beginning with a letter.",
        )
    root = root.absolute()
    lab_state.make_root(root)
    if account is not None and not can_enter(root, account):
        raise LabError(
            f"folder {root} cannot be reached by {account.name}, whom the servers run as",
            hint="Choose a folder that everybody can pass through with --dir.",
        )
    directory = root / name
    try:
        directory.mkdir(mode=0o711 if account else 0o700)
    except FileExistsError:
        raise LabError(
            f"there is a cluster {name} in {root} already",
            hint=f"Remove it with: replcheck lab down --name {name}",
        ) from None
    state = LabState(
        name=name,
        directory=directory,
        socket_dir=_socket_dir(directory),
        major=major,
        checksums=checksums,
        created_by=ProcessState.of(getpid(), "maker"),
    )
    state.save()
    _make_socket_dir(state, account)
    return state


def _socket_dir(directory: Path) -> Path:
    """Return where sockets go: in the cluster's folder, or in a short one where the path would be too long."""
    own = directory / "sockets"
    longest = own / ".s.PGSQL.65535"
    return own if len(fsencode(longest)) <= SOCKET_PATH_LIMIT else Path(gettempdir()) / f"rcl-{secrets.token_hex(6)}"


def _make_socket_dir(state: LabState, account: Account | None) -> None:
    make_private_folder(state.socket_dir, account)
    if state.socket_dir.parent != state.directory:
        lab_state.mark_socket_dir(state.socket_dir, state.directory)


def _make_standby(node: LocalServer, source: LocalServer, settings: Mapping[str, str]) -> None:
    node.prepare(settings=settings, access=_ACCESS)
    _copy_and_follow(node, source)


def _copy_and_follow(node: LocalServer, source: LocalServer) -> None:
    node.copy_from(source, slot=node.name)
    node.follow(source, slot=node.name)
    node.start()


def _replayed(node: LocalServer, position: str) -> bool:
    return node.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]) == [(True,)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
