"""The history of runs: what was asked, when, and how it ended. Nothing in it is secret or a row's value.

What needs the database library is loaded when it is first asked for: a run that keeps no record needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from replcheck.store.places import default_path

if TYPE_CHECKING:
    from replcheck.store.evidence_reader import EvidenceReader, open_evidence
    from replcheck.store.history import History, open_history
    from replcheck.store.reader import HistoryReader, RunFilter, open_reader

__all__ = [
    "EvidenceReader",
    "History",
    "HistoryReader",
    "RunFilter",
    "default_path",
    "open_evidence",
    "open_history",
    "open_reader",
]

_LIES_IN = {
    "EvidenceReader": "evidence_reader",
    "History": "history",
    "open_evidence": "evidence_reader",
    "open_history": "history",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LIES_IN.get(name, 'reader')}"), name)
