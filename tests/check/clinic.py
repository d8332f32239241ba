"""A clinic of real servers under a policy: a primary, two standbys, an archive, a backup, a recorder, and its checks.

The policy is the sample's, with nodes, backup and times of a cluster that lives for minutes instead of months.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replcheck.errors import StoreError
from replcheck.evidence.keys import create_keys
from replcheck.lab.backups import ARCHIVING, archive_all, base_backup, begin_archive
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import EventKind
from replcheck.store import open_check_reader, open_live_reader
from tests.commands import Ended, run_command, started, wait_for

SAMPLE = Path(__file__).parents[2] / "sample_configs" / "clinic-policy.toml"
SETTINGS = {**ARCHIVING, "archive_timeout": "1s"}
QUIET = {
    'window  = "30d"': 'window  = "5s"',
    'window  = "7d"': 'window  = "60s"',
    'distinct = ["host", "zone"]': 'distinct = ["zone"]',
}
"""What of the sample is not for servers that were just made, all on one machine; every limit stays as it is."""


@dataclass
class Clinic:
    """A watched cluster under a policy."""

    cluster: LabCluster
    home: Path
    backup: Path
    changes: dict[str, str] = field(default_factory=lambda: dict(QUIET))
    drops: tuple[str, ...] = ()
    """Controls that are not asked."""
    racks: dict[str, str] = field(default_factory=dict)
    """In which rack a node stands; each in its own where it is not said."""

    @property
    def config(self) -> Path:
        return self.home / "replcheck.toml"

    @property
    def store(self) -> Path:
        return self.home / "clinic.db"

    @property
    def wal(self) -> Path:
        return self.cluster.directory / "wal"

    def rack(self, node: str) -> str:
        return self.racks.get(node, f"rack of {node}")

    def write(self, changes: Mapping[str, str] | None = None) -> None:
        """Write the configuration: the sample, for this cluster."""
        text = SAMPLE.read_text(encoding="utf-8").partition("[waivers]")[0]
        policy = "[policy.copies]" + text.partition("[policy.copies]")[2]
        for old, new in {**self.changes, **(changes or {})}.items():
            assert old in policy, old
            policy = policy.replace(old, new)
        for name in self.drops:
            policy = re.sub(rf"\[policy\.{name}\]\n(?:[^\[]|\n)*?(?=\n\[|\Z)", "", policy)
        key, scratch = self.home / "clinic.key", self.cluster.directory / "scratch"
        nodes = "".join(
            f"{name} = {{ dsn = {json.dumps(self.cluster.audit_dsn(name))}, zone = {json.dumps(self.rack(name))} }}\n"
            for name in self.cluster.nodes
        )
        self.config.write_text(
            f'cluster = "clinic"\n[nodes]\n{nodes}'
            f'[backups.nightly]\nkind = "base"\npath = {json.dumps(str(self.backup))}\n'
            f"wal = {json.dumps(str(self.wal))}\n"
            f'[drill]\nscratch = {json.dumps(str(scratch))}\nrequire = ["primary"]\n{policy}\n'
            f"[output]\nstore = {json.dumps(str(self.store))}\nsigning_key = {json.dumps(str(key))}\n",
            encoding="utf-8",
        )

    def run(self, *words: str, **variables: str) -> Ended:
        # Wide, so that no line breaks at another place where a number is longer.
        return run_command(*words, home=self.home, COLUMNS="400", **variables)

    def check(self, *words: str) -> dict[str, Any]:
        """Check, and return the report; fail where there is none or its status is another than it says."""
        ended = self.run("check", "--format", "json", *words)
        assert ended.out, ended.err
        document: dict[str, Any] = json.loads(ended.out)
        assert ended.status == document["exit_code"]
        return document

    def standings(self, *words: str) -> dict[str, str]:
        """Check, and return where each control stands that is asked."""
        document = self.check(*words)
        return {
            control["name"]: control["standing"]
            for control in document["controls"]
            if control["standing"] != "not asked"
        }

    def audit(self, *, status: int = 0) -> None:
        ended = self.run("audit", "--quiet")
        assert ended.status == status, ended

    def drill(self, *, status: int = 0) -> None:
        self.commit()
        ended = self.run("drill")
        assert ended.status == status, ended

    def commit(self) -> None:
        """Commit something, so that the archive has something to archive."""
        self.cluster.primary.execute("insert into visit select count(*) + 1, 'note' from visit")

    @contextmanager
    def broken_wal(self) -> Iterator[None]:
        """Have the first WAL file that the backup needs hold nothing while the block runs."""
        label = (self.backup / "backup_label").read_text(encoding="utf-8")
        [name] = re.findall(r"START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)", label)
        file = self.wal / name
        content = file.read_bytes()
        file.write_bytes(bytes(len(content)))
        try:
            yield
        finally:
            file.write_bytes(content)

    def reader(self) -> Any:
        return open_check_reader(self.store)

    def seen(self, kind: EventKind) -> int:
        """Return how many events of a kind the history holds."""
        return sum(event.kind is kind for event in open_live_reader(self.store).events("clinic"))

    def wait_until(self, standings: Mapping[str, str], *words: str, within_s: float = 90) -> dict[str, Any]:
        """Wait until controls stand so, and return that report: what a recorder sees takes a moment to be kept."""
        seen: list[dict[str, Any]] = []

        def stand() -> bool:
            seen[:] = [self.check(*words)]
            found = {control["name"]: control["standing"] for control in seen[0]["controls"]}
            return {name: found[name] for name in standings} == standings

        wait_for(stand, within_s=within_s, what=lambda: f"not {standings}: {self.run('check', '--verbose').out}")
        return seen[0]


@contextmanager
def clinic(clusters_root: Path, home: Path, *, name: str, major: int) -> Iterator[Clinic]:
    """Make a clinic, watched by a recorder; all of it is gone afterwards."""
    with ExitStack() as stack:
        cluster = stack.enter_context(LabCluster.create(clusters_root, name=name, major=major, settings=SETTINGS))
        begin_archive(cluster)
        cluster.primary.execute("create table visit (id int primary key, note text)")
        cluster.primary.execute("insert into visit select g, 'note ' || g from generate_series(1, 3000) g")
        made = Clinic(cluster, home, base_backup(cluster, "nightly"))
        archive_all(cluster, made.wal)
        create_keys(home / "clinic.key")
        made.write()
        stack.enter_context(recorder(made))
        yield made


@contextmanager
def recorder(made: Clinic) -> Iterator[subprocess.Popen[str]]:
    """Watch a clinic while the block runs."""
    words = ("watch", "--headless", "--interval", "0.5s", "--no-audits")
    with started(*words, home=made.home) as process:
        wait_for(lambda: _is_watched(made))
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _is_watched(made: Clinic) -> bool:
    try:
        return made.store.exists() and made.reader().latest_view("clinic") is not None
    except StoreError:
        return False  # its file is being made
