"""Live through some minutes of a lab cluster and keep the report of them: docs/period-report.html, and its picture.

Everything in it happened: a recorder watched real servers under load, and was stopped for a while; audits, a seal,
drills and checks were run by their commands; a standby was broken, found out and copied anew; the primary was killed
and another one took over. Run by `make sample`, in some eight minutes; the pictures need a browser (Debian: chromium).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from replcheck.errors import LabError
from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import LabCluster, remove_abandoned, remove_root
from replcheck.lab.failover import fail_over
from replcheck.lab.faults import apply_fault
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.schema import create_schema
from replcheck.lab.state import default_root
from tests import browser

PAGE = Path(__file__).parents[1] / "docs" / "period-report.html"
PICTURES = {"period-report.png": ("body", "#control-copies"), "period-report-record.png": ("#record", "#lag-2-caption")}
"""By file: from the top of which element up to that of which it shows the page."""
_NAME = "clinic"
_QUIET_S = 40.0
_UNWATCHED_S = 75.0
"""Longer than the time between two samples that still counts as watched."""
_ATTEMPTS = 5
_RATE = 60
_WIDTH, _MARGIN = 1180, 14
_CONFIGURATION = """\
cluster = "clinic"
[nodes]
{nodes}
[backups.nightly]
kind = "base"
path = "{backups}"
wal = "{wal}"
[drill]
backup = "nightly"
[seal]
folder = "{seals}"
[policy]
copies = {{ running = 3, proven = 2, window = "3min", share = 50, claim = "Three copies, at least two of them\
 transactionally consistent at any given moment (ISO/IEC 27001:2005)" }}
consistency = {{ max_age = "30min", claim = "Every row of every copy is compared, and equal" }}
recovery-point = {{ max_age = "5min", warn = "4min", claim = "Snapshots down to the last five minutes" }}
restore = {{ every = "7d", max_time = "2h", claim = "Every backup is restored each week, within two hours" }}
failover = {{ max_time = "60s", claim = "Failure is detected and switched over automatically" }}
replacement = {{ max_time = "30min", claim = "A lost copy is recreated automatically" }}
placement = {{ distinct = ["zone"], claim = "The copies sit in independent racks" }}
integrity = {{}}
[output]
time_zone = "Asia/Kolkata"
store = "{store}"
"""


def main() -> int:
    """Write the page and its picture, and return the exit status."""
    root = default_root().with_name("replcheck-report")
    remove_abandoned(root)
    with TemporaryDirectory(prefix="replcheck-report-") as made:
        home = Path(made)
        with LabCluster.create(root, name=_NAME, settings={**ARCHIVING, "archive_timeout": "15s"}) as cluster:
            archive = begin_archive(cluster)
            _configure(cluster, archive, home)
            began = datetime.now(UTC).isoformat()
            _live(cluster, archive, home)
        remove_root(root)
        _run(home, "report", "--since", began, "--format", "html", "--output", str(PAGE))
    return _draw()


def _live(cluster: LabCluster, archive: Path, home: Path) -> None:
    """Let everything happen that a report should tell of."""
    create_schema(cluster.primary, "postgres")
    with PgbenchLoad(cluster, rate=_RATE):
        with _recorder(home):
            _break_and_mend(cluster, archive, home)
        time.sleep(_UNWATCHED_S)
    with _recorder(home):
        with suppress(LabError), PgbenchLoad(cluster, rate=_RATE):  # it ends with its primary
            _run(home, "audit", expect=0)
            time.sleep(_QUIET_S)
            old = fail_over(cluster).old
        with PgbenchLoad(cluster, rate=_RATE):
            _after_failover(cluster, archive, home, old)


def _break_and_mend(cluster: LabCluster, archive: Path, home: Path) -> None:
    time.sleep(_QUIET_S)
    base_backup(cluster, "monday")
    _run(home, "audit", expect=0)
    _seal_and_drill(cluster, archive, home)
    _run(home, "check")
    apply_fault(cluster, "flip-row-bytes", node="standby1", relation="clinic.chart")
    _run(home, "audit", expect=2)
    _run(home, "check")
    cluster.copy_anew("standby1")
    _run(home, "audit", expect=0)
    time.sleep(_QUIET_S)


def _after_failover(cluster: LabCluster, archive: Path, home: Path, old: str) -> None:
    time.sleep(_QUIET_S / 2)
    cluster.copy_anew(old)
    _run(home, "audit", expect=0)
    time.sleep(_QUIET_S)
    archive_all(cluster, archive)
    _run(home, "drill", expect=1)
    base_backup(cluster, "tuesday")
    _seal_and_drill(cluster, archive, home)
    _run(home, "check", "--verbose")


def _seal_and_drill(cluster: LabCluster, archive: Path, home: Path) -> None:
    """Seal and restore to that until every row is proven: what others rewrite meanwhile is sealed in part only."""
    for _ in range(_ATTEMPTS):
        if _run(home, "seal") != 0:
            continue
        archive_all(cluster, archive)
        if _run(home, "drill", "--target", "seal:latest") == 0:
            return
    raise SystemExit("period_report: no restore could be proven by a seal")


def _configure(cluster: LabCluster, archive: Path, home: Path) -> None:
    nodes = [
        f'{name} = {{ dsn = "{cluster.audit_dsn(name)}", zone = "rack-{letter}" }}'
        for name, letter in zip(cluster.nodes, "abc", strict=True)
    ]
    (home / "replcheck.toml").write_text(
        _CONFIGURATION.format(
            nodes="\n".join(nodes),
            backups=cluster.directory / "backups",
            wal=archive,
            seals=home / "seals",
            store=home / "clinic.db",
        ),
        encoding="utf-8",
    )


def _run(home: Path, *words: str, expect: int | None = None) -> int:
    """Run a command as its user does and return its status; end where it is another than it must be."""
    sys.stderr.write(f"period_report: replcheck {' '.join(words)}\n")
    done = subprocess.run(
        [sys.executable, "-m", "replcheck", *words], cwd=home, env=_environment(home), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    sys.stderr.write("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()[-4:]))
    if expect is not None and done.returncode != expect:
        raise SystemExit(f"period_report: replcheck {words[0]} ended with {done.returncode}, not {expect}")
    return done.returncode


@contextmanager
def _recorder(home: Path) -> Iterator[None]:
    """Watch the cluster for the block, as a service manager would."""
    command = [sys.executable, "-m", "replcheck", "watch", "--headless", "--no-audits"]
    recorder = subprocess.Popen(command, cwd=home, env=_environment(home), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(timeout=60)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    return kept | {"HOME": str(home), "REPLCHECK_CONFIG": str(home / "replcheck.toml")}


def _draw() -> int:
    """Take the pictures of the page."""
    if not browser.PROGRAM:
        sys.stderr.write("period_report: no browser is installed, so the pictures stay as they were\n")
        return 3
    with browser.running() as running:
        page = running.page()
        page.show(PAGE, width=_WIDTH)
        for name, (first, last) in PICTURES.items():
            top, bottom = (_top(page, selector) for selector in (first, last))
            picture = page.screenshot(top=max(0, top - _MARGIN), height=bottom - top)
            PAGE.with_name(name).write_bytes(picture)
    return 0


def _top(page: browser.Page, selector: str) -> float:
    top: float = page.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().top + scrollY")
    return top


if __name__ == "__main__":
    sys.exit(main())
