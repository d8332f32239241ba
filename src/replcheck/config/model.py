"""What a configuration file may say, key by key: the one place where each is explained.

Durations are seconds and sizes bytes once read. The sections `backups`, `drill`, `policy` and `waivers` belong to
commands beside `audit`: their shape is checked, so that one file serves a cluster's whole life.
"""

import difflib
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from replcheck.model.units import parse_duration, parse_percent, parse_size

_QUANTITY = r"^\s*[0-9]+(\.[0-9]+)?\s*({})\s*$"
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _QUANTITY.format("us|ms|s|min|h|d"), "examples": ["5min"]}),
]
Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    WithJsonSchema({"type": "string", "pattern": _QUANTITY.format("%"), "examples": ["5%"]}),
]
"""A share, 0 to 1, written as a percentage."""
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": _QUANTITY.format("B|kB|MB|GB|TB"), "examples": ["64MB"]}),
]


def _not_blank(text: object) -> object:
    """Refuse a text of nothing but blanks; whether it is a text at all is looked at afterwards."""
    if isinstance(text, str) and not text.strip():
        raise ValueError("must not be empty")
    return text


Said = Annotated[str, BeforeValidator(_not_blank), Field(min_length=1)]
"""A text that says something."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
NodeName = Annotated[str, Field(pattern=NAME_PATTERN)]
Patterns = tuple[Annotated[str, Field(min_length=1)], ...]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, and nothing changes after it was read.

    What is written beneath a key is its description, in configurations that `replcheck init` writes too.
    """

    model_config = ConfigDict(
        defer_build=True,
        extra="forbid",
        frozen=True,
        populate_by_name=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class Node(Section):
    """One server; its role is observed, never configured."""

    dsn: str
    """A libpq connection string; what it leaves out comes from `connect`."""
    zone: str | None = Field(default=None, examples=["rack-a"])
    """The rack or zone the server stands in, as its owner attests."""


class PauseIf(Section):
    """Limits beyond which an audit holds still."""

    lag: Size | None = Field(default=None, examples=["64MB"])
    """WAL that a replica has not replayed yet."""
    active_clients: int | None = Field(default=None, ge=1, examples=[40])
    """Client backends that are active on any node."""
    xmin_age: int | None = Field(default=None, ge=1, examples=[50_000_000])
    """Transactions that the oldest snapshot of the primary holds back from vacuum."""
    checkpoints_requested: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[6.0])
    """Checkpoints forced by WAL volume, per minute."""


class Audit(Section):
    """How replicas are proven; every key has a flag of the same name, which wins."""

    level: Literal["fast", "exact", "strong"] = "exact"
    """How exactly rows are compared."""
    jobs: int = Field(default=2, ge=1, le=64)
    """Lanes that work at the same time; each takes one connection per node."""
    databases: Patterns = ()
    """Glob patterns of database names; empty means all."""
    tables: Patterns = ()
    """Glob patterns `relation`, `schema.relation` or `database.schema.relation`; empty means all."""
    exclude: Patterns = ()
    """Glob patterns of the same form; what they match is always named in the report."""
    where: dict[Annotated[str, Field(min_length=1)], str] = {}
    """Row filters: a pattern of relations, then the boolean expression that selects their rows."""
    cross_check: Percent | None = Field(default=None, examples=["5%"])
    """Share of the chunks that are compared a second time, in the client."""
    catalogs: bool = True
    """Whether system catalogs are compared."""
    indexes: bool = False
    """Whether B-tree indexes are checked against their tables on every node, by the extension amcheck."""
    index_timeout: Duration = Field(default=3600.0, ge=1)
    """How long the check of one index may take, and so hold its snapshot."""
    pace: Literal["gentle", "default", "full"] = "default"
    """How much of a server an audit may take."""
    pause_if: PauseIf = PauseIf()
    """When to hold still."""
    pause_file: str | None = None
    """The audit holds still while this file exists."""
    time_budget: Duration | None = Field(default=None, ge=1)
    """How long the audit may take; what is not proven by then is inconclusive."""
    max_snapshot_age: Duration = Field(default=60.0, ge=1, le=3600)
    """How long one snapshot may hold back vacuum on the primary."""
    node_timeout: Duration = Field(default=30.0, ge=1)
    """How long to wait for a node that went away to come back."""
    replay_wait: Duration = Field(default=30.0, ge=0)
    """How long to wait for a replica to replay the primary's position."""
    settle_budget: Duration = Field(default=60.0, ge=0)
    """How long rows may stay in flight, or chunks be put off, before they are given up."""


LayerWord = Literal["seal", "primary", "manifest", "checksums", "amcheck", "assertions", "completeness"]


class AnyBackup(Section):
    """What backups of every kind have."""

    require: tuple[LayerWord, ...] | None = None
    """Layers without which a drill of this backup counts as not checked; left out, those of `drill.require`."""


class BaseBackup(AnyBackup):
    """Base backups: directories or tar archives made by pg_basebackup, also incremental ones."""

    kind: Literal["base"]
    """`base`"""
    path: str
    """One backup, or a folder with several."""
    wal: str | None = None
    """Folder of the WAL archive; files may be compressed with gzip, lz4 or zstd."""
    restore_command: str | None = None
    """How to fetch a WAL file instead, as in postgresql.conf."""


class SnapshotBackup(AnyBackup):
    """File-system snapshots of a data directory, taken while the server ran."""

    kind: Literal["snapshot"]
    """`snapshot`"""
    path: str
    """One copy of a data directory, or a folder with several."""
    wal: str | None = None
    """Folder of the WAL archive."""
    restore_command: str | None = None
    """How to fetch a WAL file instead, as in postgresql.conf."""


class DumpBackup(AnyBackup):
    """Dumps made by pg_dump: custom, directory, tar or plain SQL, the last also with gzip."""

    kind: Literal["dump"]
    """`dump`"""
    path: str
    """One dump, or a folder with several."""
    globals: str | None = None
    """A file made by `pg_dumpall --globals-only`, for the roles that the dump names."""
    jobs: int = Field(default=2, ge=1, le=64)
    """Parallel jobs of pg_restore, where the format allows it."""


class PgBackRestBackup(AnyBackup):
    """Backups of pgBackRest in a repository on this machine."""

    kind: Literal["pgbackrest"]
    """`pgbackrest`"""
    stanza: Annotated[str, Field(min_length=1)]
    """Name of the stanza."""
    config: str | None = None
    """pgBackRest's configuration file; left out, its own default."""
    jobs: int = Field(default=2, ge=1, le=64)
    """Its `process-max`."""


class CommandBackup(AnyBackup):
    """A server that commands of the user's provide and destroy, for instance a provider's restore."""

    kind: Literal["command"]
    """`command`"""
    provision: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; its last line of output is the connection string of the restored server."""
    destroy: tuple[str, ...] = Field(min_length=1)
    """Program and arguments that remove the server again; run after every attempt."""
    timeout: Duration = Field(default=3600.0, ge=1)
    """How long each of the two may take."""


Backup = Annotated[
    BaseBackup | SnapshotBackup | DumpBackup | PgBackRestBackup | CommandBackup, Field(discriminator="kind")
]


class Scratch(Section):
    """Where trial restores happen."""

    dir: str | None = None
    """Directory for scratch servers, on a file system with room for the copy."""
    dsn: str | None = None
    """A server of yours on which a database is created for each dump, and dropped again."""


class Seal(Section):
    """How the primary is sealed for later comparison."""

    folder: str | None = Field(default=None, examples=["/var/lib/replcheck/seals"])
    """Folder of the manifests. Left out, it lies beside the history."""
    max_age: Duration = Field(default=7200.0, ge=1)
    """How long a seal's snapshot may hold back vacuum on the primary."""
    jobs: int = Field(default=2, ge=1, le=64)
    """Connections that digest at the same time."""


class Drill(Section):
    """How a trial restore is done."""

    backup: str | None = None
    """Name of a table under `backups`."""
    target: str = "latest"
    """A time, an LSN, a restore point's name, `latest`, or a seal (`seal:ID`)."""
    scratch: str | Scratch | None = None
    """Directory for scratch servers, or a table with `dir` and `dsn`."""
    programs: dict[str, str] = Field(default={}, examples=[{"16": "/opt/pg16/bin"}])
    """Folders of server programs by major version; left out, they are looked for."""
    layers: tuple[LayerWord, ...] | None = None
    """Layers of proof to run; left out, all that make sense for the backup."""
    require: tuple[LayerWord, ...] = ()
    """Layers without which the drill counts as not checked."""
    max_time: Duration | None = Field(default=None, ge=1, examples=["2h"])
    """Recovery time objective: from the first byte fetched until the copy can be used."""
    max_age: Duration | None = Field(default=None, ge=1, examples=["5min"])
    """Recovery point objective: how old the newest recovered commit may be."""
    archive_delay: Duration = Field(default=3600.0, ge=1)
    """How long a WAL file that is full may be missing from the archive before that counts against the backup."""
    timeout: Duration | None = Field(default=None, ge=1)
    """How long the whole drill may take; left out, as long as it takes."""
    assertions: dict[str, str] = {}
    """Read-only boolean expressions that must hold on what was restored; a name may begin with `database.`."""


class Watch(Section):
    """How the cluster is watched, beside what the policy asks."""

    interval: Duration = Field(default=1.0, ge=0.1, le=60)
    """How often every node is asked; at least every 20s, since more than 60s between samples count as unwatched."""
    max_lag: Size | None = Field(default=None, examples=["64MB"])
    """WAL that a standby may have yet to replay before it is an event; left out, any amount."""
    max_lag_time: Duration = Field(default=60.0, ge=1)
    """How old what a standby shows may be before it is an event, its `recovery_min_apply_delay` aside."""
    scrub: Duration | None = Field(default=None, ge=60, examples=["7d"])
    """In which time everything is proven over and over at a gentle pace; left out, it is not."""


class History(Section):
    """How long the history keeps what lies beside the records; those of runs are never dropped."""

    keep_samples: Duration = Field(default=400 * 86400.0, ge=86400, examples=["400d"])
    """What was seen of the nodes, second by second at first, then by the minute, then by the hour."""
    keep_events: Duration = Field(default=2200 * 86400.0, ge=86400, examples=["2200d"])
    """What happened to the cluster."""
    keep_details: Duration = Field(default=400 * 86400.0, ge=86400, examples=["400d"])
    """Verdicts of single relations and alignments, which the results of audits hold as well."""


class Control(Section):
    """One claim; `warn` is the limit from which it is at risk."""

    claim: str | None = Field(default=None, examples=["At least two consistent copies at any moment"])
    """The claim in the words of who makes it."""


class CopiesControl(Control):
    """How many copies run, and how many are proven."""

    running: int = Field(default=3, ge=1)
    """Nodes that hold the data and keep up, the primary included."""
    proven: int = Field(default=2, ge=1)
    """Copies that are proven, the primary included."""
    window: Duration | None = Field(default=None, ge=1, examples=["30d"])
    """Time up to now over which it is measured; left out, it is measured now alone. Without `share` it only informs:
    nothing is breached by what was so in it."""
    share: float | None = Field(default=None, gt=0, le=100, examples=[99.9])
    """Percent of the window in which it must hold; what nothing watched counts as missed."""
    warn: float | None = Field(default=None, gt=0, le=100, examples=[99.95])
    """Percent of the window below which it is at risk."""

    @model_validator(mode="after")
    def _window_makes_sense(self) -> Self:
        if self.window is None and (self.share is not None or self.warn is not None):
            raise ValueError("share and warn need a window, such as 30d")
        if self.warn is not None and self.warn < (self.share or 0):
            raise ValueError("warn must be at least share")
        return self


class AgeControl(Control):
    """How old a proof or a recovery point may be."""

    max_age: Duration
    """The limit."""
    warn: Duration | None = None
    """Age from which it is at risk; a proof of that age is due anew."""

    @model_validator(mode="after")
    def _warn_comes_first(self) -> Self:
        _require_at_most(self.warn, self.max_age, "max_age")
        return self


class RecoveryPointControl(AgeControl):
    """How old the newest point may be that a restore can reach."""

    window: Duration | None = Field(default=None, ge=1, examples=["7d"])
    """Time up to now of which the worst must keep the limit too; left out, it is measured now alone."""
    drilled_every: Duration | None = Field(default=None, ge=1, examples=["7d"])
    """How old the drill may be that has shown it; left out, that is `restore.every`, or any age, which is told then."""


class RestoreControl(Control):
    """How often a restore must succeed, and how quickly."""

    every: Duration
    """How old the last drill may be that restored and compared the rows, of each backup."""
    max_time: Duration | None = None
    """How long a restore may take until the copy can be used."""
    warn: Duration | None = None
    """Age of that drill from which it is at risk; a backup is due to be drilled anew then."""

    @model_validator(mode="after")
    def _warn_comes_first(self) -> Self:
        _require_at_most(self.warn, self.every, "every")
        return self


class TimeControl(Control):
    """How long something may take."""

    max_time: Duration
    """The limit."""
    warn: Duration | None = None
    """Time from which it is at risk."""

    @model_validator(mode="after")
    def _warn_comes_first(self) -> Self:
        _require_at_most(self.warn, self.max_time, "max_time")
        return self


class FailoverControl(TimeControl):
    """How long a failover may take, and how old its last exercise may be."""

    exercised_every: Duration | None = None
    """How long ago the last failover may be, meant or not; left out, any time ago."""


class PlacementControl(Control):
    """What must differ between the copies."""

    distinct: tuple[Literal["host", "zone"], ...] = Field(default=("host",), min_length=1)
    """`host` is observed, `zone` is what the configuration attests."""


class Policy(Section):
    """The controls that are asked; one left out is not."""

    copies: CopiesControl | None = None
    """Copies that run and are proven."""
    consistency: AgeControl | None = None
    """Age of the last proof."""
    recovery_point: RecoveryPointControl | None = Field(default=None, alias="recovery-point")
    """Distance of the newest point that a restore can reach."""
    restore: RestoreControl | None = None
    """Trial restores."""
    failover: FailoverControl | None = None
    """Failure of the primary."""
    replacement: TimeControl | None = None
    """Recreation of a lost copy."""
    placement: PlacementControl | None = None
    """Where the copies stand."""
    integrity: Control | None = None
    """Data checksums and manifests."""
    evidence: Control | None = None
    """The chain of evidence."""


def _require_at_most(warn: float | None, limit: float, key: str) -> None:
    if warn is not None and warn > limit:
        raise ValueError(f"warn must be at most {key}")


class Waiver(Section):
    """Why a control may be breached for a while."""

    reason: Said
    """Why."""
    by: Said
    """Role of the one who decided."""
    until: date
    """The last day, in UTC; from the next one on, the waiver is an error until it is removed or decided anew."""


class Output(Section):
    """Where results go."""

    time_zone: str | None = Field(default=None, examples=["Asia/Kolkata"])
    """IANA name of the zone for people; machines get UTC. Left out, it is the zone of the machine."""
    store: str | None = Field(default=None, examples=["/var/lib/replcheck/clinic.db"])
    """File of the history. Left out, it lies in the user's state folder."""
    metrics: str | None = Field(default=None, examples=["/var/lib/node_exporter/replcheck.prom"])
    """File for the node exporter."""
    signing_key: str | None = Field(default=None, examples=["/etc/replcheck/clinic.key"])
    """File of the key that signs evidence and seals."""
    public_keys: tuple[str, ...] = Field(default=(), examples=[["/etc/replcheck/clinic-2025.key.pub"]])
    """Files of the public keys of earlier signing keys."""
    ping_env: str | None = Field(default=None, examples=["REPLCHECK_PING_URL"])
    """Name of the environment variable that holds the address to ping."""


class Configuration(Section):
    """One cluster, as its users describe it."""

    config_version: Literal[1] = 1
    """Version of this file's keys."""
    cluster: NodeName
    """Name of the cluster in reports and in the history."""
    connect: str = ""
    """libpq words that every node inherits."""
    nodes: dict[NodeName, Node] = Field(min_length=1)
    """A primary and its replicas; for seals and drills the primary will do."""
    audit: Audit = Audit()
    backups: dict[NodeName, Backup] = {}
    """Where backups lie, by name."""
    drill: Drill = Drill()
    seal: Seal = Seal()
    watch: Watch = Watch()
    history: History = History()
    policy: Policy = Policy()
    waivers: dict[str, Waiver] = {}
    """Controls that are excused, by name."""
    output: Output = Output()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.drill.backup is not None and self.drill.backup not in self.backups:
            raise ValueError(f'drill.backup names "{self.drill.backup}", which is not under backups')
        controls = {field.alias or name for name, field in Policy.model_fields.items()}
        for control in sorted(self.waivers.keys() - controls):
            near = difflib.get_close_matches(control, sorted(controls), n=1, cutoff=0.5)
            known = f'did you mean "{near[0]}"?' if near else f"controls: {', '.join(sorted(controls))}"
            raise ValueError(f"waivers.{control} names no control ({known})")
        return self
