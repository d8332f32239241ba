"""What a check asks of the chain of evidence: its head always, and how it stands where the policy asks for that.

A mark remembers how far a chain was verified, so that a check need not verify it all each time: signed in the history,
or without a key beside it. What was changed behind a mark is found by verifying everything, which a check does once a
day.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from replcheck.check.facts import Facts
from replcheck.model.control import ControlName
from replcheck.model.evidence import EvidenceState
from replcheck.model.outcome import Outcome
from replcheck.runs.check_request import CheckRequest
from replcheck.runs.signing import Signing

_BUDGET_S = 0.4
VERIFIED_EVERY_S = 86_400.0
"""How old a verification may be that a check rests on, before it verifies the whole chain itself."""


def with_evidence(
    request: CheckRequest, store: Path | None, facts: Facts, signing: Signing, *, at_leisure: bool
) -> Facts:
    """Return the facts with how the chain stands; with a key to sign with, how far that came is kept.

    `at_leisure` is whether the whole of it may be verified where that was not done for long: ten seconds for a hundred
    thousand records. Raises ConfigurationError where a key cannot be read, StoreError where the history cannot.
    """
    if ControlName.EVIDENCE not in request.wanted or store is None or not store.exists():
        return facts
    from replcheck.runs.evidence import evidence_state, keys_of  # large, and few checks need it

    keys = keys_of(request.configuration)
    state = evidence_state(store, request.cluster, keys, budget_s=_BUDGET_S, signing=signing, keeps=at_leisure)
    if at_leisure and not state.problem and _is_long_ago(state):
        state = _verified(request, store, state, signing)
    return replace(facts, evidence=state)


def head_before(request: CheckRequest, store: Path | None) -> str:
    """Return the SHA-256 of the newest record of the chain, in hex; empty where there is none."""
    if store is None or not store.exists():
        return ""
    from replcheck.store import open_evidence

    head = open_evidence(store).head(request.cluster)
    return head.sha256 if head is not None else ""


def _is_long_ago(state: EvidenceState) -> bool:
    """Return whether the whole chain was not verified for long, or never."""
    if state.rested_at is None:
        return True
    return (datetime.now(UTC) - state.rested_at).total_seconds() > VERIFIED_EVERY_S


def _verified(request: CheckRequest, store: Path, state: EvidenceState, signing: Signing) -> EvidenceState:
    from replcheck.runs.evidence import keep_mark, keys_of, verify_store
    from replcheck.store import open_evidence

    now = datetime.now(UTC)
    report = verify_store(open_evidence(store), request.cluster, keys_of(request.configuration))
    if report.problem:
        return replace(state, problem=report.problem, outcome=Outcome.REFUTED)
    keep_mark(store, report, signing, at=now)
    return replace(
        state,
        verified=report.records,
        rested=0,
        signed=report.signed,
        unsigned=report.unsigned_records,
        outcome=report.outcome,
        partial=report.partial,
        rested_at=None,
    )
