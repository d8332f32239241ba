"""Commands that provide and destroy a real server, as a user's would: a base backup that is recovered to a target."""

import shutil
import sys
from pathlib import Path

from replcheck.lab.cluster import LabCluster
from replcheck.postgres.programs import programs_in, server_account
from replcheck.postgres.server import LocalServer
from tests.drill.sealed_cluster import ACCESS
from tests.staged import until, value

_COMMAND = """\
#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.drill.provided_servers import {function}
{function}(*{words!r})
"""


def write_commands(
    folder: Path, cluster: LabCluster, backup: Path, archive: Path, restore_point: str
) -> tuple[Path, Path]:
    """Write a provision and a destroy command into a folder and return them; the server lies beside the cluster's."""
    primary = cluster.primary
    server = [str(cluster.directory / "provided"), str(primary.programs.bindir), str(primary.socket_dir)]
    server += [str(primary.port + 200)]
    kept = {name: text for name, text in primary.settings().items() if name.startswith("max_") or name == "wal_level"}
    words: dict[str, list[object]] = {
        "provide": [*server, str(backup), str(archive), restore_point, kept],
        "destroy": [*server],
    }
    for function, given in words.items():
        text = _COMMAND.format(
            python=sys.executable, root=str(Path(__file__).parents[2]), function=function, words=given
        )
        (folder / function).write_text(text)
        (folder / function).chmod(0o755)
    return folder / "provide", folder / "destroy"


def provided(cluster: LabCluster) -> Path:
    """Return the folder of the server, which exists while it is provided."""
    return cluster.directory / "provided"


def provide(
    directory: str,
    bindir: str,
    socket_dir: str,
    port: str,
    backup: str,
    archive: str,
    restore_point: str,
    kept: dict[str, str],
) -> None:
    """Restore a backup, recover it to a restore point or else to the end of its WAL, and print how to connect."""
    server = _server(directory, bindir, socket_dir, port)
    settings = kept | {
        "autovacuum": "off",
        "fsync": "off",
        "hot_standby": "on",
        "listen_addresses": "",
        # A page that was changed behind the server's back is read all the same.
        "ignore_checksum_failure": "on",
        "restore_command": f"cp '{archive}/%f' %p",
    }
    if restore_point:
        settings |= {"recovery_target_name": restore_point, "recovery_target_action": "pause"}
    server.prepare(settings=settings, access=ACCESS)
    shutil.copytree(backup, server.data_dir, symlinks=True)
    (server.data_dir / "recovery.signal").touch(mode=0o600)
    account = server.account
    if account is not None:
        for path in (server.data_dir, *server.data_dir.rglob("*")):
            shutil.chown(path, account.uid, account.gid)
    server.start()
    there = "pg_get_wal_replay_pause_state() = 'paused'" if restore_point else "not pg_is_in_recovery()"
    until(lambda: value(server, f"select {there}"), "it stands at its target")
    if not restore_point:
        # Until then its control file tells an earlier end.
        server.execute("checkpoint")
    sys.stdout.write(f"{server.dsn()}\n")


def destroy(directory: str, bindir: str, socket_dir: str, port: str) -> None:
    """Stop the server and remove it."""
    _server(directory, bindir, socket_dir, port).stop("immediate")
    shutil.rmtree(directory)


def _server(directory: str, bindir: str, socket_dir: str, port: str) -> LocalServer:
    return LocalServer(
        name="provided",
        programs=programs_in(Path(bindir)),
        account=server_account(),
        directory=Path(directory),
        socket_dir=Path(socket_dir),
        port=int(port),
    )
