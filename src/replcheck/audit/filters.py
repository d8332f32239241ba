"""Which filter a relation is read through, and what becomes of one that does not fit it.

A filter is checked on the primary before any row is read, where a wrong one ends the run, and again for every relation
that is listed under another definition; then a filter that no longer fits leaves the relation unchecked.
"""

from collections.abc import Sequence
from dataclasses import replace

from replcheck.audit.plan import matches
from replcheck.errors import StatementCancelled, UsageError
from replcheck.model.audit import RelationKind
from replcheck.model.filters import RowFilter
from replcheck.model.names import quoted
from replcheck.postgres.catalog import Relation
from replcheck.postgres.nodes import text
from replcheck.postgres.session import Session

_FILTERED = (RelationKind.TABLE, RelationKind.MATERIALIZED_VIEW)


class RelationFilters:
    """The filters of one audit, and what they come to on the definitions that were met."""

    def __init__(self, filters: Sequence[RowFilter] = ()) -> None:
        self.all = tuple(filters)
        self._checked: dict[tuple[str, int, int, str], bytes] = {}
        """Conditions by database, oid and definition token of the relation, and digest of the filter."""

    async def check(self, session: Session, relations: Sequence[Relation], database: str) -> set[RowFilter]:
        """Return the filters that relations of a database are read through; raise UsageError for one that can't be."""
        used = set()
        for relation in relations:
            chosen = [found for found in self.all if matches(relation, (found.pattern,), database)]
            if len(chosen) > 1:
                raise UsageError(
                    f"{relation.label} in database {database} is matched by {len(chosen)} filters",
                    hint="Join them by AND, or make the patterns of --where narrower.",
                )
            used.update(chosen)
            if chosen and relation.readable and relation.schema_usable:
                try:
                    await self._condition(session, relation, chosen[0], database)
                except StatementCancelled:
                    # Somebody holds a lock on it: it is checked again when it is planned.
                    continue
        return used

    async def applied(self, session: Session, relations: dict[int, Relation], database: str) -> dict[int, Relation]:
        """Return relations, as the primary lists them, with the filters that they are read through."""
        if not self.all:
            return relations
        return {oid: await self._applied(session, relation, database) for oid, relation in relations.items()}

    async def _applied(self, session: Session, relation: Relation, database: str) -> Relation:
        chosen = next((found for found in self.all if matches(relation, (found.pattern,), database)), None)
        if chosen is None:
            return relation
        try:
            condition = await self._condition(session, relation, chosen, database)
        except UsageError as error:
            return replace(relation, row_filter=chosen, filter_lack=error.message)
        except StatementCancelled:
            lack = "a lock kept the audit from checking its filter"
            return replace(relation, row_filter=chosen, filter_lack=lack)
        return replace(relation, row_filter=chosen, condition=condition)

    async def _condition(self, session: Session, relation: Relation, chosen: RowFilter, database: str) -> bytes:
        key = (database, relation.oid, relation.token, chosen.digest)
        if key not in self._checked:
            self._checked[key] = await _checked_condition(session, relation, chosen)
        return self._checked[key]


async def _checked_condition(session: Session, relation: Relation, chosen: RowFilter) -> bytes:
    # Loaded here: the parser is large, and most audits have no filter.
    from replcheck.postgres.filter_checks import checked_condition
    from replcheck.postgres.filters import FilterRefusedError

    if relation.kind not in _FILTERED:
        kind = relation.kind.value if relation.kind else "foreign table"
        raise UsageError(
            f"the filter of {chosen.pattern} matches {relation.label}, which cannot be filtered ({kind})",
            hint="Only tables, partitions and materialized views can be: make the pattern of --where narrower.",
        )
    try:
        return await checked_condition(session, relation, chosen)
    except FilterRefusedError as refused:
        message = f"the filter of {chosen.pattern} is refused for {relation.label}: it {refused}"
    columns = ", ".join(quoted(text(column.name)) for column in relation.columns)
    raise UsageError(message, hint=f"Its columns are {columns}.")
