"""The house: imports go downward only, each library has one home, and help is quick."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "replcheck"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"psycopg", "sqlalchemy", "textual", "rich", "sqlglot", "asyncio", "replcheck.lab.cluster"}
HOMES = {
    "psycopg": {"postgres"},
    "typer": {"cli"},
    "rich": {"cli", "report", "tui"},
    "textual": {"tui"},
    "sqlalchemy": {"store"},
    "pydantic": {"config"},
    "tomlkit": {"config"},
    "prometheus_client": {"report"},
    "subprocess": {"postgres"},
    "sqlglot": {"postgres"},
    "securesystemslib": {"evidence"},
    "cryptography": {"evidence"},
}


@cache
def imports_of(path: Path) -> set[str]:
    """Return the top-level packages a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_import_contracts_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    strays = [
        str(path.relative_to(SOURCE))
        for path in MODULES
        if library in imports_of(path) and path.relative_to(SOURCE).parts[0] not in HOMES[library]
    ]
    assert strays == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *(
            [command, "--help"]
            for command in ("audit", "doctor", "drill", "evidence", "history", "report", "seal", "watch", "lab")
        ),
    ],
)
def test_help_loads_nothing_heavy(arguments):
    # Typer itself needs pydantic to show the choices of a command's options.
    heavy = HEAVY | ({"pydantic"} if len(arguments) == 1 else set())
    code = (
        "import sys; from replcheck.cli.main import main; status = main(sys.argv[1:]);"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE.parent), "PATH": "/usr/bin"},
        check=True,
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "--primary", "host=/nonexistent", "--replica", "host=/nonexistent", "--no-store"],
        ["seal", "--primary", "host=/nonexistent", "--no-store"],
    ],
    ids=["audit", "seal"],
)
def test_the_model_of_the_configuration_is_loaded_with_a_file_only(arguments):
    code = (
        "import sys; from replcheck.cli.main import main; main(sys.argv[1:]);"
        "print(*sorted({'replcheck.config', 'replcheck.config.model', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": str(SOURCE.parent), "PATH": "/usr/bin"},
        check=True,
    )
    assert done.stdout == "psycopg replcheck.config\n"


def test_every_module_can_be_imported():
    # Commands load their own late: no start of the program shows that one of them is broken.
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in MODULES]
    script = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    wanted = [name for name in names if not name.endswith("__main__")]
    ended = subprocess.run([sys.executable, "-c", script, *wanted], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_module_says_what_it_is_for():
    assert [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_the_pins_name_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({line.partition("==")[0].lower() for line in lines})
    assert [line for line in lines if line.count("==") != 1 or "/" in line or "@" in line] == []


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[ >;=]", name)[0].lower() for name in wanted}
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names - pinned == set()
