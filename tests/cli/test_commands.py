"""What stands around the commands: help, version, and the table of exit statuses."""

import inspect
import sys

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from replcheck import __version__, errors
from replcheck.audit.digest import ENCODINGS
from replcheck.cli.app import app
from replcheck.cli.exits import EXIT_STATUS_OF, exit_status_of, scrubbed, told
from replcheck.cli.main import main
from replcheck.cli.streams import is_plain_ascii
from replcheck.model.outcome import ExitStatus
from replcheck.postgres.dsn import client_library

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ReplcheckError) and kind is not errors.ReplcheckError
]


def test_the_version_stands_first_and_what_it_computes_below(capsys):
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"replcheck {__version__}"
    assert [line.partition(" ")[0] for line in lines] == ["replcheck", "encodings", "libpq", "Python"]
    assert lines[1] == f"encodings {', '.join(encoding.name for encoding in ENCODINGS.values())}"
    assert lines[2] == f"libpq {client_library()}"


def test_the_version_is_told_where_the_driver_cannot_be_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "replcheck.audit.digest", None)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"replcheck {__version__}\nlibpq not found")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["audit", "--help"]])
def test_help_is_data_and_names_the_exit_statuses(arguments, capsys):
    assert main(arguments) == 0
    streams = capsys.readouterr()
    assert "2 refuted" in streams.out
    assert streams.err == ""


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_place_in_the_table_beside_the_base(kind):
    nearest = next(parent for parent in kind.__mro__ if parent in EXIT_STATUS_OF)
    assert nearest is not errors.ReplcheckError


@pytest.mark.parametrize("kind", [*ERRORS, KeyError, KeyboardInterrupt, OSError])
def test_no_error_reads_as_a_verdict(kind):
    assert exit_status_of(kind.__new__(kind)) is ExitStatus.UNCHECKED


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["audit"], "a connection string goes behind --primary or --replica"),
        (["seal"], "a connection string goes behind --primary"),
        (["evidence", "verify"], "a file goes behind --file"),
        (["check"], "there is one too many"),
        (["drill", "nightly"], "there is one too many"),
        (["history", "show", "latest"], "there is one too many"),
    ],
)
def test_an_argument_without_its_option_is_told_where_it_belongs_and_not_repeated(command, place, capsys):
    assert main([*command, "postgresql://auditor:s3cret@db1/clinic"]) == 3
    first, hint = capsys.readouterr().err.splitlines()
    assert first == f"replcheck: error: unexpected argument: {place}"
    assert hint.startswith(f'hint: Try "replcheck {command[0]} ')


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--level", "best"), "invalid value for '--level': 'best' is not one of 'fast', 'exact', 'strong'"),
        (("--jobs", "0"), "invalid value for '--jobs': must be at least 1"),
        (("--jobs", "x"), "invalid value for '--jobs': must be a whole number"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_told_in_plain_words(words, told, capsys):
    assert main(["audit", *words]) == ExitStatus.UNCHECKED
    assert capsys.readouterr().err.splitlines()[0] == f"replcheck: error: {told}"


def test_an_error_is_told_in_one_line_and_its_hint_in_another():
    assert told("a\nb\x1b[2J", "Do\nthis.") == "replcheck: error: a b\\x1b[2J\nhint: Do this."


@pytest.mark.parametrize(
    "argument", ["host=a password=canary", "--jobs=postgresql://u:canary@h/d", "postgresql://u:canary@h/d"]
)
def test_arguments_that_may_hold_secrets_are_scrubbed(argument):
    value = argument.removeprefix("--jobs=")
    assert "canary" not in scrubbed(f"invalid value for x: '{value}'", ["audit", argument])


def test_other_arguments_are_told():
    assert scrubbed("no such command 'audti'", ["audti"]) == "no such command 'audti'"


@pytest.mark.parametrize(
    ("environment", "plain"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8"}, False),
    ],
)
def test_the_locale_decides_about_ascii(environment, plain):
    assert is_plain_ascii(environment) is plain


@pytest.mark.parametrize("name", ["primary", "replica", "config", "jobs", "database", "table", "exclude", "catalogs"])
def test_an_option_of_nodes_and_scope_is_the_same_to_the_doctor_as_to_an_audit(name):
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    described = [
        (option.opts, option.secondary_opts, option.metavar, option.envvar, option.help)
        for command in ("audit", "doctor")
        for option in group.commands[command].params
        if option.name == name and isinstance(option, TyperOption)
    ]
    assert len(described) == 2
    assert described[0] == described[1]
