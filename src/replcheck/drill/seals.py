"""Where seals lie, and how one is found: by its id, the beginning of it, as the newest, or by its file."""

from collections.abc import Mapping
from pathlib import Path

from replcheck.config import Configuration
from replcheck.model.seal import StoredSeal


def seal_folder(cluster: str, configuration: Configuration | None, environment: Mapping[str, str]) -> Path | None:
    """Return the folder of a cluster's seals: the configured one, or beside the history; None where there is neither."""
    raise NotImplementedError


def find_seal(named: str, folder: Path | None, *, signing_key: Path | None = None) -> StoredSeal:
    """Return the seal of that id, unique beginning of an id, file, or the newest for `latest`.

    Raises DrillBlocked where there is none, or more than one, or its content is not what it was.
    """
    raise NotImplementedError
