"""The command that drills to a seal, whole: with the configuration, the backup and the target that it needs."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replcheck.config.model import Backup, Configuration


def next_drill(
    seal_id: str,
    file: Path,
    *,
    dump: str | None,
    configuration: "Configuration | None",
    config: Path | None,
    folder: Path | None,
) -> str:
    """Return what to type to drill to a seal; capitals stand for what is not known here.

    `file` is that of its manifest and `folder` where drills look for seals by id, None where nothing says it; `dump` is
    the file of a dump that was taken with it.
    """
    words = ["replcheck", "drill"]
    if config is not None and configuration is not None:
        words += ["--config", str(config)]
    name = _fitting(configuration, dump) if configuration is not None else None
    if name is not None:
        words.append(name)
    elif dump is not None:
        words += ["--from", f"dump:{dump}"]
    else:
        words += ["--from", "base:DIR", "--wal", "DIR"]
    by_id = folder is not None and file.parent.absolute() == folder.absolute()
    return shlex.join([*words, "--target", f"seal:{seal_id if by_id else file.absolute()}"])


def _fitting(configuration: "Configuration", dump: str | None) -> str | None:
    """Return the configured backup that a seal is for; None where there is none."""
    fitting = [name for name, backup in configuration.backups.items() if _fits(backup, dump)]
    preferred = configuration.drill.backup
    return preferred if preferred in fitting else next(iter(fitting), None)


def _fits(backup: "Backup", dump: str | None) -> bool:
    if backup.kind != "dump":
        return dump is None
    path = Path(backup.path).absolute()
    return dump is not None and path in (Path(dump), *Path(dump).parents)
