"""With which key, and under which configuration, the records of a run are made.

A configuration is told by a digest. It covers no password, no command, no filter and no assertion: a digest of little
that is unknown could be guessed from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replcheck.errors import ReplcheckError
from replcheck.model.canonical import canonical_digest

if TYPE_CHECKING:
    from replcheck.config.model import Configuration
    from replcheck.evidence.notary import Notary

_ADDRESS = frozenset({"dbname", "host", "hostaddr", "port", "service", "sslmode", "user"})
"""Words of a connection string that are covered."""
_COMMANDS = frozenset({"destroy", "provision", "restore_command"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What a run's records are made with."""

    key: Path | None = None
    """File of the private key; None leaves them unsigned."""
    configuration_sha256: str | None = None

    def check(self) -> None:
        """Raise ConfigurationError where the key cannot be used: before the run, not at its end."""
        if self.key is not None:
            from replcheck.evidence.signing import load_signer

            load_signer(self.key)

    def notary(self) -> "Notary":
        """Return who makes the records; raise ConfigurationError where the key cannot be used."""
        from replcheck.evidence.notary import notary_of  # large, and a run without a history needs none of it

        return notary_of(self.key, self.configuration_sha256)


UNSIGNED = Signing()


def signing_of(configuration: "Configuration | None") -> Signing:
    """Return what a configuration says of it."""
    if configuration is None:
        return Signing()
    key = configuration.output.signing_key
    return Signing(key=Path(key) if key is not None else None, configuration_sha256=configuration_digest(configuration))


def configuration_digest(configuration: "Configuration") -> str:
    """Return the SHA-256 over what a configuration says, without what could hold a secret or a row's value."""
    said = configuration.model_dump(mode="json", by_alias=True)
    said["connect"] = _address(said["connect"])
    for node in said["nodes"].values():
        node["dsn"] = _address(node["dsn"])
    for backup in said["backups"].values():
        for command in _COMMANDS & backup.keys():
            backup[command] = backup[command] is not None
    if isinstance(said["drill"]["scratch"], dict):
        said["drill"]["scratch"]["dsn"] = _address(said["drill"]["scratch"]["dsn"])
    said["drill"]["assertions"] = sorted(said["drill"]["assertions"])
    said["audit"]["where"] = sorted(said["audit"]["where"])
    return canonical_digest(said)


def _address(text: Any) -> Mapping[str, str] | None:
    from replcheck.postgres import dsn  # the driver, which what answers from the history alone needs not

    try:
        words = dsn.parse(text) if text is not None else {}
    except ReplcheckError:
        return None
    return {word: value for word, value in words.items() if word in _ADDRESS}
