"""The file of a seal: canonical JSON with a SHA-256 of its content, readable by its owner alone, written in one step.

What is read is judged before it is believed: another format, a content whose digest does not fit, or a signature that
is not that of the configured key is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from replcheck.config.whole import read_whole
from replcheck.errors import DrillBlocked
from replcheck.evidence.files import lasting_file
from replcheck.model.canonical import canonical, canonical_digest
from replcheck.model.plain import to_plain
from replcheck.model.seal import MANIFEST_FORMAT, SealManifest, SignatureState, StoredSeal
from replcheck.model.shape import from_plain

SUFFIX = ".seal.json"
_SCHEMA = "replcheck/seal-file/1"
_MOST_BYTES = 1 << 30
"""Beyond any seal: it holds digests, of parts of relations, and no rows."""
_PAYLOAD_TYPE = "application/vnd.replcheck.seal+json"


def content_digest(manifest: SealManifest) -> str:
    """Return the SHA-256 of a manifest's canonical JSON."""
    return canonical_digest(to_plain(manifest))


def write_manifest(manifest: SealManifest, folder: Path, *, signing_key: Path | None = None) -> StoredSeal:
    """Write a seal's file into a folder, which is made where it is missing, and sign it where there is a key.

    Raises DrillBlocked where it cannot be written, ConfigurationError where the key cannot be used.
    """
    digest = content_digest(manifest)
    document: dict[str, object] = {"schema": _SCHEMA, "sha256": digest, "seal": to_plain(manifest)}
    key_id = ""
    if signing_key is not None:
        from replcheck.evidence.signing import key_ids, load_signer, sign

        document["envelope"] = sign(_statement(manifest.seal_id, digest), _PAYLOAD_TYPE, load_signer(signing_key))
        key_id = next(iter(key_ids(document["envelope"])), "")
    path = folder / f"{manifest.seal_id}{SUFFIX}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lasting_file(path) as file:
            file.write(canonical(document) + b"\n")
    except OSError as error:
        raise DrillBlocked(
            f"cannot write the seal to {folder}: {(error.strerror or 'unknown error').lower()}",
            code="seal_unwritable",
            hint="Name another folder with seal.folder or --folder.",
        ) from error
    state = SignatureState.VERIFIED if signing_key is not None else SignatureState.UNSIGNED
    return StoredSeal(manifest=manifest, file=str(path), sha256=digest, signature=state, key_id=key_id)


def read_manifest(path: Path, *, signing_key: Path | None = None) -> StoredSeal:
    """Return the seal in a file; raise DrillBlocked where it cannot be read or is not what was written.

    With a key the signature is verified; without one, a signed seal is returned as not verified.
    """
    document = _document(path)
    if document.get("schema") != _SCHEMA:
        raise _unbelievable(path, f"it has the schema {document.get('schema')!r}, and this replcheck reads {_SCHEMA}")
    content = document.get("seal")
    digest = canonical_digest(content)
    if document.get("sha256") != digest:
        raise _unbelievable(path, "its content was changed after it was written")
    if isinstance(content, Mapping) and content.get("format") != MANIFEST_FORMAT:
        raise _unbelievable(
            path, f"its format is {content.get('format')!r}, and this replcheck reads {MANIFEST_FORMAT}"
        )
    try:
        manifest = from_plain(SealManifest, content)
    except (ValueError, RecursionError) as error:
        raise _unbelievable(path, "it does not hold what a seal holds") from error
    state, key_id = _signature(path, document.get("envelope"), _statement(manifest.seal_id, digest), signing_key)
    return StoredSeal(manifest=manifest, file=str(path), sha256=digest, signature=state, key_id=key_id)


def _statement(seal_id: str, digest: str) -> bytes:
    return canonical({"seal": seal_id, "sha256": digest})


def _signature(path: Path, envelope: object, statement: bytes, signing_key: Path | None) -> tuple[SignatureState, str]:
    if envelope is None:
        if signing_key is not None:
            raise _unbelievable(path, "it is not signed, and a signing key is configured")
        return SignatureState.UNSIGNED, ""
    from replcheck.evidence.signing import SignatureInvalid, key_ids, load_signer, payload_of, verify

    signer = load_signer(signing_key) if signing_key is not None else None
    try:
        payload = verify(envelope, _PAYLOAD_TYPE, signer) if signer else payload_of(envelope, _PAYLOAD_TYPE)
    except SignatureInvalid as error:
        raise _unbelievable(path, f"its signature is not valid: {error}") from error
    if payload != statement:
        raise _unbelievable(path, "its signature is that of another seal")
    state = SignatureState.VERIFIED if signer else SignatureState.UNVERIFIED
    return state, next(iter(key_ids(envelope)), "")


def _document(path: Path) -> Mapping[str, object]:
    try:
        document = json.loads(read_whole(path, most_bytes=_MOST_BYTES))
    except OSError as error:
        raise DrillBlocked(
            f"cannot read the seal {path}: {(error.strerror or 'unknown error').lower()}", code="seal_unreadable"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unbelievable(path, "it is no JSON") from error
    if not isinstance(document, dict):
        raise _unbelievable(path, "it is no seal")
    return document


def _unbelievable(path: Path, reason: str) -> DrillBlocked:
    return DrillBlocked(
        f"the seal {path} cannot be believed: {reason}", code="seal_invalid", hint="Seal the primary again."
    )
