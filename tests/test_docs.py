"""What the README promises exists, and what exists is in the README."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from replcheck.cli.app import app
from replcheck.cli.options import ReportForm
from replcheck.config import load
from replcheck.config.model import (
    BaseBackup,
    CommandBackup,
    Configuration,
    Drill,
    DumpBackup,
    PgBackRestBackup,
    Scratch,
    Seal,
    SnapshotBackup,
)
from replcheck.model.control import ControlName, Standing
from replcheck.model.doctor import CheckState
from replcheck.model.drill import BackupKind, DrillVerdict, LayerName
from replcheck.model.live import EventKind, NodeState
from replcheck.model.outcome import Outcome, Verdict
from replcheck.report.doctor import doctor_schema
from replcheck.report.document import audit_schema
from replcheck.report.evidence_document import WORDS
from replcheck.report.plan_document import plan_schema
from replcheck.report.published import schema_text
from replcheck.report.requirements import REQUIREMENTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def section(title: str) -> str:
    """Return a section of the README by its heading."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert match, f"README has no section {title!r}"
    return match[1]


def keys_of(section_type: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of the configuration by its path; a name of the user's own is `*`."""
    for name, field in section_type.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        below = [part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)]
        if below:
            named = getattr(field.annotation, "__origin__", None) is dict
            yield from keys_of(below[0], f"{path}.*." if named else f"{path}.")
        else:
            yield path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command):
    assert f"`replcheck {command}" in README


@pytest.mark.parametrize("parameter", COMMANDS["audit"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_audit_is_documented(parameter):
    for option in [*parameter.opts, *parameter.secondary_opts]:
        assert not option.startswith("--") or option == "--help" or f"`{option}" in section("Using it")


def test_the_doctor_takes_no_option_that_audit_does_not_have():
    options = {name: {word for parameter in COMMANDS[name].params for word in parameter.opts} for name in COMMANDS}
    assert options["doctor"] <= options["audit"]


@pytest.mark.parametrize("state", CheckState)
def test_every_state_of_a_check_is_documented(state):
    assert state is CheckState.OK or f"`{state.value}`" in section("Before the first audit")


@pytest.mark.parametrize("key", doctor_schema()["$defs"]["check"]["properties"])
def test_every_key_of_a_check_is_documented(key):
    assert f"`{key}`" in section("JSON")


@pytest.mark.parametrize("outcome", Outcome)
def test_every_exit_status_is_documented(outcome):
    verdict = next(verdict for verdict in Verdict if verdict.outcome is outcome)
    assert re.search(
        rf"\| {int(outcome.exit_status)} +\| `{outcome.value}` +\| `{verdict.value}`", section("Exit statuses")
    )


@pytest.mark.parametrize(
    "key",
    [key for key in keys_of(Configuration) if key.startswith(("audit.", "output.", "watch.", "history.", "c", "n"))],
)
def test_every_configuration_key_of_an_audit_is_documented(key):
    assert f"`{key}`" in section("Configuration")


@pytest.mark.parametrize("key", [key for key in keys_of(Configuration) if key.startswith("watch.")])
def test_every_configuration_key_of_a_watch_is_documented(key):
    assert f"`{key}`" in section("Configuration")


@pytest.mark.parametrize("word", [word.value for kind in (NodeState, EventKind) for word in kind])
def test_every_state_and_event_of_a_watch_is_documented(word):
    assert f"`{word}`" in section("What a watch sees, and what it cannot")


@pytest.mark.parametrize("name", ["policy", "waivers"])
def test_the_sections_of_other_commands_are_named(name):
    assert f"`[{name}" in section("Configuration")


@pytest.mark.parametrize(
    "key", [key for key in keys_of(Configuration) if key.startswith(("policy.", "waivers.")) and ".claim" not in key]
)
def test_every_key_of_a_policy_is_documented(key):
    assert f"`{key}`" in section("Compliance checks")


@pytest.mark.parametrize("name", ControlName)
def test_every_control_is_documented(name):
    assert f"| `{name.value}` |" in section("Compliance checks")


@pytest.mark.parametrize("standing", Standing)
def test_every_standing_of_a_control_is_documented(standing):
    status = "-" if standing.outcome is None else int(standing.outcome.exit_status)
    assert f"| {status} | `{standing.value}` |" in section("Compliance checks")


@pytest.mark.parametrize("parameter", COMMANDS["check"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_check_is_documented(parameter):
    for option in parameter.opts:
        assert not option.startswith("--") or option == "--help" or f"`{option}" in section("Compliance checks")


@pytest.mark.parametrize("key", json.loads(schema_text("check"))["properties"])
def test_every_json_key_of_a_check_is_documented(key):
    assert f"`{key}`" in section("JSON").partition("`replcheck check --format json`")[2]


@pytest.mark.parametrize("path", sorted(ROOT.glob("sample_configs/*check*")), ids=lambda path: path.name)
def test_the_samples_for_cron_and_systemd_are_named_and_give_options_that_exist(path):
    assert path.name in README
    options = {word for parameter in COMMANDS["check"].params for word in parameter.opts}
    commands = re.findall(r"replcheck check (.*)", path.read_text(encoding="utf-8"))
    assert set(re.findall(r"--[a-z-]+", " ".join(commands))) <= options


BACKUPS = (BaseBackup, SnapshotBackup, DumpBackup, PgBackRestBackup, CommandBackup)


@pytest.mark.parametrize("key", sorted({key for kind in BACKUPS for key in kind.model_fields}))
def test_every_key_of_a_backup_is_documented(key):
    assert f"`backups.*.{key}`" in section("Configuration")


@pytest.mark.parametrize(
    "key",
    [
        *(f"drill.{key}" for key in Drill.model_fields),
        *(f"drill.scratch.{key}" for key in Scratch.model_fields),
        *(f"seal.{key}" for key in Seal.model_fields),
    ],
)
def test_every_key_of_trial_restores_is_documented(key):
    assert f"`{key}`" in section("Configuration")


@pytest.mark.parametrize("parameter", COMMANDS["drill"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_drill_is_documented(parameter):
    for option in parameter.opts:
        assert not option.startswith("--") or option == "--help" or f"`{option}" in section("Trial restores")


@pytest.mark.parametrize("form", ReportForm)
def test_every_form_of_a_report_is_documented(form):
    assert f"| `{form.value}` |" in section("Reports")


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.reference)
def test_every_requirement_that_a_report_maps_is_documented(requirement):
    assert requirement.reference.removeprefix("164.308(a)(7)(ii)") in section("Reports")


def test_what_the_readme_shows_of_reports_is_there():
    for name in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / name).stat().st_size > 1000


@pytest.mark.parametrize("parameter", COMMANDS["seal"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_seal_is_documented(parameter):
    options = section("Trial restores").partition("### Sealing")[2].partition("###")[0]
    for option in [*parameter.opts, *parameter.secondary_opts]:
        assert not option.startswith("--") or option == "--help" or f"`{option}" in options


@pytest.mark.parametrize("command", COMMANDS["evidence"].commands)
def test_every_option_of_evidence_is_documented(command):
    words = README.partition("## Evidence")[2].partition("\n## ")[0]
    assert f"`replcheck evidence {command}" in words or f"replcheck evidence {command} " in words
    for parameter in COMMANDS["evidence"].commands[command].params:
        for option in parameter.opts:
            assert not option.startswith("--") or option in {"--help", "--format", "--show"} or option in words


@pytest.mark.parametrize("outcome", WORDS)
def test_every_verdict_on_evidence_is_documented(outcome):
    if outcome is not Outcome.UNCHECKED:
        assert f"| {int(outcome.exit_status)} | `{WORDS[outcome]}` |" in section("Evidence")


@pytest.mark.parametrize("parameter", COMMANDS["watch"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_watch_is_documented(parameter):
    for option in [*parameter.opts, *parameter.secondary_opts]:
        assert not option.startswith("--") or option == "--help" or f"`{option}" in section("Watching")


@pytest.mark.parametrize("verdict", DrillVerdict)
def test_every_verdict_of_a_drill_is_documented(verdict):
    status = int(verdict.outcome.exit_status)
    assert f"| {status} | `{verdict.value}` |" in section("Trial restores")


@pytest.mark.parametrize("layer", LayerName)
def test_every_layer_of_proof_is_documented(layer):
    assert f"| `{layer.name.lower()}` |" in section("Trial restores")


@pytest.mark.parametrize("kind", BackupKind)
def test_every_kind_of_backup_is_documented(kind):
    assert f"| `{kind.value}` |" in section("Trial restores")


@pytest.mark.parametrize("key", json.loads(schema_text("drill"))["properties"])
def test_every_json_key_of_a_drill_is_documented(key):
    assert f"`{key}`" in section("JSON").partition("`replcheck drill --format json`")[2]


@pytest.mark.parametrize("key", audit_schema()["properties"])
def test_every_json_key_is_documented(key):
    assert f"`{key}`" in section("JSON")


@pytest.mark.parametrize("key", plan_schema()["properties"])
def test_every_json_key_of_a_plan_is_documented(key):
    assert f"`{key}`" in section("JSON").partition("With `--plan`")[2]


@pytest.mark.parametrize("parameter", COMMANDS["init"].params, ids=lambda parameter: parameter.name)
def test_every_option_of_init_is_documented(parameter):
    [option] = [word for word in parameter.opts if word.startswith("--")]
    assert re.search(rf"`?{option}\b", section("Configuration"))


def test_the_configuration_in_the_readme_loads(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        path = tmp_path / "replcheck.toml"
        path.write_text(block, encoding="utf-8")
        load(path)


def test_every_make_target_is_explained():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "test-all", "check", "soak", "bench", "picture", "sample", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in README


def test_no_document_holds_a_download_address():
    texts = [README, (ROOT / "CHANGELOG.md").read_text(), (ROOT / "Makefile").read_text()]
    assert not [text for text in texts if re.search(r"https?://", text)]


def test_the_changelog_has_something_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- (.+?)(?=^- |^#|\Z)", text.partition("## Unreleased")[2], re.MULTILINE | re.DOTALL)
    assert entries
    assert [entry for entry in entries if not entry.strip().endswith(".")] == []
