"""What lets copies drift apart silently, beside their rows. Pure: facts in, findings out."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from replcheck.model.audit import Finding
from replcheck.model.outcome import Outcome
from replcheck.postgres.nodes import ChecksumFailures, NodeFacts
from replcheck.postgres.software import Software

_SAME_EVERYWHERE = {
    "block_size": Outcome.PARTIAL,
    "server_encoding": Outcome.PARTIAL,
    "data_checksums": Outcome.PROVEN,
    "full_page_writes": Outcome.PROVEN,
    "fsync": Outcome.PROVEN,
    "ignore_checksum_failure": Outcome.PROVEN,
    "zero_damaged_pages": Outcome.PROVEN,
    "shared_preload_libraries": Outcome.PROVEN,
    "wal_level": Outcome.PROVEN,
}
"""Settings that should be alike, and what a difference does to the outcome; PROVEN is a finding only."""
_DANGEROUS = {
    "fsync": "off",
    "full_page_writes": "off",
    "zero_damaged_pages": "on",
    "ignore_checksum_failure": "on",
    "data_checksums": "off",
}
_NOT_BELOW_PRIMARY = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)


def compare_nodes(primary: NodeFacts, replicas: Iterable[NodeFacts]) -> list[Finding]:
    """Compare each replica's facts with the primary's, and look at each node by itself."""
    findings = [*_of_one_node(primary)]
    for replica in replicas:
        findings += _of_one_node(replica)
        findings += _timeline(primary, replica)
        findings += _versions(primary, replica)
        findings += _settings(primary, replica)
    return findings


def compare_software(database: str, there: Software, here: Software, *, node: str) -> list[Finding]:
    """Compare versions of extensions and collations of one database on a replica with the primary's."""
    findings = []
    mine: Mapping[str, str | None]
    theirs: Mapping[str, str | None]
    for code, noun, mine, theirs in (
        ("extension_version", "extension", here.extensions, there.extensions),
        ("collation_version", "collation", here.collations, there.collations),
    ):
        for name in sorted(mine.keys() & theirs.keys()):
            # Where neither knows it, nobody can say whether the two are alike.
            if mine[name] != theirs[name] or mine[name] is None:
                what = f"database {database}: {noun} {name} is {_version(mine[name])} here"
                what += f" and {_version(theirs[name])} on the primary"
                findings.append(Finding(code=code, node=node, what=what, outcome=Outcome.PARTIAL))
    return findings


def _version(version: str | None) -> str:
    return "unknown to the server's libraries" if version is None else version or "without a version"


def _of_one_node(node: NodeFacts) -> Iterable[Finding]:
    for database, failures in sorted(node.checksum_failures.items()):
        where = f"database {database}" if database else "the shared catalogs"
        seen = "1 page checksum failure was" if failures.count == 1 else f"{failures.count} page checksum failures were"
        what = f"{seen} seen in {where}{_when(failures)}"
        yield Finding(code="checksum_failures", node=node.name, what=what, outcome=Outcome.REFUTED)
    for name, bad in _DANGEROUS.items():
        if node.settings.get(name) == bad:
            yield Finding(code=f"setting_{name}", node=node.name, what=f"{name} is {bad}", outcome=Outcome.PROVEN)


def _when(failures: ChecksumFailures) -> str:
    last = f", last at {_moment(failures.last_at)}" if failures.last_at else ""
    return last + (f" (counted since {_moment(failures.since)})" if failures.since else " (the count was never reset)")


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(" ", "seconds")


def _timeline(primary: NodeFacts, replica: NodeFacts) -> Iterable[Finding]:
    if None in (primary.timeline, replica.timeline) or primary.timeline == replica.timeline:
        return
    yield Finding(
        code="timeline",
        node=replica.name,
        what=f"it follows timeline {replica.timeline}, the primary is on {primary.timeline}",
        outcome=Outcome.PARTIAL,
    )


def _versions(primary: NodeFacts, replica: NodeFacts) -> Iterable[Finding]:
    if primary.version_num != replica.version_num:
        yield Finding(
            code="server_version",
            node=replica.name,
            what=f"it runs PostgreSQL {replica.version}, the primary {primary.version}",
            outcome=Outcome.PROVEN,
        )


def _settings(primary: NodeFacts, replica: NodeFacts) -> Iterable[Finding]:
    for name, outcome in _SAME_EVERYWHERE.items():
        mine, theirs = replica.settings.get(name), primary.settings.get(name)
        if mine != theirs:
            what = f"{name} is {mine} here and {theirs} on the primary"
            yield Finding(code=f"setting_{name}", node=replica.name, what=what, outcome=outcome)
    for name in _NOT_BELOW_PRIMARY:
        if _number(replica.settings, name) < _number(primary.settings, name):
            what = f"{name} is lower than on the primary: replay would stop"
            yield Finding(code=f"setting_{name}", node=replica.name, what=what, outcome=Outcome.PROVEN)


def _number(settings: Mapping[str, str], name: str) -> int:
    return int(settings.get(name) or 0)
