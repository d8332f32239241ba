"""The history of runs: what was asked, when, and how it ended. Nothing in it is secret or a row's value.

What needs the database library is loaded when it is first asked for: a run that keeps no record needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from replcheck.store.places import default_path

if TYPE_CHECKING:
    from replcheck.store.audit_parts import AuditParts
    from replcheck.store.check_reader import CheckReader, DamagedRow, open_check_reader
    from replcheck.store.evidence_reader import EvidenceReader, open_evidence
    from replcheck.store.history import History, open_history
    from replcheck.store.live import LiveWriter, open_live_writer
    from replcheck.store.live_reader import LiveReader, StoredEvent, StoredView, open_live_reader
    from replcheck.store.reader import HistoryReader, RunFilter, open_reader
    from replcheck.store.thinning import KEEP_FOR_EVER, Keep

__all__ = [
    "KEEP_FOR_EVER",
    "AuditParts",
    "CheckReader",
    "DamagedRow",
    "EvidenceReader",
    "History",
    "HistoryReader",
    "Keep",
    "LiveReader",
    "LiveWriter",
    "RunFilter",
    "StoredEvent",
    "StoredView",
    "default_path",
    "open_check_reader",
    "open_evidence",
    "open_history",
    "open_live_reader",
    "open_live_writer",
    "open_reader",
]

_LIES_IN = {
    "KEEP_FOR_EVER": "thinning",
    "AuditParts": "audit_parts",
    "CheckReader": "check_reader",
    "DamagedRow": "check_reader",
    "EvidenceReader": "evidence_reader",
    "History": "history",
    "HistoryReader": "reader",
    "Keep": "thinning",
    "LiveReader": "live_reader",
    "LiveWriter": "live",
    "RunFilter": "reader",
    "StoredEvent": "live_reader",
    "StoredView": "live_reader",
    "open_check_reader": "check_reader",
    "open_evidence": "evidence_reader",
    "open_history": "history",
    "open_live_reader": "live_reader",
    "open_live_writer": "live",
    "open_reader": "reader",
}


def __getattr__(name: str) -> Any:
    if name not in _LIES_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LIES_IN[name]}"), name)
