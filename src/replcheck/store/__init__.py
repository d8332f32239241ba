"""The history of runs: what was asked, when, and how it ended. Nothing in it is secret or a row's value."""

from replcheck.store.history import History, open_history
from replcheck.store.places import default_path

__all__ = ["History", "default_path", "open_history"]
