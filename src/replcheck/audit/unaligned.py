"""What an audit reads of one database beside its snapshots: its sequences, and the versions of its software.

Neither follows a snapshot: it is read when the rows are proven, and again where a node went away meanwhile.
"""

import asyncio
from collections.abc import Mapping, Sequence

from replcheck.audit.cluster import Cluster
from replcheck.audit.handles import NodeHandle
from replcheck.audit.parity import compare_software
from replcheck.audit.sequences import SequenceVerdict, bracket_sequences, failed
from replcheck.audit.shortfalls import DATABASE_RENAMED, NO_DATABASE
from replcheck.audit.worker import Job, LaneWorker
from replcheck.errors import DatabaseMissing, NodeError, StatementCancelled, StatementFailed
from replcheck.model.audit import Finding
from replcheck.model.outcome import Outcome
from replcheck.postgres.catalog import Relation
from replcheck.postgres.software import Software, read_software

_BRACKET_TRIES = 5
_SOFTWARE_TRIES = 5


class UnalignedReads:
    """Reads over the sessions of one lane, which must hold no snapshot."""

    def __init__(self, database: str, cluster: Cluster, worker: LaneWorker, job: Job) -> None:
        self._database = database
        self._cluster = cluster
        self._worker = worker
        self._job = job

    async def compare_software(self) -> list[Finding]:
        """Compare the versions of extensions and collations; call it after `run`."""
        findings, versions = list[Finding](), dict[str, Software]()
        for node in self._cluster.nodes:
            found = await self._software_of(node)
            if isinstance(found, Software):
                versions[node.name] = found
            elif found:
                what = f"database {self._database}: versions of extensions and collations not compared: {found}"
                findings.append(Finding(code="software", node=node.name, what=what, outcome=Outcome.PARTIAL))
        there = versions.pop(self._cluster.primary.name, None)
        for name, here in versions.items():
            if there is not None:
                findings += compare_software(self._database, there, here, node=name)
        return findings

    async def _software_of(self, node: NodeHandle) -> Software | str:
        """Return a node's versions, or why they are unknown; empty where something else says that it was not proven."""
        worker, why = self._worker, ""
        for _ in range(_SOFTWARE_TRIES):
            await node.wait_usable()
            absent = self._job.absent.get(node.name)
            if node.gone is not None or absent is not None:
                return absent.reason if absent is not None and node.gone is None and self._is_settled(node) else ""
            try:
                return await read_software(await worker.lane.session(node))
            except DatabaseMissing:
                self._job.absent[node.name] = DATABASE_RENAMED if node is self._cluster.primary else NO_DATABASE
            except NodeError as error:
                if isinstance(error, StatementFailed) and not isinstance(error, StatementCancelled):
                    return error.message
                why = error.message
                await worker.failed(node.name, error)
        return why

    def _is_settled(self, node: NodeHandle) -> bool:
        """Return whether nothing of the rows is left to prove on a node, so that nothing of them says it is absent."""
        names = self._cluster.replicas if node is self._cluster.primary else [node.name]
        return all(proof.finished_for(name) for proof in self._job.queue.proofs.values() for name in names)

    async def bracket(self, sequences: Sequence[Relation]) -> dict[str, Mapping[int, SequenceVerdict]]:
        """Bracket the sequences on every replica; call it after `run`. The keys are replicas, then oids."""
        replicas = self._cluster.replicas.values()
        verdicts = await asyncio.gather(*(self._bracket_on(replica, sequences) for replica in replicas))
        return {replica.name: found for replica, found in zip(replicas, verdicts, strict=True)}

    async def _bracket_on(self, replica: NodeHandle, sequences: Sequence[Relation]) -> Mapping[int, SequenceVerdict]:
        error: NodeError | None = None
        for _ in range(_BRACKET_TRIES):
            for node in (replica, self._cluster.primary):
                await node.wait_usable()
                why = node.gone or self._job.absent.get(node.name)
                if why is not None:
                    lack = SequenceVerdict(verdict=why.verdict, reason=why.reason)
                    return {sequence.oid: lack for sequence in sequences}
            try:
                return await bracket_sequences(
                    sequences,
                    primary=self._cluster.primary,
                    replica=replica,
                    sessions=self._worker.lane.session,
                    options=self._cluster.options,
                )
            except NodeError as failure:
                error = failure
                await self._worker.failed(failure.node, failure)
        return failed(error, sequences) if error else {}
