"""Which configuration counts for a command that takes nodes."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.config import VARIABLE, find_file, load
from replcheck.runs.request import is_node_name

if TYPE_CHECKING:
    from replcheck.config.model import Configuration


def configuration_for(primary: str | None, replicas: Iterable[str], named: Path | None) -> "Configuration | None":
    """Return the configuration that is named or found; None where there is none, or where it is none of these nodes'.

    A file found by chance describes another cluster than the one that was spelled out.
    """
    given = [text for text in (primary, *replicas) if text]
    only_addresses = bool(given) and not any(is_node_name(text) for text in given)
    if only_addresses and named is None and not os.environ.get(VARIABLE):
        return None
    path = find_file(named, os.environ)
    return load(path) if path else None
