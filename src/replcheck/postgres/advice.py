"""SQL that an operator may run to let an audit see more; replcheck itself never runs it."""

from psycopg import sql

from replcheck.model.names import quoted
from replcheck.postgres.nodes import raw_name, text
from replcheck.postgres.session import Name


def grant_read_all_data(role: str) -> str:
    """Return the grant that lets a role read every table and use every schema."""
    return sql.SQL("GRANT pg_read_all_data TO {};").format(sql.Identifier(role)).as_string()


def grant_monitor(role: str) -> str:
    """Return the grant that lets a role see settings, activity and replication."""
    return sql.SQL("GRANT pg_monitor TO {};").format(sql.Identifier(role)).as_string()


def grant_connect(role: str, database: str) -> str:
    """Return the grant that lets a role enter a database."""
    return (
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {};")
        .format(sql.Identifier(database), sql.Identifier(role))
        .as_string()
    )


def bypass_row_security(role: str) -> str:
    """Return the statement that lets a role see the rows that row-level security hides."""
    return sql.SQL("ALTER ROLE {} BYPASSRLS;").format(sql.Identifier(role)).as_string()


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
