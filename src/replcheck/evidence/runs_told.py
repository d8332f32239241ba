"""Compares the runs of a history with what the records of its chain tell of them: others read the runs, not the chain.

Whoever can write to a history can change, remove or put in what checks and reports read of runs. A record tells the end
of its run, the SHA-256 of its report, and of an audit what was said of each replica and its alignments. Of samples and
events no record tells.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from replcheck.errors import StoreError
from replcheck.evidence.findings import alignments_digest
from replcheck.evidence.opening import Opened
from replcheck.evidence.statement import ABORTED, document_digest, run_told
from replcheck.model.evidence import EvidenceRecord, Places
from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord, RunStart
from replcheck.store import EvidenceReader
from replcheck.store.proof_rows import Alignments, ProofRow

_AT_A_TIME = 400
_ALWAYS = frozenset({"drill"})
"""Kinds of runs whose reports checks read."""
Rows = Callable[[Plain], list[ProofRow]]
"""Returns the rows that are kept of an audit's report; raises ValueError where it is none."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a history keeps of an audit beside its report."""

    rows: list[ProofRow]
    alignments: Alignments


@dataclass(slots=True, kw_only=True)
class RunsTold:
    """Takes the records of a chain in their order, and remembers the first that the history belies."""

    reader: EvidenceReader
    imported: Places
    """Records that came from another history: their runs need not be here."""
    reports: bool
    """Whether all reports are compared, and not only those that checks read."""
    rows: Rows | None = None
    """Tells what an audit's report says of each replica, exactly; None leaves it at what the record says."""
    newest: frozenset[str] = frozenset()
    """Runs whose reports are always compared."""
    lie: tuple[int, str] | None = None
    """The record that the history belies, and how, as a clause."""
    absent: list[int] = field(default_factory=list)
    """Records whose runs are not here, since they came from another history."""
    held: int = 0
    """Records whose runs are here."""
    _waiting: list[tuple[EvidenceRecord, Opened | None]] = field(default_factory=list)
    _killed: dict[str, int] = field(default_factory=dict)
    """Runs that a record tells to have been killed, and that have an end all the same: until a later one tells it."""

    def take(self, row: EvidenceRecord, line: Opened | None) -> bool:
        """Take the record of a run, None for what lies in an archive; return whether nothing is belied so far."""
        self._waiting.append((row, line))
        return len(self._waiting) < _AT_A_TIME or self.settle()

    def settle(self) -> bool:
        """Compare what was taken; return whether nothing is belied so far."""
        wanted = [row.run_id or "" for row, _ in self._waiting]
        runs, rows = self.reader.runs_of(wanted), self.reader.proof_rows(wanted)
        alignments = self.reader.alignments(wanted)
        for row, line in self._waiting:
            run_id = row.run_id or ""
            parts = _Parts(rows.get(run_id, []), alignments.get(run_id, {}))
            lie = self._lie(row, line, runs.get(run_id), parts)
            if lie and self.lie is None:
                self.lie = (row.sequence, lie)
        self._waiting.clear()
        return self.lie is None

    def end(self) -> None:
        """Compare the rest."""
        if self.settle() and self._killed:
            run_id, sequence = next(iter(self._killed.items()))
            self.lie = (sequence, f"run {run_id} has an end, and no record tells it")

    def _lie(self, row: EvidenceRecord, line: Opened | None, run: RunStart | None, parts: "_Parts") -> str:
        if run is None:
            return self._lie_of_absence(row)
        self.held += 1
        if line is None:
            return ""  # in an archive, which is verified by itself
        if run.cluster != row.cluster:
            return f"run {run.run_id} is kept as one of another cluster"
        if line.held.get("state") == ABORTED and isinstance(run, RunRecord):
            self._killed[run.run_id] = row.sequence
            return ""
        self._killed.pop(run.run_id, None)
        if run_told(run) != line.held:
            return f"it tells another end of run {run.run_id}"
        return next(self._lies_of_parts(line, run, parts), "")

    def _lie_of_absence(self, row: EvidenceRecord) -> str:
        if not any(first <= row.sequence <= last for first, last in self.imported):
            return f"run {row.run_id} was removed, or is damaged"
        self.absent.append(row.sequence)
        return ""

    def _lies_of_parts(self, line: Opened, run: RunStart, parts: "_Parts") -> Iterator[str]:
        if not _told_alike(line, parts.rows):
            yield f"what run {run.run_id} said of the replicas was changed"
        if not _aligned_alike(line, parts.alignments):
            yield f"what run {run.run_id} said of its alignments was changed"
        if self.reports or run.kind in _ALWAYS or run.run_id in self.newest:
            yield from self._lies_of_report(line, run.run_id, parts.rows)

    def _lies_of_report(self, line: Opened, run_id: str, rows: list[ProofRow]) -> Iterator[str]:
        try:
            document = self.reader.result(run_id)
        except StoreError:
            yield f"the report of run {run_id} is damaged"
            return
        if document is None:
            if line.has_result:
                yield f"the report of run {run_id} is missing"
        elif document_digest(document) != line.subject_sha256:
            yield f"the report of run {run_id} was changed"
        elif line.replicas and not self._has_rows(document, rows):
            yield f"what run {run_id} said of the replicas was changed"

    def _has_rows(self, document: Plain, rows: list[ProofRow]) -> bool:
        try:
            return self.rows is None or set(rows) == set(self.rows(document))
        except ValueError:
            return True  # of another version, which tells no more than the record does


def _told_alike(line: Opened, rows: list[ProofRow]) -> bool:
    """Return whether rows say of the replicas what the record says."""
    return line.replicas is None or {row.told for row in rows} == set(line.replicas)


def _aligned_alike(line: Opened, alignments: Alignments) -> bool:
    """Return whether the alignments are those of the record; a history drops all of an audit's at some age."""
    if line.alignments is None or not alignments:
        return True
    told = dict(line.alignments)
    return alignments.keys() <= told.keys() and all(
        alignments_digest(alignments.get(node, ())) == digest for node, digest in told.items()
    )


def imported_sentence(told: RunsTold) -> str:
    """Return of which records the runs are missing, as a clause; empty where none, or all, are."""
    if not told.absent or not told.held:
        return ""
    return (
        f"the runs of {len(told.absent):,} records, {told.absent[0]} to {told.absent[-1]}, are not in this history,"
        " which says that these records were imported"
    )
