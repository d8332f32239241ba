"""`replcheck evidence` from its options to its exit status. `verify` judges; all others end with 0 or 3."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from replcheck.cli.arguments import Chain
from replcheck.cli.display import Display
from replcheck.cli.options import Format
from replcheck.cli.output import deliver, page
from replcheck.cli.stored import find_source, named_source
from replcheck.config import find_file, load
from replcheck.config.model import Configuration
from replcheck.errors import UsageError
from replcheck.evidence.exporting import Exported, new_file
from replcheck.evidence.keys import KeyPair, PublicKey, create_keys, existing_keys
from replcheck.evidence.statement import Note
from replcheck.model.evidence import ChainReport
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus, Outcome, worst
from replcheck.report.evidence_document import VerifiedChain, evidence_json, outcome_of_chains, places
from replcheck.report.evidence_human import print_evidence
from replcheck.report.style import Style
from replcheck.report.verdict import counted
from replcheck.runs.evidence import chain_of, keep_mark, keys_of, named_keys, record_about, verify_files, verify_store
from replcheck.runs.evidence_files import Segment, add_note, archive_chain, export_chain, import_file
from replcheck.runs.history import find_run, moment_of
from replcheck.runs.signing import signing_of
from replcheck.store import open_evidence

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be verified, and with what."""

    files: tuple[Path, ...]
    keys: tuple[Path, ...]
    head: str | None
    reports: bool
    every_signature: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """Which records go where."""

    since: str | None
    until: str | None
    archive: bool
    output: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A note, and what it is about."""

    run: str | None
    record: int | None
    reviewer: str
    text: str
    action: str


def verify_and_report(chain: Chain, asked: Asked, form: Format) -> ExitStatus:
    """Verify files or a history, print what was found, and return its exit status."""
    anchor = asked.head.strip().lower() if asked.head is not None else None
    if anchor is not None and not _SHA256.fullmatch(anchor):
        raise UsageError("--head must be the SHA-256 of a record: 64 hexadecimal digits")
    if asked.files:
        chains, configuration = _verified_files(chain, asked, anchor)
    else:
        chains, configuration = _verified_history(chain, asked, anchor)

    def draw(console: Console, style: Style) -> None:
        print_evidence(chains, console, style)

    def render(target: TextIO) -> str:
        return evidence_json(chains) if form is Format.JSON else page(target, configuration, draw)

    outcome = outcome_of_chains(chains)
    failure = deliver(render, None)
    if failure is not None:
        Display(quiet=True).note(f"error: cannot write what was found: {failure}")
        outcome = worst([outcome, Outcome.UNCHECKED])
    return outcome.exit_status


def _verified_files(chain: Chain, asked: Asked, anchor: str | None) -> tuple[list[VerifiedChain], Configuration | None]:
    if asked.reports:
        raise UsageError("--reports was given with --file", hint="Reports lie in a history: leave out --file.")
    configuration = _named_configuration(chain.config)
    keys = named_keys(asked.keys) if asked.keys else keys_of(configuration)
    reports = verify_files(asked.files, keys, anchor=anchor, every_signature=asked.every_signature)
    found = [
        VerifiedChain(source=str(path), in_history=False, report=report)
        for path, report in zip(asked.files, reports, strict=True)
    ]
    return found, configuration


def _verified_history(
    chain: Chain, asked: Asked, anchor: str | None
) -> tuple[list[VerifiedChain], Configuration | None]:
    source = find_source(chain.config, chain.store)
    keys = named_keys(asked.keys) if asked.keys else keys_of(source.configuration)
    reader = open_evidence(source.store)
    began = datetime.now(UTC)
    cluster = chain_of(reader, chain.cluster, _cluster_of(source.configuration))
    report = verify_store(
        reader,
        cluster,
        keys,
        anchor=anchor,
        reports=asked.reports,
        every_signature=asked.every_signature,
    )
    keep_mark(source.store, report, signing_of(source.configuration), at=began)
    return [VerifiedChain(source=str(source.store), in_history=True, report=report)], source.configuration


def make_keys(config: Path | None, file: Path | None, *, show: bool) -> ExitStatus:
    """Make a pair of keys, or look at the one that is there, and tell its id."""
    if file is None:
        configured = find_file(config, os.environ)
        named = load(configured).output.signing_key if configured is not None else None
        if named is None:
            raise UsageError(
                "nothing says where the key goes", hint="Name its file, or output.signing_key in the configuration."
            )
        file = Path(named)
    pair = existing_keys(file) if show else create_keys(file)
    return _told(_about_keys(pair, made=not show))


def _about_keys(pair: KeyPair, *, made: bool) -> list[str]:
    told = [
        f"private key  {pair.private}{' (readable by its owner alone)' if made else ''}",
        f"public key   {pair.public}{'' if pair.public.exists() else ' (missing)'}",
        f"key id       {pair.key.key_id}",
    ]
    if made:
        told.append("Name the private key with output.signing_key, and hand the public key to whoever verifies.")
    return told


def export_and_tell(chain: Chain, asked: Exporting) -> ExitStatus:
    """Write records to a file or to standard output, and say on standard error which."""
    source, now = find_source(chain.config, chain.store), datetime.now(UTC)
    signing = signing_of(source.configuration)
    reader = open_evidence(source.store)
    cluster = chain_of(reader, chain.cluster, _cluster_of(source.configuration))
    since = moment_of(asked.since, flag="--since", now=now, zone=source.zone) if asked.since else None
    until = moment_of(asked.until, flag="--until", now=now, zone=source.zone) if asked.until else None
    wanted, keys = Segment(since=since, until=until), keys_of(source.configuration)
    if asked.archive:
        if until is None or asked.output is None or since is not None:
            raise UsageError(
                "an archive needs to know up to when, and its file", hint="Give --until and --output, and no --since."
            )
        exported = archive_chain(source.store, cluster, asked.output, signing, keys, until)
    elif asked.output is not None:
        with new_file(asked.output, replace=True) as file:
            exported = export_chain(reader, cluster, file, signing, keys, wanted)
    else:
        exported = export_chain(reader, cluster, sys.stdout.buffer, signing, keys, wanted)
        sys.stdout.flush()
    _tell_exported(exported, asked, signed=signing.key is not None)
    return ExitStatus.PROVEN


def _tell_exported(exported: Exported, asked: Exporting, *, signed: bool) -> None:
    report = exported.report
    done = "moved" if asked.archive else "written"
    where = f" to {asked.output}" if asked.output is not None else ""
    display = Display(quiet=True)
    records = f"{counted(report.records, 'record')} of {report.cluster}, {report.first} to {report.last}"
    display.note(f"{records}, {'were' if report.records > 1 else 'was'} {done}{where}")
    display.note(f"head: record {report.last}, SHA-256 {report.head}; file: SHA-256 {exported.sha256}")
    if report.unsigned:
        display.note(f"warning: {_unsigned_words(report, archived=asked.archive)}")
    if not signed:
        display.note("warning: the closing line is not signed: output.signing_key names no key")


def _unsigned_words(report: ChainReport, *, archived: bool) -> str:
    told = f"{counted(report.unsigned, 'record is', 'records are')} not signed ({places(report.unsigned_at)})"
    if archived:
        return f"{told}: from now on the checkpoint vouches for what they say"
    return f"{told}, and the closing line does not vouch for what they say"


def import_and_tell(chain: Chain, file: Path, keys: Sequence[Path]) -> ExitStatus:
    """Take a file into a history, and say what was new."""
    source = named_source(chain.config, chain.store)
    with_keys: tuple[PublicKey, ...] = named_keys(keys) if keys else keys_of(source.configuration)
    imported = import_file(file, source.store, with_keys)
    report = imported.report
    records = f"{counted(report.records, 'record')} of {report.cluster}, {report.first} to {report.last}"
    told = [f"{records}: {imported.new:,} new in {source.store}"]
    if report.unverified:
        told.append("No signature was verified: name the public key with --public-key.")
    elif report.unsigned:
        told.append(
            f"{counted(report.unsigned, 'record is', 'records are')} not signed ({places(report.unsigned_at)})."
        )
    return _told(told)


def add_and_tell(chain: Chain, noted: Noted) -> ExitStatus:
    """Add a note to the record of a run, or to that of a place, and say where it stands."""
    if (noted.run is None) == (noted.record is None):
        raise UsageError("a note is about one record", hint="Name a run, or a record with --record.")
    source = find_source(chain.config, chain.store)
    signing = signing_of(source.configuration)
    reader = open_evidence(source.store)
    run_id = find_run(source.store, noted.run).run.run_id if noted.run is not None else None
    cluster = "" if run_id is not None else chain_of(reader, chain.cluster, _cluster_of(source.configuration))
    about = record_about(reader, cluster, run_id=run_id, sequence=noted.record)
    note = Note(reviewer=noted.reviewer, text=noted.text, corrective_action=noted.action)
    appended = add_note(source.store, about, note, signing)
    signed = f"signed by key {appended.key_id}" if appended.key_id else "not signed: output.signing_key names no key"
    return _told(
        [
            f"noted on record {about.sequence} of {printable(about.cluster)}, as record {appended.sequence}; {signed}",
            f"head: record {appended.sequence}, SHA-256 {appended.sha256}",
        ]
    )


def _named_configuration(config: Path | None) -> Configuration | None:
    return load(config) if config is not None else None


def _cluster_of(configuration: Configuration | None) -> str | None:
    return configuration.cluster if configuration is not None else None


def _told(lines: Sequence[str]) -> ExitStatus:
    failure = deliver(lambda _: "".join(f"{printable(text)}\n" for text in lines), None)
    return ExitStatus.PROVEN if failure is None else ExitStatus.UNCHECKED
