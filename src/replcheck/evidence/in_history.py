"""Verifies the chain in a history: its records, what stands beside them, and the runs that they tell of.

A history is read as others use it: should the end of a run, or its report, have been changed after it was recorded, the
record tells.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replcheck.evidence.chain import View, judge
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.marks import contradiction, read_mark
from replcheck.evidence.opening import Opened, Unreadable
from replcheck.evidence.runs_told import Rows, RunsTold, imported_sentence
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.evidence.verifying import Line, opened
from replcheck.model.evidence import ChainReport, EarlierRuns, EvidenceRecord, RecordKind
from replcheck.model.plain import utc_text
from replcheck.store import EvidenceReader, RunFilter

_NEWEST_CHECKS = 3
"""Whose reports checks read: what the newest one saw."""
_RUN = PREDICATE_TYPES[RecordKind.RUN]


def verify_history(
    reader: EvidenceReader,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    anchor: str | None = None,
    reports: bool = False,
    every_signature: bool = False,
    rows: Rows | None = None,
) -> ChainReport:
    """Return what is found of a cluster's chain, and of the runs that it tells of.

    With `reports` all stored reports are compared with their records, else those of drills and of the newest checks;
    `rows` tells what a history keeps beside an audit's report. Where there are many records, signatures that later ones
    attest are verified with `every_signature` only. Raises StoreError where the history cannot be read.
    """
    mark = read_mark(reader.mark(cluster), keys)  # before the records: others may append, and move it, meanwhile
    newest = reader.runs(RunFilter(cluster=cluster, kind="check"), limit=_NEWEST_CHECKS)
    told = RunsTold(
        reader=reader,
        imported=reader.imported(cluster),
        reports=reports,
        rows=rows,
        newest=frozenset(run.run_id for run in newest),
    )
    lines = _Lines(reader, told, every_signature=every_signature)
    report = judge(lines.opened(cluster, keys), View.HISTORY, anchor=anchor)
    if told.lie is not None:
        sequence, lie = told.lie
        return replace(report, problem=f"record {sequence} is belied by the history: {lie}", broken_at=sequence)
    if not report.problem and mark is not None:
        problem = contradiction(reader, cluster, mark)
        report = replace(report, problem=problem, broken_at=mark.last if problem else None)
    return _with_unrecorded(reader, replace(report, partial=imported_sentence(told)), told)


def _with_unrecorded(reader: EvidenceReader, report: ChainReport, told: RunsTold) -> ChainReport:
    """Return the report with what is wrong with runs of which no record tells."""
    if report.problem or report.earlier is None:
        return report
    problem = _wrong_with_ends(reader.unrecorded_ends(report.cluster), report, told)
    endless = reader.endless_parts(report.cluster)
    if not problem and endless is not None:
        problem = f"run {endless} has a result and no end: it was put in, or its end was removed"
    return replace(report, problem=problem, broken_at=None) if problem else report


def _wrong_with_ends(found: EarlierRuns, report: ChainReport, told: RunsTold) -> str:
    earlier = report.earlier
    # A chain that was imported from its beginning tells of runs that this history never held.
    if earlier is None or found == earlier or (found.count == 0 and any(first == 1 for first, _ in told.imported)):
        return ""
    if found.count > earlier.count:
        many = found.count - earlier.count
        return f"runs ended without a record ({many}): records were cut off behind {report.last}"
    return "runs that ended before the chain were changed or removed"


@dataclass(slots=True)
class _Lines:
    """Opens the lines of a chain, and compares each with what the history holds beside it."""

    reader: EvidenceReader
    told: RunsTold
    every_signature: bool
    _rows: deque[EvidenceRecord] = field(default_factory=deque)

    def opened(self, cluster: str, keys: Sequence[PublicKey]) -> Iterator[Line]:
        for line in opened(self._lines(cluster), keys, every_signature=self.every_signature):
            row = self._rows.popleft()
            yield line if isinstance(line, Unreadable) or fits(row, line) else MISFIT
            if isinstance(line, Opened) and line.predicate_type == _RUN and not self.told.take(row, line):
                return
        self.told.end()

    def _lines(self, cluster: str) -> Iterator[bytes]:
        began = False
        for record in self.reader.records(cluster):
            if record.envelope is None and not began:
                # It lies in an archive, of which a checkpoint must tell.
                if record.kind is RecordKind.RUN and not self.told.take(record, None):
                    return
                continue
            began = True
            self._rows.append(record)
            yield (record.envelope or "").encode()


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
