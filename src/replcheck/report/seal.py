"""A seal for people and for machines: what was fixed, when, for which servers, and what is not in it.

Digests and seeds stay in the manifest: digests of few rows could be guessed from them.
"""

import json
from importlib import resources
from typing import Any

from rich.console import Console
from rich.text import Text

from replcheck.model.evidence import EvidenceHead
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.model.seal import NotSealed, SealedDatabase, SealResult, SealVerdict
from replcheck.model.units import format_duration, format_size
from replcheck.report.evidence_document import with_evidence
from replcheck.report.style import Style, cell, fields, heading, line, plain_table, verbatim
from replcheck.report.verdict import counted

SCHEMA = "replcheck/seal/1"
_MOST_NOTES = 20


def sentence(result: SealResult) -> str:
    """Return the outcome in one sentence."""
    seal = result.seal.manifest
    what = f"{counted(seal.rows, 'row')} of {counted(seal.relations, 'relation')}"
    where = f"at {seal.restore_point.lsn}"
    lacks = sum(not note.by_design for note in seal.not_sealed)
    if seal.verdict is SealVerdict.SEALED:
        return f"{what} are sealed {where}."
    if seal.verdict is SealVerdict.NOT_SEALED:
        return f"nothing was there to seal {where}; {counted(lacks, 'thing')} in scope could not be."
    return f"{what} are sealed {where}; {counted(lacks, 'thing')} in scope could not be."


def seal_document(result: SealResult) -> dict[str, Plain]:
    """Return the whole result as JSON has it."""
    seal, outcome = result.seal.manifest, result.verdict.outcome
    return {
        "schema": SCHEMA,
        "kind": "seal",
        "run_id": result.run_id,
        "outcome": outcome.value,
        "verdict": result.verdict.value,
        "exit_code": int(outcome.exit_status),
        "summary": sentence(result),
        "started_at": to_plain(result.started_at),
        "finished_at": to_plain(result.finished_at),
        "elapsed_s": result.elapsed_s,
        "snapshot_s": result.snapshot_s,
        "tool_version": seal.tool_version,
        "cluster": seal.cluster,
        "primary": result.primary,
        "seal_id": seal.seal_id,
        "file": result.seal.file,
        "sha256": result.seal.sha256,
        "signature": result.seal.signature.value,
        "key_id": result.seal.key_id,
        "encoding": seal.encoding,
        "portable_encoding": seal.portable_encoding,
        "scope": {**plain_object(seal.scope), "whole": seal.scope.whole},
        "restore_point": to_plain(seal.restore_point),
        "server": _server(result),
        "rows": seal.rows,
        "relations": seal.relations,
        "unsettled": seal.unsettled,
        "databases": [_database(database) for database in seal.databases],
        "not_sealed": to_plain(seal.not_sealed),
        "dump": to_plain(seal.dump),
    }


def seal_json(result: SealResult, evidence: EvidenceHead | None = None) -> str:
    """Return the document as text, with the record of the run; in ASCII, with a line break at its end."""
    return json.dumps(with_evidence(seal_document(result), evidence), indent=2) + "\n"


def seal_schema() -> dict[str, Any]:
    """Return the JSON schema of the document."""
    text = resources.files("replcheck.report").joinpath("schemas/seal.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _server(result: SealResult) -> dict[str, Plain]:
    server = result.seal.manifest.server
    plain = plain_object(server)
    del plain["hash_probe"]
    # As text: it exceeds what many readers of JSON hold.
    return plain | {"system_identifier": str(server.system_identifier), "architecture": server.architecture}


def _database(database: SealedDatabase) -> dict[str, Plain]:
    return {
        "name": database.name,
        "encoding": database.encoding,
        "relations": len(database.relations),
        "sequences": len(database.sequences),
        "rows": sum(relation.rows for relation in database.relations),
        "size_bytes": sum(relation.size_bytes for relation in database.relations),
        "unsettled": len(database.unsettled),
    }


def print_seal(result: SealResult, console: Console, style: Style, *, follow: str, verbose: bool = False) -> None:
    """Print what was sealed, what was not, and what to do with it; `follow` is the command that drills to it."""
    print_seal_verdict(result, console, style)
    seal = result.seal.manifest
    point, server = seal.restore_point, seal.server
    signed = f"by key {result.seal.key_id}" if result.seal.key_id else "no (output.signing_key names no key)"
    rows: list[tuple[str, str]] = [
        ("restore point", f"{point.name} at {point.lsn}, timeline {point.timeline}"),
        ("made", style.time(point.created_at)),
        ("holds for", f"PostgreSQL {server.major} on {server.architecture}, cluster {server.system_identifier}"),
        ("kept in", result.seal.file),
        ("SHA-256", result.seal.sha256),
        ("signed", signed),
    ]
    if seal.dump is not None:
        rows += [
            ("dump", f"{seal.dump.file} ({seal.dump.format}, {format_size(seal.dump.size_bytes)})"),
            ("its SHA-256", seal.dump.sha256),
        ]
    console.print()
    fields(console, rows)
    _print_databases(result, console)
    _print_not_sealed(seal.not_sealed, console, verbose=verbose)
    _print_notes(result, console, follow)


def print_seal_verdict(result: SealResult, console: Console, style: Style) -> None:
    """Print the verdict in one line."""
    word = style.outcome(result.verdict.outcome, result.verdict.value.upper())
    line(console, word, Text(f"  {sentence(result)}"), indent=0)


def _print_databases(result: SealResult, console: Console) -> None:
    heading(console, "Databases")
    table = plain_table("  database", "relations", "rows", "size", "unsettled", right=("relations", "rows", "size"))
    for database in result.seal.manifest.databases:
        table.add_row(
            cell(f"  {database.name}"),
            cell(f"{len(database.relations) + len(database.sequences):,}"),
            cell(f"{sum(relation.rows for relation in database.relations):,}"),
            cell(format_size(sum(relation.size_bytes for relation in database.relations))),
            cell(f"{len(database.unsettled):,}" if database.unsettled else "none"),
        )
    console.print(table)


def _print_not_sealed(notes: tuple[NotSealed, ...], console: Console, *, verbose: bool) -> None:
    shown = [note for note in notes if verbose or not note.by_design]
    by_design = sum(note.by_design for note in notes)
    if shown:
        heading(console, "Not sealed")
    for note in shown[:_MOST_NOTES]:
        what = f"{note.database}.{note.relation}" if note.relation else f"database {note.database}"
        design = " (by design)" if note.by_design else ""
        line(console, f"{what}: {note.reason}{design}")
        if note.hint and not note.by_design:
            line(console, note.hint, indent=4)
    if len(shown) > _MOST_NOTES:
        line(console, f"and {len(shown) - _MOST_NOTES:,} more; --format json lists all")
    if by_design and not verbose:
        console.print()
        line(console, f"{counted(by_design, 'thing')} not sealed by design; -v lists them")


def _print_notes(result: SealResult, console: Console, follow: str) -> None:
    seal = result.seal.manifest
    console.print()
    line(
        console,
        f"The snapshot was held for {format_duration(result.snapshot_s)}, the restore point made"
        f" {'once' if seal.restore_point.attempts == 1 else f'{seal.restore_point.attempts} times'}.",
    )
    if seal.unsettled:
        line(
            console,
            f"{counted(seal.unsettled, 'transaction')} may have committed just before the restore point; where one has,"
            " the rows it touched stay inconclusive in a drill.",
        )
    if seal.dump is None:
        line(
            console,
            f"A restore can reach it once the archive holds the WAL up to {seal.restore_point.lsn}. To have it archived"
            " now, type on the primary:",
        )
        verbatim(console, "SELECT pg_switch_wal();")
    line(console, "Next:")
    verbatim(console, follow)
