"""Checks the B-tree indexes of one database against their tables, on every node, once its rows were compared.

One index at a time on a node, all nodes at once. The primary says which there are; what came into being meanwhile is
checked too. What was not checked to its end is told, and never counts as sound.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from replcheck.audit.cluster import Cluster
from replcheck.audit.index_checks import NodeChecker
from replcheck.audit.index_verdicts import Checked, IndexFindings, index_findings
from replcheck.audit.shortfalls import Shortfall
from replcheck.events import IndexesListed
from replcheck.postgres.amcheck import BTREE, Index
from replcheck.postgres.catalog import Relation

_ROUNDS = 3
"""How often indexes are looked for that came into being while the others were checked (REINDEX CONCURRENTLY)."""


class IndexAudit:
    """The indexes of one database; what was found can be read at any time, also after it was cancelled."""

    def __init__(self, database: str, cluster: Cluster) -> None:
        self._database = database
        self._cluster = cluster
        self._tables: Mapping[int, Relation] = {}
        self._indexes: dict[int, Index] = {}
        self._listed = False
        self._gone: frozenset[int] = frozenset()
        self._checkers = {node.name: NodeChecker(node, database, cluster) for node in cluster.nodes}

    async def run(self, tables: Iterable[Relation]) -> None:
        """Check every index of these tables on every node that can be asked."""
        self._tables = {table.oid: table for table in tables}
        new = await self._list_new()
        for _ in range(_ROUNDS):
            if not new:
                return
            await asyncio.gather(*(checker.check(new, self._tables) for checker in self._checkers.values()))
            new = await self._list_new()

    def findings(self, left_over: Shortfall) -> IndexFindings:
        """Fold what was found so far; `left_over` is why the rest was not looked at."""
        if not self._cluster.options.indexes:
            return IndexFindings()
        return index_findings(
            Checked(
                database=self._database,
                listed=self._listed,
                tables=self._tables,
                indexes={oid: index for oid, index in self._indexes.items() if oid not in self._gone},
                states={name: checker.states for name, checker in self._checkers.items()},
                lacks={name: lack for name, checker in self._checkers.items() if (lack := checker.lack) is not None},
                left_over=left_over,
                versions={node.name: node.facts.version_num for node in self._cluster.nodes},
            )
        )

    async def cancel(self) -> None:
        """End what the checks are doing on the servers, and close their sessions."""
        await asyncio.gather(*(checker.cancel() for checker in self._checkers.values()))

    async def close(self) -> None:
        """Close the sessions."""
        await asyncio.gather(*(checker.close() for checker in self._checkers.values()))

    async def _list_new(self) -> list[Index]:
        """Return what is to be checked and was not listed before, and note what was dropped; none without a primary."""
        primary = self._checkers[self._cluster.primary.name]
        listed = await primary.list_indexes(self._tables)
        if listed is None:
            return []
        self._listed = True
        self._gone = frozenset(
            oid for oid, index in self._indexes.items() if oid not in listed or (index.valid and not listed[oid].valid)
        )
        new = [index for oid, index in listed.items() if oid not in self._indexes]
        self._indexes |= {index.oid: index for index in new}
        if new:
            count = sum(index.valid and index.method == BTREE for index in new)
            self._cluster.emit(IndexesListed(at=datetime.now(UTC), database=self._database, indexes=count))
        return [index for index in new if index.valid and index.method == BTREE]
