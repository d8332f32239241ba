"""What `replcheck watch` refuses, in one line and before anything connects."""

import sqlite3
from contextlib import closing

import pytest

from tests.commands import assert_one_line, run_here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--headless", "--plain"), "--headless and --plain were given"),
        (("--headless", "--replay", "x"), "--headless and --replay were given"),
        (("--record", "x", "--replay", "y"), "--record and --replay were given"),
        (("--store", "x", "--no-store"), "--store and --no-store were given"),
        (("--interval", "1"), "--interval must be a duration"),
        (("--interval", "1h"), "--interval must be between 0.1s and 60s"),
        (("--scrub", "1s"), "--scrub must be at least 60s"),
        (("--scrub", "7d", "--no-store"), "a rolling audit needs a history"),
        (("--replay", "none.jsonl"), "recording none.jsonl cannot be read"),
        (("--store", "/proc/x/y.db", "--headless"), "cannot open history /proc/x/y.db"),
        (("--primary", "db9"), "--primary was given without --replica"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(words, message, tmp_path, monkeypatch, capfd) -> None:
    (tmp_path / "replcheck.toml").write_text(
        'cluster = "clinic"\n[nodes]\na = { dsn = "host=/nowhere" }\nb = { dsn = "host=/nowhere" }\n'
    )
    assert message in assert_one_line(run_here("watch", *words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd))


def test_a_history_of_a_newer_version_is_refused(tmp_path, monkeypatch, capfd) -> None:
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        connection.execute("CREATE TABLE replcheck_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute("INSERT INTO replcheck_meta VALUES ('schema_version', '99')")
        connection.commit()
    nodes = ("--primary", "host=/nowhere", "--replica", "host=/nowhere port=5433")
    words = ("watch", "--headless", *nodes, "--store", str(tmp_path / "new.db"))
    message = assert_one_line(run_here(*words, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd))
    assert "has schema version 99" in message


def test_without_a_cluster_it_says_how_to_name_one(tmp_path, monkeypatch, capfd) -> None:
    assert "no cluster" in assert_one_line(run_here("watch", home=tmp_path, monkeypatch=monkeypatch, capfd=capfd))
