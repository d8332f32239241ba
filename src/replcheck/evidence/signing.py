"""Sign a statement with an Ed25519 key, and verify it: a DSSE envelope, as securesystemslib makes it.

The one place that touches a private key. A key that others can read is refused, since whoever has it can sign too.
Who signs nothing needs none of securesystemslib, which is large: it is imported where a key or an envelope is read.
"""

import json
import stat
from base64 import b64encode
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replcheck.config.whole import read_whole
from replcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # it exports so

_TOO_OPEN = stat.S_IWGRP | stat.S_IRWXO
_HOW_TO_MAKE = "Make one with: replcheck evidence keys FILE"


class SignatureInvalid(Exception):
    """An envelope is none, or the key did not sign it."""


def load_signer(path: Path) -> "CryptoSigner":
    """Return the signer of a private key in PEM; raise ConfigurationError where it cannot be used."""
    try:
        mode = path.stat().st_mode
        pem = read_whole(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the signing key {path}: {(error.strerror or 'unknown error').lower()}",
            hint=f"output.signing_key names a private key. {_HOW_TO_MAKE}.",
        ) from error
    if mode & _TOO_OPEN:
        raise ConfigurationError(
            f"the signing key {path} can be read by others or written by its group",
            hint=f"Close it with chmod 600 {path}, and make another if somebody may have copied it.",
        )
    signer = _signer(pem)
    if signer is None:
        raise ConfigurationError(
            f"the signing key {path} is no Ed25519 private key in PEM without a password", hint=f"{_HOW_TO_MAKE}."
        )
    return signer


def _signer(pem: bytes) -> "CryptoSigner | None":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # it exports so

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        return None
    return CryptoSigner(key) if isinstance(key, Ed25519PrivateKey) else None


def sign(payload: bytes, payload_type: str, signer: "CryptoSigner | None") -> dict[str, Any]:
    """Return the signed envelope as a JSON object; without a signer, one with no signature."""
    if signer is None:
        return {"payload": b64encode(payload).decode(), "payloadType": payload_type, "signatures": []}
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    plain: dict[str, Any] = json.loads(json.dumps(envelope.to_dict()))
    return plain


def verify(envelope: object, payload_type: str, signer: "CryptoSigner") -> bytes:
    """Return the payload that the signer's key has signed; raise SignatureInvalid where it has not."""
    from securesystemslib.exceptions import Error as SecurityError

    payload = payload_of(envelope, payload_type)
    try:
        _opened(envelope).verify([signer.public_key], 1)
    except (SecurityError, ValueError) as error:
        raise SignatureInvalid("the key did not sign it") from error
    return payload


def payload_of(envelope: object, payload_type: str) -> bytes:
    """Return what an envelope holds, without verifying anything; raise SignatureInvalid where it is no envelope."""
    opened = _opened(envelope)
    if opened.payload_type != payload_type:
        raise SignatureInvalid("it holds something else")
    payload: bytes = opened.payload
    return payload


def key_ids(envelope: object) -> tuple[str, ...]:
    """Return the ids of the keys that an envelope says it was signed with; raise SignatureInvalid where it is none."""
    return tuple(sorted(_opened(envelope).signatures))


def _opened(envelope: object) -> "Envelope":
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error as SecurityError

    if not isinstance(envelope, dict):
        raise SignatureInvalid("it is no envelope")
    try:
        # Of a copy: reading takes the dictionary apart.
        return Envelope.from_dict(deepcopy(envelope))
    except (SecurityError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignatureInvalid("it is no envelope") from error
