"""The screen of `replcheck watch` on a real terminal, over real servers, and what stands behind it."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from replcheck.cli.arguments import WatchArguments
from replcheck.cli.live_board import Board
from replcheck.cli.live_commands import LiveCommands
from replcheck.cli.live_feed import ReplayFeed
from replcheck.cli.watch_session import open_session
from replcheck.errors import UsageError
from replcheck.events import Event, RunFinished
from replcheck.lab.cluster import LabCluster
from replcheck.model.live import EventKind
from replcheck.report.style import Style
from replcheck.runs.live import LiveUpdate
from replcheck.runs.owed import UnderWay
from replcheck.runs.own_audits import OwnAudits
from replcheck.store import open_history, open_live_reader
from replcheck.tui.feed import (
    AuditEnded,
    AuditsTold,
    EventsTaken,
    Link,
    LinkChanged,
    OwedAudit,
    RunTold,
    Update,
    ViewTaken,
)
from replcheck.tui.state import Model, fold
from replcheck.watch.limits import WatchLimits
from tests.commands import COMMAND, environment, wait_for
from tests.core.lives import view
from tests.core.test_live import Audits, request, watch
from tests.core.watched import healthy, primary, sample, silence, standby
from tests.staged import newest_only


class Terminal:
    """What a command writes to its terminal, and what is typed there."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._descriptor = descriptor
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def shows(self, text: str) -> bool:
        """Return whether a text was written, whatever its colours and places."""
        return text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written.decode("utf-8", "replace"))

    @property
    def given_back(self) -> bool:
        """Return whether the terminal shows again what it had shown before."""
        return self._written.rfind(b"\x1b[?1049l") > self._written.rfind(b"\x1b[?1049h") > -1

    @property
    def had_a_screen(self) -> bool:
        """Return whether it was ever taken for a screen."""
        return b"\x1b[?1049h" in self._written

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._descriptor], [], [], 0.5)
            try:
                read = os.read(self._descriptor, 65536) if ready else b""
            except OSError:
                return
            self._written += read


@contextmanager
def on_terminal(*words: str, home: Path) -> Iterator[Terminal]:
    """Run a command on a terminal of 40 lines and 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home,
        env=environment(home, TERM="xterm-256color"),
        start_new_session=True,
    ) as process:
        os.close(theirs)
        terminal = Terminal(ours, process)
        try:
            yield terminal
        finally:
            process.kill()
            process.wait()
            os.close(ours)


@pytest.fixture
def home(cluster: LabCluster, tmp_path: Path) -> Path:
    nodes = "\n".join(f'{name} = {{ dsn = "{cluster.audit_dsn(name)}" }}' for name in cluster.nodes)
    (tmp_path / "replcheck.toml").write_text(
        f'cluster = "clinic"\n[nodes]\n{nodes}\n[output]\nstore = "{tmp_path / "clinic.db"}"\n'
    )
    return tmp_path


@newest_only
@pytest.mark.parametrize("leaving", ["the key q", "SIGTERM"])
def test_the_screen_shows_a_cluster_records_it_and_is_left_in_order(cluster, home, leaving) -> None:
    with on_terminal("watch", "--interval", "0.3s", home=home) as terminal:
        wait_for(lambda: terminal.shows("standby2") and terminal.shows("streaming"))
        if leaving == "SIGTERM":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.type("q")
        assert terminal.process.wait(60) == 0
        wait_for(lambda: terminal.given_back)
    kinds = [event.kind for event in open_live_reader(home / "clinic.db").events("clinic")]
    assert kinds == [EventKind.WATCH_ENDED, EventKind.WATCH_BEGAN]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--config", "none.toml"), "none.toml"),
        (("--config", "torn.toml"), "torn.toml: line 1, column 11"),
        (("--replay", "torn.jsonl"), "line 1 of recording torn.jsonl"),
        (("--replay", "none.jsonl"), "recording none.jsonl cannot be read"),
    ],
    ids=["no configuration", "one that is no TOML", "a torn recording", "no recording"],
)
def test_what_is_quick_to_see_is_told_before_any_screen(words, told, tmp_path) -> None:
    (tmp_path / "torn.jsonl").write_text("{\n")
    (tmp_path / "torn.toml").write_text("cluster = clinic\n")
    with on_terminal("watch", *words, home=tmp_path) as terminal:
        assert terminal.process.wait(60) == 3
        wait_for(lambda: terminal.shows(told))
        assert not terminal.had_a_screen


def test_without_a_cluster_there_is_no_screen(tmp_path) -> None:
    with on_terminal("watch", home=tmp_path) as terminal:
        assert terminal.process.wait(60) == 3
        wait_for(lambda: terminal.shows("no cluster to watch"))
        assert not terminal.had_a_screen


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--config", "odd.toml"), "unknown key nodse"),
        (("--scrub", "7d", "--no-store"), "a rolling audit needs a history"),
    ],
    ids=["a key that is none", "options that contradict the rest"],
)
def test_what_keeps_a_watch_from_beginning_is_told_once_the_terminal_is_given_back(words, told, tmp_path) -> None:
    nodes = 'a = { dsn = "host=a" }\nb = { dsn = "host=b" }\n'
    (tmp_path / "replcheck.toml").write_text(f'cluster = "clinic"\n[nodes]\n{nodes}')
    (tmp_path / "odd.toml").write_text(f'cluster = "clinic"\nnodse = 1\n[nodes]\n{nodes}')
    with on_terminal("watch", *words, home=tmp_path) as terminal:
        assert terminal.process.wait(60) == 3
        wait_for(lambda: terminal.given_back and terminal.shows(told))
        assert not terminal.shows("Traceback")


# --- what stands behind it ---


def test_who_subscribes_late_gets_what_is_known_first():
    board, early, late = Board(), [], []
    board.subscribe(early.append)
    board.take_live(LiveUpdate(view=view(0)))
    board.take_live(LiveUpdate(view=view(1)))
    board.subscribe(late.append)
    assert [update.view.at for update in late if isinstance(update, ViewTaken)] == [view(1).at]
    assert len([update for update in early if isinstance(update, ViewTaken)]) == 2


def test_what_a_recorder_proves_is_told_until_it_is_over():
    board, told = Board(), list[Update]()
    board.subscribe(told.append)
    owed = UnderWay(primary="db2", replicas=("db3",), began_at=view(0).at, share=0.25)
    board.take_live(LiveUpdate(view=view(0), audits=OwnAudits(owed=owed)))
    board.take_live(LiveUpdate(view=view(1)))
    audits = [update.owed for update in told if isinstance(update, AuditsTold)]
    assert audits == [OwedAudit(primary="db2", replicas=("db3",), began_at=view(0).at, share=0.25), None]


def commands(tmp_path, audits):
    """Return commands over a fake auditor, and what they tell."""
    board, told = Board(), list[Update]()
    board.subscribe(told.append)
    made = LiveCommands(request(), None, tmp_path / "clinic.db", board)
    made._bench = type(made._bench)(
        request=made._bench.request,
        store=made._bench.store,
        tell=board.note,
        sinks=[board.audit_event],
        auditor=audits,
        ended=board.audit_over,
    )
    return made, told


def wait_told(told: list[Update], wanted: Callable[[Update], bool]) -> None:
    wait_for(lambda: any(wanted(update) for update in told))


def event_of(update: Update) -> Event | None:
    return update.event if isinstance(update, RunTold) else None


def test_an_audit_is_offered_where_there_are_copies_and_its_end_is_told(tmp_path):
    audits = Audits()
    made, told = commands(tmp_path, audits)
    assert made.offers().audit is None
    with pytest.raises(UsageError, match="no primary with a streaming replica"):
        made.start_audit()
    made.take(LiveUpdate(view=view(0)))
    offer = made.offers().audit
    assert offer is not None
    assert offer.sentence == "Every row of db2, db3 is compared with db1."
    made.start_audit()
    wait_told(told, lambda update: isinstance(update, AuditEnded) and update.result is not None)
    wait_told(told, lambda update: isinstance(event_of(update), RunFinished))
    assert audits.asked == [["db1", "db2", "db3"]]
    with pytest.raises(UsageError, match="no audit is running here"):
        made.pause()
    [run] = open_history(tmp_path / "clinic.db").runs()
    console = Console(width=100, record=True, file=io.StringIO())
    made.print_report(run.run_id, console, Style())
    assert "consistent" in console.export_text()


def test_a_drill_is_refused_where_no_backup_is_configured(tmp_path):
    made, _ = commands(tmp_path, Audits())
    assert made.offers().why_no_drill == "no backup is configured"
    with pytest.raises(UsageError, match="no drill is running here"):
        made.cancel_drill()


def test_a_recording_is_shown_at_its_pace_and_ends(tmp_path):
    path = tmp_path / "r.jsonl"
    gone = [sample(at, primary(at), standby(at), silence(at, "db3")) for at in (2, 3, 4)]
    watch(None, healthy(0), healthy(1), *gone, healthy(100), recording=path)
    board, told, slept = Board(), list[Update](), list[float]()
    board.subscribe(told.append)
    ReplayFeed(path=path, limits=WatchLimits(), board=board, sleep=slept.append).start()
    wait_told(told, lambda update: isinstance(update, LinkChanged) and update.link is Link.ENDED)
    assert [round(seconds) for seconds in slept] == [1, 1, 1, 1, 5]
    links = [update.link for update in told if isinstance(update, LinkChanged)]
    assert links == [Link.REPLAY, Link.ENDED]
    kinds = {event.kind for update in told if isinstance(update, EventsTaken) for event in update.events}
    assert {EventKind.STANDBY_LOST, EventKind.WATCH_GAP} <= kinds


def test_the_present_of_a_recording_is_when_it_was_made_and_it_knows_of_no_proofs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPLCHECK_CONFIG", raising=False)
    path = tmp_path / "r.jsonl"
    watch(None, healthy(0), recording=path)
    board, told = Board(), list[Update]()
    board.subscribe(told.append)
    session = open_session(watch_arguments(replay=path, config=None), board)
    wait_told(told, lambda update: isinstance(update, LinkChanged) and update.link is Link.ENDED)
    session.close()
    model = fold(Model(), told)
    assert model.view is not None
    assert model.at == model.view.at
    assert (model.proven_copies, model.introduced is not None) == (None, True)


def watch_arguments(**changes) -> WatchArguments:
    nothing: dict[str, Any] = dict.fromkeys(("primary", "config", "interval", "replay", "record", "scrub", "audits"))
    rest: dict[str, Any] = {
        "replicas": (),
        "headless": False,
        "plain": False,
        "events": None,
        "store": None,
        "no_store": False,
    }
    return WatchArguments(**(nothing | rest | changes))


def test_a_recording_that_breaks_off_says_where(tmp_path):
    path = tmp_path / "r.jsonl"
    watch(None, healthy(0), recording=path)
    path.write_text(path.read_text() + "{}\n")
    board, told = Board(), list[Update]()
    board.subscribe(told.append)
    ReplayFeed(path=path, limits=WatchLimits(), board=board, sleep=lambda _: None).start()
    wait_told(told, lambda update: isinstance(update, LinkChanged) and "line 3 of recording" in update.what)
