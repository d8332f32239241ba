"""What the shell completes after Tab: names from the configuration, ids of past runs. It shows no secret, and no error.

A shell asks at every Tab, in the middle of somebody's line: what cannot be known is left out in silence.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

_RUNS_SHOWN = 20


def complete_node(context: typer.Context, incomplete: str) -> list[str]:
    """Return the configured nodes' names that begin so."""
    return _in_silence(lambda: _node_names(_given(context, "config")), incomplete)


def complete_backup(context: typer.Context, incomplete: str) -> list[str]:
    """Return the configured backups' names that begin so."""
    return _in_silence(lambda: _backup_names(_given(context, "config")), incomplete)


def complete_control(incomplete: str) -> list[str]:
    """Return the controls that begin so."""

    def names() -> Iterator[str]:
        from replcheck.model.control import ControlName

        yield from (name.value for name in ControlName)

    return _in_silence(names, incomplete)


def complete_layer(incomplete: str) -> list[str]:
    """Return the layers of proof that begin so."""

    def names() -> Iterator[str]:
        from replcheck.model.drill import LayerName

        yield from (name.name.lower() for name in LayerName)

    return _in_silence(names, incomplete)


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return `latest` and the ids of the newest runs that begin so."""
    return ["latest"] * "latest".startswith(incomplete) + _in_silence(
        lambda: _run_ids(_given(context, "config"), _given(context, "store")), incomplete
    )


def complete_schema(incomplete: str) -> list[str]:
    """Return the names of the schemas that begin so."""

    def names() -> Iterator[str]:
        from replcheck.report.published import schema_names

        yield from schema_names()

    return _in_silence(names, incomplete)


def _in_silence(names: Callable[[], Iterator[str]], incomplete: str) -> list[str]:
    with suppress(Exception):
        return [name for name in names() if name.startswith(incomplete)]
    return []


def _given(context: typer.Context, option: str) -> Path | None:
    value = context.params.get(option)
    return Path(value) if value else None


def _node_names(config: Path | None) -> Iterator[str]:
    import os

    from replcheck.config import find_file, load

    path = find_file(config, os.environ)
    if path is not None:
        yield from load(path).nodes


def _backup_names(config: Path | None) -> Iterator[str]:
    import os

    from replcheck.config import find_file, load

    path = find_file(config, os.environ)
    if path is not None:
        yield from load(path).backups


def _run_ids(config: Path | None, store: Path | None) -> Iterator[str]:
    from replcheck.cli.stored import find_source
    from replcheck.model.run import short_id
    from replcheck.store import open_reader

    reader = open_reader(find_source(config, store).store)
    for run_id in reader.ids("", limit=_RUNS_SHOWN):
        yield short_id(run_id)
