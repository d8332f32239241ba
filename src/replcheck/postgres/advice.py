"""SQL that an operator may run to let an audit see more; replcheck itself never runs it.

What is printed can be pasted: a name that holds a line break, or anything else that a terminal would swallow, is
written with Unicode escapes (PostgreSQL manual, Identifiers and Key Words).
"""

from typing import LiteralString

from psycopg import sql
from psycopg.abc import AdaptContext

from replcheck.model.names import printable, quoted
from replcheck.postgres.nodes import raw_name, text
from replcheck.postgres.session import Name


def grant_read_all_data(role: str) -> str:
    """Return the grant that lets a role read every table and use every schema."""
    return _statement("GRANT pg_read_all_data TO {};", role)


def grant_monitor(role: str) -> str:
    """Return the grant that lets a role see settings, activity and replication."""
    return _statement("GRANT pg_monitor TO {};", role)


def inherit_grant(granted: LiteralString, role: str, *, version_num: int) -> str:
    """Return what lets a role use a predefined role that it is a member of and does not inherit from."""
    if version_num >= 160000:
        return _statement("GRANT " + granted + " TO {} WITH INHERIT TRUE;", role)
    return _statement("ALTER ROLE {} INHERIT;", role)


def grant_connect(role: str, database: str) -> str:
    """Return the grant that lets a role enter a database."""
    return _statement("GRANT CONNECT ON DATABASE {} TO {};", database, role)


def grant_execute(function: str, role: str) -> str:
    """Return the grant that lets a role run a function, which comes with its arguments as the server quotes it."""
    if printable(function) != function or not _can_be_written(role):
        return ""
    return sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {};").format(_Written(function), _identifier(role)).as_string()


def bypass_row_security(role: str) -> str:
    """Return the statement that lets a role see the rows that row-level security hides."""
    return _statement("ALTER ROLE {} BYPASSRLS;", role)


def lift_idle_limit(role: str) -> str:
    """Return the statement that lets a role's sessions wait."""
    return _statement("ALTER ROLE {} SET idle_session_timeout = 0;", role)


def audit_role() -> tuple[str, ...]:
    """Return what makes a role that may audit and nothing else."""
    return ("CREATE ROLE replcheck LOGIN;", grant_read_all_data("replcheck"), grant_monitor("replcheck"))


def change_setting(name: LiteralString, value: LiteralString) -> tuple[str, ...]:
    """Return what changes a setting that needs no restart, on the server where it is run."""
    change = sql.SQL("ALTER SYSTEM SET {} = {};").format(sql.SQL(name), sql.SQL(value))
    return change.as_string(), "SELECT pg_reload_conf();"


def install_amcheck(role: str, database: str) -> str:
    """Return the statements that let a role check the indexes of a database; standbys get them by replication."""
    create = "CREATE EXTENSION amcheck;"
    return f"{_in_database(database)}: {create} {_grant_checks('', role)}"


def update_amcheck(role: str, database: str, schema: str) -> str:
    """Return the statements that bring an old amcheck up to date and let a role run it."""
    return f"{_in_database(database)}: ALTER EXTENSION amcheck UPDATE; {_grant_checks(schema, role)}"


def grant_amcheck(role: str, database: str, schema: str) -> str:
    """Return the grants that let a role run the function of an installed amcheck."""
    return f"{_in_database(database)}: {_grant_checks(schema, role)}"


def _in_database(database: str) -> str:
    return f"In database {quoted(database)}"


def _grant_checks(schema: str, role: str) -> str:
    """Return the grants for the function in a schema, empty for whichever new objects go to."""
    function = Name(*([raw_name(schema)] if schema else []), b"bt_index_check")
    grants = [sql.SQL("GRANT EXECUTE ON FUNCTION {}(regclass, boolean) TO {};").format(function, sql.Identifier(role))]
    if schema not in ("", "public", "pg_catalog"):
        grants.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {};").format(Name(raw_name(schema)), sql.Identifier(role)))
    return text(sql.SQL(" ").join(grants).as_bytes())


RESUME_REPLAY = "SELECT pg_wal_replay_resume();"


class _Written(sql.Composable):
    """A text that is SQL already."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:  # noqa: ARG002 - needs no connection
        return str(self._obj).encode()


def _statement(text: LiteralString, *names: str) -> str:
    """Return the statement; empty where a name is no text in any encoding that could be pasted."""
    if not all(map(_can_be_written, names)):
        return ""
    return sql.SQL(text).format(*map(_identifier, names)).as_string()


def _can_be_written(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _identifier(name: str) -> sql.Composable:
    if printable(name) == name:
        return sql.Identifier(name)
    return _Written('U&"' + "".join(map(_escaped, name)) + '"')


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return letter * 2
    return letter if printable(letter) == letter else f"\\{ord(letter):04X}"
