"""Where seals lie, and how one is found: by its id, the beginning of it, as the newest, or by its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.drill.manifest import SUFFIX, read_manifest
from replcheck.errors import DrillBlocked
from replcheck.model.seal import StoredSeal
from replcheck.store import default_path

if TYPE_CHECKING:
    from replcheck.config.model import Configuration

NEWEST = "latest"
_FOLDER_SUFFIX = ".seals"


def seal_folder(cluster: str, configuration: "Configuration | None", environment: Mapping[str, str]) -> Path | None:
    """Return the folder of a cluster's seals: the configured one, or one beside the history; None for neither.

    >>> str(seal_folder("clinic", None, {"HOME": "/home/amal"}))
    '/home/amal/.local/state/replcheck/clinic.seals'
    """
    if configuration is not None and configuration.seal.folder is not None:
        return Path(configuration.seal.folder)
    configured = configuration.output.store if configuration is not None else None
    history = Path(configured) if configured is not None else default_path(cluster, environment)
    return history.with_suffix(_FOLDER_SUFFIX) if history is not None else None


def find_seal(named: str, folder: Path | None, *, signing_key: Path | None = None) -> StoredSeal:
    """Return the seal of that id, unique beginning of an id, file, or the newest for `latest`.

    Raises DrillBlocked where there is none, or more than one, or its content is not what was written.
    """
    if "/" in named or named.endswith(SUFFIX):
        return read_manifest(Path(named), signing_key=signing_key)
    found = [path for path in seal_files(folder) if named == NEWEST or path.name.startswith(named)]
    exact = [path for path in found if path.name == f"{named}{SUFFIX}"]
    if named == NEWEST and found:
        exact = found[:1]
    if not exact and len(found) > 1:
        raise DrillBlocked(
            f'"{named}" is the beginning of {len(found)} seals', code="seal_ambiguous", hint="Give more of the id."
        )
    if not (exact or found):
        where = f" in {folder}" if folder is not None else ": nothing says where seals lie"
        raise DrillBlocked(
            f"there is no {'seal' if named == NEWEST else f'seal {named}'}{where}",
            code="seal_missing",
            hint="Make one with replcheck seal, or name its file.",
        )
    return read_manifest((exact or found)[0], signing_key=signing_key)


def seal_files(folder: Path | None) -> list[Path]:
    """Return the files of the seals in a folder, the newest first: their ids sort by time."""
    if folder is None or not folder.is_dir():
        return []
    try:
        return sorted((path for path in folder.iterdir() if _is_seal(path)), reverse=True)
    except OSError as error:
        raise DrillBlocked(
            f"cannot list the seals in {folder}: {(error.strerror or 'unknown error').lower()}", code="seal_unreadable"
        ) from error


def _is_seal(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and not path.name.startswith(".")
