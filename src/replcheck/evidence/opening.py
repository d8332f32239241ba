"""Opens one line of evidence: whether it is a record in the one form that records have, what it says, who signed it.

How lines follow each other is for `chain` to judge. An envelope has exactly one form, so that nothing about a record
can be changed without changing its SHA-256.

Verifying a signature is most of the work. A record says of the one before it, whose SHA-256 it names, whether its
signature was verified with the same key when it was made. So where a signature is verified, those before it that are
told of in this way are *attested*: only whoever has the key can have said so.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from replcheck.evidence.findings import alignments_told, replicas_told
from replcheck.evidence.statement import CLOSING_TYPE, MARK_TYPE, PAYLOAD_TYPE, STATEMENT_TYPE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MOST_BYTES = 16 << 20
"""Of one line; no record comes near it."""
_HEAD = b'{"payload":"'
_TAIL = re.compile(
    rb'","payloadType":"application/vnd\.in-toto\+json",'
    rb'"signatures":\[(?:\{"keyid":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"\})?\]\}'
)
"""What stands behind the payload, in the one form of an envelope: JSON with sorted keys and no blanks, with one
signature or none. Not read with a JSON parser, since every byte matters and there are many lines."""
Keys = Mapping[str, "Ed25519PublicKey"]


class Signature(Enum):
    """What is known of a record's signature."""

    NONE = "none"
    VERIFIED = "verified"
    ATTESTED = "attested"
    """Verified when the record behind it was made, as that one says, which is verified or attested itself."""
    WRONG = "wrong"
    OTHER_KEY = "other key"
    NO_KEY = "no key"
    """It is signed, and there was no key to verify it with."""

    @property
    def holds(self) -> bool:
        """Return whether the signature is known to be that of the record."""
        return self in {Signature.VERIFIED, Signature.ATTESTED}


class Opened(NamedTuple):
    """What one line says of itself; whether that is true of its chain is not judged.

    A tuple, since very many are handed from one process to another.
    """

    sha256: str
    predicate_type: str
    subject_sha256: str
    key_id: str
    signature: Signature
    cluster: str
    chain_id: str
    sequence: int
    """0 for what has no place in the chain: a closing line, and a mark."""
    previous: str | None
    recorded_at: str
    held: Mapping[str, Any]
    """What the record is about: the part of its predicate beside its place and its making."""
    told_before: str
    """What it says was found of the signature of the record before it; empty where it says nothing."""
    has_result: bool
    """Whether it is about a run that had a report."""
    replicas: tuple[tuple[Any, ...], ...] | None
    """What an audit said of each replica, as a history keeps it beside; None where that is not told."""
    alignments: tuple[tuple[str, str], ...] | None
    """SHA-256 over an audit's alignments, by the names of replicas; None where that is not told."""

    @property
    def attests(self) -> bool:
        """Return whether it says that the record before it was verified with the key that signed this one."""
        return bool(self.key_id) and self.told_before == Signature.VERIFIED.value

    @property
    def is_closing(self) -> bool:
        """Return whether it closes an exported file."""
        return self.predicate_type == CLOSING_TYPE


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no record."""

    reason: str


class _NoRecord(Exception):
    """The line is no record; why."""


def open_line(line: bytes, keys: Keys) -> Opened | Unreadable:
    """Return what a line says, its signature verified with the key of its id; without keys, that stays open."""
    return open_before(line, None, keys)


def open_lines(lines: Sequence[bytes], keys: Keys) -> list[Opened | Unreadable]:
    """Return what lines that follow each other say; signatures that a later one of them attests are not verified."""
    found: list[Opened | Unreadable] = []
    behind: Opened | Unreadable | None = None
    for line in reversed(lines):
        behind = open_before(line, behind, keys)
        found.append(behind)
    found.reverse()
    return found


def open_before(line: bytes, behind: Opened | Unreadable | None, keys: Keys) -> Opened | Unreadable:
    """Return what a line says, its signature verified unless the one behind it attests that."""
    try:
        read, payload, signature = _parsed(line)
    except _NoRecord as error:
        return Unreadable(str(error))
    except (ValueError, RecursionError):
        return Unreadable("it is no JSON")
    if isinstance(behind, Opened) and _is_attested(read, behind):
        return read._replace(signature=Signature.ATTESTED)
    return read._replace(signature=_judged(payload, read.key_id, signature, keys))


def _is_attested(read: Opened, behind: Opened) -> bool:
    believed = behind.attests and behind.signature.holds
    return believed and (read.sha256, read.key_id) == (behind.previous, behind.key_id)


def _parsed(line: bytes) -> tuple[Opened, bytes, bytes | None]:
    payload, key_id, signature = _unwrapped(line)
    statement = _object(json.loads(payload), "its payload")
    if statement.get("_type") != STATEMENT_TYPE:
        raise _NoRecord("it holds no in-toto statement")
    return _opened(line, statement, key_id), payload, signature


def _unwrapped(line: bytes) -> tuple[bytes, str, bytes | None]:
    if len(line) > MOST_BYTES:
        raise _NoRecord("it is too long")
    end = line.find(b'"', len(_HEAD))
    tail = _TAIL.fullmatch(line, end) if line.startswith(_HEAD) and end > len(_HEAD) else None
    if tail is None:
        raise _NoRecord("it is no envelope of a statement in canonical form")
    key_id, signature = tail.groups()
    payload = _decoded(line[len(_HEAD) : end])
    return payload, key_id.decode() if key_id else "", _decoded(signature) if signature else None


def _decoded(text: bytes) -> bytes:
    content = b64decode(text, validate=True)
    if b64encode(content[-(len(content) % 3 or 3) :]) != text[-4:]:
        raise _NoRecord("it is not in canonical form")  # the last letter of base64 can hide bits
    return content


def _judged(payload: bytes, key_id: str, signature: bytes | None, keys: Keys) -> Signature:
    if signature is None:
        return Signature.NONE
    if not keys:
        return Signature.NO_KEY
    key = keys.get(key_id)
    if key is None:
        return Signature.OTHER_KEY
    from cryptography.exceptions import InvalidSignature

    kind = PAYLOAD_TYPE.encode()
    # The bytes that are signed, as the DSSE protocol composes them.
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return Signature.WRONG
    return Signature.VERIFIED


def _opened(line: bytes, statement: Mapping[str, Any], key_id: str) -> Opened:
    predicate = _object(statement.get("predicate"), "its predicate")
    recorded = _object(predicate.get("recorded"), "its making")
    predicate_type = _text(statement.get("predicateType"))
    if predicate_type in {CLOSING_TYPE, MARK_TYPE}:
        place: Mapping[str, Any] = {"cluster": "", "id": "", "sequence": 0, "previous": None}
    else:
        place = _object(predicate.get("chain"), "its place")
    sequence, previous = place.get("sequence"), place.get("previous")
    if type(sequence) is not int or not (previous is None or isinstance(previous, str)):
        raise _NoRecord("its place in the chain cannot be read")
    held = [value for name, value in predicate.items() if name not in {"chain", "recorded", "result"}]
    return Opened(
        sha256=sha256(line).hexdigest(),
        predicate_type=predicate_type,
        subject_sha256=_subject(statement.get("subject")),
        key_id=key_id,
        signature=Signature.NO_KEY,
        cluster=_text(place.get("cluster")),
        chain_id=_text(place.get("id")),
        sequence=sequence,
        previous=previous,
        recorded_at=_text(recorded.get("at")),
        held=held[0] if len(held) == 1 and isinstance(held[0], dict) else {},
        told_before=_text(place.get("previous_signature") or ""),
        has_result=predicate.get("result") is not None,
        replicas=replicas_told(predicate.get("result")),
        alignments=alignments_told(predicate.get("result")),
    )


def _subject(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _text(_object(_object(value[0], "its subject").get("digest"), "its subject").get("sha256"))
    raise _NoRecord("its subject cannot be read")


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _NoRecord(f"{what} is no object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _NoRecord("something in it is missing")
    return value
