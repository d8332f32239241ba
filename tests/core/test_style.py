"""What people copy out of a report is whole: no path, digest or command is broken at the terminal's edge."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from replcheck.report.style import fields, line, step

PATH = "/var/lib/replcheck/" + "a-long-name/" * 9 + "x.seal.json"


def drawn(print_it, width: int = 80) -> list[str]:
    page = io.StringIO()
    print_it(Console(file=page, width=width, highlight=False, no_color=True))
    return page.getvalue().splitlines()


def test_a_long_path_stays_whole_and_the_rest_wraps():
    lines = drawn(lambda console: line(console, f"it lay in {PATH} and was removed"))
    assert lines == ["  it lay in", f"  {PATH}", "  and was removed"]


def test_fields_wrap_beside_their_names():
    rows: list[tuple[str, str | Text]] = [("kept in", PATH), ("SHA-256", "ab" * 32), ("verdict", Text("word " * 20))]
    lines = drawn(lambda console: fields(console, rows))
    assert lines[:2] == [f"  kept in  {PATH}", f"  SHA-256  {'ab' * 32}"]
    assert lines[2].startswith("  verdict  word")
    assert all(len(one) <= 80 and one.startswith(" " * 11) for one in lines[3:])


@pytest.mark.parametrize(
    "command",
    ["SELECT pg_switch_wal();", "--from base:/x", "replcheck drill --target seal:latest"],
)
def test_a_command_at_the_end_of_a_step_gets_a_line_of_its_own(command: str):
    lines = drawn(lambda console: step(console, 1, f"Do this on the primary, as somebody who may: {command}"))
    assert lines == ["  1. Do this on the primary, as somebody who may:", f"     {command}"]


def test_a_step_without_a_command_is_prose():
    assert drawn(lambda console: step(console, 2, "Choose: it is Yours.")) == ["  2. Choose: it is Yours."]


@given(st.lists(st.text("ab/", min_size=1, max_size=40), min_size=1, max_size=30), st.integers(20, 60))
def test_no_word_is_lost_or_broken(words: list[str], width: int):
    lines = drawn(lambda console: line(console, " ".join(words), indent=0), width)
    assert " ".join(lines).split() == words
    assert all(len(one) <= width or " " not in one for one in lines)
