"""Looks at a cluster of the lab with other eyes than an audit's: what monitoring sees, and what a single row is.

A row that is looked at stays where it is: only whether the nodes' answers are equal is learnt.
"""

from replcheck.lab.cluster import LabCluster
from replcheck.model.demo import RowLookedUp, UsualChecksRead
from replcheck.postgres.local import sql

_STREAMING = """
    select state, greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::int8
    from pg_stat_replication where application_name = %s
"""
_CHECKSUM_FAILURES = "select coalesce(sum(checksum_failures), 0)::int8 from pg_stat_database"


def usual_checks(cluster: LabCluster, node: str, relation: str) -> UsualChecksRead:
    """Read what monitoring asks of a standby and its primary, once the standby has caught up.

    `relation` is one of database postgres, quoted as SQL wants it.
    """
    cluster.catch_up(only=node)
    primary, standby = cluster.primary, cluster.node(node)
    seen = primary.execute(_STREAMING, [node])
    state, lag_bytes = seen[0] if seen else ("", None)
    [(failures,)] = standby.execute(_CHECKSUM_FAILURES)
    count = sql.SQL("select count(*) from {}").format(sql.SQL(relation))
    [(rows,)], [(primary_rows,)] = standby.execute(count), primary.execute(count)
    return UsualChecksRead(
        node=node,
        relation=relation,
        state=state,
        lag_bytes=lag_bytes or 0,
        checksum_failures=failures,
        rows=rows,
        primary_rows=primary_rows,
    )


def looked_up(cluster: LabCluster, query: str) -> RowLookedUp:
    """Run a query of a report on database postgres of every node, and say who answers as the primary does."""
    digest = sql.SQL("select md5(string_agg(found::text, ',')) from ({}) as found").format(sql.SQL(query.rstrip("; ")))
    answers = {name: node.execute(digest) for name, node in cluster.nodes.items()}
    original = answers[cluster.primary.name]
    return RowLookedUp(
        agreeing=tuple(name for name, answer in answers.items() if answer == original),
        odd=tuple(name for name, answer in answers.items() if answer != original),
    )
