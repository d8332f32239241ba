"""What the process ends with: the one table from error class to exit status, and how an error is told.

An error is one line that says what and where, and a hint that says what to do. `--debug` adds where in the program it
came from; the texts of other libraries' errors stay out even then, since they may quote values and secrets.
"""

import traceback
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from replcheck import errors
from replcheck.model.names import printable
from replcheck.model.outcome import ExitStatus

EXIT_STATUS_OF = MappingProxyType(
    {
        errors.UsageError: ExitStatus.UNCHECKED,
        errors.ConfigurationError: ExitStatus.UNCHECKED,
        errors.NodeError: ExitStatus.UNCHECKED,
        errors.ProgramError: ExitStatus.UNCHECKED,
        errors.LabError: ExitStatus.UNCHECKED,
        errors.DrillError: ExitStatus.UNCHECKED,
        errors.StoreError: ExitStatus.UNCHECKED,
        errors.Interrupted: ExitStatus.UNCHECKED,
        errors.ReplcheckError: ExitStatus.UNCHECKED,
        KeyboardInterrupt: ExitStatus.UNCHECKED,
        Exception: ExitStatus.UNCHECKED,
    }
)
"""An error is never a proof and never a refutation: whoever calls must not read it as either."""


def exit_status_of(error: BaseException) -> ExitStatus:
    """Return the exit status of an error, by the nearest class in the table."""
    return next((EXIT_STATUS_OF[kind] for kind in type(error).__mro__ if kind in EXIT_STATUS_OF), ExitStatus.UNCHECKED)


def told(message: str, hint: str = "") -> str:
    """Return an error as people read it: one line, and one more for the hint."""
    lines = [f"replcheck: error: {_one_line(message)}"]
    if hint:
        lines.append(f"hint: {_one_line(hint)}")
    return "\n".join(lines)


def scrubbed(message: str, arguments: Sequence[str]) -> str:
    """Return the message without any argument that may hold a connection string or a part of one.

    >>> scrubbed("Got unexpected extra argument (host=db1 password=x)", ["audit", "host=db1 password=x"])
    'Got unexpected extra argument (...)'
    """
    secrets = {part for argument in arguments for part in _secret_parts(argument)}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "...")
    return message


def trace(error: BaseException) -> str:
    """Return where an error came from, cause by cause; of errors that are not ours, only the class is told."""
    parts = []
    for link in _chain(error):
        message = link.message if isinstance(link, errors.ReplcheckError) else ""
        sqlstate = getattr(link, "sqlstate", None)
        name = type(link).__name__ + (f" [{sqlstate}]" if isinstance(sqlstate, str) else "")
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"{frames}{name}{': ' if message else ''}{message}")
    return "\ncaused by:\n".join(parts)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _secret_parts(argument: str) -> Iterator[str]:
    if "=" not in argument and "://" not in argument:
        return
    option, _, value = argument.partition("=")
    if option.startswith("--"):
        if "=" in value or "://" in value:
            yield value
        return
    yield argument
    yield from (word for word in argument.split() if len(word) > 3)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
