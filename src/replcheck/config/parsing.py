"""Reads the TOML of a configuration file as it stands: quick, since what its keys mean is looked at elsewhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

from replcheck.config.whole import read_whole
from replcheck.errors import ConfigurationError


def parsed(path: Path) -> dict[str, Any]:
    """Return the tables of a file; raise ConfigurationError naming the file, and the line where there is one."""
    try:
        text = read_whole(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}: line {line} is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read configuration {path}: {(error.strerror or 'unknown error').lower()}",
            hint="Name another file with --config.",
        ) from error
    return _parsed(text, path)


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        what, line, column = told.groups() if told else (str(error), None, None)
        where = f"line {line}, column {column}" if line else f"line {text.count(chr(10)) + 1}"
    raise ConfigurationError(
        f"{path}: {where}: {what[:1].lower()}{what[1:]}", hint="The file must be TOML; texts stand in double quotes."
    )
