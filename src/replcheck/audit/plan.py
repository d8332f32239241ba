"""Which relations an audit covers, and how each is cut.

Pure. Every relation of a database ends in exactly one place: planned, bracketed (sequences) or not checked with a
reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from replcheck.audit.options import AuditOptions
from replcheck.audit.shortfalls import DROPPED
from replcheck.model.audit import NotChecked, RelationKind
from replcheck.postgres import advice
from replcheck.postgres.catalog import Relation, RelationName

_HEAP = "heap"
_DEPTH = 3
_CATALOG_SCHEMA = "pg_catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do with the relations of one database."""

    digested: tuple[Relation, ...]
    sequences: tuple[Relation, ...]
    not_checked: tuple[NotChecked, ...]


def plan_relations(
    relations: Iterable[Relation], options: AuditOptions, *, database: str, shared_here: bool, role: str
) -> Plan:
    """Sort the relations of a database, the largest first.

    `shared_here` says that the catalogs shared by all databases are read in this one.
    """
    digested, sequences, left_out = [], [], []
    for relation in relations:
        if not in_scope(relation, options, database, shared_here=shared_here):
            continue
        reason = _reason_not_checked(relation, options, database, role)
        if reason is not None:
            left_out.append(reason)
        elif relation.kind is RelationKind.SEQUENCE:
            sequences.append(relation)
        else:
            digested.append(relation)
    digested.sort(key=lambda relation: relation.total_bytes, reverse=True)
    return Plan(digested=tuple(digested), sequences=tuple(sequences), not_checked=tuple(left_out))


def in_scope(relation: Relation, options: AuditOptions, database: str, *, shared_here: bool) -> bool:
    """Return whether the user asked for the relation; what was asked for and then excluded is in scope."""
    if relation.shared and not shared_here:
        return False
    if options.tables:
        return matches(relation, options.tables, database)
    return options.catalogs or relation.kind is not RelationKind.CATALOG


def shared_in_scope(options: AuditOptions) -> bool:
    """Return whether the user asked for catalogs that all databases share.

    >>> shared_in_scope(AuditOptions(tables=("public.*",))), shared_in_scope(AuditOptions(tables=("pg_*.pg_authid",)))
    (False, True)
    """
    if not options.tables:
        return options.catalogs
    schemas = (pattern.split(".")[-2] for pattern in options.tables if "." in pattern)
    return any(fnmatchcase(_CATALOG_SCHEMA, schema) for schema in schemas)


def matches(relation: Relation | RelationName, patterns: Sequence[str], database: str) -> bool:
    """Return whether a relation's name fits one of the glob patterns.

    A pattern is `relation`, `schema.relation` or `database.schema.relation`; without a schema, one in any schema but
    the system's.
    """
    return any(_matches(relation, pattern, database) for pattern in patterns)


def matches_database(database: str, pattern: str) -> bool:
    """Return whether a pattern means a whole database: `database.*.*`.

    >>> matches_database("tmp_shop", "tmp_*"), matches_database("tmp_shop", "tmp_*.*.*")
    (False, True)
    """
    parts = pattern.split(".")
    return len(parts) == _DEPTH and parts[1:] == ["*", "*"] and fnmatchcase(database, parts[0])


def _matches(relation: Relation | RelationName, pattern: str, database: str) -> bool:
    # Part by part: a star does not go over dots. A dot inside a name is met by a question mark.
    parts = pattern.split(".")
    names = [database, relation.schema, relation.name]
    if len(parts) > len(names) or (len(parts) == 1 and relation.is_catalog):
        return False
    return all(map(fnmatchcase, names[-len(parts) :], parts))


def _reason_not_checked(relation: Relation, options: AuditOptions, database: str, role: str) -> NotChecked | None:
    def because(code: str, reason: str, *, by_design: bool, hint: str = "") -> NotChecked:
        return NotChecked(
            database=database,
            relation=relation.label,
            node=None,
            code=code,
            reason=reason,
            by_design=by_design,
            hint=hint,
        )

    if matches(relation, options.excludes, database):
        return because("excluded", "excluded by the user", by_design=True)
    if relation.kind is None:
        return because("foreign", "foreign table: its rows lie on another server", by_design=True)
    if relation.unlogged:
        return because("unlogged", "unlogged: not replicated", by_design=True)
    if relation.persistence == "t":
        return because("temporary", "temporary: not replicated", by_design=True)
    if not relation.populated:
        return because("unpopulated", "materialized view that was never populated: it holds no rows", by_design=True)
    if relation.access_method not in ("", _HEAP):
        return because(
            "access_method", f"stored by the access method {relation.access_method}, not heap", by_design=False
        )
    return _reason_unreadable(relation, because, role)


def _reason_unreadable(relation: Relation, because: "_Because", role: str) -> NotChecked | None:
    if relation.readable is None:
        return because(DROPPED.code, DROPPED.reason, by_design=True)
    if not relation.readable:
        return because("privilege", "the role may not read it", by_design=False, hint=advice.grant_read_all_data(role))
    if not relation.schema_usable:
        return because(
            "privilege", "the role may not use its schema", by_design=False, hint=advice.grant_read_all_data(role)
        )
    if relation.row_security:
        return because(
            "row_security",
            "row-level security hides rows from the role",
            by_design=False,
            hint=advice.bypass_row_security(role),
        )
    return None


class _Because(Protocol):
    """Fills in the database and the relation of a note."""

    def __call__(self, code: str, reason: str, *, by_design: bool, hint: str = "") -> NotChecked: ...
