"""Reads the chains of evidence in a history, without writing to it. What is read is told as it stands, not judged."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Select, func, inspect, or_, select

from replcheck.model.evidence import EarlierRuns, EvidenceRecord, Places, RecordKind
from replcheck.model.run import RunStart
from replcheck.store.evidence import EVIDENCE, MARKS, head, imported, stored_record, unrecorded_ends
from replcheck.store.history import stored_start
from replcheck.store.live_tables import ALIGNMENTS, AUDIT_NODES, LIVE_STATES
from replcheck.store.proof_rows import Alignments, ProofRow, alignments_of, rows_of
from replcheck.store.reader import HistoryReader, RunFilter, open_reader
from replcheck.store.tables import RECORDS, RESULTS, RUNS

_ROWS_AT_A_TIME = 500


def open_evidence(path: Path) -> "EvidenceReader":
    """Open the chains of an existing history; raise StoreError where it cannot be read by this replcheck."""
    open_reader(path)
    return EvidenceReader(path)


class EvidenceReader(HistoryReader):
    """The chains of one history; every method raises StoreError where the file cannot be read or is damaged."""

    def clusters(self) -> tuple[str, ...]:
        """Return the clusters that have a chain, sorted."""
        with self._connected() as connection:
            if not _kept(connection):
                return ()
            return tuple(connection.scalars(select(EVIDENCE.c.cluster).distinct().order_by(EVIDENCE.c.cluster)))

    def head(self, cluster: str) -> EvidenceRecord | None:
        """Return the last record of a chain; None where it has not begun."""
        with self._connected() as connection:
            return head(connection, cluster) if _kept(connection) else None

    def records(
        self, cluster: str, *, first: int = 1, last: int | None = None, newest_first: bool = False, kept: bool = False
    ) -> Iterator[EvidenceRecord]:
        """Yield the records of a chain in their order, a few at a time, as of one moment.

        With `kept`, without those that lie in an archive.
        """
        limits: list[ColumnElement[bool]] = [EVIDENCE.c.cluster == cluster, EVIDENCE.c.sequence >= first]
        if last is not None:
            limits.append(EVIDENCE.c.sequence <= last)
        if kept:
            limits.append(EVIDENCE.c.envelope.is_not(None))
        order = EVIDENCE.c.sequence.desc() if newest_first else EVIDENCE.c.sequence
        with self._connected() as connection:
            if not _kept(connection):
                return
            rows = connection.execution_options(yield_per=_ROWS_AT_A_TIME).execute(
                select(EVIDENCE).where(*limits).order_by(order)
            )
            for row in rows:
                yield stored_record(row)

    def of_runs(self, run_ids: Iterable[str]) -> Mapping[str, EvidenceRecord]:
        """Return the record of each run that has one: the last, where a run was first taken for killed."""
        wanted = list(run_ids)
        with self._connected() as connection:
            if not wanted or not _kept(connection):
                return {}
            of_runs = select(EVIDENCE).where(EVIDENCE.c.kind == RecordKind.RUN.value).order_by(EVIDENCE.c.sequence)
            return {
                row.run_id: stored_record(row)
                for at in range(0, len(wanted), _ROWS_AT_A_TIME)
                for row in connection.execute(of_runs.where(EVIDENCE.c.run_id.in_(wanted[at : at + _ROWS_AT_A_TIME])))
            }

    def runs_of(self, run_ids: Sequence[str]) -> Mapping[str, RunStart]:
        """Return the runs with these ids that the history holds, as it holds them; not more than a few hundred."""
        found = self.runs(RunFilter(run_ids=frozenset(run_ids)))
        return {run.run_id: run for run in found}

    def proof_rows(self, run_ids: Sequence[str]) -> Mapping[str, list[ProofRow]]:
        """Return what is kept of what audits said of each replica; not for more than a few hundred runs."""
        with self._connected() as connection:
            return rows_of(connection, run_ids) if inspect(connection).has_table(AUDIT_NODES.name) else {}

    def alignments(self, run_ids: Sequence[str]) -> Mapping[str, Alignments]:
        """Return what is kept of the alignments of audits; not for more than a few hundred runs."""
        with self._connected() as connection:
            return alignments_of(connection, run_ids) if inspect(connection).has_table(ALIGNMENTS.name) else {}

    def imported(self, cluster: str) -> Places:
        """Return which records of a chain came from another history, as this one says."""
        with self._connected() as connection:
            return imported(connection, cluster) if inspect(connection).has_table(LIVE_STATES.name) else ()

    def endless_parts(self, cluster: str) -> str | None:
        """Return a run that has no end and yet a report, or something that is kept of an audit; None for none."""
        parts = [RUNS.c.run_id.in_(select(table.c.run_id)) for table in (RESULTS, AUDIT_NODES)]
        endless = select(RUNS.c.run_id).outerjoin(RECORDS, RECORDS.c.run_id == RUNS.c.run_id)
        endless = endless.where(RUNS.c.cluster == cluster, RECORDS.c.run_id.is_(None), or_(*parts)).limit(1)
        with self._connected() as connection:
            run_id: str | None = connection.scalar(endless) if _kept(connection) else None
            return run_id

    def notes(self, run_id: str) -> tuple[EvidenceRecord, ...]:
        """Return the notes about the record of a run, in their order."""
        with self._connected() as connection:
            if not _kept(connection):
                return ()
            statement = select(EVIDENCE).where(EVIDENCE.c.kind == RecordKind.NOTE.value, EVIDENCE.c.run_id == run_id)
            return tuple(stored_record(row) for row in connection.execute(statement.order_by(EVIDENCE.c.sequence)))

    def unrecorded_ends(self, cluster: str) -> EarlierRuns:
        """Return the runs that ended and of which no record tells."""
        with self._connected() as connection:
            return unrecorded_ends(connection, cluster)

    def unended(self, cluster: str) -> list[RunStart]:
        """Return the runs of a cluster that have no end and of which no record tells, oldest first."""
        with self._connected() as connection:
            if not _kept(connection):
                return []
            lone = select(RUNS).outerjoin(EVIDENCE, EVIDENCE.c.run_id == RUNS.c.run_id)
            # Not as a join: SQLite would look each run up among them.
            lone = lone.where(RUNS.c.run_id.in_(_endless()), RUNS.c.cluster == cluster, EVIDENCE.c.run_id.is_(None))
            return [stored_start(row) for row in connection.execute(lone.order_by(RUNS.c.run_id))]

    def mark(self, cluster: str) -> str | None:
        """Return the statement of up to where a chain was last verified; None where there is none."""
        with self._connected() as connection:
            if not _kept(connection):
                return None
            envelope: str | None = connection.scalar(select(MARKS.c.envelope).where(MARKS.c.cluster == cluster))
            return envelope


def _endless() -> Select[tuple[str]]:
    """Return the ids of the runs that have no end, newest first.

    As many runs as there are more of than of ends have none. Such runs are young, as a rule, so that all of them are
    found before many others were looked at.
    """
    many = select(func.count()).select_from(RUNS).scalar_subquery()
    ended = select(func.count()).select_from(RECORDS).scalar_subquery()
    without = select(RUNS.c.run_id).outerjoin(RECORDS, RECORDS.c.run_id == RUNS.c.run_id)
    return without.where(RECORDS.c.run_id.is_(None)).order_by(RUNS.c.run_id.desc()).limit(many - ended)


def _kept(connection: Connection) -> bool:
    """Return whether the history is of a version that keeps evidence."""
    return inspect(connection).has_table(EVIDENCE.name)
