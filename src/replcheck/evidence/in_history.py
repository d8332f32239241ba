"""Verifies the chain in a history: its records, what stands beside them, and the runs that they tell of.

A history is read as others use it: should the end of a run, or its report, have been changed after it was recorded, the
record tells.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replcheck.errors import StoreError
from replcheck.evidence.chain import View, judge
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.marks import contradiction, read_mark
from replcheck.evidence.opening import Opened, Unreadable
from replcheck.evidence.statement import ABORTED, PREDICATE_TYPES, document_digest, run_told
from replcheck.evidence.verifying import Line, opened
from replcheck.model.evidence import ChainReport, EvidenceRecord, RecordKind
from replcheck.model.plain import utc_text
from replcheck.model.run import RunRecord, RunStart
from replcheck.store import EvidenceReader

_AT_A_TIME = 400
_RUN = PREDICATE_TYPES[RecordKind.RUN]


def verify_history(
    reader: EvidenceReader,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    anchor: str | None = None,
    reports: bool = False,
    every_signature: bool = False,
) -> ChainReport:
    """Return what is found of a cluster's chain; with `reports`, stored reports are compared with their records too.

    Where there are many records, signatures that later ones attest are verified with `every_signature` only. Raises
    StoreError where the history cannot be read.
    """
    mark = read_mark(reader.mark(cluster), keys)  # before the records: others may append, and move it, meanwhile
    lines = _Lines(reader, reports=reports, every_signature=every_signature)
    report = judge(lines.opened(cluster, keys), View.HISTORY, anchor=anchor)
    if lines.belied is not None:
        return replace(report, problem=lines.belied[1], broken_at=lines.belied[0])
    if not report.problem and mark is not None:
        problem = contradiction(reader, cluster, mark)
        report = replace(report, problem=problem, broken_at=mark.last if problem else None)
    return _with_unrecorded_ends(reader, report)


def _with_unrecorded_ends(reader: EvidenceReader, report: ChainReport) -> ChainReport:
    if report.problem or report.earlier is None:
        return report
    found, told = reader.unrecorded_ends(report.cluster), report.earlier
    # A chain that was imported tells of runs that this history never held.
    if found.count == 0 or found == told:
        return report
    if found.count > told.count:
        problem = f"runs ended without a record ({found.count - told.count}): records were cut off behind {report.last}"
    else:
        problem = "runs that ended before the chain were changed or removed"
    return replace(report, problem=problem, broken_at=None)


@dataclass(slots=True)
class _Lines:
    """Opens the lines of a chain, and compares each with what the history holds beside it."""

    reader: EvidenceReader
    reports: bool
    every_signature: bool
    belied: tuple[int, str] | None = None
    """The record that the history belies, and how."""
    _rows: deque[EvidenceRecord] = field(default_factory=deque)
    _runs: list[tuple[EvidenceRecord, Opened]] = field(default_factory=list)

    def opened(self, cluster: str, keys: Sequence[PublicKey]) -> Iterator[Line]:
        for line in opened(self._lines(cluster), keys, every_signature=self.every_signature):
            row = self._rows.popleft()
            yield line if isinstance(line, Unreadable) or fits(row, line) else MISFIT
            if isinstance(line, Opened) and line.predicate_type == _RUN:
                self._runs.append((row, line))
            if len(self._runs) >= _AT_A_TIME and self._finds_a_lie():
                return
        self._finds_a_lie()

    def _lines(self, cluster: str) -> Iterator[bytes]:
        began = False
        for record in self.reader.records(cluster):
            if record.envelope is None and not began:
                continue  # it lies in an archive, of which a checkpoint must tell
            began = True
            self._rows.append(record)
            yield (record.envelope or "").encode()

    def _finds_a_lie(self) -> bool:
        stored = self.reader.runs_of([run_id_of(line) or "" for _, line in self._runs])
        for row, line in self._runs:
            run = stored.get(run_id_of(line) or "")
            lie = self._lie(line, run) if run is not None else ""
            if lie and self.belied is None:
                self.belied = (row.sequence, f"record {row.sequence} is belied by the history: {lie}")
        self._runs.clear()
        return self.belied is not None

    def _lie(self, line: Opened, run: RunStart) -> str:
        told: Mapping[str, object] = line.held
        if told.get("state") == ABORTED and isinstance(run, RunRecord):
            return ""  # it was taken for killed, and a later record tells of its end
        if run_told(run) != told:
            return f"it tells another end of run {run.run_id}"
        return self._lie_of_report(line, run.run_id) if self.reports else ""

    def _lie_of_report(self, line: Opened, run_id: str) -> str:
        try:
            document = self.reader.result(run_id)
        except StoreError:
            return f"the report of run {run_id} is damaged"
        if document is not None and document_digest(document) != line.subject_sha256:
            return f"the report of run {run_id} was changed"
        return ""


MISFIT = Unreadable("what the history keeps beside it is not what it says")


def fits(row: EvidenceRecord, line: Opened) -> bool:
    """Return whether what a history keeps beside a record is what the record says."""
    said = (line.cluster, line.chain_id, line.sequence, line.sha256, line.previous, line.key_id, line.recorded_at)
    kept = (row.cluster, row.chain_id, row.sequence, row.sha256, row.previous, row.key_id, utc_text(row.recorded_at))
    return said == kept and (PREDICATE_TYPES[row.kind], row.run_id) == (line.predicate_type, run_id_of(line))


def run_id_of(line: Opened) -> str | None:
    """Return the run that a record is about, or that the record is about on which it is a note; None for none."""
    about = line.held.get("about") if line.predicate_type == PREDICATE_TYPES[RecordKind.NOTE] else line.held
    run_id = about.get("run_id") if isinstance(about, Mapping) else None
    return run_id if isinstance(run_id, str) else None
