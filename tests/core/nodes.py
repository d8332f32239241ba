"""Facts of servers, each with sensible defaults; none needs a server."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from replcheck.postgres.nodes import NodeFacts, NodeIdentity, Privileges

SETTINGS = {
    "block_size": "8192",
    "data_checksums": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "hot_standby_feedback": "on",
    "ignore_checksum_failure": "off",
    "max_connections": "100",
    "max_locks_per_transaction": "64",
    "max_prepared_transactions": "0",
    "max_wal_senders": "10",
    "max_worker_processes": "8",
    "server_encoding": "UTF8",
    "shared_buffers": "16384",
    "shared_preload_libraries": "",
    "wal_level": "replica",
    "zero_damaged_pages": "off",
}


def facts(
    name: str = "db1", *, in_recovery: bool = False, settings: dict[str, str] | None = None, **changes: Any
) -> NodeFacts:
    """Return a sound node; `settings` come on top of its own."""
    identity = NodeIdentity(
        system_identifier="7412345678901234567",
        in_recovery=in_recovery,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        host="",
        port=5432,
        own_port=5432,
        data_directory=f"/data/{name}",
    )
    privileges = Privileges(
        role="auditor", superuser=False, bypasses_row_security=False, reads_all_data=True, monitors=True
    )
    made = NodeFacts(
        name=name,
        identity=identity,
        version_num=180001,
        version="18.1",
        timeline=1,
        lsn=None,
        settings=SETTINGS | (settings or {}),
        privileges=privileges,
        free_connections=50,
        checksum_failures={},
        upstream=None,
    )
    return replace(made, **changes)
