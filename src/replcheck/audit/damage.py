"""Catalogs of one database that a node cannot read, so that nothing of that database can be listed or read there.

It concerns that database alone. Like every difference it counts only when it was seen twice, and only where another
node can read what this one cannot.
"""

import re
from collections.abc import Iterable

from replcheck.audit.shortfalls import Shortfall
from replcheck.audit.verdicts import ALL_CATALOGS, catalog_divergence
from replcheck.errors import NodeError, StatementFailed
from replcheck.model.audit import Divergence
from replcheck.model.outcome import Verdict
from replcheck.postgres.catalog import Relation
from replcheck.postgres.failures import is_corruption

_FILE = re.compile(r'"?base/(\d+)/(\d+)')


class CatalogDamage:
    """What the nodes could not read of one database's catalogs; shared by its lanes."""

    def __init__(self, database: str, oid: int) -> None:
        self._database = database
        self._oid = oid
        self._suspected: set[str] = set()
        self._believed: dict[str, StatementFailed] = {}
        self._readers: set[str] = set()
        self._labels: dict[int, str] = {}

    def concerns(self, error: NodeError) -> bool:
        """Return whether an error says that a file of this database, or one that all share, cannot be read."""
        if not isinstance(error, StatementFailed) or not is_corruption(error):
            return False
        file = _FILE.search(error.detail)
        return file is None or int(file.group(1)) == self._oid

    def saw(self, node: str, error: NodeError) -> Shortfall | None:
        """Take note that a node could not read; return why it can't be compared, None at the first time."""
        if node not in self._suspected:
            self._suspected.add(node)
            return None
        assert isinstance(error, StatementFailed)  # noqa: S101 - only what `concerns` this database comes here
        self._believed.setdefault(node, error)
        return Shortfall(
            code="catalog_damage",
            reason=f"it cannot read the catalogs of the database: {error.message}",
            verdict=Verdict.UNCHECKED,
            hint=f'Look for I/O errors on node "{node}"; copy it anew only where it is a standby.',
        )

    def read(self, node: str, relations: Iterable[Relation]) -> None:
        """Take note that a node could list the whole database: what it could not before has passed."""
        self._readers.add(node)
        self._suspected.discard(node)
        self._labels |= {relation.filenode_now: relation.label for relation in relations if relation.filenode_now}

    @property
    def unsettled(self) -> bool:
        """Return whether a node failed once, so that it must be looked at again."""
        return bool(self._suspected - self._believed.keys())

    @property
    def unwitnessed(self) -> bool:
        """Return whether nodes are believed to be damaged, and nobody has shown yet that the database can be read."""
        return bool(self._believed) and not self._readers

    @property
    def divergences(self) -> list[Divergence]:
        """Return what nodes cannot read that another can."""
        return [
            catalog_divergence(self._database, self._label(error), node, error.sqlstate, error.block)
            for node, error in self._believed.items()
            if self._readers - {node}
        ]

    @property
    def votes(self) -> list[str | None]:
        """Return, for each divergence, the node that stands alone; None where nobody can say."""
        others = {node: self._readers - {node} for node in self._believed}
        return [node if len(readers) > 1 else None for node, readers in others.items() if readers]

    def _label(self, error: StatementFailed) -> str:
        file = _FILE.search(error.detail)
        return self._labels.get(int(file.group(2)), ALL_CATALOGS) if file else ALL_CATALOGS
