"""Marks: signed statements of up to where a chain was verified as a whole, together with the runs that it tells of.

A mark saves work. It also is a witness: a history whose chain is shorter than its mark says, or another one, is not the
one that was verified. Whoever can write to a history can remove its mark, and cannot make one without the key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from replcheck.evidence.keys import PublicKey
from replcheck.evidence.opening import Opened, Signature, open_line
from replcheck.evidence.statement import MARK_TYPE
from replcheck.model.evidence import ChainReport, UnsignedRecords
from replcheck.model.plain import Plain, aware_moment, to_plain, utc_text
from replcheck.model.shape import from_plain
from replcheck.store import EvidenceReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Up to where a chain was verified."""

    chain_id: str
    last: int
    head: str
    """SHA-256 of the record `last`."""
    records: int
    """Without those in archives."""
    at: datetime
    """When all of them were verified at once."""
    unsigned: UnsignedRecords | None
    """Those among them that are not signed and that nothing vouches for."""


def read_mark(envelope: str | None, keys: Sequence[PublicKey]) -> Mark | None:
    """Return the mark in an envelope; None where there is none, or none that one of the keys signed."""
    line = open_line((envelope or "").encode(), {key.key_id: key.verifier for key in keys})
    if not isinstance(line, Opened) or line.predicate_type != MARK_TYPE or line.signature is not Signature.VERIFIED:
        return None
    try:
        return mark_told(line.held, line.subject_sha256)
    except (KeyError, TypeError, ValueError):
        return None


def mark_told(told: Mapping[str, Any], head: str) -> Mark:
    """Return the mark of a `mark_extent`; raise KeyError, TypeError or ValueError where it is none."""
    return Mark(
        chain_id=str(told["chain_id"]),
        last=int(told["last"]),
        head=head,
        records=int(told["records"]),
        at=aware_moment(told["whole_at"]),
        unsigned=from_plain(UnsignedRecords, told["unsigned"]) if told["unsigned"] else None,
    )


def mark_extent(cluster: str, mark: Mark) -> dict[str, Plain]:
    """Return what a mark states, beside the SHA-256 of the last record."""
    return {
        "cluster": cluster,
        "chain_id": mark.chain_id,
        "last": mark.last,
        "records": mark.records,
        "whole_at": utc_text(mark.at),
        "unsigned": to_plain(mark.unsigned),
    }


def mark_after(report: ChainReport, at: datetime) -> Mark | None:
    """Return the mark of a whole verification; None where something is wrong, or its newest record is not signed.

    An anchor is known to whoever verified with it alone: what rests on it is not remembered.
    """
    return None if report.problem or report.anchored or not report.head_signed else _mark_of(report, at)


def unsigned_mark_after(report: ChainReport, at: datetime) -> Mark | None:
    """Return the mark of a whole verification of a chain of which no record is signed; None where it is another.

    What rests on it can never be proven: all that it covers was made by whoever could write there.
    """
    unsigned = report.unsigned_records
    if report.problem or report.anchored or report.partial or unsigned is None:
        return None
    if unsigned.count != report.records or report.signed or report.unverified:
        return None
    return _mark_of(report, at)


def _mark_of(report: ChainReport, at: datetime) -> Mark:
    return Mark(
        chain_id=report.chain_id,
        last=report.last,
        head=report.head,
        records=report.records,
        at=at,
        unsigned=report.unsigned_records,
    )


def contradiction(reader: EvidenceReader, cluster: str, mark: Mark | None) -> str:
    """Return in what a history is not the one whose mark this is, as a clause; empty where it may be."""
    if mark is None:
        return ""
    there = next(reader.records(cluster, first=mark.last, last=mark.last), None)
    told = f"the signed mark of its last verification names record {mark.last}"
    if there is None:
        head = reader.head(cluster)
        return f"records were cut off behind {head.sequence if head else 0}: {told}"
    if there.chain_id != mark.chain_id:
        return f"the chain was replaced by another one: {told} of chain {mark.chain_id}"
    return "" if there.sha256 == mark.head else f"record {mark.last} was replaced: {told} with another SHA-256"
