"""What a check asks of the chain of evidence: its head always, and how it stands where the policy asks for that."""

from dataclasses import replace
from pathlib import Path

from replcheck.check.facts import Facts
from replcheck.runs.check_request import CheckRequest
from replcheck.runs.signing import Signing

_BUDGET_S = 0.4
"""A check has a second: of a chain that takes longer, signed marks remember how far it was verified."""


def with_evidence(request: CheckRequest, store: Path | None, facts: Facts, signing: Signing) -> Facts:
    """Return the facts with how the chain stands; with a key to sign with, how far that came is kept.

    Raises ConfigurationError where a key cannot be read, StoreError where the history cannot.
    """
    if request.policy.evidence is None or store is None or not store.exists():
        return facts
    from replcheck.runs.evidence import evidence_state, keys_of  # large, and few checks need it

    keys = keys_of(request.configuration)
    return replace(facts, evidence=evidence_state(store, request.cluster, keys, budget_s=_BUDGET_S, signing=signing))


def head_before(request: CheckRequest, store: Path | None) -> str:
    """Return the SHA-256 of the newest record of the chain, in hex; empty where there is none."""
    if store is None or not store.exists():
        return ""
    from replcheck.store import open_evidence

    head = open_evidence(store).head(request.cluster)
    return head.sha256 if head is not None else ""
