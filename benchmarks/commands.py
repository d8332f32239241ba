"""The programs that are measured, run as their users run them, and what the kernel says they took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmarks.subjects import DATABASE, TABLE, digest_of
from replcheck.errors import LabError
from replcheck.lab.cluster import AUDIT_ROLE, LabCluster
from replcheck.postgres.local import connect, sql
from replcheck.postgres.server import LocalServer

ROOT = Path(__file__).parents[1]
RELADIFF = ROOT / ".venv-bench" / "bin" / "reladiff"
_LANES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of a program."""

    seconds: float
    peak_bytes: int
    """Largest resident set of the process."""
    status: int
    output: str


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> Ran:
    """Run a program to its end."""
    with TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=users_environment() | (environment or {})
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return Ran(seconds=seconds, peak_bytes=used.ru_maxrss * 1024, status=process.returncode, output=out.read())


def users_environment() -> dict[str, str]:
    """Return this environment as somebody has it who installed the program."""
    # An installed program has its bytecode beside it. Where Python may not write any, each run of a working copy would
    # compile all of its modules again, and that would be measured.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def replcheck(*words: str) -> list[str]:
    """Return a command of this installation."""
    return [sys.executable, "-m", "replcheck", *words]


def audit_command(cluster: LabCluster, replicas: Sequence[str], *more: str) -> list[str]:
    """Return the command that audits the database that is measured."""
    command = replcheck("audit", "--primary", cluster.audit_dsn("primary", DATABASE))
    for name in replicas:
        command += ["--replica", cluster.audit_dsn(name, DATABASE)]
    return [*command, "--database", DATABASE, "--no-catalogs", "--no-store", "--format", "json", *more]


def audit(cluster: LabCluster, replicas: Sequence[str], *more: str, verdict: str = "consistent") -> Ran:
    """Audit by the command; raise LabError where it says anything else than expected: such a figure means nothing."""
    ran = run(audit_command(cluster, replicas, *more))
    try:
        document: dict[str, Any] = json.loads(ran.output[ran.output.index("{") :])
    except ValueError as exc:
        raise LabError(f"the audit failed: {ran.output[-500:]}") from exc
    if document["verdict"] != verdict:
        raise LabError(f"the audit said {document['verdict']}, not {verdict}: {document['summary']}")
    return ran


def reladiff(cluster: LabCluster, replica: str) -> Ran:
    """Compare the table by reladiff, all columns, over as many connections as an audit has lanes."""
    urls = [
        f"postgresql://{AUDIT_ROLE}@127.0.0.1:{cluster.node(name).port}/{DATABASE}" for name in ("primary", replica)
    ]
    command = [str(RELADIFF), urls[0], TABLE, urls[1], TABLE, "-k", "id", "-c", "%", "--threads", str(_LANES)]
    ran = run(command, {"PGPASSFILE": str(cluster.directory / "audit.pgpass")})
    if ran.status or ran.output.strip():
        raise LabError(f"reladiff ended with status {ran.status}: {ran.output[-500:]}")
    return ran


def bare_digest(cluster: LabCluster, replicas: Sequence[str]) -> None:
    """Run the digest query of the table once on each node, at the same time, in sessions set as an audit's are."""
    nodes = [cluster.node(name) for name in ("primary", *replicas)]
    statements = [digest_of(TABLE, columns_of(cluster, TABLE))]
    with ThreadPoolExecutor(len(nodes)) as pool:
        found = list(pool.map(lambda node: _answers(node, statements), nodes))
    if any(answer != found[0] for answer in found):
        raise LabError("the nodes differ")


def bare_digests(cluster: LabCluster, replicas: Sequence[str], tables: Sequence[str]) -> None:
    """Run the digest query of every table once on each node, over as many connections to each as an audit has lanes."""
    columns = columns_of(cluster, tables[0])
    nodes = [cluster.node(name) for name in ("primary", *replicas)]
    shares = [[digest_of(table, columns) for table in tables[lane::_LANES]] for lane in range(_LANES)]
    with ThreadPoolExecutor(len(nodes) * _LANES) as pool:
        asked = [pool.submit(_answers, node, share) for node in nodes for share in shares]
        found = [answer.result() for answer in asked]
    if any(found[at] != found[at % _LANES] for at in range(len(found))):
        raise LabError("the nodes differ")


def columns_of(cluster: LabCluster, table: str) -> tuple[str, ...]:
    """Return a table's columns."""
    rows = cluster.primary.execute(
        "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 order by attnum",
        [table],
        DATABASE,
    )
    return tuple(name for (name,) in rows)


def _answers(node: LocalServer, statements: Sequence[sql.Composed]) -> list[Any]:
    with connect(node.dsn(DATABASE), node=node.name) as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        return [connection.execute(statement).fetchall() for statement in statements]
