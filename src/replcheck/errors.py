"""Every way replcheck can fail to look, split by what the operator can do next.

A difference between two nodes is data, never an exception: an error here means that something could not be examined.
Messages follow PostgreSQL's style (lowercase, no full stop, naming the object and the state); the hint is a sentence.
No message may hold a row's value, a password or a connection string.

    ReplcheckError
      UsageError            a flag, a name or a pattern is wrong
        AlreadyRunning        another run of the same kind is at work, and this one is skipped
      ConfigurationError    the file is missing, malformed or says something impossible
      NodeError             one node cannot be used; carries its name
        NodeUnreachable       nothing answers at the address
          NodeStarting          a server is there, and starts, stops or recovers
        AuthenticationRefused the server turned the role away
        NodeUnfit             it answers, but no proof can be had through it (role, version, pooler, privilege)
        ConnectionsExhausted  too few free connections for the lanes
      DatabaseMissing       the node answers but has no such database
        NodeLost              it answered before and does not any more
        NodeReplaced          another server answers under the same name
        StatementFailed       the server refused one statement; carries its SQLSTATE
          StatementCancelled    it ended one early: recovery conflict, time limit, lock not granted
      ProgramError          a PostgreSQL program is missing or failed
      LabError              the lab cluster cannot do what was asked
      DrillError            a trial restore cannot be finished; carries a code
        BackupRefuted         because of the backup itself: it does not restore
        DrillBlocked          because of this machine or the configuration: the backup may be sound
          NotArchived           because the archive ends before the seal that it is to be restored to
      StoreError            the history cannot be read or written
      Interrupted           the user or a signal ended the run
"""


class ReplcheckError(Exception):
    """Say what failed and what to do next.

    `message` is one line for people; `hint` is one sentence, empty where nothing useful can be said.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ReplcheckError):
    """An argument names nothing, or contradicts another."""


class AlreadyRunning(UsageError):
    """A run is skipped, since another of its kind and cluster is at work."""


class ConfigurationError(ReplcheckError):
    """The configuration cannot be read or does not make sense."""


class NodeError(ReplcheckError):
    """One node cannot be used; `node` is its name in the configuration."""

    def __init__(self, message: str, *, node: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.node = node


class NodeUnreachable(NodeError):
    """Nothing answers at the node's address."""


class NodeStarting(NodeUnreachable):
    """A server is there and accepts no connections: it is starting, stopping or recovering."""


class AuthenticationRefused(NodeError):
    """The server answered and refused the role or its password."""


class NodeUnfit(NodeError):
    """The node answers, but it cannot take part: wrong role, version, cluster, pooler or privilege."""


class ConnectionsExhausted(NodeError):
    """The node has fewer free connections than the run needs."""


class DatabaseMissing(NodeError):
    """The node answers but has no such database: it was dropped, or is not replayed yet."""


class NodeLost(NodeError):
    """The connection broke in the middle of the run; `sqlstate` is None where the server said nothing."""

    def __init__(self, message: str, *, node: str, sqlstate: str | None = None, hint: str = "") -> None:
        super().__init__(message, node=node, hint=hint)
        self.sqlstate = sqlstate


class NodeReplaced(NodeError):
    """A connection opened under a node's name reached another server than the ones before it."""


class StatementFailed(NodeError):
    """The server refused one statement.

    Server messages quote values, so only the SQLSTATE is kept, and `detail` (the server's own text) only for the
    SQLSTATEs known to hold no value: I/O, checksum and missing-file errors. `block` is the block number such a text
    names, or None.
    """

    def __init__(
        self, message: str, *, node: str, sqlstate: str, detail: str = "", block: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.sqlstate = sqlstate
        self.detail = detail
        self.block = block


class StatementCancelled(StatementFailed):
    """The server ended the statement early and it may be tried again: conflict, time limit or lock."""


class ProgramError(ReplcheckError):
    """A PostgreSQL program is missing, cannot be run or ended with an error."""


class LabError(ReplcheckError):
    """The lab cluster is in no state to do what was asked."""


class DrillError(ReplcheckError):
    """A trial restore cannot be finished; `code` names the reason for machines."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class BackupRefuted(DrillError):
    """The backup itself does not restore: it is damaged, incomplete, or no backup."""


class DrillBlocked(DrillError):
    """This machine, its programs or the configuration keep the backup from being tried."""


class NotArchived(DrillBlocked):
    """The archive ends before the target and is whole up to there: the target's age decides what that means.

    `missing` is the WAL file that would come next; `in_part` says that a part of it is there; `owed` that it was full
    when the target's seal was made; `progress` how far recovery got, empty where it was not tried.
    """

    def __init__(self, missing: str, *, in_part: bool = False, owed: bool = False, progress: str = "") -> None:
        super().__init__(f"the archive ends before the target at WAL file {missing}{progress}", code="not_archived")
        self.missing = missing
        self.in_part = in_part
        self.owed = owed
        self.progress = progress


class StoreError(ReplcheckError):
    """The history store cannot be opened, read or written."""


class EmptyHistory(StoreError):
    """The file of a history holds nothing at all: it has only just been made, or never was one."""


class Interrupted(ReplcheckError):
    """The run was ended by the user or by a signal."""
