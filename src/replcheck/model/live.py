"""What is seen of a cluster while it is watched: answers of nodes, and the view that follows from them.

A sample is what one look at every node brought: an answer or a silence each. A view is what a fold over all samples so
far makes of them. Neither holds a row, a role or a connection secret.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from replcheck.model.node import NodeRole
from replcheck.model.wal import Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One connection over which a node sends WAL (a row of pg_stat_replication)."""

    application: str
    address: str
    """Of the receiver; empty over a Unix socket."""
    state: str | None
    """None where the role may not see it, as for all that follows."""
    sync_state: str | None
    sent_lsn: Lsn | None
    flushed_lsn: Lsn | None
    replayed_lsn: Lsn | None
    logical: bool | None = None
    """Whether it decodes changes for a subscriber; None where it uses no slot, as a standby may."""
    temporary_slot: bool | None = None
    """Whether its slot goes when it does, as a base backup's; None where it uses none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """How a standby receives WAL (pg_stat_wal_receiver)."""

    status: str | None
    """None where the role may not see it."""
    host: str
    """Host or socket directory of the sender, empty where it may not be seen."""
    port: int | None
    last_message_at: datetime | None
    """When the sender was last heard of, by the standby's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One replication slot and the WAL that it keeps from being removed."""

    name: str
    logical: bool
    active: bool
    retained_bytes: int | None
    """None where it keeps none."""
    wal_status: str | None
    """`reserved`, `extended`, `unreserved` or `lost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archiver:
    """What archives the WAL (pg_stat_archiver); a count that grows proves that the command succeeded, no more."""

    mode: str
    """`off`, `on` or `always`."""
    archived: int
    last_archived: str | None
    """Name of the WAL file."""
    last_archived_at: datetime | None
    failed: int
    last_failed: str | None
    last_failed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalMark:
    """How far a primary had written at a moment: all that was committed by then lies before `lsn`."""

    at: datetime
    """By the clock of who watches."""
    lsn: Lsn
    next_xid: int | None = None
    """The first transaction id, with its epoch, beyond all that had ended; None where unknown."""
    idle: bool = False
    """Whether no transaction with an id was in progress."""
    open_xids: int | None = None
    """How many transactions with an id below `next_xid` were in progress; None where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnswer:
    """What one node told in one sample."""

    node: str
    at: datetime
    """When the answer came, by the clock of who watches."""
    elapsed_s: float
    role: NodeRole
    system_identifier: str
    server_version_num: int
    started_at: datetime
    """When the server started, by its own clock."""
    server_at: datetime
    """The server's own clock when it answered."""
    host: str
    """What tells the server's host from others: its own address, or a socket directory; empty where unknown."""
    timeline: int | None
    """None where the role may not see it."""
    insert_lsn: Lsn | None
    """Of a primary; None for a standby."""
    received_lsn: Lsn | None
    """Of a standby, as the two that follow; None for a primary."""
    replayed_lsn: Lsn | None
    replayed_commit_at: datetime | None
    """When the last replayed transaction committed, by the primary's clock."""
    replay_paused: bool
    apply_delay_s: float
    """`recovery_min_apply_delay`; 0 without."""
    receiver: Receiver | None
    """None where none is running."""
    senders: tuple[Sender, ...]
    slots: tuple[Slot, ...]
    archiver: Archiver | None
    data_checksums: bool | None
    checksum_failures: int | None
    """Sum over all databases since the statistics began; None where data checksums are off or it is unknown."""
    conflicts: int
    """Queries that recovery cancelled, over all databases."""
    wal_segment_size: int
    """Bytes of one WAL file."""
    own_port: int = 0
    """The port in the server's configuration; with the identifier and the time of its start it tells servers apart."""
    cluster_name: str = ""
    """What the server calls itself, and hence its receiver, unless told otherwise."""
    next_xid: int | None = None
    """Of a primary: the first transaction id beyond all that have ended; None for a standby."""
    oldest_xid: int | None = None
    """Of a primary: the oldest transaction id still in progress; `next_xid` where none below that is."""
    open_xids: int | None = None
    """Of a primary: how many transactions with an id below `next_xid` are in progress; None for a standby."""
    promoted_lsn: Lsn | None = None
    """Of a primary that replayed WAL since it started: where that ended; None after a start without recovery."""
    earlier: tuple[WalMark, ...] = ()
    """Of a primary, in the first answer of a connection: positions of the past that its files still tell."""
    archived_lsn: Lsn | None = None
    """Of a primary, in the first answer of a connection: all WAL of its timeline before it is archived; None where the
    role may not see it. Later answers tell it by the name of the last archived file."""
    oldest_wal: Lsn | None = None
    """In the first answer of a connection: where the oldest WAL file that the node still has begins. A copy made anew
    has none from before it was made."""


class SilenceCode(Enum):
    """Why a node gave no answer."""

    UNREACHABLE = "unreachable"
    """Nothing listens, the network does not reach it, or the name is unknown."""
    TIMEOUT = "timeout"
    STARTING = "starting"
    """The server answers that it starts, recovers or shuts down (SQLSTATE 57P03, 57P01 to 57P02)."""
    REFUSED = "refused"
    """The server is there and refuses the role (class 28, 53, 3D, 42)."""
    UNFIT = "unfit"
    """Something else than a single PostgreSQL server of a known version answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSilence:
    """A node that gave no answer in one sample: a fact, never an error of the watch."""

    node: str
    at: datetime
    code: SilenceCode
    reason: str
    """In one clause, without anything that a server said of values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at all nodes; a node is in one of the two, or in none while its answer is still awaited."""

    at: datetime
    answers: tuple[NodeAnswer, ...] = ()
    silences: tuple[NodeSilence, ...] = ()


TAKES_WRITES = "it takes writes"
"""How the reason begins of a strayed node that is a primary of its own."""


class NodeState(Enum):
    """What a node is to its cluster at a moment."""

    PRIMARY = "primary"
    STREAMING = "streaming"
    """A standby of the primary's history whose receiver streams."""
    DETACHED = "detached"
    """A standby that answers and receives nothing, or only from an archive."""
    STARTING = "starting"
    LOST = "lost"
    """It answered before and does not now."""
    UNSEEN = "unseen"
    """It never answered since the watch began."""
    STRAYED = "strayed"
    """It is on another branch of history than the primary: an old primary, or a standby that was left behind."""
    FOREIGN = "foreign"
    """It has another system identifier."""
    UNSURE = "unsure"
    """It is there, and what it is may not be seen: it refuses the role, the role lacks a privilege, or the same server
    answers under another name too. Neither good nor bad."""

    @property
    def is_running_copy(self) -> bool:
        """Return whether a node of this state holds the cluster's data and keeps up with it."""
        return self in {NodeState.PRIMARY, NodeState.STREAMING}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node as the samples so far show it; what its last answer told stays while it is silent."""

    node: str
    state: NodeState
    since: datetime
    """When this state began: the first sample that showed it."""
    answered_at: datetime | None
    """Its last answer; None where it never gave one."""
    reason: str = ""
    """Why it is not well, in one clause; empty where it is."""
    zone: str | None = None
    host: str = ""
    configured: bool = True
    """False for one that is only known from the primary's senders."""
    server_version_num: int | None = None
    system_identifier: str | None = None
    started_at: datetime | None = None
    timeline: int | None = None
    lsn: Lsn | None = None
    """Insert position of a primary, replay position of a standby."""
    received_lsn: Lsn | None = None
    lag_bytes: int | None = None
    """WAL of the primary that is not replayed; None for a primary and where unknown."""
    lag_s: float | None = None
    """How old what the node shows is: 0 where nothing is left to replay, however long ago the last commit was."""
    upstream: str | None = None
    """Name of the node it streams from, and of one that is only known from senders whose sender showed it last; None
    where unknown or none."""
    sync_state: str | None = None
    replay_paused: bool = False
    apply_delay_s: float = 0.0
    slots: tuple[Slot, ...] = ()
    archiver: Archiver | None = None
    data_checksums: bool | None = None
    checksum_failures: int | None = None
    conflicts: int | None = None
    elapsed_s: float | None = None
    """How long its last answer took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """To which second the archive could restore, as far as the primary tells; only a drill proves it."""

    at: datetime | None
    """Every commit up to then is archived; None where that is unknown."""
    age_s: float | None
    """How long before the sample that was; 0 where nothing is left to archive; None where unknown."""
    reason: str = ""
    """Why it is unknown or late, in one clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A switch-over that is told once the old primary is seen not to write any more."""

    old: str
    new: str
    last_write_at: datetime
    """Of the old primary, so far."""
    first_write_at: datetime
    timeline: int | None
    lsn: Lsn | None
    """Where the new timeline began."""
    taken: WalMark | None
    """The last mark of the old primary that lies before `lsn`."""
    wrote: WalMark | None
    """How far the old primary had written, so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """A cluster as the samples so far show it."""

    cluster: str
    at: datetime
    """Of the last sample."""
    watched_since: datetime
    """Of the first sample of this watch."""
    system_identifier: str | None
    """None while no node of the cluster answered."""
    primary: str | None
    """The node that takes writes; None where there is none, or more than one."""
    nodes: tuple[NodeView, ...]
    recovery_point: RecoveryPoint
    split_brain: bool = False
    last_primary: str | None = None
    """The primary that was known last, silent or not."""
    timeline: int | None = None
    """The newest timeline that a primary was on."""
    former_primaries: tuple[str, ...] = ()
    """Nodes that were taken over from and have not rejoined."""
    proven_copies: int | None = None
    """How many copies are proven, the primary included; None where no proofs were given."""
    switching: Switch | None = None
    """A switch-over that happened and is not told yet; a watch that goes on from here tells it."""

    @property
    def running_copies(self) -> int:
        """Return how many nodes hold the data and keep up with it, the primary included."""
        return sum(node.state.is_running_copy for node in self.nodes)


class EventKind(Enum):
    """What can happen in a cluster's life."""

    WATCH_BEGAN = "watch began"
    WATCH_ENDED = "watch ended"
    WATCH_GAP = "nothing was watching"
    PRIMARY_LOST = "primary lost"
    STANDBY_LOST = "standby lost"
    STANDBY_DETACHED = "standby detached"
    OUT_OF_SIGHT = "node out of sight"
    NODE_BACK = "node back"
    PROMOTED = "promoted"
    SWITCHED_OVER = "switched over"
    WAL_LEFT_BEHIND = "WAL left behind"
    REJOINED = "old primary rejoined"
    STRAYED = "node on another history"
    COPY_RECREATED = "copy recreated"
    SPLIT_BRAIN = "split brain"
    SPLIT_BRAIN_OVER = "split brain over"
    LAG_OVER = "lag over limit"
    LAG_BACK = "lag back under limit"
    REPLAY_PAUSED = "replay paused"
    REPLAY_RESUMED = "replay resumed"
    ARCHIVE_FAILING = "archive failing"
    ARCHIVE_WORKING = "archive working again"
    RECOVERY_POINT_OVER = "recovery point over limit"
    RECOVERY_POINT_BACK = "recovery point back under limit"
    CHECKSUM_FAILURE = "checksum failure"
    SLOT_LOST = "slot lost"
    COPIES_SHORT = "fewer copies than asked"
    COPIES_BACK = "as many copies as asked again"
    PROVEN_SHORT = "fewer proven copies than asked"
    PROVEN_BACK = "as many proven copies as asked again"
    NODE_FOUND = "node found"
    NODE_FORGOTTEN = "node forgotten"


class Severity(Enum):
    """How much an event matters to who keeps the cluster."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEvent:
    """Something that happened to a cluster, found by folding samples."""

    kind: EventKind
    severity: Severity
    at: datetime
    """When it was seen: the time of the sample that showed it."""
    node: str | None
    """None where the whole cluster is meant."""
    what: str
    """One sentence for people, without a full stop."""
    began_at: datetime | None = None
    """When what ended or was measured began: for `switched over` the last sample in which the old primary took writes,
    for `node back` and `copy recreated` when the node or copy was lost; None where nothing is measured."""
    seconds: float | None = None
    """How long it lasted: nobody took writes, a node was away, the cluster was short of copies."""
    unseen_s: float = 0.0
    """For how much of that nothing is known of the copy that was recreated: it may have taken less by so much."""
    size_bytes: int | None = None
    """Lag, where it is about lag; what was not taken over, where WAL was left behind."""
    timeline: int | None = None
    """The new one, where it is about one."""
    lsn: Lsn | None = None
    """Where a promotion left the old timeline, where known."""
    detail: str = ""
    """Name of what it is about beside the node: the old primary, a slot, a WAL file."""
