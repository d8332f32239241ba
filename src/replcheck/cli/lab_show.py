"""How a lab cluster is shown: its nodes, the command that audits it, and a configuration to audit it with."""

import json
import shlex
from pathlib import Path

import typer

from replcheck.errors import ReplcheckError
from replcheck.lab.cluster import LabCluster
from replcheck.lab.failover import TakenOver
from replcheck.lab.planted import PlantedFault
from replcheck.model.names import printable
from replcheck.postgres.server import LocalServer

_CONFIGURATION = "replcheck.toml"
_POSITIONS = """
    select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end - '0/0'
"""


def describe(cluster: LabCluster) -> None:
    """Print what a cluster is made of and how its nodes do."""
    state = cluster.state
    checksums = "with checksums" if state.checksums else "without checksums"
    typer.echo(f"cluster {cluster.name}: PostgreSQL {next(iter(cluster.nodes.values())).programs.version}, {checksums}")
    typer.echo(f"  folder    {cluster.directory}")
    typer.echo(f"  sockets   {state.socket_dir}")
    written = _lsn(cluster.primary) if any(not node.is_standby for node in cluster.nodes.values()) else None
    for node in cluster.nodes.values():
        typer.echo(f"  {node.name:9} port {node.port}, {_condition(node, written)}")


def _condition(node: LocalServer, written: int | None) -> str:
    role = "standby" if node.is_standby else "primary"
    if not node.running:
        return f"{role}, not running"
    replayed = _lsn(node)
    if not node.is_standby or written is None or replayed is None:
        return f"{role}, running"
    receiver = node.execute("select status from pg_stat_wal_receiver")
    streaming = receiver[0][0] if receiver else "not connected"
    return f"{role}, running, {streaming}, {max(0, written - replayed)} bytes behind"


def _lsn(node: LocalServer) -> int | None:
    try:
        [(position,)] = node.execute(_POSITIONS)
    except ReplcheckError:
        return None
    return int(position)


def audit_command(cluster: LabCluster) -> str:
    """Return the command that audits a cluster, as a shell reads it."""
    replicas = (f"--replica {shlex.quote(cluster.audit_dsn(node.name))}" for node in cluster.standbys)
    return " ".join(["replcheck audit --primary", shlex.quote(cluster.audit_dsn(cluster.primary.name)), *replicas])


def write_configuration(cluster: LabCluster, *, archives: bool) -> Path:
    """Write a configuration of the cluster, with something promised, beside it, and return its path."""
    copies = len(cluster.nodes)
    lines = [
        "config_version = 1",
        f"cluster = {_toml(cluster.name)}",
        f"connect = {_toml(cluster.audit_words())}",
        "",
        "[nodes]",
        *(f"{node.name} = {{ dsn = {_toml(node.address)} }}" for node in cluster.nodes.values()),
        "",
        "[policy]",
        f"copies = {{ running = {copies}, proven = {min(copies, 2)} }}",
        'consistency = { max_age = "24h" }',
        *(['recovery-point = { max_age = "5min" }'] if archives else []),
        "integrity = {}",
    ]
    path = cluster.directory / _CONFIGURATION
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(text: str) -> str:
    """Return a basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def taken_over(done: TakenOver) -> str:
    """Return who took over from whom, and for how long nobody took writes as far as that is known."""
    who = f"{done.new} took over from {done.old}"
    if done.was_down:
        return f"{who}: it took writes {done.seconds:.1f} s after this began, and {done.old} was down before already"
    return f"{who}: nobody took writes for {done.seconds:.1f} s"


def planted_lines(planted: PlantedFault) -> list[str]:
    """Return what was done and what an audit should find of it, in which no relation's name can steer the terminal."""
    done = f"{planted.node}: {planted.what}{position(planted)}"
    return [printable(done), printable(f"an audit should find: {expectation(planted)}")]


def position(planted: PlantedFault) -> str:
    """Return where a fault lies, to be put behind what was done; empty where it concerns the whole node."""
    if planted.relation is None:
        return ""
    place = f" ({planted.relation} of database {planted.database}"
    if planted.offset is not None:
        return f"{place}, ctid ({planted.block},{planted.offset}))"
    return f"{place}, block {planted.block})" if planted.block is not None else f"{place})"


def expectation(planted: PlantedFault) -> str:
    """Return what an audit should find of a fault."""
    if planted.kind is None:
        return "no row that differs" if planted.relation else "nothing in the rows; the node itself is the finding"
    if planted.sqlstate is not None:
        return f"rows of {planted.relation} unreadable, SQLSTATE {planted.sqlstate}"
    rows = "rows" if planted.rows is None else counted(planted.rows, "row")
    others = " or ".join(sorted(kind.value for kind in planted.also))
    beside = f", perhaps {others} ones beside them" if others else ""
    return f"{rows} of {planted.relation} {planted.kind.value}{beside}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "row"), counted(2, "standby")
    ('1 row', '2 standbys')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
