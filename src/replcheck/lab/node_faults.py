"""Faults of a whole node: it stops, falls behind, loses its connection or believes to be the primary."""

import time

from replcheck.errors import LabError
from replcheck.lab.backups import archives
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.lab.rows import prepared
from replcheck.lab.surgery import Site
from replcheck.model.audit import DifferenceKind
from replcheck.postgres.local import sql
from replcheck.postgres.server import LocalServer

_NOWHERE = "host=/nonexistent port=1 user=nobody"
_DELAY = "1h"
_CUT_TIMEOUT_S = 30


def pause_replay(site: Site) -> PlantedFault:
    """Pause the replay of a standby; it goes on receiving."""
    _require_standby(site)
    site.node.execute("select pg_wal_replay_pause()")
    return _done(site, "its replay was paused", Cure.RESUME)


def cut_connection(site: Site) -> PlantedFault:
    """Point a standby at an upstream that does not answer: its receiver ends and does not come back."""
    _require_standby(site)
    site.node.configure(primary_conninfo=_NOWHERE)
    site.node.reload()
    _wait_until_cut(site)
    return _done(site, "its connection to the upstream was cut", Cure.RECONNECT)


def _wait_until_cut(site: Site) -> None:
    deadline = time.monotonic() + _CUT_TIMEOUT_S
    while site.node.execute("select status from pg_stat_wal_receiver") == [("streaming",)]:
        if time.monotonic() > deadline:
            raise LabError(f"the receiver of node {site.node.name} did not end")
        time.sleep(0.02)


def delay_apply(site: Site) -> PlantedFault:
    """Have a standby replay every commit an hour late."""
    _require_standby(site)
    site.node.configure(recovery_min_apply_delay=_DELAY)
    site.node.reload()
    return _done(site, f"it was told to replay {_DELAY} late", Cure.HURRY)


def kill_server(site: Site) -> PlantedFault:
    """Kill every process of a node."""
    site.node.kill()
    return _done(site, "all its processes were killed", Cure.START)


def stop_server(site: Site) -> PlantedFault:
    """Stop a node in an orderly way."""
    site.node.stop()
    return _done(site, "it was stopped", Cure.START)


def freeze_stream(site: Site) -> PlantedFault:
    """Have the connection to a standby fall silent without breaking, as behind a firewall that drops its packets."""
    _require_standby(site)
    upstream = site.cluster.node(site.cluster.upstream(site.node.name) or site.cluster.primary.name)
    rows = upstream.execute("select pid from pg_stat_replication where application_name = %s", [site.node.name])
    if not rows:
        raise LabError(f"node {site.node.name} does not stream", hint="Connect it with: replcheck lab heal")
    for (pid,) in rows:
        upstream.freeze_backend(pid)
    return _done(site, "its connection to the upstream fell silent", Cure.THAW)


def hang_server(site: Site) -> PlantedFault:
    """Freeze every process of a node: it takes connections and never answers."""
    site.node.freeze()
    return _done(site, "all its processes were frozen", Cure.THAW)


def break_archive(site: Site) -> PlantedFault:
    """Have the primary fail to archive its WAL; a cluster with an archive is needed."""
    if site.node.is_standby:
        raise LabError(f"node {site.node.name} is a standby and archives nothing", hint="Choose the primary.")
    if not archives(site.cluster):
        raise LabError(
            f"cluster {site.cluster.name} has no archive", hint="Make one that has: replcheck lab up --archive"
        )
    site.node.configure(archive_command="false")
    site.node.reload()
    _write_and_switch(site.node)
    return _done(site, "its archive_command fails from now on", Cure.ARCHIVE)


def _write_and_switch(node: LocalServer) -> None:
    """Have a WAL file with a record in it finished, so that there is one to be archived."""
    node.execute("select pg_logical_emit_message(true, 'replcheck lab', '')")
    node.execute("select pg_switch_wal()")


def promote(site: Site) -> PlantedFault:
    """Promote a standby while its primary lives on: two primaries, not yet written to differently."""
    _require_standby(site)
    site.node.promote()
    return _done(site, "it was promoted while the primary lives on", Cure.COPY)


def split_brain(site: Site) -> PlantedFault:
    """Promote a standby while its primary lives on, and delete some rows on it."""
    _require_standby(site)
    stored = prepared(site)
    site.node.promote()
    table = sql.Identifier(stored.schema, stored.relation)
    gone = site.node.execute(
        sql.SQL("delete from {} where ctid = any (array(select ctid from {} limit 3)) returning 1").format(
            table, table
        ),
        [],
        site.database,
    )
    return PlantedFault(
        fault="",
        node=site.node.name,
        what="it was promoted while the primary lives on, and rows were deleted on it",
        cure=Cure.COPY,
        database=site.database,
        relation=stored.name,
        kind=DifferenceKind.MISSING,
        rows=len(gone),
    )


def _require_standby(site: Site) -> None:
    if site.on_primary:
        raise LabError(f"node {site.node.name} is a primary, and this is a fault of standbys", hint="Choose a standby.")


def _done(site: Site, what: str, cure: Cure) -> PlantedFault:
    return PlantedFault(fault="", node=site.node.name, what=what, cure=cure)
