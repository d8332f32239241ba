"""Which history a command reads: the file that is named, or that of the configured cluster."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from replcheck.config import VARIABLE, find_file, load
from replcheck.errors import StoreError, UsageError
from replcheck.model.run import UNNAMED_CLUSTER
from replcheck.store import default_path

if TYPE_CHECKING:
    from replcheck.config.model import Configuration

_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A history, and the configuration that says in which zone its times are shown to people."""

    store: Path
    configuration: "Configuration | None"
    config: Path | None = None
    """The configuration's file."""

    @property
    def zone(self) -> ZoneInfo | None:
        """Return the zone; None is the machine's."""
        name = self.configuration.output.time_zone if self.configuration else None
        return ZoneInfo(name) if name else None


def find_source(config: Path | None, store: Path | None) -> Source:
    """Return the history of --store, or that of the configuration; without either, that of spelled-out nodes.

    With --store a configuration counts only where it is named. Raises StoreError where there is no such file, naming
    the histories beside it.
    """
    source = named_source(config, store)
    path = source.store
    if not path.exists():
        raise StoreError(f"there is no history at {path}: no run was recorded there", hint=_others(path))
    return source


def named_source(config: Path | None, store: Path | None) -> Source:
    """Return the same, whether or not there is such a file."""
    named = config is not None or bool(os.environ.get(VARIABLE))
    file = find_file(config, os.environ) if named or store is None else None
    configuration = load(file) if file else None
    if store is None and configuration is not None and configuration.output.store is not None:
        store = Path(configuration.output.store)
    if store is None:
        store = default_path(configuration.cluster if configuration else UNNAMED_CLUSTER, os.environ)
    if store is None:
        raise UsageError(
            "there is no history to read: neither XDG_STATE_HOME nor HOME is set", hint="Name its file with --store."
        )
    return Source(store=store, configuration=configuration, config=file)


def _others(store: Path) -> str:
    try:
        names = sorted(path.name for path in store.parent.glob("*.db"))
    except OSError:
        names = []
    if not names:
        return "Name another file with --store, or the cluster's configuration with --config."
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"Name another one with --store; beside it: {', '.join(names[:_NAMES_SHOWN])}{more}."
