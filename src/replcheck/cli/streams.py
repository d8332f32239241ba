"""What standard output is and can show."""

from collections.abc import Mapping
from pathlib import Path


def is_plain_ascii(environment: Mapping[str, str]) -> bool:
    """Return whether the locale asks for ASCII.

    Python itself replaces the C locale by C.UTF-8 (PEP 538), which says nothing of the terminal.
    """
    chosen = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    if chosen == "C.UTF-8" and not environment.get("LC_ALL"):
        chosen = environment.get("LANG") or chosen
    return chosen in {"C", "POSIX"}


def to_stdout(events: Path | None) -> bool:
    """Return whether events go to standard output, where nothing else may stand then."""
    return events is not None and str(events) == "-"
