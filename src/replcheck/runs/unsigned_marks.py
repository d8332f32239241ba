"""Keeps beside a history how far its chain was verified, for those who have no key: it saves work, and proves nothing.

Unlike a signed mark it is no witness: a history that it does not fit is verified as a whole, as if it were not there.
Whoever can write beside the history could make one, and could as well have made every record of a chain without keys.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from replcheck.evidence.marks import Mark, mark_extent, mark_told
from replcheck.runs.files import write_atomically


def mark_file(store: Path) -> Path:
    """Return the file beside a history."""
    return store.with_name(f"{store.name}.verified")


def read_unsigned_mark(store: Path, cluster: str) -> Mark | None:
    """Return how far a cluster's chain was verified; None where nothing, or nothing possible, is told of it."""
    try:
        told = _held(store)[cluster]
        mark = mark_told(told, str(told["head"]))
    except (KeyError, TypeError, ValueError):
        return None
    # One that is ahead of the clock would spare the chain from being verified until the clock has come there.
    return mark if mark.unsigned is not None and mark.at <= datetime.now(UTC) else None


def keep_unsigned_mark(store: Path, cluster: str, mark: Mark) -> bool:
    """Keep it; return whether that was possible."""
    held = _held(store) | {cluster: {**mark_extent(cluster, mark), "head": mark.head}}
    with suppress(OSError):
        write_atomically(mark_file(store), json.dumps(held), mode=0o600)
        return True
    return False


def _held(store: Path) -> dict[str, Any]:
    try:
        held = json.loads(mark_file(store).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
