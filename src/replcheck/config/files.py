"""Reads a configuration file and turns what is wrong with it into one line for people.

No message quotes a value: a value can be a connection string.
"""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from replcheck.config.model import Configuration
from replcheck.config.parsing import parsed
from replcheck.config.problems import first_told
from replcheck.errors import ConfigurationError


def read(path: Path) -> Configuration:
    """Read one file; raise ConfigurationError naming the file and the line or the key's path."""
    return _validated(parsed(path), path)


def _validated(tree: dict[str, Any], path: Path) -> Configuration:
    try:
        configuration = Configuration.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=True)
    else:
        _check_time_zone(configuration, path)
        return configuration
    # Outside the handler, since a validation error may quote what it refused.
    message, hint = first_told(problems)
    raise ConfigurationError(f"{path}: {message}", hint=hint)


def _check_time_zone(configuration: Configuration, path: Path) -> None:
    name = configuration.output.time_zone
    if name is None:
        return
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{path}: output.time_zone is no zone that this machine knows",
            hint="Use an IANA name such as Asia/Kolkata, and install the tzdata package where zones are missing.",
        ) from error
