"""Where a history lies when the configuration does not say."""

from collections.abc import Mapping
from pathlib import Path


def default_path(cluster: str, environment: Mapping[str, str]) -> Path | None:
    """Return the history's file in the user's state folder; None where the environment names no such folder.

    Follows the XDG Base Directory Specification.

    >>> str(default_path("clinic", {"HOME": "/home/amal"}))
    '/home/amal/.local/state/replcheck/clinic.db'
    """
    state = environment.get("XDG_STATE_HOME")
    if not state and environment.get("HOME"):
        state = f"{environment['HOME']}/.local/state"
    return Path(state) / "replcheck" / f"{cluster}.db" if state else None
