"""Who made a record, where, and with which software: facts of this machine, none of them secret."""

import os
import platform
import pwd
import socket
from dataclasses import dataclass
from functools import cache

from replcheck import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a record comes from."""

    user: str
    """Name of the account that ran it; its number where it has no name."""
    host: str
    """Name of the machine, as it calls itself."""
    software: dict[str, str]
    """Versions, by name."""


@cache
def this_origin() -> Origin:
    """Return what is known of this process."""
    from replcheck.postgres.dsn import client_library  # large, and whoever verifies needs no driver

    return Origin(
        user=_user(),
        host=socket.gethostname(),
        software={
            "replcheck": __version__,
            "python": platform.python_version(),
            "libpq": client_library(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
    )


def _user() -> str:
    # From the system, not from the environment, which the caller could set.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
