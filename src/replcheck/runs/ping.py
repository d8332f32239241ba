"""Tells a monitor of cron jobs that a run began, succeeded or failed, the way healthchecks and its like are told.

The address is a secret: it comes from the environment, goes into no message, log or record, and no body holds one. A
monitor that cannot be reached is told to people and changes no status: its own alarm for silence is what it is for.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit, urlunsplit

from replcheck.errors import ConfigurationError
from replcheck.model.names import printable

Tell = Callable[[str], None]
"""Takes one line for people."""
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a monitor is tried for."""

    attempts: int = 3
    request_s: float = 5.0
    """Each attempt."""
    first_wait_s: float = 0.5
    """Between the first two; it doubles, with some chance in it."""
    whole_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Ping:
    """Where to tell; `address` is None where nobody is told anything."""

    address: SplitResult | None = field(repr=False)
    tell: Tell = field(repr=False)
    patience: Patience = Patience()

    def start(self) -> None:
        """Tell that a run begins."""
        self._send("start", "")

    def success(self, body: str) -> None:
        """Tell that a run proved all that was asked."""
        self._send("", body)

    def failure(self, body: str) -> None:
        """Tell that a run did not prove all that was asked, or could not be made."""
        self._send("fail", body)

    def _send(self, word: str, body: str) -> None:
        if self.address is None:
            return
        from replcheck.runs.posting import NotHeard, post  # the protocol, which few checks need

        try:
            post(_at(self.address, word), body, self.patience)
        except NotHeard as error:
            of = f' "{word}"' if word else ""
            self.tell(f"warning: the ping{of} was not heard: {error}")


def ping_address(variable: str | None, environment: Mapping[str, str] = os.environ) -> SplitResult | None:
    """Return the address that the named environment variable holds; None where no variable is named.

    Raises ConfigurationError, without the address, where the variable is not set or holds none.
    """
    if variable is None:
        return None
    name = printable(variable)
    text = environment.get(variable, "").strip()
    if not text:
        raise ConfigurationError(
            f"output.ping_env names {name}, which is not set in the environment",
            hint="Set it to the address to ping, or leave output.ping_env out.",
        )
    address = _usable(text)
    if address is None:
        raise ConfigurationError(
            f"the environment variable {name} holds no address that can be pinged",
            hint="It must begin with https or http and name a host.",
        )
    return address


def _usable(text: str) -> SplitResult | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        address = urlsplit(text)
        named = address.scheme in _SCHEMES and bool(address.hostname) and (address.port or 0) >= 0
    except ValueError:
        return None
    return address if named else None


def _at(address: SplitResult, word: str) -> str:
    path = f"{address.path.rstrip('/')}/{word}" if word else address.path
    return urlunsplit(address._replace(path=path, fragment=""))
