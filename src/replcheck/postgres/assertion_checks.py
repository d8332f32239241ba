"""Whether an assertion may run on a copy, and whether it holds there.

What may be written was decided before (`assertions`); here the copy's own catalog shows that nothing an assertion calls
has effects or reaches another server. It runs in a transaction that cannot write, and its value is never shown.
"""

from psycopg import sql

from replcheck.postgres.assertions import Assertion
from replcheck.postgres.catalog import FIRST_USER_OID
from replcheck.postgres.copies import CopyConnection
from replcheck.postgres.session import Rendered, Statement

# Purpose: those of some functions, by name, that have an overload with effects or one that initdb did not make: an
# overload in another schema that can be reached without naming it may be called in place of the server's own.
# PostgreSQL 14+, no privilege.
_UNFIT_FUNCTIONS: Statement = """
    SELECT w.name FROM unnest(%s::text[]) AS w (name)
    LEFT JOIN pg_catalog.pg_proc AS p ON p.proname = w.name
         AND p.pronamespace = ANY ('{pg_catalog,public}'::text[]::regnamespace[]::oid[])
    GROUP BY w.name
    HAVING coalesce(bool_or(p.provolatile = 'v' OR p.oid >= %s::bigint::oid OR p.prokind NOT IN ('f', 'a', 'w')), true)
    ORDER BY w.name
"""
_UNFIT_WITHOUT_PUBLIC: Statement = """
    SELECT w.name FROM unnest(%s::text[]) AS w (name)
    LEFT JOIN pg_catalog.pg_proc AS p ON p.proname = w.name AND p.pronamespace = 'pg_catalog'::regnamespace
    GROUP BY w.name
    HAVING coalesce(bool_or(p.provolatile = 'v' OR p.oid >= %s::bigint::oid OR p.prokind NOT IN ('f', 'a', 'w')), true)
    ORDER BY w.name
"""

# Purpose: whether there is a schema public. PostgreSQL 14+, no privilege.
_HAS_PUBLIC: Statement = "SELECT pg_catalog.to_regnamespace('public') IS NOT NULL"

# Purpose: whether some relations, what they inherit to, or what a view among them reads, are foreign tables (2) or
# call a function that somebody made and that may have effects (1). PostgreSQL 14+, no privilege.
_REACH: Statement = """
    WITH RECURSIVE reach (class, oid) AS (
        SELECT 'pg_catalog.pg_class'::regclass::oid, pg_catalog.to_regclass(w.name)::oid
        FROM unnest(%s::text[]) AS w (name)
        UNION
        SELECT d.refclassid, d.refobjid FROM reach AS r
        CROSS JOIN LATERAL (
            SELECT n.refclassid, n.refobjid FROM pg_catalog.pg_rewrite AS w
            JOIN pg_catalog.pg_depend AS n ON n.classid = 'pg_catalog.pg_rewrite'::regclass AND n.objid = w.oid
            JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class AND v.relkind = 'v'
            WHERE r.class = 'pg_catalog.pg_class'::regclass AND w.ev_class = r.oid
              AND n.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
            UNION ALL
            SELECT r.class, i.inhrelid FROM pg_catalog.pg_inherits AS i
            WHERE r.class = 'pg_catalog.pg_class'::regclass AND i.inhparent = r.oid
        ) AS d
    )
    SELECT coalesce(max(CASE WHEN c.relkind = 'f' THEN 2 WHEN p.provolatile = 'v' THEN 1 ELSE 0 END), 0) FROM reach AS r
    LEFT JOIN pg_catalog.pg_class AS c ON r.class = 'pg_catalog.pg_class'::regclass AND c.oid = r.oid
    LEFT JOIN pg_catalog.pg_proc AS p ON r.class = 'pg_catalog.pg_proc'::regclass AND p.oid = r.oid
"""

# Purpose: whether somebody made an operator or an implicit cast whose function may have effects. PostgreSQL 14+, no
# privilege.
_VOLATILE_OPERATORS: Statement = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode
        WHERE o.oid >= %s::bigint::oid AND p.provolatile = 'v'
    ) OR EXISTS (
        SELECT FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_proc AS p ON p.oid = c.castfunc
        WHERE c.oid >= %s::bigint::oid AND c.castcontext = 'i' AND p.provolatile = 'v'
    )
"""


def may_run(copy: CopyConnection, assertion: Assertion) -> str:
    """Return "" where an assertion has no effects on this copy and reaches no other server, else why it may not run.

    Asks the copy's catalog alone; raises what the connection raises.
    """
    ((public,),) = copy.fetch(_HAS_PUBLIC)
    unfit = copy.fetch(
        _UNFIT_FUNCTIONS if public else _UNFIT_WITHOUT_PUBLIC, [list(assertion.functions), FIRST_USER_OID]
    )
    if unfit:
        return f"calls {unfit[0][0]}, which may have effects, or is not the server's own alone"
    ((reach,),) = copy.fetch(_REACH, [list(assertion.relations)])
    if reach == 2:
        return "reads a foreign table, which would reach another server"
    if reach == 1:
        return "reads a view that calls a function which may have effects"
    ((volatile,),) = copy.fetch(_VOLATILE_OPERATORS, [FIRST_USER_OID, FIRST_USER_OID])
    return "may use an operator or a cast of this database that may have effects" if volatile else ""


def set_search_path(copy: CopyConnection) -> None:
    """Have names be looked for in `pg_catalog` and `public`, until the transaction ends."""
    copy.fetch("SELECT pg_catalog.set_config('search_path', 'pg_catalog, public', true)")


def holds(copy: CopyConnection, assertion: Assertion) -> bool | None:
    """Ask an assertion of a copy, in the transaction that is open; None where its result is NULL or not boolean."""
    statement = sql.SQL("SELECT {}").format(Rendered(assertion.expression.encode()))
    ((value,),) = copy.fetch(statement)
    return value if isinstance(value, bool) else None
