"""SQL that an operator may run to let an audit see more; replcheck itself never runs it."""

from psycopg import sql


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
