"""Whether a filter fits a relation and runs nothing but the server's own immutable code there, asked without a row.

What may be written was decided before (`filters`); here it is checked again by what the server makes of it. The reason:
the heap is the same on every node, row version by row version, so an expression over nothing but a version's bytes
judges it alike on each node and at any time. Filtering versions is then as good as reading fewer of them: what a node
shows beyond another is still one version, explained, or not, by its own xmin and xmax; a row that an update moves out
of the filter or into it is seen as missing or extra with the very xids that explain it. A function that depended on the
node, the session or the moment would break that, and so would the order of a node's collation library.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql
from sqlglot import exp

from replcheck.errors import StatementFailed
from replcheck.model.filters import RowFilter
from replcheck.postgres.catalog import FIRST_USER_OID, Relation
from replcheck.postgres.filters import (
    FUNCTIONS,
    FilterRefusedError,
    columns_of,
    is_datetime,
    parse_condition,
    rendered_condition,
    unwrapped,
)
from replcheck.postgres.nodes import raw_name, text
from replcheck.postgres.session import Name, Rendered, Session, Statement

_NOT_READABLE = frozenset({"42501", "42P01", "3F000"})
"""Without privilege, or gone by now."""
_REFUSED_CLASSES = frozenset({"0A", "22", "42"})
"""SQLSTATEs of what the server does not support, of data exceptions, such as a literal that is no number, and of what
does not resolve."""
_UNKNOWN = 0
"""Stands for the type of a bare literal, which takes that of what it is compared with."""
_NONE = -1
"""Stands for the missing left operand of a sign."""
_TEXTS = {"text", "varchar", "bpchar"}
_DATETIMES = {"date", "time", "timestamp", "timestamptz"}
_PLAIN = {"bool", "int2", "int4", "int8", "numeric", "float4", "float8", "uuid", "oid", *_TEXTS, *_DATETIMES}
"""Types of the server that columns and all parts of a filter may have; enums besides."""
_OPERATORS: dict[type[exp.Expr], tuple[str, ...]] = {
    exp.EQ: ("=",),
    exp.NEQ: ("<>",),
    exp.LT: ("<",),
    exp.LTE: ("<=",),
    exp.GT: (">",),
    exp.GTE: (">=",),
    exp.NullSafeEQ: ("=",),
    exp.NullSafeNEQ: ("=",),
    exp.In: ("=",),
    exp.Between: (">=", "<="),
    exp.Like: ("~~",),
    exp.ILike: ("~~*",),
    exp.RegexpLike: ("~",),
    exp.RegexpILike: ("~*",),
    exp.Add: ("+",),
    exp.Sub: ("-",),
    exp.Mul: ("*",),
    exp.Mod: ("%",),
    exp.Neg: ("-",),
}
_ORDERING = (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
_VALUES = (exp.Column, exp.Cast, exp.Collate, exp.Boolean, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Mod)
_OF_TWO = ("left", "right")
"""Functions of two arguments; the others have one."""
_CALLS = tuple(kind for kind in FUNCTIONS.values() if kind is not exp.Mod)

# Purpose: names of types; user-made ones but enums without casts of their own come back as none, since a cast that
# their owner made would run under the audit's role. PostgreSQL 14+, no privilege.
_TYPES: Statement = """
    SELECT t.oid::bigint, pg_catalog.textsend(
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < %s::bigint::oid THEN t.typname::text
                WHEN t.typtype = 'e' AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_cast AS c WHERE t.oid IN (c.castsource, c.casttarget)) THEN 'enum'
           END)
    FROM pg_catalog.pg_type AS t WHERE t.oid = ANY (%s::bigint[]::oid[])
"""

# Purpose: the columns of a relation under whose collation different bytes can be equal: only a library of the node
# knows which. PostgreSQL 14+, no privilege.
_NONDETERMINISTIC: Statement = """
    SELECT pg_catalog.textsend(a.attname::text) FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
    WHERE a.attrelid = %s::bigint::oid AND NOT c.collisdeterministic
"""

# Purpose: those of some functions, by name and number of arguments, that are not in every overload immutable and made
# by initdb (length with the name of an encoding is not). PostgreSQL 14+, no privilege.
_UNFIT_FUNCTIONS: Statement = """
    SELECT pg_catalog.textsend(w.name) FROM unnest(%s::text[], %s::int[]) AS w (name, arguments)
    LEFT JOIN pg_catalog.pg_proc AS p ON p.proname = w.name AND p.pronamespace = 'pg_catalog'::regnamespace
         AND p.pronargs = w.arguments
    GROUP BY w.name
    HAVING coalesce(bool_or(p.provolatile <> 'i' OR p.oid >= %s::bigint::oid OR p.prokind <> 'f'), true)
"""

# Purpose: those of some operators, by name and types of operands, that may resolve to anything but an immutable one of
# the server's own. An operator on exactly the operands' types is taken, a bare literal being of the other's type
# (PostgreSQL manual, Operator Type Resolution); where there is none, none that an implicit cast reaches may be unfit.
# PostgreSQL 14+, no privilege.
_UNFIT_OPERATORS: Statement = """
    WITH asked AS (
        SELECT w.name, w.l, w.r FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS w (name, l, r)
    ), known AS (
        SELECT o.oprname::text AS name, o.oprleft, o.oprright,
               p.provolatile = 'i' AND greatest(p.oid, o.oid) < %s::bigint::oid AS fit
        FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace
    ), reach (source, target) AS (
        SELECT t.oid, t.oid FROM pg_catalog.pg_type AS t
        UNION SELECT c.castsource, c.casttarget FROM pg_catalog.pg_cast AS c WHERE c.castcontext = 'i'
        UNION SELECT s.oid, t.oid FROM asked AS w CROSS JOIN LATERAL (VALUES (w.l), (w.r)) AS v (number)
              JOIN pg_catalog.pg_type AS s ON s.oid::bigint = v.number
              CROSS JOIN pg_catalog.pg_type AS t WHERE t.typtype = 'p'
    )
    SELECT pg_catalog.textsend(w.name) FROM asked AS w
    WHERE NOT EXISTS (
        SELECT FROM known AS k WHERE k.name = w.name AND k.fit
        AND k.oprleft = CASE w.l WHEN 0 THEN w.r WHEN -1 THEN 0 ELSE w.l END::oid
        AND k.oprright = CASE w.r WHEN 0 THEN w.l ELSE w.r END::oid
    ) AND EXISTS (
        SELECT FROM known AS k WHERE k.name = w.name AND NOT k.fit AND (k.oprleft = 0) = (w.l = -1)
        AND (w.l <= 0 OR EXISTS (SELECT FROM reach WHERE source::bigint = w.l AND target = k.oprleft))
        AND (w.r = 0 OR EXISTS (SELECT FROM reach WHERE source::bigint = w.r AND target = k.oprright))
    )
"""

# Purpose: whether somebody added casts from some types: they would run where the server's own operators are meant.
# PostgreSQL 14+, no privilege.
_FOREIGN_CASTS: Statement = """
    SELECT count(*) FROM pg_catalog.pg_cast AS c
    WHERE c.oid >= %s::bigint::oid AND c.castsource = ANY (%s::bigint[]::oid[])
"""


@dataclass(frozen=True, slots=True)
class _Typed:
    """A filter's tree with what the server says of the types of its parts."""

    tree: exp.Expr
    types: dict[exp.Expr, int]
    names: dict[int, str | None]

    def type_of(self, node: exp.Expr) -> int:
        return self.types.get(unwrapped(node), _UNKNOWN)

    def name_of(self, node: exp.Expr) -> str | None:
        return self.names.get(self.type_of(node), "")


async def checked_condition(session: Session, relation: Relation, row_filter: RowFilter) -> bytes:
    """Return a filter as statements over a relation hold it, after the session's server has confirmed that it may.

    Raises FilterRefusedError where the filter does not fit the relation as that server lists it. No row is read. Where
    the role may not read the relation at all, that is left to the plan to tell.
    """
    tree = parse_condition(row_filter.condition)
    _check_columns(tree, relation)
    if not row_filter.condition.isascii() and session.server_encoding not in ("UTF8", "UTF-8"):
        raise FilterRefusedError("holds letters beyond ASCII, which this database does not keep as UTF-8")
    condition = _part(tree)
    try:
        typed = await _typed(session, relation, tree)
    except StatementFailed as error:
        if error.sqlstate in _NOT_READABLE:
            return condition
        if error.sqlstate[:2] not in _REFUSED_CLASSES:
            raise
        # Not chained: what the server said may quote the filter.
        state = error.sqlstate
    else:
        _check_types(typed)
        _check_texts(typed, {text(name) for (name,) in await session.read(_NONDETERMINISTIC, [relation.oid])})
        await _check_calls(session, typed)
        return condition
    raise FilterRefusedError(f"cannot be applied to the columns of {relation.label} (SQLSTATE {state})")


def _check_columns(tree: exp.Expr, relation: Relation) -> None:
    known = {text(column.name) for column in relation.columns}
    missing = columns_of(tree) - known
    if missing:
        # The name itself is not told: it may be a value whose quotes were double ones, or forgotten.
        count = "a column" if len(missing) == 1 else f"{len(missing)} columns"
        raise FilterRefusedError(f"names {count} that {relation.label} does not have, or that it computes when read")


def _part(tree: exp.Expr) -> bytes:
    return raw_name(rendered_condition(tree, alias="t"))


def _has_type(node: exp.Expr) -> bool:
    return isinstance(node, (*_VALUES, *_CALLS)) or (isinstance(node, exp.Literal) and not node.is_string)


async def _typed(session: Session, relation: Relation, tree: exp.Expr) -> _Typed:
    parts = [node for node in tree.walk() if _has_type(node)]
    columns: list[sql.Composable] = [Rendered(_part(node)) for node in (tree, *parts)]
    statement = sql.SQL("SELECT {} FROM ONLY {} AS t LIMIT 0").format(
        sql.SQL(", ").join(columns), Name(*relation.raw_path)
    )
    whole, *oids = await session.result_types(statement)
    names = await session.read(_TYPES, [FIRST_USER_OID, sorted({whole, *oids})])
    named = {oid: text(name) if name is not None else None for oid, name in names}
    if named.get(whole) != "bool":
        raise FilterRefusedError("is no condition: its result is not boolean")
    return _Typed(tree, dict(zip(parts, oids, strict=True)), named)


def _check_types(typed: _Typed) -> None:
    for node in typed.types:
        name = typed.name_of(node)
        if name is None or name not in _PLAIN | {"enum"}:
            what = f"the type {name}" if name else "a type that somebody made"
            raise FilterRefusedError(f"looks at {what}, of which filters know nothing")
    for node in typed.tree.walk():
        values = list(_compared(node))
        if any(typed.name_of(value) in _DATETIMES for value in values):
            for value in map(unwrapped, values):
                if isinstance(value, exp.Literal) and not is_datetime(value.name):
                    raise FilterRefusedError(
                        "holds a date or time that is not written as 2026-01-31 or 2026-01-31 10:00:00+00"
                    )
        known = {typed.name_of(value) for value in values if typed.type_of(value) != _UNKNOWN}
        if isinstance(node, exp.Coalesce) and len(known) > 1 and known & _DATETIMES:
            # Their casts into each other depend on the time zone of the session.
            raise FilterRefusedError("calls coalesce with dates or times of several types")


def _check_texts(typed: _Typed, nondeterministic: set[str]) -> None:
    if columns_of(typed.tree) & nondeterministic:
        raise FilterRefusedError("looks at a column whose collation is not deterministic")
    for node in typed.tree.walk():
        if isinstance(node, _ORDERING):
            values = [unwrapped(value) for value in _compared(node)]
            texts = any(typed.name_of(value) in _TEXTS for value in values)
            if texts and not any(isinstance(value, exp.Collate) for value in values):
                raise FilterRefusedError(
                    'orders texts by a collation, which each node\'s own library decides; write column COLLATE "C"'
                )


async def _check_calls(session: Session, typed: _Typed) -> None:
    # coalesce is part of the grammar, and mod is rendered as an operator.
    called = sorted({name for name, kind in FUNCTIONS.items() if typed.tree.find(kind)} - {"coalesce", "mod"})
    arguments = [2 if name in _OF_TWO else 1 for name in called]
    unfit = [name for (name,) in await session.read(_UNFIT_FUNCTIONS, [called, arguments, FIRST_USER_OID])]
    if unfit:
        raise FilterRefusedError(f"calls {text(unfit[0])}, which is not immutable on this server")
    operations = sorted({found for node in typed.tree.walk() for found in _operations(node, typed)})
    names, lefts, rights = ([list(part) for part in zip(*operations, strict=True)]) if operations else ([], [], [])
    asked = [names, lefts, rights, FIRST_USER_OID]
    unfit = [name for (name,) in await session.read(_UNFIT_OPERATORS, asked)] if operations else []
    if unfit:
        raise FilterRefusedError(
            f"uses the operator {text(unfit[0])} on types for which it may not be immutable; cast the"
            " literal, such as timestamptz '2026-01-31'"
        )
    ((foreign,),) = await session.read(_FOREIGN_CASTS, [FIRST_USER_OID, sorted(set(typed.types.values()))])
    if foreign:
        raise FilterRefusedError("looks at a type for which somebody made casts of their own")


def _operations(node: exp.Expr, typed: _Typed) -> Iterator[tuple[str, int, int]]:
    """Return the operators that a node stands for, with the types of their operands."""
    names = _OPERATORS.get(type(node))
    if names is None:
        return
    first, *rest = _compared(node)
    if not rest:
        yield names[0], _NONE, typed.type_of(first)
    for name in names:
        for other in rest:
            yield name, typed.type_of(first), typed.type_of(other)


def _compared(node: exp.Expr) -> Iterator[exp.Expr]:
    """Return what a node compares or joins into one type: its operands, the subject first."""
    if type(node) in _OPERATORS or isinstance(node, exp.Coalesce):
        yield node.this
        for key in ("expression", "low", "high", "expressions"):
            part = node.args.get(key)
            yield from part if isinstance(part, list) else [part] if isinstance(part, exp.Expr) else []
