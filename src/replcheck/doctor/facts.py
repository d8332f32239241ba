"""What was read of one node, whole or in part, and how a check of it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from replcheck.errors import NodeError
from replcheck.model.doctor import Check, CheckState
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.examination import DatabaseFacts, Platform, Rights, ServerFacts
from replcheck.postgres.nodes import Database, NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something could not be examined."""

    code: str
    what: str
    """Without the node's name."""
    hint: str

    @classmethod
    def of(cls, error: NodeError, code: str) -> "Failure":
        """Return an error as a clause about its node."""
        return cls(code=code, what=error.message.removeprefix(f'node "{error.node}" '), hint=error.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeExam:
    """What was read of a node; what is missing after a failure stays None or empty."""

    target: NodeTarget
    address: str
    hosts: tuple[str, ...] = ()
    """The hosts that its connection string names."""
    failure: Failure | None = None
    """What ended the examination early; None where it reached its end."""
    rights: Rights | None = None
    facts: NodeFacts | None = None
    server: ServerFacts | None = None
    databases: tuple[Database, ...] = ()
    visited: Mapping[str, DatabaseFacts | Failure] = field(default_factory=dict)
    """By name, in the order of the visits: databases that an audit would read."""

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.target.name

    @property
    def is_primary(self) -> bool:
        """Return whether it was seen to be a primary."""
        return self.facts is not None and self.facts.role is NodeRole.PRIMARY

    @property
    def is_standby(self) -> bool:
        """Return whether it was seen to be a standby."""
        return self.facts is not None and self.facts.role is NodeRole.STANDBY

    @property
    def platform(self) -> Platform:
        """Return whose server it seems to be."""
        return self.rights.platform if self.rights else Platform.OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a check is about, and where its SQL belongs."""

    node: str | None
    database: str | None = None
    sql_node: str | None = None

    def of(self, database: str) -> "Place":
        """Return the place of a database on the same node."""
        return replace(self, database=database)

    def ok(self, code: str, what: str, remedy: str = "", *sql: str) -> Check:
        """Say that something is as it should be."""
        return self._check(code, CheckState.OK, what, remedy, sql)

    def warning(self, code: str, what: str, remedy: str = "", *sql: str) -> Check:
        """Say that somebody should know."""
        return self._check(code, CheckState.WARNING, what, remedy, sql)

    def missing(self, code: str, what: str, remedy: str = "", *sql: str) -> Check:
        """Say that an audit as asked would end unproven."""
        return self._check(code, CheckState.MISSING, what, remedy, sql)

    def unknown(self, code: str, what: str, remedy: str = "", *sql: str) -> Check:
        """Say that the role may not see it."""
        return self._check(code, CheckState.UNKNOWN, what, remedy, sql)

    def _check(self, code: str, state: CheckState, what: str, remedy: str, sql: tuple[str, ...]) -> Check:
        statements = tuple(statement for statement in sql if statement)
        return Check(
            code=code,
            node=self.node,
            database=self.database,
            state=state,
            what=what,
            remedy=remedy,
            sql=statements,
            sql_node=self.sql_node if statements else None,
        )
