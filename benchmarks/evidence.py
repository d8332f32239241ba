"""A long chain of evidence, of audits that never were, and what it takes to verify it."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.commands import ROOT, Ran, run
from replcheck.errors import LabError
from replcheck.evidence.exporting import write_export
from replcheck.evidence.keys import KeyPair, create_keys
from replcheck.evidence.notary import Notary, notary_of
from replcheck.evidence.statement import Object
from replcheck.model.evidence import ChainPlace, EarlierRuns, EvidenceRecord
from replcheck.model.outcome import ExitStatus, Outcome
from replcheck.model.run import RunRecord, new_run_id

_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_NONE_BEFORE = EarlierRuns(count=0, sha256="0" * 64)
_PAGE = ROOT / "docs" / "verify-evidence.md"


def write_chain(folder: Path, records: int) -> tuple[Path, KeyPair]:
    """Write a signed chain of so many records into a file; return it with the keys."""
    keys = create_keys(folder / "bench.key")
    notary = notary_of(keys.private)
    path = folder / "evidence.jsonl"
    with path.open("wb") as file:
        write_export(_chain(notary, records), file, notary)
    return path, keys


def verify(path: Path, keys: KeyPair) -> Ran:
    """Verify an exported file by the command; raise LabError where it is not found whole."""
    words = ["evidence", "verify", "--file", str(path), "--public-key", str(keys.public)]
    ran = run([sys.executable, "-m", "replcheck", *words])
    if ran.status != 0:
        raise LabError("a chain that is whole was not found so")
    return ran


def verify_by_the_page(path: Path, keys: KeyPair) -> Ran:
    """Verify it by the program in the documentation."""
    program = _PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    ran = run([sys.executable, "-c", program, str(path), str(keys.public)])
    if ran.status != 0:
        raise LabError("a chain that is whole was not found so by the program in the documentation")
    return ran


def _chain(notary: Notary, records: int) -> Iterator[EvidenceRecord]:
    head: EvidenceRecord | None = None
    for number in range(records - 1):
        place = ChainPlace(head=head, earlier=None if head else _NONE_BEFORE)
        for record in notary.of_run(_audit(number), _result(number))(place):
            yield record
            head = record


def _audit(number: int) -> RunRecord:
    at = _BEGUN + timedelta(minutes=5 * number)
    return RunRecord(
        run_id=new_run_id(at),
        kind="audit",
        cluster="bench",
        started_at=at,
        tool_version="0.1.0",
        argument_digest="0" * 64,
        finished_at=at + timedelta(seconds=20),
        outcome=Outcome.PROVEN,
        verdict="consistent",
        exit_status=ExitStatus.PROVEN,
        summary="db2 and db3 are consistent copies of db1: every row of 149 relations was compared and matched.",
    )


def _result(number: int) -> Object:
    def node(name: str, role: str) -> Object:
        return {
            "name": name,
            "role": role,
            "server_version": "18.1",
            "system_identifier": "7412345678901234567",
            "timeline": 1,
            "address": f"{name}.internal:5432",
            "lsn": f"1/{number:08X}",
        }

    taken: Object = {"taken_at": "2026-01-01T00:00:00.000Z", "lsn": "1/0", "exact": True, "attempts": 3, "unsettled": 0}
    replicas: list[Object] = [
        node(name, "standby") | {"verdict": "consistent", "alignments": [taken] * 4} for name in ("db2", "db3")
    ]
    return {
        "schema": "replcheck/audit/1",
        "kind": "audit",
        "primary": node("db1", "primary"),
        "replicas": list(replicas),
        "relations": [{"verdict": "consistent"}],
        "rows": 1_000_000 + number,
    }
