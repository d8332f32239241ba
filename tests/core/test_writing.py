"""The configuration that is written: it loads, its comments are true, and nothing escapes from them."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from replcheck.config import load
from replcheck.config.model import Configuration, NodeName
from replcheck.config.writing import Draft, DraftNode, is_name, rendered, write_new
from replcheck.errors import UsageError

NODES = (DraftNode(name="db1", dsn="host=db1"), DraftNode(name="db.2", dsn="host=db2", zone='rack "b"'))
DRAFT = Draft(cluster="clinic", connect="user=a", nodes=NODES)
COMMENTED_KEY = re.compile(r"^# (?=[a-z_.]+ = )", re.MULTILINE)


def loaded(text: str, folder: Path) -> Configuration:
    path = folder / "replcheck.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def leaves(section: BaseModel, prefix: str = "") -> dict[str, object]:
    """Return every key of a section with its value, by its path."""
    found: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {f"{prefix}{name}": value}
    return found


def test_what_was_found_is_what_is_loaded(tmp_path):
    configuration = loaded(rendered(DRAFT), tmp_path)
    assert (configuration.cluster, configuration.connect) == ("clinic", "user=a")
    assert {name: (node.dsn, node.zone) for name, node in configuration.nodes.items()} == {
        "db1": ("host=db1", None),
        "db.2": ("host=db2", 'rack "b"'),
    }


def test_every_key_of_an_audit_is_there_once_with_its_default(tmp_path):
    configuration = loaded(rendered(DRAFT), tmp_path)
    with_all = loaded(COMMENTED_KEY.sub("", rendered(DRAFT)), tmp_path)
    for section in ("audit", "output"):
        defaults, shown = leaves(getattr(configuration, section)), leaves(getattr(with_all, section))
        assert {key: value for key, value in defaults.items() if value is not None} == {
            key: value for key, value in shown.items() if defaults[key] is not None
        }
        assert None not in shown.values()
        for key in defaults:
            assert len(re.findall(rf"^# {re.escape(key)} = ", rendered(DRAFT), re.MULTILINE)) == 1


def test_every_key_stands_under_an_explanation():
    lines = rendered(DRAFT).splitlines()
    explained = [lines[at - 1] for at, line in enumerate(lines) if COMMENTED_KEY.match(line)]
    assert all(line.startswith("# ") and not COMMENTED_KEY.match(line) for line in explained)


def test_no_line_is_too_wide_to_read():
    assert all(len(line) <= 102 for line in rendered(DRAFT).splitlines())


def test_a_node_without_an_address_can_be_completed_by_taking_the_signs_away(tmp_path):
    lost = DraftNode(name="db3", dsn=f"host=HOST {'x' * 150}", notes=("Not found.",), complete=False)
    text = rendered(Draft(cluster="clinic", connect="", nodes=(*NODES, lost)))
    assert "db3" not in tomllib.loads(text)["nodes"]
    completed = text.replace("# [nodes.db3]", "[nodes.db3]").replace("# dsn = ", "dsn = ")
    assert loaded(completed, tmp_path).nodes["db3"].dsn == lost.dsn


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_whatever_was_observed_the_file_says_what_was_meant(zone, dsn, notes):
    lost = DraftNode(name="db3", dsn=dsn, notes=tuple(notes), complete=False)
    node = DraftNode(name="db1", dsn=dsn, zone=zone, notes=tuple(notes))
    draft = Draft(cluster="clinic", connect=dsn, nodes=(node, lost), notes=tuple(notes), node_notes=tuple(notes))
    tree = tomllib.loads(rendered(draft))
    assert tree == {
        "config_version": 1,
        "cluster": "clinic",
        "connect": dsn,
        "nodes": {"db1": {"dsn": dsn, "zone": zone}},
        "audit": {},
        "output": {},
    }


@given(st.text("ab1._-/ \n", max_size=70))
def test_a_name_is_what_the_configuration_takes_for_one(text):
    assert is_name(text) == _is_taken(text)


def _is_taken(name: str) -> bool:
    try:
        TypeAdapter(NodeName).validate_python(name)
    except ValidationError:
        return False
    return True


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "replcheck.toml"

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="no space left"):
        write_new(path, "text", replace=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_into_being_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "replcheck.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        write_new(path, "text", replace=False)
    assert path.read_text() == "mine"
    write_new(path, "text", replace=True)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("text", [path])
