"""Where a configuration file is looked for; loaded by every command, so it knows nothing of what stands in one."""

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "REPLCHECK_CONFIG"
_FILE_NAME = "replcheck.toml"


def lookup_places(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where a configuration is looked for when nobody names one, first match first; needs no HOME."""
    user = environment.get("XDG_CONFIG_HOME") or (f"{environment['HOME']}/.config" if environment.get("HOME") else "")
    system = environment.get("XDG_CONFIG_DIRS") or "/etc"
    folders = [*([user] if user else []), *dict.fromkeys([*system.split(":"), "/etc"])]
    return (Path(_FILE_NAME), *(Path(folder) / "replcheck" / _FILE_NAME for folder in folders if folder))


def find_file(named: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one named by --config, the one named by REPLCHECK_CONFIG, or the first one found.

    A named file is returned whether or not it exists, so that `load` can say so.
    """
    if named is not None:
        return named
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE])
    return next((place for place in lookup_places(environment) if _is_file(place)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
