"""The screen starts with what its first picture needs, and all else is loaded behind it."""

import subprocess
import sys

import pytest

HEAVY = ("psycopg", "sqlalchemy", "pydantic", "sqlglot", "replcheck.events", "replcheck.report")
LIGHT = "replcheck.runs.ending"
"""Of all runs, what every command begins with."""


@pytest.mark.parametrize("module", ["replcheck.tui.app", "replcheck.cli.watch_start", "replcheck.cli.watch_screen"])
def test_the_first_picture_loads_nothing_that_it_does_not_show(module):
    runs = f"{{name for name in sys.modules if name.startswith('replcheck.runs.')}} - {{{LIGHT!r}}}"
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules) | {runs}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_lines_are_watched_without_the_library_of_the_screen():
    code = "import sys, replcheck.cli.watch_run; print('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
