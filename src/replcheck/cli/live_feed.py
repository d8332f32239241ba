"""What the screen of `replcheck watch` reads: a watch of its own, a recorder's history, or a recording."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from replcheck.cli.live_board import Board, now
from replcheck.errors import EmptyHistory, ReplcheckError, StoreError
from replcheck.model.spanning import Spans
from replcheck.runs.following import Source, watch_or_follow
from replcheck.runs.history import list_runs
from replcheck.runs.live import LiveSettings
from replcheck.runs.live_config import LiveRequest
from replcheck.runs.replaying import replayed
from replcheck.store import RunFilter, open_live_reader
from replcheck.tui.feed import EventsTaken, Link, LinkChanged, RunsRead, SpansRead
from replcheck.watch.limits import WatchLimits

WINDOW = timedelta(days=30)
_HISTORY_EVERY_S = 10.0
_SOON_S = 1.0
_SPANS_EVERY = 6
_NOT_YET = "there is no history yet"
_CURVES = timedelta(minutes=10)
_EVENTS_SHOWN = 300
_RUNS_SHOWN = 300
_PATIENCE_S = 90.0
_LINKS = {Source.OWN: Link.SAMPLING, Source.RECORDER: Link.READING, Source.LOST: Link.LOST}


class WatchFeed:
    """A watch in a thread of its own, and another one that reads the history now and then."""

    def __init__(self, request: LiveRequest, settings: LiveSettings, board: Board) -> None:
        self._request, self._settings, self._board = request, settings, board
        self._store = settings.store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ending = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="replcheck watch", daemon=True)
        self._reading = threading.Thread(target=self._read, name="replcheck history reader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._board.tell(LinkChanged(at=now(), link=Link.CONNECTING))
        self._watching.start()
        self._reading.start()

    def close(self) -> None:
        """End the watch in order and wait for that."""
        self._ending.set()
        self._board.history_changed.set()
        if self._loop is not None and self._watching.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._watching.join(_PATIENCE_S)

    def _watch(self) -> None:
        try:
            asyncio.run(self._watch_until_closed())
        except ReplcheckError as error:
            self._board.tell(LinkChanged(at=now(), link=Link.LOST, what=error.message))
        except Exception as defect:  # noqa: BLE001 - the screen stays, and says why nothing comes
            self._board.tell(LinkChanged(at=now(), link=Link.LOST, what=f"internal error: {type(defect).__name__}"))

    async def _watch_until_closed(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._ending.is_set():
            return
        await watch_or_follow(self._request, self._settings, self._stop, source=self._source)

    def _source(self, source: Source, why: str) -> None:
        self._board.tell(LinkChanged(at=now(), link=_LINKS[source], what=why))
        self._board.history_changed.set()

    def _read(self) -> None:
        looks = 0
        while not self._ending.is_set():
            try:
                self._read_once(first=looks == 0, spans=looks % _SPANS_EVERY == 0)
                looks += 1
            except EmptyHistory:
                # The watch beside this has only just made it.
                self._board.tell(RunsRead(at=now(), runs=(), problem=_NOT_YET))
                self._ending.wait(_SOON_S)
                continue
            except StoreError as error:
                self._board.tell(RunsRead(at=now(), runs=(), problem=error.message))
            except Exception as defect:  # noqa: BLE001 - it is read again, and what is wrong is told meanwhile
                problem = f"internal error: {type(defect).__name__}"
                self._board.tell(RunsRead(at=now(), runs=(), problem=problem))
            self._board.history_changed.wait(_HISTORY_EVERY_S)
            self._board.history_changed.clear()

    def _read_once(self, *, first: bool, spans: bool) -> None:
        at = now()
        if self._store is None:
            self._board.tell(RunsRead(at=at, runs=(), problem="no history is kept"))
            return
        if not self._store.exists():
            raise EmptyHistory(_NOT_YET)
        runs = list_runs(self._store, RunFilter(), limit=_RUNS_SHOWN)
        damaged = f"{len(runs.damaged)} records are damaged" if runs.damaged else ""
        self._board.tell(RunsRead(at=at, runs=runs.runs, problem=damaged))
        reader, cluster = open_live_reader(self._store), self._request.cluster
        if first:
            known = reader.events(cluster, limit=_EVENTS_SHOWN)
            self._board.tell(EventsTaken(at=at, events=tuple(known)))
        if spans:
            since = at - WINDOW
            watched = Spans(watch=tuple(reader.watch_spans(cluster, since, at))).thinned(3600.0).watch
            nodes = tuple(reader.node_spans(cluster, at - _CURVES, at))
            self._board.tell(SpansRead(at=at, since=since, watch=watched, nodes=nodes))


@dataclass(slots=True)
class ReplayFeed:
    """Shows a recording at the pace at which it was made, or `speed` times as quickly."""

    path: Path
    limits: WatchLimits
    board: Board
    speed: float = 1.0
    longest_wait_s: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._play, name="replcheck replay", daemon=True).start()

    def _play(self) -> None:
        last: datetime | None = None
        try:
            for update in replayed(self.path, self.limits):
                if last is None:
                    self.board.tell(LinkChanged(at=update.view.at, link=Link.REPLAY, what=self.path.name))
                    self.board.tell(RunsRead(at=update.view.at, runs=(), problem="a recording has no history"))
                else:
                    self.sleep(min((update.view.at - last).total_seconds() / self.speed, self.longest_wait_s))
                last = update.view.at
                self.board.take_live(update)
        except ReplcheckError as error:
            self.board.tell(LinkChanged(at=last or now(), link=Link.LOST, what=error.message))
            return
        except Exception as defect:  # noqa: BLE001 - the screen stays, and says why nothing comes
            what = f"internal error: {type(defect).__name__}"
            self.board.tell(LinkChanged(at=last or now(), link=Link.LOST, what=what))
            return
        self.board.tell(LinkChanged(at=last or now(), link=Link.ENDED, what=self.path.name))
