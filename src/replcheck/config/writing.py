"""Writes a first configuration: what was found out as keys, every other key of an audit as a comment with its default.

The text of each comment is the description of the key in `model`. Nothing here knows a secret: connection strings come
in without.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

import tomlkit
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from tomlkit.items import Table

from replcheck.config.model import NAME_PATTERN, Audit, Configuration, Node, Output
from replcheck.errors import UsageError
from replcheck.model.names import printable
from replcheck.model.units import parse_duration, parse_size

_WIDTH = 100
_NO_SECRETS = (
    "No secrets here: passwords belong in the password file (~/.pgpass, or the one that passfile= or PGPASSFILE"
    " names), in a service file or in PGPASSWORD."
)
_HOW_TO = "A key in a comment shows its default, or an example where there is none; take the # away to set it."
_NODES = "A primary and its replicas. Roles are observed: a failover needs no edit here."


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftNode:
    """A node to be written."""

    name: str
    dsn: str
    """What it needs beside `connect`, without secrets."""
    zone: str | None = None
    notes: tuple[str, ...] = ()
    """What was observed of it."""
    complete: bool = True
    """False where its address is not known: it is written as a comment, for people to complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A configuration to be written."""

    cluster: str
    connect: str
    nodes: tuple[DraftNode, ...]
    notes: tuple[str, ...] = ()
    """What the reader should know, first of all what was left out."""
    node_notes: tuple[str, ...] = ()
    """What was observed of the cluster and is no node."""


def is_name(text: str) -> bool:
    """Return whether a text can name a node or a cluster.

    >>> is_name("db1"), is_name("18/main"), is_name("")
    (True, False, False)
    """
    return re.fullmatch(NAME_PATTERN, text) is not None


def rendered(draft: Draft) -> str:
    """Return the file's text."""
    document = tomlkit.document()
    for note in (f"The cluster {draft.cluster}, as `replcheck init` found it.", _NO_SECRETS, *draft.notes, _HOW_TO):
        _remark(document, note)
    document.add("config_version", tomlkit.item(1))
    for key, value in (("cluster", draft.cluster), ("connect", draft.connect)):
        document.add(tomlkit.nl())
        _remark(document, _described(Configuration.model_fields[key]))
        document.add(key, tomlkit.item(value))
    document.add(tomlkit.nl())
    for note in (_NODES, *draft.node_notes):
        _remark(document, note)
    nodes = tomlkit.table(is_super_table=True)
    for node in draft.nodes:
        if node.complete:
            nodes.add(node.name, _node(node))
    document.add("nodes", nodes)
    text = tomlkit.dumps(document)
    incomplete = "".join(_commented_out(node) for node in draft.nodes if not node.complete)
    sections = (("audit", Audit), ("output", Output))
    return f"{text}{incomplete}" + "\n".join(_defaults(name, section) for name, section in sections)


def write_new(path: Path, text: str, *, replace: bool) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises UsageError where it cannot be written, or where there is one already and `replace` is False.
    """
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                if replace:
                    temporary.replace(path)
                else:
                    path.hardlink_to(temporary)
            finally:
                temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {(error.strerror or 'unknown error').lower()}",
            hint="Name a file in a writable folder with --output.",
        ) from error


def exists_already(path: Path) -> UsageError:
    """Return the error that keeps a file from being overwritten."""
    return UsageError(f"{path} exists already", hint="Name another file with --output, or replace it with --force.")


def _node(node: DraftNode) -> Table:
    table = tomlkit.table()
    for note in node.notes:
        _remark(table, note)
    table.add("dsn", tomlkit.item(node.dsn))
    zone = Node.model_fields["zone"]
    _remark(table, _described(zone))
    if node.zone is None:
        table.add(tomlkit.comment(_setting("zone", zone)))
    else:
        table.add("zone", tomlkit.item(node.zone))
    table.add(tomlkit.nl())
    return table


def _commented_out(node: DraftNode) -> str:
    notes = [part for note in node.notes for part in wrap(printable(note), _WIDTH)]
    lines = [*notes, f"[nodes.{tomlkit.key(node.name).as_string()}]", f"dsn = {_toml(node.dsn)}"]
    return "".join(f"# {line}\n" for line in lines) + "\n"


def _defaults(name: str, section: type[BaseModel]) -> str:
    lines = [f"[{name}]"]
    for key, field in _fields(section):
        lines += [f"# {part}" for part in wrap(_described(field), _WIDTH)]
        lines.append(f"# {_setting(key, field)}")
    return "\n".join(lines) + "\n"


def _fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        key, annotation = f"{prefix}{field.alias or name}", field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields(annotation, f"{key}.")
        else:
            yield key, field


def _described(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    known = " ".join((field.description or "").split())
    return f"{known} One of {', '.join(map(str, choices))}." if choices else known


def _setting(key: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        value = field.examples[0] if field.examples else _any_of(field)
    elif parse_duration in _validators(field):
        value = f"{value:g}s"
    elif parse_size in _validators(field):
        value = f"{value}B"
    return f"{key} = {_toml(list(value) if isinstance(value, tuple) else value)}"


def _any_of(field: FieldInfo) -> object:
    validators, types = _validators(field), {int: 1, float: 1.0, bool: True}
    if parse_duration in validators:
        return "1min"
    if parse_size in validators:
        return "1MB"
    return next((value for kind, value in types.items() if kind in get_args(field.annotation)), "...")


def _validators(field: FieldInfo) -> list[Any]:
    inner = [known for part in get_args(field.annotation) for known in getattr(part, "__metadata__", ())]
    return [known.func for known in (*field.metadata, *inner) if isinstance(known, BeforeValidator)]


def _remark(place: tomlkit.TOMLDocument | Table, text: str) -> None:
    # One line each: what a server calls itself must not end a comment.
    for line in wrap(printable(text), _WIDTH):
        place.add(tomlkit.comment(line))


def _toml(value: object) -> str:
    return tomlkit.item(value).as_string() if value != {} else "{}"
