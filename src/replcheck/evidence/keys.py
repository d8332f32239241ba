"""The user's keys: a private one that only its owner may read, the public one beside it, and their id.

A key is never overwritten: what it signed could not be verified any more.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from replcheck.config.whole import read_whole
from replcheck.errors import ConfigurationError, UsageError

PUBLIC_SUFFIX = ".pub"
_PRIVATE = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key with which signatures are verified."""

    key_id: str
    pem: bytes

    @property
    def verifier(self) -> Ed25519PublicKey:
        """Return what verifies."""
        key = load_pem_public_key(self.pem)
        assert isinstance(key, Ed25519PublicKey)  # noqa: S101 - checked when it was read
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A pair of keys in its files."""

    private: Path
    public: Path
    key: PublicKey


def create_keys(path: Path) -> KeyPair:
    """Make a pair of keys: the private one in `path`, readable by its owner alone, the public one beside it.

    Raises UsageError where either file is there already or cannot be written.
    """
    public_path = public_path_of(path)
    for there in (path, public_path):
        if there.exists() or there.is_symlink():
            raise UsageError(
                f"{there} exists already, and no key is overwritten",
                hint="What it signed could not be verified any more: name another file, or see it with --show.",
            )
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = _public(private.public_key())
    try:
        _write_new(path, pem, mode=0o600)
        _write_public(public_path, key.pem, private=path)
    except OSError as error:
        raise UsageError(
            f"cannot write the key to {path}: {(error.strerror or 'unknown error').lower()}",
            hint="Name a file in a folder that is there, of the account that runs replcheck.",
        ) from error
    return KeyPair(private=path, public=public_path, key=key)


def existing_keys(path: Path) -> KeyPair:
    """Return the pair of a private key that is there; raise ConfigurationError where it cannot be used."""
    return KeyPair(private=path, public=public_path_of(path), key=public_key_of(path))


def public_path_of(path: Path) -> Path:
    """Return where the public key of a private one lies.

    >>> str(public_path_of(Path("/etc/replcheck/clinic.key")))
    '/etc/replcheck/clinic.key.pub'
    """
    return path.with_name(f"{path.name}{PUBLIC_SUFFIX}")


def public_key_of(path: Path) -> PublicKey:
    """Return the public key of a private one; raise ConfigurationError where that cannot be used."""
    from replcheck.evidence.signing import load_signer  # large, and whoever verifies needs no signer

    value = load_signer(path).public_key.keyval["public"]
    return _public(Ed25519PublicKey.from_public_bytes(bytes.fromhex(value)))


def load_public_key(path: Path) -> PublicKey:
    """Return a public key in PEM; raise ConfigurationError where there is none."""
    try:
        pem = read_whole(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the public key {path}: {(error.strerror or 'unknown error').lower()}",
            hint="It lies beside the private key, with .pub behind its name.",
        ) from error
    if _PRIVATE in pem:
        raise ConfigurationError(
            f"{path} holds a private key, and verifying needs the public one",
            hint="A private key never leaves its machine: hand on the file with .pub behind its name.",
        )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(
            f"{path} is no Ed25519 public key in PEM", hint="It lies beside the private key, with .pub behind its name."
        )
    return _public(key)


def by_id(keys: Sequence[PublicKey]) -> dict[str, PublicKey]:
    """Return keys by their ids."""
    return {key.key_id: key for key in keys}


def _public(key: Ed25519PublicKey) -> PublicKey:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined] # it exports so

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key_id=SSlibKey.from_crypto(key).keyid, pem=pem)


def _write_public(path: Path, pem: bytes, *, private: Path) -> None:
    try:
        _write_new(path, pem, mode=0o644)
    except OSError:
        private.unlink()  # made a moment ago: half a pair is none
        raise


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the caller's umask adds or takes
        file.write(content)
        file.flush()
        os.fsync(descriptor)
