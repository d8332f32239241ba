"""What an audit costs those who write: pgbench beside audits of each pace, and beside none."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from benchmarks import commands
from benchmarks.measuring import Measure, median
from benchmarks.subjects import DATABASE, percentile, settle
from replcheck.errors import LabError, StatementFailed
from replcheck.lab.cluster import LabCluster
from replcheck.postgres.programs import run_program
from replcheck.postgres.server import SUPERUSER, make_private_folder

PACES = ("gentle", "default", "full")
_CLIENTS = 4
_HOT = "('pgbench_accounts'::regclass, 'pgbench_accounts_pkey'::regclass)"
_RESIDENT = f"""
    select count(*)::float8 / (select sum(pg_relation_size(oid)) / 8192 from pg_class where oid in {_HOT})
    from pg_buffercache b join pg_class c on b.relfilenode = pg_relation_filenode(c.oid)
    where c.oid in {_HOT} and b.reldatabase = (select oid from pg_database where datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """One run of pgbench beside audits of one pace."""

    tps: float
    p99_ms: float
    resident: float
    """Part of pgbench's accounts that lay in the primary's buffers at the end."""
    audits: int
    """Finished meanwhile."""


def paces() -> tuple[str, ...]:
    """Return the paces that this replcheck knows; only the default one where it has no such option."""
    shown = commands.run([sys.executable, "-m", "replcheck", "audit", "--help"]).output
    return PACES if "--pace" in shown else ("default",)


def beside_audits(cluster: LabCluster, *, rounds: int, seconds: float, scale: int) -> list[Measure]:
    """Run pgbench in turns beside nothing and beside audits of each pace; return its figures for each pace."""
    options = ["--initialize", "--quiet", "--scale", str(scale)]
    primary = cluster.primary
    run_program(primary.programs, "pgbench", [*_connection(cluster), *options, DATABASE], account=primary.account)
    _try_extension(cluster)
    settle(cluster)
    known = paces()
    found: dict[str, list[Beside]] = {label: [] for label in ("none", *known)}
    _pgbench(cluster, min(seconds, 5.0))
    for number in range(rounds):
        order = list(found) if number % 2 == 0 else list(reversed(found))
        for label in order:
            found[label].append(_beside(cluster, label, seconds))
    return [_measure(pace, found) for pace in known]


def _measure(pace: str, found: dict[str, list[Beside]]) -> Measure:
    none, paced = found["none"], found[pace]
    throughput = median(tuple(run.tps for run in paced)) / median(tuple(run.tps for run in none))
    return Measure(
        name=f"workload beside {pace} audits",
        what=f"pgbench with {_CLIENTS} clients as fast as it can, while audits at pace {pace} run one after the other",
        unit="transactions/s",
        series={label: tuple(run.tps for run in found[label]) for label in ("none", pace)},
        figure=throughput,
        figure_is="of the throughput without an audit",
        reach="at least 0.95" if pace == "gentle" else "",
        reached=throughput >= 0.95 if pace == "gentle" else None,
        notes={
            "p99_ms": {label: [round(run.p99_ms, 2) for run in found[label]] for label in ("none", pace)},
            "p99": round(median(tuple(run.p99_ms for run in paced)) / median(tuple(run.p99_ms for run in none)), 3),
            "hot_set_resident": {label: [round(run.resident, 3) for run in found[label]] for label in ("none", pace)},
            "audits_finished": [run.audits for run in paced],
        },
    )


def _beside(cluster: LabCluster, label: str, seconds: float) -> Beside:
    if label == "none":
        tps, latencies = _pgbench(cluster, seconds)
        return Beside(tps, percentile(latencies, 0.99), _resident(cluster), 0)
    arguments = ["--pace", label] if len(paces()) > 1 else []
    with _audits(cluster, arguments) as finished:
        tps, latencies = _pgbench(cluster, seconds)
    return Beside(tps, percentile(latencies, 0.99), _resident(cluster), finished())


@contextmanager
def _audits(cluster: LabCluster, arguments: list[str]) -> Iterator[Callable[[], int]]:
    """Audit again and again until the end of the block; a verdict other than consistent is an error."""
    over, statuses = Event(), list[int]()
    running: list[subprocess.Popen[bytes]] = []

    def audit() -> None:
        while not over.is_set():
            command = commands.audit_command(cluster, ["standby1"], *arguments)
            running[:] = [
                subprocess.Popen(command, cwd=commands.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ]
            status = running[0].wait()
            if not over.is_set():
                statuses.append(status)

    thread = Thread(target=audit, daemon=True)
    thread.start()
    try:
        yield lambda: len(statuses)
    finally:
        over.set()
        for process in running:
            process.terminate()
        thread.join(timeout=60)
    # pgbench's own tables are in flight all the time: one that stays unproven is no fault of the audit.
    if any(status not in (0, 1) for status in statuses):
        raise LabError(f"audits beside pgbench ended with statuses {sorted(set(statuses))}")


def _pgbench(cluster: LabCluster, seconds: float) -> tuple[float, list[float]]:
    """Return transactions a second and the latency of each in milliseconds."""
    primary = cluster.primary
    folder = cluster.directory / "latencies"
    make_private_folder(folder, primary.account)
    try:
        arguments = [
            *_connection(cluster),
            *("--no-vacuum", "--client", str(_CLIENTS), "--jobs", "2", "--time", str(max(1, round(seconds)))),
            *("--log", "--log-prefix", str(folder / "log"), DATABASE),
        ]
        output = run_program(primary.programs, "pgbench", arguments, account=primary.account)
        latencies = [latency for file in folder.iterdir() for latency in _latencies(file)]
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    [tps] = [line.split()[2] for line in output.splitlines() if line.startswith("tps = ")]
    return float(tps), latencies


def _latencies(file: Path) -> list[float]:
    return [float(line.split()[2]) / 1000 for line in file.read_text("utf-8").splitlines()]


def _try_extension(cluster: LabCluster) -> None:
    try:
        cluster.primary.execute("create extension if not exists pg_buffercache", dbname=DATABASE)
    except StatementFailed as exc:
        raise LabError("this PostgreSQL has no pg_buffercache, which the hot set is seen with") from exc


def _resident(cluster: LabCluster) -> float:
    [(share,)] = cluster.primary.execute(_RESIDENT, dbname=DATABASE)
    return float(share)


def _connection(cluster: LabCluster) -> list[str]:
    primary = cluster.primary
    return ["--host", str(primary.socket_dir), "--port", str(primary.port), "--username", SUPERUSER]
