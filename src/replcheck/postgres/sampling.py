"""What a node tells once a second: one prepared statement, one round trip, one value to decode.

The statement calls the functions beneath the views, since the views join what a sample does not need. Everything that
this role may not see comes as null and stays None. No name of a database, no query and no setting of the user's leaves
the server.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from replcheck.errors import NodeError, NodeUnfit, StatementFailed
from replcheck.model.live import Archiver, NodeAnswer, Receiver, Sender, Slot, WalMark
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.wal import Lsn, file_end
from replcheck.postgres.session import Limits, Session, Statement, open_session

_LIMITS = Limits(statement_s=5.0, transaction_s=10.0, lock_s=1.0)
_PURPOSE = "watch"
_NOT_PREPARED = "26000"
"""invalid_sql_statement_name: another session answers than the one that prepared the statement."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Purpose: one sample of a node, as one JSON array; times in microseconds since 1970, positions as bytes. PostgreSQL
# 14+. Executable by every role; without pg_monitor (or pg_read_all_stats) senders and the receiver show their pid only.
# Cost: well under a millisecond; it grows with the databases, senders and slots. The timeline of a primary is in its
# WAL file name, that of a standby at its receiver: pg_control_checkpoint lags behind a promotion.
_PREPARE: Statement = """
    PREPARE sample AS SELECT pg_catalog.json_build_array(
        pg_catalog.pg_backend_pid(),
        r.in_recovery,
        (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
        (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint,
        (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
        host(pg_catalog.inet_server_addr()),
        pg_catalog.current_setting('port')::int,
        pg_catalog.current_setting('cluster_name'),
        CASE WHEN r.in_recovery THEN NULL ELSE
            ('x' || substr(pg_catalog.pg_walfile_name(p.here), 1, 8))::bit(32)::int END,
        CASE WHEN r.in_recovery THEN NULL ELSE (p.here - '0/0'::pg_lsn)::bigint END,
        CASE WHEN r.in_recovery THEN (pg_catalog.pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint END,
        (pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint,
        (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint,
        CASE WHEN r.in_recovery THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END,
        extract(epoch FROM pg_catalog.current_setting('recovery_min_apply_delay')::interval)::float8,
        CASE WHEN r.in_recovery THEN NULL ELSE
            pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint END,
        CASE WHEN r.in_recovery THEN NULL ELSE
            pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint END,
        CASE WHEN r.in_recovery THEN NULL ELSE
            (SELECT count(*) FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot())) END,
        (SELECT pg_catalog.json_build_array(
                w.status, w.sender_host, w.sender_port, w.received_tli,
                (extract(epoch FROM w.last_msg_receipt_time) * 1000000)::bigint)
         FROM pg_catalog.pg_stat_get_wal_receiver() AS w WHERE w.pid IS NOT NULL),
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                a.application_name, host(a.client_addr), s.state, s.sync_state,
                (s.sent_lsn - '0/0'::pg_lsn)::bigint, (s.flush_lsn - '0/0'::pg_lsn)::bigint,
                (s.replay_lsn - '0/0'::pg_lsn)::bigint, k.slot_type = 'logical', k.temporary)
                ORDER BY a.application_name, s.pid)
         FROM pg_catalog.pg_stat_get_wal_senders() AS s
              LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(s.pid) AS a ON true
              LEFT JOIN pg_catalog.pg_get_replication_slots() AS k ON k.active_pid = s.pid),
        (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                k.slot_name, k.slot_type = 'logical', k.active, (p.here - k.restart_lsn)::bigint, k.wal_status)
                ORDER BY k.slot_name)
         FROM pg_catalog.pg_get_replication_slots() AS k WHERE NOT k.temporary),
        pg_catalog.current_setting('archive_mode'),
        (SELECT pg_catalog.json_build_array(
                v.archived_count, v.last_archived_wal,
                (extract(epoch FROM v.last_archived_time) * 1000000)::bigint,
                v.failed_count, v.last_failed_wal, (extract(epoch FROM v.last_failed_time) * 1000000)::bigint)
         FROM pg_catalog.pg_stat_get_archiver() AS v),
        pg_catalog.current_setting('data_checksums'),
        d.failures,
        d.conflicts,
        pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))
    )::text
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) AS r
         CROSS JOIN LATERAL (
             SELECT CASE WHEN r.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn()
                         ELSE pg_catalog.pg_current_wal_insert_lsn() END AS here) AS p
         CROSS JOIN (
             SELECT sum(pg_catalog.pg_stat_get_db_checksum_failures(o.oid))::bigint AS failures,
                    coalesce(sum(pg_catalog.pg_stat_get_db_conflict_all(o.oid)), 0)::bigint AS conflicts
             FROM (SELECT oid FROM pg_catalog.pg_database UNION ALL SELECT 0) AS o (oid)) AS d
"""

# Purpose: the statement above, planned once for a session. Both are sent as they are: the driver prepares nothing.
_SAMPLE: Statement = "EXECUTE sample"

# Purpose: how far a primary had written when it made its last checkpoint: what was committed by then lies before its
# redo point. PostgreSQL 14+, executable by everyone unless revoked. `oldest_active_xid` equals `next_xid` where nothing
# was in progress.
_CHECKPOINT: Statement = """
    SELECT (c.redo_lsn - '0/0'::pg_lsn)::bigint,
           (extract(epoch FROM c.checkpoint_time) * 1000000)::bigint,
           (split_part(c.next_xid, ':', 1)::bigint << 32) + split_part(c.next_xid, ':', 2)::bigint,
           c.oldest_active_xid::text = split_part(c.next_xid, ':', 2)
    FROM pg_catalog.pg_control_checkpoint() AS c
    WHERE NOT pg_catalog.pg_is_in_recovery()
"""

# Purpose: the last WAL file of a timeline before which all are archived, and when it was full: the server notes a file
# as ready to be archived before it writes on, and the note keeps that time when it is marked done. Files of older
# timelines are marked done by standbys that never archived them. PostgreSQL 12+, pg_monitor; read once for a
# connection.
_ARCHIVED: Statement = """
    WITH noted AS (
        SELECT substr(f.name, 1, 24) AS file, substr(f.name, 26) AS state, f.modification
        FROM pg_catalog.pg_ls_archive_statusdir() AS f
        WHERE f.name ~ '^[0-9A-F]{24}[.](done|ready)$' AND substr(f.name, 1, 8) = %s
    )
    SELECT pg_catalog.textsend(n.file), (extract(epoch FROM n.modification) * 1000000)::bigint
    FROM noted AS n
    WHERE n.state = 'done' AND NOT EXISTS (SELECT FROM noted AS r WHERE r.state = 'ready' AND r.file < n.file)
    ORDER BY n.file DESC LIMIT 1
"""

# Purpose: the oldest WAL file that a node still has, by its number. PostgreSQL 10+, pg_monitor; read once for a
# connection.
_OLDEST_WAL: Statement = """
    SELECT pg_catalog.textsend(min(substr(w.name, 9))) FROM pg_catalog.pg_ls_waldir() AS w
    WHERE w.name ~ '^[0-9A-F]{24}$'
"""


async def open_sampling_session(target: NodeTarget) -> Session:
    """Connect to a node to sample it; raises what `open_session` raises, or what a statement does."""
    session = await open_session(target, purpose=_PURPOSE, limits=_LIMITS)
    try:
        await session.fetch(_PREPARE)
    except (NodeError, asyncio.CancelledError):
        await session.close()
        raise
    return session


async def sample_node(session: Session, clock: Callable[[], datetime], *, first: bool = False) -> NodeAnswer:
    """Ask a node what it is and does now.

    `first` asks also, in further round trips, for what only the first answer of a connection holds. Raises NodeUnfit
    behind a pooler, and NodeLost, StatementCancelled or StatementFailed as the session does.
    """
    began = clock()
    try:
        ((raw,),) = await session.fetch(_SAMPLE)
    except StatementFailed as error:
        if error.sqlstate == _NOT_PREPARED:
            raise _pooler(session) from error
        raise
    at = clock()
    told = json.loads(_decoded(raw))
    if told[0] != session.advertised_pid:
        raise _pooler(session)
    answer = _answer(session, told, at, (at - began).total_seconds())
    if not first:
        return answer
    answer = replace(answer, oldest_wal=await _oldest_wal(session, answer))
    return await _with_past(session, answer) if answer.role is NodeRole.PRIMARY else answer


def _pooler(session: Session) -> NodeUnfit:
    return NodeUnfit(
        f'node "{session.node}" is reached through a connection pooler',
        node=session.node,
        hint="Give the address of the server itself: a pooler answers for several servers under one name.",
    )


def _answer(session: Session, told: list[Any], at: datetime, elapsed_s: float) -> NodeAnswer:
    (_, standby, identifier, started, now, address, port, cluster_name, timeline, insert, received, replayed) = told[
        :12
    ]
    (commit, paused, delay_s, next_xid, oldest_xid, open_xids, receiver, senders, slots) = told[12:21]
    (archive_mode, archiver, checksums, failures, conflicts, segment_size) = told[21:]
    return NodeAnswer(
        node=session.node,
        at=at,
        elapsed_s=elapsed_s,
        role=NodeRole.STANDBY if standby else NodeRole.PRIMARY,
        system_identifier=identifier,
        server_version_num=session.server_version_num,
        started_at=_time(started),
        server_at=_time(now),
        host=address or session.socket_directory,
        timeline=receiver[3] if standby and receiver else timeline,
        insert_lsn=_lsn(insert),
        received_lsn=_lsn(received),
        replayed_lsn=_lsn(replayed) if standby else None,
        replayed_commit_at=_maybe_time(commit) if standby else None,
        replay_paused=paused,
        apply_delay_s=float(delay_s),
        receiver=_receiver(receiver) if standby and receiver else None,
        senders=tuple(map(_sender, senders or ())),
        slots=tuple(map(_slot, slots or ())),
        archiver=_archiver(archive_mode, archiver),
        data_checksums=checksums == "on" if checksums in {"on", "off"} else None,
        checksum_failures=failures,
        conflicts=conflicts,
        wal_segment_size=segment_size,
        own_port=port,
        cluster_name=cluster_name,
        next_xid=next_xid,
        oldest_xid=oldest_xid,
        open_xids=open_xids,
        promoted_lsn=None if standby else _lsn(replayed),
    )


def _receiver(told: list[Any]) -> Receiver:
    status, host, port, _, heard = told
    return Receiver(status=status, host=host or "", port=port, last_message_at=_maybe_time(heard))


def _sender(told: list[Any]) -> Sender:
    application, address, state, sync_state, sent, flushed, replayed, logical, temporary_slot = told
    return Sender(
        application=application or "",
        address=address or "",
        state=state,
        sync_state=sync_state,
        sent_lsn=_lsn(sent),
        flushed_lsn=_lsn(flushed),
        replayed_lsn=_lsn(replayed),
        logical=logical,
        temporary_slot=temporary_slot,
    )


def _slot(told: list[Any]) -> Slot:
    name, logical, active, retained, status = told
    return Slot(name=name, logical=logical, active=active, retained_bytes=retained, wal_status=status)


def _archiver(mode: str, told: list[Any]) -> Archiver:
    archived, last, last_at, failed, last_failed, last_failed_at = told
    return Archiver(
        mode=mode,
        archived=archived,
        last_archived=last,
        last_archived_at=_maybe_time(last_at),
        failed=failed,
        last_failed=last_failed,
        last_failed_at=_maybe_time(last_failed_at),
    )


async def _oldest_wal(session: Session, answer: NodeAnswer) -> Lsn | None:
    try:
        ((number,),) = await session.fetch(_OLDEST_WAL)
    except StatementFailed:
        return None
    end = file_end(f"{0:08X}{_decoded(number)}", answer.wal_segment_size) if number else None
    return None if end is None else Lsn(end - answer.wal_segment_size)


async def _with_past(session: Session, answer: NodeAnswer) -> NodeAnswer:
    """Add what a primary's files tell of its past positions, by our clock; nothing where they may not be seen."""
    ahead = answer.server_at - answer.at
    marks: list[WalMark] = []
    archived_lsn = None
    try:
        for redo, moment, next_xid, idle in await session.fetch(_CHECKPOINT):
            marks.append(WalMark(at=_time(moment) - ahead, lsn=Lsn(redo), next_xid=next_xid, idle=bool(idle)))
        for name, moment in await session.fetch(_ARCHIVED, [f"{answer.timeline:08X}"]):
            archived_lsn = file_end(_decoded(name), answer.wal_segment_size)
            if archived_lsn is not None:
                marks.append(WalMark(at=_time(moment) - ahead, lsn=archived_lsn))
    except StatementFailed:
        pass
    return replace(
        answer, archived_lsn=archived_lsn, earlier=tuple(sorted(marks, key=lambda mark: (mark.lsn, mark.at)))
    )


def _decoded(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else bytes(raw).decode("utf-8", "replace")


def _lsn(value: int | None) -> Lsn | None:
    return None if value is None else Lsn(value)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _maybe_time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _time(microseconds)
