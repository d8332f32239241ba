"""`--where`, `--cross-check`, `--pause-if` on the command line: what is wrong is one line, before anything connects."""

from pathlib import Path

import pytest

from replcheck.config import load
from replcheck.errors import UsageError
from replcheck.runs.request import AuditFlags, audit_request
from tests.commands import assert_one_line, run_command, run_here

NODES = ("--primary", "host=/nonexistent", "--replica", "host=/nonexistent/2")
CANARY = "zqcanary"
FILE = """
cluster = "clinic"
nodes = { a = { dsn = "host=a" }, b = { dsn = "host=b" } }
[audit]
cross_check = "5%"
[audit.where]
"clinic.public.visits" = "clinic_id = 7"
"""


@pytest.mark.parametrize("share", ["0%", "101%", "5", "-1%", "0.0%", "x%", "1e1%", "%", "5 percent"])
def test_a_share_is_a_percentage(
    share: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = run_here("audit", *NODES, f"--cross-check={share}", home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert "--cross-check must be a percentage such as 5%" in assert_one_line(ended)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("nonsense", '--pause-if "nonsense" names no limit'),
        ("lag", '--pause-if "lag" names no limit'),
        ("lag=64", "--pause-if lag has no usable value"),
        ("active_clients=some", "--pause-if active_clients must be a number"),
        ("active_clients=0", "--pause-if active_clients has no usable value"),
        ("xmin_age=1.5", "--pause-if xmin_age has no usable value"),
        ("checkpoints_requested=inf", "--pause-if checkpoints_requested has no usable value"),
    ],
)
def test_a_limit_that_could_never_hold_or_is_none_is_refused_in_one_line(
    limit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = run_here("audit", *NODES, "--pause-if", limit, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert assert_one_line(ended).splitlines()[0] == f"replcheck: error: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("public.visits: pg_sleep(1) is null", "calls pg_sleep"),
        ("public.visits: id = 1; drop table visits", "ends the statement"),
        ("public.visits: exists (select from patient)", "reads other rows"),
        ("clinic_id = 7", "names relations by a pattern"),
    ],
)
def test_a_filter_is_refused_before_anything_connects(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = run_here("audit", *NODES, "--where", text, home=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    told = assert_one_line(ended)
    assert said in told
    assert "does not answer" not in told
    assert not list(tmp_path.iterdir())


def test_what_the_parser_logs_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """In a process of its own: the logging of this one is the test runner's."""
    text = f"public.visits: alter table visits foo '{CANARY}'"
    ended = run_command("audit", *NODES, "--where", text, "--debug", home=tmp_path)
    assert ended.status == 3
    assert CANARY not in ended.out + ended.err


def test_a_configuration_holds_filters_and_a_share_which_flags_replace(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(FILE, encoding="utf-8")
    configuration = load(path)
    asked = audit_request(AuditFlags(), configuration)
    assert [found.pattern for found in asked.options.filters] == ["clinic.public.visits"]
    assert asked.options.cross_check == 0.05
    given = audit_request(AuditFlags(where=("visits: clinic_id = 8",), cross_check=1.0), configuration)
    assert [found.pattern for found in given.options.filters] == ["visits"]
    assert given.options.cross_check == 1.0
    other = audit_request(AuditFlags(where=("visits: clinic_id = 9",), cross_check=1.0), configuration)
    assert len({request.argument_digest for request in (asked, given, other)}) == 3
    same = audit_request(AuditFlags(where=("visits:  clinic_id=9",), cross_check=1.0), configuration)
    assert same.argument_digest == other.argument_digest
    assert "clinic_id" not in repr(other)
    assert "clinic_id" not in repr(AuditFlags(where=("visits: clinic_id = 9",)))


def test_a_filter_in_a_file_is_told_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(FILE.replace("clinic_id = 7", f"f('{CANARY}') = 1"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"audit\.where: the filter of clinic\.public\.visits is refused: it calls f,"):
        audit_request(AuditFlags(), load(path))
