"""Recover a scratch server to a target, and find out what it really did.

The server can reach nothing and overwrite nothing: no configuration that came with the backup is read, it listens on a
Unix socket, archives nothing, connects to nobody, runs no job of anybody's, and its tablespaces lie in the scratch
directory. Neither a setting nor a word of the log counts as proof of where recovery ended: the server is asked.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from types import MappingProxyType

from replcheck.drill.archive import Archive, CommandArchive, Feeder, NoArchive, inspect_segment
from replcheck.drill.diagnosis import LogFacts, failure, read_log, refusal
from replcheck.drill.scratch import Scratch, require_not_full
from replcheck.drill.segments import CreationFinder, segment_facts
from replcheck.drill.stages import Stages
from replcheck.drill.wal import (
    Segment,
    Switch,
    history_name,
    needed_segment,
    newest_timeline,
    parse_history,
    reach,
    segment_number,
    segments_between,
    timeline_at,
)
from replcheck.errors import BackupRefuted, DrillBlocked, DrillError, NodeError, NotArchived, ProgramError
from replcheck.model.drill import RecoveryFacts, Target, TargetKind
from replcheck.model.wal import Lsn
from replcheck.postgres import recovery_state
from replcheck.postgres.control import ControlFacts
from replcheck.postgres.programs import Programs
from replcheck.postgres.recovery_state import RecoveryState
from replcheck.postgres.roles_on_disk import superusers
from replcheck.postgres.server import LocalServer

_ACCESS = "local replication all reject\nlocal all all trust\n"
_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "archive_command": "",
        "archive_mode": "off",
        "autovacuum": "off",
        "checkpoint_timeout": "30min",
        "fsync": "off",
        "hot_standby": "on",
        "local_preload_libraries": "",
        "log_min_error_statement": "panic",
        "max_logical_replication_workers": "0",
        "max_replication_slots": "1000",
        "primary_conninfo": "",
        "primary_slot_name": "",
        "recovery_target_action": "pause",
        "recovery_target_timeline": "latest",
        "restart_after_crash": "off",
        "session_preload_libraries": "",
        "shared_buffers": "128MB",
        "shared_preload_libraries": "",
        "synchronous_standby_names": "",
        "wal_level": "replica",
        "wal_retrieve_retry_interval": "100ms",
    }
)
"""What every scratch server has. The number of slots is also that of replication origins before PostgreSQL 18; where
there are fewer than the backup holds, the server does not start."""
_SINCE: Mapping[int, Mapping[str, str]] = MappingProxyType(
    {
        15: {"archive_library": ""},
        17: {"event_triggers": "off", "sync_replication_slots": "off"},
        18: {"max_active_replication_origins": "1000"},
    }
)
_PINNED = (
    "datestyle=ISO",
    # No session of a hot standby may be serializable.
    r"default_transaction_isolation=read\ committed",
    "default_transaction_read_only=off",
    "idle_in_transaction_session_timeout=0",
    "idle_session_timeout=0",
    "local_preload_libraries=",
    "lock_timeout=0",
    "role=none",
    "session_preload_libraries=",
    "statement_timeout=0",
)
"""What the settings of roles and databases, which came with the backup, decide in no session of ours."""
_NAMES = {"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}
_LEAST_CONNECTIONS = 30
_NEVER_TAKEN_OVER = (
    "postmaster.pid",
    "postmaster.opts",
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "recovery.done",
    "tablespace_map",
    "current_logfiles",
)
_EMPTIED = ("pg_replslot", "pg_stat_tmp")
"""A replication slot keeps WAL for somebody who will never come, and a logical one a server from starting."""
_FIRST_POLL_S = 0.01
_LAST_POLL_S = 0.1
_ARCHIVER_S = 1.0
_PROBED = 4
"""Segments that are looked for behind the end of an archive that cannot be listed: any makes it a hole."""
_UNANSWERED = 50
"""Connections that a ready server may refuse, one after the other, before it counts as unable to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where recovery starts, as backup_label or the control file says."""

    redo: Lsn
    timeline: int
    at: datetime | None
    """When what recovery starts from was written, at the latest; None where that is not told."""


def scratch_server(scratch: Scratch, programs: Programs) -> LocalServer:
    """Return the server of a scratch directory, with its folder and configuration; its data are still to come."""
    options = [f"-c {setting}" for setting in _PINNED]
    options += ["-c event_triggers=off", "-c transaction_timeout=0"] if programs.major >= 17 else []
    server = LocalServer(
        name="scratch",
        programs=programs,
        account=scratch.account,
        directory=scratch.server_dir,
        socket_dir=scratch.socket_dir,
        port=5432,
        # It goes with the scratch directory.
        log_stays=False,
        options=" ".join(options),
    )
    since = {name: value for major, more in _SINCE.items() if programs.major >= major for name, value in more.items()}
    server.prepare(settings={**_SETTINGS, **since}, access=_ACCESS)
    return server


class Recovery:
    """One recovery of a restored data directory; `close` ends the supply of WAL."""

    def __init__(
        self,
        server: LocalServer,
        scratch: Scratch,
        *,
        target: Target,
        archive: Archive,
        control: ControlFacts,
        start: Start,
        stages: Stages,
    ) -> None:
        self.server = server
        self._target = target
        self._archive = archive
        self._control = control
        self._start = start
        self._stages = stages
        self._directory = scratch.directory
        self._own_wal: frozenset[str] = frozenset()
        self._superusers: list[str] = []
        self._database = "postgres"
        # One for all WAL: a record may begin in the backup's own, and go on in the archive's.
        self._finder = CreationFinder()
        self._feeder = Feeder(
            archive,
            spool=scratch.spool_dir / "wal",
            account=scratch.account,
            system_identifier=control.system_identifier,
            segment_bytes=control.segment_bytes,
            finder=self._finder,
        )

    def run(self) -> RecoveryFacts:
        """Recover to the target; raise BackupRefuted where the backup does not come there, DrillBlocked otherwise."""
        require_same_cluster(self._target, self._control)
        require_later_target(self._target, self._start)
        neutralise(self.server.data_dir)
        self._own_wal = frozenset(self._inspect_own_wal())
        self._superusers = superusers(self.server.data_dir)
        if not self._crash_only():
            self.server.write_data_file("recovery.signal", "")
        self._configure()
        self._expect()
        self._feeder.start()
        state = self._recovered()
        facts = self._facts(state)
        self._check_end(facts)
        return facts

    def close(self) -> None:
        """Stop handing out WAL; does nothing a second time."""
        self._feeder.close()

    def leave(self) -> None:
        """Stop handing out WAL, and let the server leave recovery whenever its user wants it to."""
        self._feeder.leave()

    @property
    def database(self) -> str:
        """Return a database that can be connected to."""
        return self._database

    @property
    def zeroed(self) -> tuple[str, ...]:
        """Return the files of transaction states that were missing, and that the server made anew."""
        return self._log().zeroed

    def _crash_only(self) -> bool:
        """Return whether only what a crashed server does can be done: such WAL is refused by any other recovery."""
        label = self.server.data_dir / "backup_label"
        minimal = self._control.wal_level == "minimal" and not label.exists()
        return minimal and self._target.kind is TargetKind.LATEST

    def _configure(self) -> None:
        settings = {_NAMES.get(name, name): value for name, value in self._control.standby_settings.items()}
        settings["max_connections"] = max(settings["max_connections"], _LEAST_CONNECTIONS)
        self.server.configure(
            restore_command=self._feeder.restore_command,
            **{name: str(value) for name, value in settings.items()},
            **_target_settings(self._target),
        )

    def _expect(self) -> None:
        """Tell how much WAL there is to replay, where the archive can be listed and the target has a position."""
        names = self._archive.names()
        if names is None or (self._target.lsn is None and self._target.kind is not TargetKind.LATEST):
            return
        size = self._control.segment_bytes
        self._stages.expect(size * segments_between(names, self._start.redo, self._target.lsn, segment_bytes=size))

    def _recovered(self) -> RecoveryState:
        """Start the server and wait until it is at its target; more of a setting is given to it where it asks."""
        while True:
            try:
                return self._wait()
            except _TooLow as more:
                self.server.stop("immediate")
                self.server.configure(**more.settings)
                self.server.clear_log()

    def _wait(self) -> RecoveryState:
        try:
            self.server.start(until_ready=False)
        except ProgramError as exc:
            raise self._failure() from exc
        poll_s, unanswered = _FIRST_POLL_S, 0
        while True:
            feed = self._feeder.feed
            self._stages.progressed(feed.size_bytes, feed.served[-1] if feed.served else "")
            if feed.error is not None:
                raise feed.error
            if not self.server.running:
                raise self._failure()
            if self.server.ready:
                state = self._asked()
                if state is not None and self._is_done(state):
                    return state
                unanswered += 1 if state is None else -unanswered
                if unanswered > _UNANSWERED:
                    raise refusal(self._log())
            time.sleep(poll_s)
            poll_s = min(poll_s * 1.3, _LAST_POLL_S)

    def _asked(self) -> RecoveryState | None:
        """Ask the server where it stands; None where it does not answer just now."""
        for name in dict.fromkeys((self.server.superuser, *self._superusers)):
            server = self.server.with_superuser(name)
            for database in dict.fromkeys((self._database, "postgres", "template1")):
                with suppress(NodeError):
                    state = recovery_state.recovery_state(server, database)
                    self.server, self._database = server, database
                    return state
        return None

    def _is_done(self, state: RecoveryState) -> bool:
        if not state.in_recovery:
            return True
        if not state.paused:
            return False
        log = self._log()
        if not log.stopping and log.too_low:
            # It pauses where it cannot be a hot standby with its settings, which is no target.
            raise _TooLow(log.too_low)
        return self._target.kind is not TargetKind.LATEST

    def _facts(self, state: RecoveryState) -> RecoveryFacts:
        log = self._log()
        replayed = state.replayed or log.redo_done or self._start.redo
        if state.in_recovery:
            reached, timeline = self._paused_at_target(state, log), self._timeline_of(replayed)
        else:
            timeline = recovery_state.written_timeline(self.server, self._database)
            reached = self._promoted_at_target(timeline)
        return RecoveryFacts(
            reached=reached,
            in_recovery=state.in_recovery,
            paused=state.paused,
            timeline=timeline,
            replayed=replayed,
            last_commit_at=state.last_commit_at,
            wal_files=len({name for name in self._feeder.feed.served if not name.endswith(".history")}),
        )

    def _paused_at_target(self, state: RecoveryState, log: LogFacts) -> bool:
        target = self._target
        if not state.paused or not log.stopping:
            return False
        if target.lsn is not None and target.name is None:
            return state.replayed is not None and state.replayed >= target.lsn
        if target.time is not None:
            return state.last_commit_at is None or state.last_commit_at <= target.time
        return log.stopped_at_name == target.name

    def _promoted_at_target(self, timeline: int) -> bool:
        """Return whether the server left recovery where it was to: the history of its new timeline says where.

        Where the server was never ready for connections, it does not pause but promotes (xlogrecovery.c,
        recoveryPausesHere).
        """
        if self._target.kind is TargetKind.LATEST:
            return True
        try:
            text = (self.server.data_dir / "pg_wal" / history_name(timeline)).read_text("utf-8", errors="replace")
            reason = parse_history(text)[-1].reason
        except (OSError, ValueError, IndexError):
            return False
        if self._target.name is not None:
            return reason == f'at restore point "{self._target.name}"'
        return re.match(r"(before|after) (transaction|LSN|2)", reason) is not None

    def _check_end(self, facts: RecoveryFacts) -> None:
        """Raise BackupRefuted where recovery to the end of the archive ended before it."""
        if self._target.kind is not TargetKind.LATEST:
            return
        cause = self._cause(self._log(), replayed=facts.replayed) or self._left_timeline(facts.replayed)
        if cause is not None:
            raise cause

    def _failure(self) -> DrillError:
        """Return why the server ended, with how far it got."""
        # On a full disk the log lacks what it should say, and what is left of it may read like damage.
        require_not_full(self._directory)
        feed = self._feeder.feed
        if feed.error is not None:
            return feed.error if isinstance(feed.error, DrillError) else DrillBlocked(feed.error.message, code="wal")
        log = self._log()
        if log.too_low and "insufficient parameter settings" in log.fatal:
            raise _TooLow(log.too_low)
        found = failure(log, self._progress(log))
        if found.code in ("target_not_reached", "wal_incomplete", "wal_missing"):
            return self._cause(log, replayed=log.redo_done) or self._unsupplied(found) or self._with_missing(found, log)
        return found

    def _unsupplied(self, found: DrillError) -> DrillBlocked | None:
        """Return that nothing hands out WAL, as it seems: that is the configuration's fault, and not the backup's."""
        asked, served = len(self._feeder.feed.absent()), self._feeder.feed.served
        if isinstance(self._archive, NoArchive) and found.code == "target_not_reached":
            return DrillBlocked(
                f"no WAL archive is named, and the backup's own WAL ends before {self._target.text}",
                code="no_archive",
                hint="Name the folder of the WAL archive with --wal DIR, or as `wal` of the backup.",
            )
        if isinstance(self._archive, CommandArchive) and not served:
            return DrillBlocked(
                f"restore_command brought none of the {asked} WAL files that it was asked for: it may be wrong",
                code="archive_silent",
                hint="Try it by hand for a file of the archive, as the account that the scratch server runs under.",
            )
        return None

    def _cause(self, log: LogFacts, *, replayed: Lsn | None) -> BackupRefuted | None:
        """Return the hole or the damaged file that recovery ended at, None where the archive just ends."""
        progress = self._progress(log)
        damaged = self._damaged(log)
        if damaged is not None:
            at = f" at {log.bad_record}" if log.bad_record is not None else ""
            return BackupRefuted(
                f"WAL file {damaged} is damaged: {log.bad_record_what}{at}{progress}",
                code="wal_corrupt",
                hint="Look for a second copy of this file; restores end before it.",
            )
        hole = self._hole(replayed or self._start.redo)
        if hole is not None:
            # An archiver that works in parallel may put the later file first.
            time.sleep(_ARCHIVER_S)
            hole = self._hole(replayed or self._start.redo)
        if hole is None:
            return None
        missing, later = hole
        return BackupRefuted(
            f"WAL file {missing} is missing, while {later} is there{progress}",
            code="wal_missing",
            hint="Look for it in a second archive, or on the primary; restores end before it.",
        )

    def _hole(self, replayed: Lsn) -> tuple[str, str] | None:
        timeline, history = self._line()
        size = self._control.segment_bytes
        names = self._archive.names()
        if names is None:
            following = (
                needed_segment(number, timeline, history, segment_bytes=size).name(size)
                for number in count(segment_number(replayed, size))
            )
            return probed_hole(following, frozenset(self._feeder.feed.served) | self._own_wal, self._has)
        found = reach(names | self._own_wal, replayed, timeline, history, segment_bytes=size)
        return (found.missing, found.later) if found.later is not None else None

    def _damaged(self, log: LogFacts) -> str | None:
        """Return the file, archived or of the backup itself, in which recovery ended although it is whole by its name.

        The last record of a whole file sends the server to the next one, also where the rest of it was left empty by
        a switch of segments. Where it never asked for that one, it found no valid record before.
        """
        # Servers before PostgreSQL 16 do not always say where; what they replayed last lies before it.
        position = log.bad_record or log.redo_done
        if position is None or not log.bad_record_what:
            return None
        size, feed = self._control.segment_bytes, self._feeder.feed
        number = segment_number(position, size)
        asked = {segment.number for name in feed.asked if (segment := Segment.parse(name, size))}
        read = (*sorted(self._own_wal), *feed.served)
        served = [name for name in read if (s := Segment.parse(name, size)) and s.number == number]
        if not served or number + 1 in asked or not self._goes_on(number):
            return None
        # For its own files a server asks nobody: that it went on to the next one shows only where it says it ended.
        return served[-1] if log.bad_record is not None or served[-1] in feed.served else None

    def _goes_on(self, number: int) -> bool:
        """Return whether there is a segment after one: the last of all may have been copied half-written."""
        timeline, history = self._line()
        size, names = self._control.segment_bytes, self._archive.names()
        if names is None:
            following = needed_segment(number + 1, timeline, history, segment_bytes=size)
            return following.name(size) in self._own_wal or self._has(following.name(size))
        found = reach(names | self._own_wal, Lsn(number * size), timeline, history, segment_bytes=size)
        return found.files > 1 or found.later is not None

    def _has(self, name: str) -> bool:
        return self._feeder.has(name, watch=self._stages.obey)

    def _left_timeline(self, replayed: Lsn) -> BackupRefuted | None:
        """Return that the archive has a newer timeline without its history, so that recovery did not follow it."""
        timeline, _ = self._line()
        size = self._control.segment_bytes
        parsed = [Segment.parse(name, size) for name in self._archive.names() or ()]
        newer = [
            s.timeline for s in parsed if s and s.timeline > timeline and s.number >= segment_number(replayed, size)
        ]
        if not newer:
            return None
        return BackupRefuted(
            f"the archive has WAL of timeline {min(newer)} and lacks {history_name(timeline + 1)}; recovery stayed on"
            f" timeline {timeline} and got to {replayed}",
            code="wrong_timeline",
            hint="Put the history files of all timelines into the archive.",
        )

    def _with_missing(self, found: DrillError, log: LogFacts) -> DrillError:
        """Return a failure with the name of the file that would come next, and what a target has to do with it."""
        timeline, history = self._line()
        size = self._control.segment_bytes
        absent = [name for name in self._feeder.feed.absent() if Segment.parse(name, size)]
        position = log.bad_record or log.redo_done or self._start.redo
        fallback = Segment(number=segment_number(position, size), timeline=timeline_at(position, timeline, history))
        missing = absent[-1] if absent else fallback.name(size)
        in_part, progress = missing in self._feeder.feed.served, self._progress(log)
        if self._ends_before_seal(found, position):
            owed = _owed(missing, self._target, size)
            return NotArchived(missing, in_part=in_part, owed=owed, progress=progress)
        if found.code == "target_not_reached" and self._target.kind in (TargetKind.TIME, TargetKind.LSN):
            return NotArchived(missing, in_part=in_part, progress=progress)
        hint = found.hint or "Check that the archive is complete."
        if self._target.name is not None and found.code == "target_not_reached":
            hint = "Check that the WAL after it has been archived."
        message = f"{found.message}; WAL file {missing} is {'there in part only' if in_part else 'not there'}"
        return not_reached(message, self._target, code=found.code, hint=hint)

    def _ends_before_seal(self, found: DrillError, position: Lsn) -> bool:
        """Return whether all WAL up to its end was replayed, and the seal's restore point lies behind that."""
        sealed, lsn = self._target.sealed, self._target.lsn
        if sealed is None or lsn is None or found.code != "target_not_reached":
            return False
        return position < lsn and timeline_at(Lsn(lsn - 1), *self._line()) == sealed.timeline

    def _progress(self, log: LogFacts) -> str:
        if log.redo_done is None:
            return "; nothing was recovered"
        commit = f", the last commit at {log.last_commit_at.isoformat(sep=' ')}" if log.last_commit_at else ""
        return f"; recovery got to {log.redo_done}{commit}"

    def _line(self) -> tuple[int, tuple[Switch, ...]]:
        """Return the timeline that recovery follows, with its history."""
        histories = self._feeder.feed.histories
        timeline = newest_timeline(self._start.timeline, histories.keys())
        try:
            return timeline, parse_history(histories[timeline]) if timeline in histories else ()
        except ValueError:
            return timeline, ()

    def _timeline_of(self, position: Lsn) -> int:
        timeline, history = self._line()
        return timeline_at(Lsn(position - 1), timeline, history)

    def _log(self) -> LogFacts:
        return read_log(self.server.log_file.read_text("utf-8", errors="replace"))

    def _inspect_own_wal(self) -> Iterator[str]:
        """Yield the names of the segments that came with the backup, each looked at before a server replays it."""
        size = self._control.segment_bytes
        for path in sorted((self.server.data_dir / "pg_wal").iterdir()):
            segment = Segment.parse(path.name, size)
            if segment is None or segment.number < segment_number(self._start.redo, size):
                continue
            data = path.read_bytes()
            facts = segment_facts(data)
            # A segment that was made in advance holds the WAL of an older one, under a name of the future.
            if facts is not None and facts.address == segment.number * size:
                inspect_segment(
                    path.name,
                    data,
                    finder=self._finder,
                    system_identifier=self._control.system_identifier,
                    segment_bytes=size,
                    redo=self._start.redo,
                )
                yield path.name


class _TooLow(Exception):
    """The primary had more of some settings than the scratch server has."""

    def __init__(self, settings: tuple[tuple[str, int], ...]) -> None:
        super().__init__("settings are too low")
        self.settings = {name: str(value) for name, value in settings}


def probed_hole(following: Iterator[str], known: frozenset[str], has: Callable[[str], bool]) -> tuple[str, str] | None:
    """Return the first absent segment and one behind it that is there, None where the next few are absent too.

    `following` are the names from where recovery got to; those that are `known` were there.
    """
    missing = next(name for name in following if name not in known and not has(name))
    later = next((name for name in islice(following, _PROBED) if has(name)), None)
    return None if later is None else (missing, later)


def require_same_cluster(target: Target, control: ControlFacts) -> None:
    """Raise DrillBlocked where the target is a seal of another cluster than the one that was backed up."""
    if target.system_identifier not in (None, control.system_identifier):
        raise DrillBlocked(
            f"the target {target.text} is of another database system ({target.system_identifier}) than the backup"
            f" ({control.system_identifier})",
            code="seal_foreign",
            hint="Choose a seal of the cluster that was backed up.",
        )


def require_later_target(target: Target, start: Start) -> None:
    """Raise DrillBlocked where the files hold more than the target: a server takes that for reached.

    A restore point that ends where recovery starts is never read.
    """
    too_early = target.time is not None and start.at is not None and target.time < start.at
    if target.lsn is not None:
        too_early |= target.lsn < start.redo or (target.name is not None and target.lsn == start.redo)
    if too_early:
        raise DrillBlocked(
            f"the target {target.text} lies before the backup began",
            code="target_before_backup",
            hint="Choose a later target, or an older backup.",
        )


def not_reached(message: str, target: Target, *, code: str, hint: str) -> DrillError:
    """Return that the WAL ended too early; not the backup's fault where nobody knows that there was such a target."""
    if code == "target_not_reached" and target.kind is TargetKind.RESTORE_POINT:
        return DrillBlocked(
            f"no restore point {target.text} was found: {message}",
            code=code,
            hint="Check the name, and that the WAL after it has been archived; a seal says where it lies.",
        )
    return BackupRefuted(message, code=code, hint=hint)


def _owed(missing: str, target: Target, segment_bytes: int) -> bool:
    """Return whether a file was full when a seal was made: it comes before the one that holds the restore point."""
    segment = Segment.parse(missing, segment_bytes)
    assert target.lsn is not None  # noqa: S101 - a seal's target has it
    return segment is not None and segment.number < segment_number(Lsn(target.lsn - 1), segment_bytes)


def neutralise(data_dir: Path) -> None:
    """Take from a restored data directory all that would make a server act as the one it was copied from.

    Its configuration files are left and not read, but postgresql.auto.conf, which every server reads, is emptied.
    """
    for name in _NEVER_TAKEN_OVER:
        (data_dir / name).unlink(missing_ok=True)
    automatic = data_dir / "postgresql.auto.conf"
    if automatic.exists():
        with automatic.open("w"):
            pass
    for name in _EMPTIED:
        for entry in (data_dir / name).iterdir() if (data_dir / name).is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _target_settings(target: Target) -> dict[str, str]:
    if target.lsn is not None and target.name is None:
        return {"recovery_target_lsn": str(target.lsn)}
    if target.time is not None:
        return {"recovery_target_time": target.time.isoformat(sep=" ")}
    if target.name is not None:
        return {"recovery_target_name": target.name}
    if target.kind is TargetKind.LATEST:
        return {}
    raise DrillBlocked(f"the target {target.text} has no restore point", code="target_unknown")
