"""What `--version` says: a name and what it is in each line, of which the first is always the program itself."""

import platform

from replcheck import __version__


def version_text() -> str:
    """Return the program's version, the row encodings that it computes, and what it stands on."""
    lines = [f"replcheck {__version__}"]
    try:
        from replcheck.audit.digest import ENCODINGS
        from replcheck.postgres.dsn import client_library

        lines.append(f"encodings {', '.join(encoding.name for encoding in ENCODINGS.values())}")
        lines.append(f"libpq {client_library()}")
    except ImportError:
        # Whoever mends an installation asks for the version first.
        lines.append("libpq not found: the driver cannot be loaded")
    lines.append(f"Python {platform.python_version()}")
    return "\n".join(lines)
