"""Signs and words of how urgently a relation wants to be looked at."""

from replcheck.model.outcome import Outcome
from replcheck.tui.audit_state import Rank

RANK_WORD = {
    Rank.DIVERGED: "diverged",
    Rank.UNCHECKED: "unchecked",
    Rank.INCONCLUSIVE: "inconclusive",
    Rank.READING: "reading",
    Rank.WAITING: "not yet",
    Rank.PROVEN: "consistent",
}
RANK_OUTCOME = {
    Rank.DIVERGED: Outcome.REFUTED,
    Rank.UNCHECKED: Outcome.UNCHECKED,
    Rank.INCONCLUSIVE: Outcome.PARTIAL,
    Rank.READING: None,
    Rank.WAITING: None,
    Rank.PROVEN: Outcome.PROVEN,
}
