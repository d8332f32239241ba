"""Whether runs, and their reports, still are what the chain of evidence recorded of them.

A report of a period rests on what the history holds of its runs. Here that is held against the record that each of them
left. The chain itself is verified elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replcheck.model.plain import Plain
from replcheck.model.run import RunRecord
from replcheck.store import EvidenceReader

REPORT_CHANGED = "it was changed after it was recorded"
_END_CHANGED = "its end was changed after it was recorded"
_UNREADABLE = "its record in the chain of evidence cannot be read"
DOUBTS = frozenset({REPORT_CHANGED, _END_CHANGED, _UNREADABLE})
"""All that may be said here of a run that is not as it was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the record of one run says; `told` is None where the record cannot be read."""

    told: Mapping[str, object] | None
    report_sha256: str = ""


@dataclass(frozen=True, slots=True)
class AsRecorded:
    """What the chain of evidence says of runs, by their ids; of those without a record nothing."""

    _records: Mapping[str, _Record]

    def doubt(self, run: RunRecord) -> str:
        """Return in what the end of a run is not the recorded one, as a clause; empty where it is, or none tells."""
        from replcheck.evidence.statement import run_told

        record = self._records.get(run.run_id)
        if record is None:
            return ""
        if record.told is None:
            return _UNREADABLE
        return "" if record.told == run_told(run) else _END_CHANGED

    def doubt_report(self, run: RunRecord, document: Plain) -> str:
        """Return the same of a run and its report; `document` is None where it has none."""
        from replcheck.evidence.statement import document_digest

        doubt, record = self.doubt(run), self._records.get(run.run_id)
        if doubt or record is None or document is None:
            return doubt
        return "" if record.report_sha256 == document_digest(document) else REPORT_CHANGED

    def tells_of(self, run: RunRecord) -> bool:
        """Return whether there is a record to hold a run against."""
        return run.run_id in self._records


def as_recorded(reader: EvidenceReader, run_ids: Iterable[str]) -> AsRecorded:
    """Return what the records of runs say; what lies in an archive is not read, and tells nothing."""
    from replcheck.evidence.opening import Opened, open_line

    found: dict[str, _Record] = {}
    for run_id, record in reader.of_runs(run_ids).items():
        if record.envelope is None:
            continue
        line = open_line(record.envelope.encode(), {})
        if isinstance(line, Opened):
            found[run_id] = _Record(told=line.held, report_sha256=line.subject_sha256)
        else:
            found[run_id] = _Record(told=None)
    return AsRecorded(found)
