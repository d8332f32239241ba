"""The report of a past seal, told from the document that the history keeps: the manifest itself lies in its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from replcheck.model.seal import NotSealed, RestorePoint, SealedDump, SealVerdict
from replcheck.model.shape import from_plain
from replcheck.report.seal import SCHEMA
from replcheck.report.style import Style, fields, heading, line, verbatim
from replcheck.report.verdict import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    major: int
    architecture: str
    system_identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSeal:
    """What a seal's document tells."""

    run_id: str
    seal_id: str
    verdict: SealVerdict
    outcome: str
    exit_code: int
    summary: str
    finished_at: datetime
    cluster: str
    primary: str
    file: str
    sha256: str
    key_id: str
    restore_point: RestorePoint
    server: _Server
    not_sealed: tuple[NotSealed, ...]
    dump: SealedDump | None = None


def past_seal(document: object) -> PastSeal:
    """Return what a document tells; raise ValueError with the reason where it is none of a seal, or belies itself."""
    if not isinstance(document, Mapping):
        raise ValueError("it is no object")  # noqa: TRY004 - of the data, not of an argument
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has the schema {document.get('schema')}, and this replcheck reads {SCHEMA}")
    seal = from_plain(PastSeal, document)
    outcome = seal.verdict.outcome
    lacks = any(not note.by_design for note in seal.not_sealed)
    if (seal.outcome, seal.exit_code) != (outcome.value, int(outcome.exit_status)) or (
        seal.verdict is SealVerdict.SEALED and lacks
    ):
        raise ValueError("its verdict is not the one of its content")
    return seal


def print_past_seal(seal: PastSeal, console: Console, style: Style, *, follow: str, quiet: bool, verbose: bool) -> None:
    """Print the verdict and, unless `quiet`, what was sealed, where its manifest was kept, and how to drill to it."""
    line(console, style.outcome(seal.verdict.outcome, seal.verdict.value.upper()), f"  {seal.summary}", indent=0)
    if quiet:
        return
    point, server = seal.restore_point, seal.server
    console.print()
    fields(
        console,
        [
            ("cluster", f"{seal.cluster}, primary {seal.primary}"),
            ("restore point", f"{point.name} at {point.lsn}, timeline {point.timeline}"),
            ("made", style.time(point.created_at)),
            ("holds for", f"PostgreSQL {server.major} on {server.architecture}, cluster {server.system_identifier}"),
            ("kept in", seal.file),
            ("SHA-256", seal.sha256),
            ("signed", f"by key {seal.key_id}" if seal.key_id else "no"),
        ],
    )
    shown = [note for note in seal.not_sealed if verbose or not note.by_design]
    if shown:
        heading(console, f"Not sealed ({counted(len(shown), 'thing')})")
    for note in shown:
        what = f"{note.database}.{note.relation}" if note.relation else f"database {note.database}"
        line(console, f"{what}: {note.reason}{' (by design)' if note.by_design else ''}")
    console.print()
    line(console, "Drill to it:")
    verbatim(console, follow)
