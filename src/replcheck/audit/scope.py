"""Which databases an audit enters, and whether every pattern that the user gave means something there.

An audit and its plan ask here alike, so that a plan names what its audit would do.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from replcheck.audit.filters import RelationFilters
from replcheck.audit.handles import NodeHandle
from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import matches, matches_database
from replcheck.audit.verdicts import not_checked
from replcheck.errors import DatabaseMissing, UsageError
from replcheck.model.audit import NotChecked, Scope
from replcheck.model.filters import FilterUsed, RowFilter
from replcheck.postgres import advice
from replcheck.postgres.catalog import RelationName, read_names, read_relations
from replcheck.postgres.nodes import Database, read_databases

_TEMPLATE0 = "template0"
_MOST_NAMED = 3


def scope_of(options: AuditOptions) -> Scope:
    """Return what was asked for, as reports tell it."""
    return Scope(
        databases=options.databases,
        tables=options.tables,
        excludes=options.excludes,
        catalogs=options.catalogs,
        indexes=options.indexes,
        filters=tuple(FilterUsed(pattern=used.pattern, digest=used.digest) for used in options.filters),
    )


async def databases_in_scope(primary: NodeHandle, options: AuditOptions) -> tuple[list[Database], list[NotChecked]]:
    """Return the databases to enter and those that were asked for and can't or shall not be entered, with the reason.

    Raises UsageError for a pattern of --database that nothing matches.
    """
    listed = await read_databases(await primary.control())
    patterns = options.databases
    for pattern in patterns:
        if not any(fnmatchcase(database.name, pattern) for database in listed):
            raise UsageError(f'no database matches "{pattern}"', hint="Names are matched as the server spells them.")
    asked = [db for db in listed if not patterns or any(fnmatchcase(db.name, pattern) for pattern in patterns)]
    if options.tables:
        asked = [db for db in asked if any(_may_match(db.name, pattern) for pattern in options.tables)]
    able, left_out = [], []
    for database in asked:
        note = _why_not(database, primary.facts.privileges.role, options.excludes)
        if note is None:
            able.append(database)
        else:
            left_out.append(note)
    return able, left_out


async def check_tables(
    primary: NodeHandle, databases: Sequence[Database], left_out: Sequence[NotChecked], options: AuditOptions
) -> None:
    """Raise UsageError for a pattern of --table that nothing matches, before any row is read.

    `left_out` are the notes of the databases where nobody looks.
    """
    left = set(options.tables)
    for database in databases:
        if left:
            listed = await _names(primary, database.name)
            left -= {
                pattern for pattern in left if any(matches(relation, (pattern,), database.name) for relation in listed)
            }
    if left:
        raise _nothing_matches(sorted(left), databases, left_out)


async def check_filters(
    primary: NodeHandle, databases: Sequence[Database], left_out: Sequence[NotChecked], filters: RelationFilters
) -> None:
    """Raise UsageError for a filter that fits no relation, or not the one it is for, before any row is read."""
    unused = set(filters.all)
    for database in databases:
        if any(_may_match(database.name, row_filter.pattern) for row_filter in filters.all):
            unused -= await _filters_used(primary, database.name, filters)
    if unused:
        raise _nothing_matches(sorted(row_filter.pattern for row_filter in unused), databases, left_out)


async def _filters_used(primary: NodeHandle, database: str, filters: RelationFilters) -> set[RowFilter]:
    try:
        session = await primary.open(database, "filters")
    except DatabaseMissing:
        return set()
    try:
        return await filters.check(session, list((await read_relations(session)).values()), database)
    finally:
        await session.close()


async def _names(primary: NodeHandle, database: str) -> list[RelationName]:
    try:
        session = await primary.open(database, "names")
    except DatabaseMissing:
        return []
    try:
        return await read_names(session)
    finally:
        await session.close()


def _why_not(database: Database, role: str, excludes: Sequence[str]) -> NotChecked | None:
    name = database.name
    if any(matches_database(name, pattern) for pattern in excludes):
        return not_checked(name, None, None, "excluded", "excluded by the user", by_design=True)
    if name == _TEMPLATE0 and not database.allows_connections:
        return not_checked(name, None, None, "template", "the pristine template, which lets nobody in", by_design=True)
    if not _encodes(name):
        return not_checked(name, None, None, "name", "its name is no UTF-8, so no client can ask for it")
    if not database.allows_connections:
        return not_checked(name, None, None, "no_connections", "the database lets nobody in")
    if not database.valid:
        return not_checked(
            name, None, None, "invalid_database", "a DROP DATABASE of it was cut off", hint="Drop it again."
        )
    if not database.may_connect:
        hint = advice.grant_connect(role, name)
        return not_checked(name, None, None, "privilege", "the role may not connect to the database", hint=hint)
    return None


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _may_match(database: str, pattern: str) -> bool:
    parts = pattern.split(".")
    return len(parts) < 3 or fnmatchcase(database, parts[0])


def _nothing_matches(
    patterns: Sequence[str], searched: Sequence[Database], left_out: Iterable[NotChecked]
) -> UsageError:
    """Say that nothing is called so, or that nobody looked where it could be; `left_out` are notes of databases."""
    shown = ", ".join(map(repr, patterns))
    closed = [
        f'"{note.database}" ({note.reason})'
        for note in left_out
        if note.database and note.code != "template" and any(_may_match(note.database, each) for each in patterns)
    ]
    where = ", ".join(closed[:_MOST_NAMED]) + (f" and {len(closed) - _MOST_NAMED} more" * (len(closed) > _MOST_NAMED))
    if closed and not any(_may_match(database.name, each) for database in searched for each in patterns):
        return UsageError(
            f"nothing was searched for {shown}: it could only be in database {where}",
            hint="Give the role access, or leave the exclusion out.",
        )
    hint = "Patterns are relation, schema.relation or database.schema.relation, with * and ?."
    unseen = f" Not searched: database {where}." if closed else ""
    return UsageError(f"no relation matches {shown}", hint=f"{hint}{unseen}")
