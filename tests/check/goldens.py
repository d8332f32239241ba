"""Reports of checks of real servers beside the agreed ones, without what differs from run to run.

Limits stay as they are, wherever a sentence names one: an agreed report has to say what was promised.
UPDATE_GOLDENS=1 writes them anew.
"""

import json
import os
import re
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from tests.check.clinic import Clinic

DATA = Path(__file__).parents[1] / "data"
_NOT_OF_A_LIMIT = "".join(
    rf"(?<!{words} )" for words in ("limit", "within", "every", "at most", "over", "the last", "more than")
)
_MEASURED = rf"{_NOT_OF_A_LIMIT}(?<![\d.])\d+(?:\.\d+)?"
_WORDS = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?", "RUN"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (rf"{_MEASURED}(?:ms|s|min|h|d)(?: \d+(?:ms|s|min|h))?\b", "SPAN"),
    (rf"{_MEASURED}(?:kB|MB)", "SIZE"),
    (rf"{_MEASURED}%(?! of the time)", "PERCENT"),
    (r'/[^\s"]+/sockets(?::\d+)?', "SOCKET"),
    (r"\b[0-9A-F]{24}\b", "FILE"),
    (r"\b[0-9A-F]+/[0-9A-F]{5,8}\b", "LSN"),
    (r" \((?:SPAN \w+(?:, )?)+\)", ""),  # what of a window was short, unproven or unwatched: nothing, mostly
    (r"\d[\d,]* records", "N records"),
    (r"\d[\d,]* signed", "N signed"),
)
_COUNTED = ("records",)
"""Measures of how much evidence there is: it grows with every check."""
_SEEN = frozenset(
    (
        "answered_at",
        "apply_delay_s",
        "archived",
        "age_s",
        "conflicts",
        "elapsed_s",
        "failed",
        "key_id",
        "lag_bytes",
        "lag_s",
        "last_archived",
        "last_archived_at",
        "last_failed",
        "last_failed_at",
        "lsn",
        "received_lsn",
        "retained_bytes",
        "sequence",
        "server_version_num",
        "started_at",
        "system_identifier",
        "tool_version",
        "wal_status",
    )
)
"""Keys of what was seen of these very servers at that very moment, be it nothing."""


def plain(text: str) -> str:
    """Return a report without what differs from run to run."""
    for pattern, word in _WORDS:
        text = re.sub(pattern, word, text)
    return text


def plain_json(text: str) -> str:
    return plain(json.dumps(_without_moment(json.loads(text)), indent=2) + "\n")


def plain_junit(text: str) -> str:
    text = re.sub(r' time="[\d.]+"', ' time="SECONDS"', text)
    return plain(re.sub(r'(name="tool_version" value=)"[^"]+"', r'\1"VERSION"', text))


def plain_plugin(text: str) -> str:
    return plain(re.sub(r"\b(evidence_records)=\d+", r"\1=N", text))


def plain_metrics(text: str) -> str:
    """Return OpenMetrics whose measured times and shares are words; limits, counts and states stay."""
    measured = r"(?m)^(replcheck_(?:check_\w+|look_time|control_measure)_(?:seconds|ratio)(?:\{.*\})?) \S+$"
    text = re.sub(measured, r"\1 VALUE", text)
    counted = rf'(?m)^(replcheck_control_measure\{{.*measure="(?:{"|".join(_COUNTED)})".*\}}) \S+$'
    return plain(re.sub(counted, r"\1 VALUE", text))


def golden(name: str, text: str, suffix: str = "txt") -> None:
    path = DATA / f"check-real-{name}.{suffix}"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    agreed = path.read_text(encoding="utf-8")
    assert text == agreed, "".join(unified_diff(agreed.splitlines(True), text.splitlines(True), path.name, "found"))


def every_golden(name: str, place: Clinic, metrics: Path, *, status: int, people: Sequence[str] = ()) -> None:
    """Check in every format, and compare each with the agreed one; all end with the same status.

    `people` are options of the report for people, of which nothing is said where all is well.
    """
    text, machines, junit, plugin = (
        place.run("check", *words)
        for words in (
            people,
            ("--format", "json", "--metrics", str(metrics)),
            ("--format", "junit"),
            ("--format", "nagios"),
        )
    )
    for ended in (text, machines, junit, plugin):
        assert (ended.status, ended.err) == (status, ""), ended
    golden(name, plain(text.out))
    golden(name, plain_json(machines.out), "json")
    golden(name, plain_junit(junit.out), "xml")
    golden(name, plain_plugin(plugin.out), "plugin.txt")
    golden(name, plain_metrics(metrics.read_text(encoding="utf-8")), "prom")


def _without_moment(held: Any) -> Any:
    if isinstance(held, list):
        return [_without_moment(each) for each in held]
    if not isinstance(held, dict):
        return held
    changed = {key: "SEEN" if key in _SEEN else _without_moment(each) for key, each in held.items()}
    if held.get("value") is not None and (held["unit"] in ("seconds", "percent") or held["name"] in _COUNTED):
        changed["value"] = "VALUE"
    return changed
