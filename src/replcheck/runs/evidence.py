"""The use cases of `evidence` that only read: which chain and keys are meant, is it whole, how does it stand.

Whoever verifies needs public keys alone; with a configuration, that is the one beside its signing key, and those of
earlier keys.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.config.model import Configuration
from replcheck.errors import ReplcheckError, StoreError, UsageError
from replcheck.evidence.chain import joined, without_anchor
from replcheck.evidence.in_history import verify_history
from replcheck.evidence.keys import PublicKey, load_public_key, public_key_of, public_path_of
from replcheck.evidence.marks import Mark, mark_after, mark_extent, unsigned_mark_after
from replcheck.evidence.standing import state_of
from replcheck.evidence.verifying import verify_file
from replcheck.model.evidence import ChainReport, EvidenceHead, EvidenceRecord, EvidenceState, head_of
from replcheck.model.names import printable
from replcheck.model.plain import Plain
from replcheck.runs.signing import UNSIGNED, Signing
from replcheck.runs.unsigned_marks import keep_unsigned_mark, read_unsigned_mark
from replcheck.store import EvidenceReader, open_evidence, open_history

if TYPE_CHECKING:
    from replcheck.store.proof_rows import ProofRow


def keys_of(configuration: Configuration | None) -> tuple[PublicKey, ...]:
    """Return the public keys of a configuration; raise ConfigurationError where one cannot be read."""
    if configuration is None:
        return ()
    output = configuration.output
    keys = [load_public_key(Path(path)) for path in output.public_keys]
    if output.signing_key is not None:
        private = Path(output.signing_key)
        public = public_path_of(private)
        keys.append(load_public_key(public) if public.exists() else public_key_of(private))
    return tuple(keys)


def named_keys(paths: Sequence[Path]) -> tuple[PublicKey, ...]:
    """Return the public keys in files; raise ConfigurationError where one cannot be read."""
    return tuple(load_public_key(path) for path in paths)


def chain_of(reader: EvidenceReader, wanted: str | None, configured: str | None) -> str:
    """Return the cluster whose chain is meant: the one that is named, configured, or the only one of the history.

    Raises StoreError where the history has no such chain, UsageError where it has several and none is named.
    """
    clusters = reader.clusters()
    named = wanted or configured
    if named is None and len(clusters) > 1:
        raise UsageError(
            f"the history {reader.path} holds the evidence of several clusters: {', '.join(map(printable, clusters))}",
            hint="Name one with --cluster.",
        )
    if not clusters or (named is not None and named not in clusters):
        of = f" of {printable(named)}" if named is not None else ""
        raise StoreError(
            f"history {reader.path} holds no evidence{of} yet",
            hint="It begins with the next run that is recorded there.",
        )
    return named or clusters[0]


def verify_store(
    reader: EvidenceReader,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    anchor: str | None = None,
    reports: bool = False,
    every_signature: bool = False,
) -> ChainReport:
    """Return what is found of a chain.

    With `reports`, the stored reports are compared with their records too. Raises StoreError where it cannot be read.
    """
    report = verify_history(
        reader,
        cluster,
        keys,
        anchor=anchor,
        reports=reports,
        every_signature=every_signature,
        rows=_proof_rows if reports else None,
    )
    return without_anchor([report])[0] if anchor is not None else report


def verify_files(
    paths: Sequence[Path], keys: Sequence[PublicKey], *, anchor: str | None = None, every_signature: bool = False
) -> list[ChainReport]:
    """Return what is found of exported files, each of which has to follow the one before it.

    The anchor has to be in one of them. Raises UsageError where one cannot be read.
    """
    reports = joined([verify_file(path, keys, anchor=anchor, every_signature=every_signature) for path in paths])
    return without_anchor(reports) if anchor is not None else reports


def keep_mark(store: Path, report: ChainReport, signing: Signing, *, at: datetime) -> bool:
    """Keep that a chain was verified as a whole, where it was; return whether it is kept.

    A key signs it; of a chain of which no record is signed it is kept beside the history without one.
    Costs later answers time where it cannot be kept, and nothing else: no failure is told.
    """
    if signing.key is None:
        unsigned = unsigned_mark_after(report, at)
        return unsigned is not None and keep_unsigned_mark(store, report.cluster, unsigned)
    mark = mark_after(report, at)
    return mark is not None and _keep(store, report.cluster, mark, signing)


def evidence_state(
    store: Path,
    cluster: str,
    keys: Sequence[PublicKey],
    *,
    budget_s: float = 0.4,
    signing: Signing = UNSIGNED,
    keeps: bool = False,
) -> EvidenceState:
    """Return how a cluster's chain stands, verified from its newest record back for about `budget_s` seconds.

    With a key to sign with, how far that came is kept, so that the next answer has less to verify; where there is no
    key at all, beside the history, if `keeps`. Raises StoreError where the history cannot be read. A chain that has not
    begun is UNCHECKED.
    """
    unsigned = read_unsigned_mark(store, cluster) if not keys else None
    state, mark = state_of(open_evidence(store), cluster, keys, budget_s=budget_s, unsigned_mark=unsigned)
    if mark is not None and keys:
        _keep(store, cluster, mark, signing)
    elif mark is not None and keeps:
        keep_unsigned_mark(store, cluster, mark)
    return state


def evidence_head(store: Path, cluster: str) -> EvidenceHead | None:
    """Return the last record of a cluster's chain, to be kept elsewhere; None where the chain has not begun."""
    return head_of(open_evidence(store).head(cluster))


def record_about(reader: EvidenceReader, cluster: str, *, run_id: str | None, sequence: int | None) -> EvidenceRecord:
    """Return the record of a run, or that of a place in a chain; raise UsageError where there is none."""
    if run_id is not None:
        found = reader.of_runs([run_id]).get(run_id)
    else:
        at = sequence or 0
        found = next(reader.records(cluster, first=at, last=at), None)
    if found is None:
        what = f"run {run_id}" if run_id is not None else f"{printable(cluster)} at place {sequence}"
        raise UsageError(f"there is no record of {what}", hint="Runs before the chain began have none.")
    return found


def _proof_rows(document: Plain) -> "list[ProofRow]":
    """Return what a history keeps of what an audit said of each replica; raise ValueError where it is no audit's."""
    from replcheck.report.reading import audit_result
    from replcheck.runs.parts import proofs_of
    from replcheck.store.proof_rows import row_of

    return [row_of(proof) for proof in proofs_of(audit_result(document))]


def _keep(store: Path, cluster: str, mark: Mark, signing: Signing) -> bool:
    if signing.key is None:
        return False
    with suppress(ReplcheckError):
        envelope = signing.notary().mark(mark_extent(cluster, mark), mark.head)
        open_history(store).keep_evidence_mark(cluster, envelope)
        return True
    return False
