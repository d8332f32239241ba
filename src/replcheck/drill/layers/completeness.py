"""What a restore can lose beside rows: roles, extensions, sequences, views, indexes, large objects, collations.

Without a seal a copy cannot tell a loss from how the original was: what may have been so there too leaves the layer
inconclusive. With one, what differs from the sealed facts fails it.
"""

import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from replcheck.drill.backups.source import Restored
from replcheck.drill.layers.layer import Case, Moment
from replcheck.errors import NodeError
from replcheck.model.drill import Blame, LayerName, LayerReport, LayerState, Problem, TargetKind
from replcheck.model.names import printable, quoted
from replcheck.model.seal import DatabaseFacts, PreparedTransaction, SealManifest
from replcheck.postgres.copies import open_copy, read_copy_server
from replcheck.postgres.copy_completeness import (
    DatabaseState,
    PreparedState,
    ServerState,
    read_database_state,
    read_prepared_state,
    read_server_state,
)

_STATEMENT_TIMEOUT_S = 3600.0
_MOST_NAMES = 5
PREPARING = timedelta(seconds=10)
"""How long a transaction may take from the time that it notes as that of its preparation until it is prepared."""


@dataclass(slots=True, kw_only=True)
class _Sums:
    """What was looked at, over all databases."""

    relations: int = 0
    sequences: int = 0
    large_objects: int = 0
    unlogged: int = 0
    extensions: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessLayer:
    """Looks for what a restore can lose beside rows; `seal` tells what there was at the target, where there is one."""

    seal: SealManifest | None = None
    name: LayerName = field(default=LayerName.COMPLETENESS, init=False)
    moment: Moment = field(default=Moment.OPEN, init=False)

    def run(self, case: Case) -> LayerReport:
        """Look at the server and at each database of the copy."""
        began = time.monotonic()
        if case.restored is None:
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason="no copy is open")
        sums, problems = _Sums(), list[Problem]()
        seal = self.seal if _stands_at_seal(case, case.restored) else None
        try:
            found = read_copy_server(case.restored.dsn)
            databases = case.restored.databases or found.databases
            with open_copy(case.restored.dsn, statement_timeout_s=_STATEMENT_TIMEOUT_S) as copy:
                server = read_server_state(copy)
                prepared = read_prepared_state(copy) if seal is not None else None
            problems += _of_server(server, seal)
            if seal is not None and prepared is not None and case.data_dir is not None:
                problems += _prepared_lost(seal.facts.prepared, prepared, _two_phase_files(case.data_dir))
            problems += _closed(found.closed) if case.restored.databases is None else ()
            for database in databases:
                case.stages.obey()
                with open_copy(case.restored.dsn, database=database, statement_timeout_s=_STATEMENT_TIMEOUT_S) as copy:
                    state = read_database_state(copy)
                facts = seal.facts.database(database) if seal is not None else None
                problems += _of_database(database, state, facts, unsettled=_unsettled(seal, database))
                _add(sums, state)
        except NodeError as error:
            return LayerReport(name=self.name, state=LayerState.NOT_RUN, reason=error.message)
        return replace(self._report(server, sums, tuple(problems)), elapsed_s=time.monotonic() - began)

    def _report(self, server: ServerState, sums: _Sums, problems: tuple[Problem, ...]) -> LayerReport:
        failed = [problem for problem in problems if problem.blame is Blame.BACKUP]
        placeholders = len(server.placeholders)
        state, reason = LayerState.PASSED, ""
        if failed:
            state, reason = LayerState.FAILED, f"{_count(len(failed), 'loss', 'losses')} found"
        elif problems:
            state, reason = LayerState.INCONCLUSIVE, "what was found may have been so in the original too"
        elif placeholders:
            state = LayerState.INCONCLUSIVE
            reason = f"{placeholders} role{'s' if placeholders != 1 else ''} that the backup names did not come with it"
        checked = (
            f"{_count(sums.relations, 'relation')}, {_count(sums.sequences, 'sequence')},"
            f" {_count(sums.large_objects, 'large object')}, {_count(len(server.roles) - placeholders, 'role')},"
            f" {_count(len(sums.extensions), 'extension')}"
        )
        checked += f"; {_count(sums.unlogged, 'unlogged table')}, empty by design" if sums.unlogged else ""
        return LayerReport(
            name=self.name,
            state=state,
            reason=reason,
            checked=checked,
            relations=sums.relations + sums.sequences,
            problems=problems,
        )


def _stands_at_seal(case: Case, restored: Restored) -> bool:
    """Return whether the facts of a seal hold for the copy: one of all files, recovered to the seal's own point."""
    recovery = restored.recovery
    return case.target.kind is TargetKind.SEAL and restored.kind.physical and recovery is not None and recovery.reached


def _add(sums: _Sums, state: DatabaseState) -> None:
    sums.relations += state.relations
    sums.sequences += state.sequences
    sums.large_objects += state.large_objects
    sums.unlogged += state.unlogged
    sums.extensions |= set(state.extensions)


def _of_server(server: ServerState, seal: SealManifest | None) -> Iterator[Problem]:
    if server.invalid_databases:
        yield _doubt(
            "database_invalid",
            f"a DROP DATABASE was left half-way: {_names(server.invalid_databases)}",
            "Such a database can only be dropped again.",
        )
    if seal is not None:
        missing = sorted(set(seal.facts.roles) - set(server.roles))
        if missing:
            told = f"{len(missing)} roles of the seal are missing: {_names(missing)}"
            yield _sealed_loss("role_missing", told, unsettled=bool(seal.unsettled))


def _two_phase_files(data_dir: Path) -> frozenset[int]:
    """Return the ids (lower 32 bits) of the prepared transactions that have a file: its name ends with the id."""
    try:
        names = [path.name for path in (data_dir / "pg_twophase").iterdir()]
    except FileNotFoundError:
        return frozenset()
    return frozenset(int(name[-8:], 16) for name in names if re.fullmatch("(?:[0-9A-F]{8}){1,2}", name))


def _prepared_lost(
    sealed: Sequence[PreparedTransaction], found: PreparedState, files: Collection[int]
) -> Iterator[Problem]:
    """Tell of prepared transactions of a seal that the copy does not know.

    One that was prepared before the checkpoint which recovery starts from lies in a file since that checkpoint; one
    that was prepared later is in the WAL that was replayed.
    """
    if found.checkpoint_at is None:
        lost = [one for one in sealed if one.xid not in found.xids]
    else:
        before = found.checkpoint_at - PREPARING
        lost = [one for one in sealed if one.prepared_at < before and one.xid not in files]
    if lost:
        names = _names([str(one.xid) for one in lost])
        yield _loss("prepared_missing", f"prepared transactions of the seal are missing, by their ids: {names}")


def _closed(databases: Sequence[str]) -> Iterator[Problem]:
    if databases:
        yield _doubt(
            "database_closed",
            f"databases that let nobody in were not looked at: {_names(databases)}",
            "Let connections in before the backup: ALTER DATABASE ... ALLOW_CONNECTIONS true.",
        )


def _count(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _unsettled(seal: SealManifest | None, database: str) -> bool:
    """Return whether a transaction that the seal's snapshot does not see may have committed before the point."""
    sealed = seal.database(database) if seal is not None else None
    return sealed is not None and bool(sealed.unsettled)


def _of_database(
    database: str, state: DatabaseState, facts: DatabaseFacts | None, *, unsettled: bool
) -> Iterator[Problem]:
    where = f"in database {quoted(printable(database))}"
    if state.dangling_roles:
        yield _loss("role_missing", f"{state.dangling_roles} roles that own or may use something are missing {where}")
    if state.absent_extensions:
        yield _environment(
            "extension_missing",
            f"the files of extensions are missing on the copy's server {where}: {_names(state.absent_extensions)}",
            "Install the packages that hold them.",
        )
    if state.stale_collations:
        yield _environment(
            "collation_mismatch",
            f"collations have another version on this machine {where}: {_names(state.stale_collations)}",
            "Indexes over texts may be broken here, and only here: drill on a system like the original's.",
        )
    if state.sequences_behind:
        yield _doubt(
            "sequence_behind",
            f"sequences are behind the columns they feed {where}: {_names(state.sequences_behind)}",
            "An application that chooses such values itself does that too: compare with the original.",
        )
    if state.sequences_unread:
        yield _doubt(
            "sequence_unread", f"sequences could not be compared {where}: {_names(state.sequences_unread)}", ""
        )
    yield from _beyond(
        "view_unpopulated",
        "materialized views hold nothing",
        state.unpopulated,
        facts.unpopulated_views if facts is not None else None,
        where,
        unsettled=unsettled,
    )
    yield from _beyond(
        "index_invalid",
        "indexes are invalid",
        state.invalid_indexes,
        facts.invalid_indexes if facts is not None else None,
        where,
        unsettled=unsettled,
    )
    if facts is not None:
        yield from _lost(state, facts, where, unsettled=unsettled)


def _beyond(
    code: str, what: str, found: Sequence[str], sealed: Sequence[str] | None, where: str, *, unsettled: bool
) -> Iterator[Problem]:
    """Tell what a copy has beyond a seal; without one, that it may have been so before."""
    beyond = [name for name in found if sealed is None or name not in sealed]
    if beyond:
        told = f"{what} {where}: {_names(beyond)}"
        if sealed is None:
            yield _doubt(code, told, "Compare with the original.")
        else:
            yield _sealed_loss(code, told, unsettled=unsettled)


def _lost(state: DatabaseState, facts: DatabaseFacts, where: str, *, unsettled: bool) -> Iterator[Problem]:
    """Tell what a seal has beyond the copy."""
    missing = sorted(set(facts.extensions) - set(state.extensions))
    if missing:
        told = f"extensions of the seal are missing {where}: {_names(missing)}"
        yield _sealed_loss("extension_missing", told, unsettled=unsettled)
    counts = (
        ("relation", state.relations, facts.relations),
        ("sequence", state.sequences, facts.sequences),
        ("large object", state.large_objects, facts.large_objects),
    )
    for noun, found, sealed in counts:
        if found < sealed:
            told = f"{found:,} {noun}s of {sealed:,} are there {where}"
            yield _sealed_loss(f"{noun.replace(' ', '_')}_missing", told, unsettled=unsettled)


def _sealed_loss(code: str, what: str, *, unsettled: bool) -> Problem:
    """Return what differs from a seal: a doubt where a transaction that it does not see may have done that."""
    return _doubt(code, what, "Seal again when less is written.") if unsettled else _loss(code, what)


def _loss(code: str, what: str) -> Problem:
    return Problem(code=code, what=what, blame=Blame.BACKUP)


def _environment(code: str, what: str, hint: str) -> Problem:
    return Problem(code=code, what=what, blame=Blame.ENVIRONMENT, hint=hint)


def _doubt(code: str, what: str, hint: str) -> Problem:
    """Return a problem that the original may have had too."""
    return Problem(code=code, what=what, blame=Blame.ENVIRONMENT, hint=hint)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_MOST_NAMES])
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")
