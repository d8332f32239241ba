"""The history of runs: what was asked, when, and how it ended. Nothing in it is secret or a row's value."""

from replcheck.store.history import History, open_history
from replcheck.store.places import default_path
from replcheck.store.reader import HistoryReader, RunFilter, open_reader

__all__ = ["History", "HistoryReader", "RunFilter", "default_path", "open_history", "open_reader"]
