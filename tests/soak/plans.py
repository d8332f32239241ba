"""What follows from a seed: the cluster, its tables, its load, and one audit after the other with what befalls it.

Pure. A history is one cluster and a row of audits of it; audit 7 of history 42 is called `42/7`, and what it is follows
from that name alone. Nodes and relations are drawn by lot here and looked up when the history is played.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import Any

from replcheck.audit.options import Level, Pacing

LASTING_FAULTS = (
    *("flip-row-bytes", "lose-row", "hide-row", "invent-row", "swap-rows", "zero-page", "truncate-file"),
    *("flip-page-bytes", "break-page-header", "missing-file", "corrupt-toast", "lose-toast-chunk"),
)
"""Damage to the rows of a relation that nobody writes; no load mends it."""
STILL_FAULTS = ("lost-write",)
"""Damage that lasts only where nothing else is written."""
TOAST_FAULTS = frozenset({"corrupt-toast", "lose-toast-chunk"})
_NOT_ON_PRIMARY = TOAST_FAULTS | {"missing-file"}
SEQUENCE_FAULT = "sequence-behind"
HARMLESS_FAULTS = ("index-mismatch",)
"""Damage beside the rows: nothing may be reported."""
LAG_FAULTS = ("pause-replay", "cut-connection", "delay-apply")
ROLE_FAULTS = ("promote", "split-brain")
STOP_FAULT = "stop-server"


class Load(Enum):
    """Who writes meanwhile."""

    RANDOM = "random"
    """Everything that can be done to tables drawn by lot."""
    MIXED = "mixed"
    """The lab's clinic."""
    PGBENCH = "pgbench"


class Client(Enum):
    """How an audit is run."""

    LIBRARY = "library"
    """In this process, through the use case."""
    COMMAND = "command"
    """By the command, to its end."""
    INTERRUPTED = "interrupted"
    """By the command, which gets SIGTERM."""
    KILLED = "killed"
    """By the command, which gets SIGKILL."""


class Trouble(Enum):
    """What befalls a node while an audit runs."""

    KILL = "kill"
    RESTART = "restart"
    IMMEDIATE = "immediate restart"
    STOP = "stop"
    PAUSE = "pause"
    CUT = "cut"
    CANCEL = "cancel"
    CUT_STREAM = "cut stream"
    FREEZE_REPLAY = "freeze replay"
    FREEZE_BACKEND = "freeze backend"
    CHECKPOINT = "checkpoint"
    CUT_PRIMARY = "cut primary"
    CANCEL_PRIMARY = "cancel primary"
    CRASH_PRIMARY = "crash primary"
    RESTART_PRIMARY = "restart primary"
    PROMOTE = "promote"
    FAIL_OVER = "fail over"


_TROUBLES: Mapping[Trouble, int] = {
    Trouble.KILL: 12,
    Trouble.RESTART: 6,
    Trouble.IMMEDIATE: 4,
    Trouble.STOP: 4,
    Trouble.PAUSE: 10,
    Trouble.CUT: 14,
    Trouble.CANCEL: 6,
    Trouble.CUT_STREAM: 8,
    Trouble.FREEZE_REPLAY: 6,
    Trouble.FREEZE_BACKEND: 6,
    Trouble.CHECKPOINT: 4,
    Trouble.CUT_PRIMARY: 8,
    Trouble.CANCEL_PRIMARY: 4,
    Trouble.CRASH_PRIMARY: 5,
    Trouble.RESTART_PRIMARY: 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """One trouble, from the moment the audit has told so many events; durations are in seconds."""

    trouble: Trouble
    lot: int
    """Draws the standby."""
    at_event: int
    lasts_s: float
    holds: bool
    """Whether the audit stands still meanwhile, so that it happens between two of its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """One fault of the lab; the lots draw the node, the relation and the row."""

    name: str
    node_lot: int
    relation_lot: int
    on_primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One audit."""

    number: int
    loads: tuple[Load, ...]
    fault: FaultPlan | None
    disturbances: tuple[Disturbance, ...]
    options: Mapping[str, Any]
    """Of AuditOptions."""
    chunk_blocks: int | None
    """Size of the smallest and first chunks; None leaves them as they are."""
    roles_expected: bool
    client: Client
    client_s: float
    """After how many seconds a command is interrupted or killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The cluster."""

    major: int
    standbys: int
    cascades: bool
    """Whether another standby streams from the first."""
    feedback: bool
    checksums: bool
    settings: Mapping[str, str]
    """Of every node."""
    synchronous: str
    """What a commit waits for on a standby, empty where for nothing."""
    odd_settings: Mapping[str, str]
    """Of one standby only, drawn by lot."""
    odd_lot: int
    apply_delay: str | None
    """How late that standby replays."""

    def __str__(self) -> str:
        words = [f"pg{self.major}", f"{self.standbys} standby" + ("s" if self.standbys > 1 else "")]
        words += ["cascade"] if self.cascades else []
        words += ["no feedback"] if not self.feedback else []
        words += ["no checksums"] if not self.checksums else []
        words += [f"{name}={value}" for name, value in self.settings.items()]
        words += [f"synchronous {self.synchronous}"] if self.synchronous else []
        words += [f"apply delay {self.apply_delay}"] if self.apply_delay else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPlan:
    """One cluster with its audits."""

    seed: int
    shape: Shape
    schema_seed: int
    patients: int
    """Of the lab's clinic; 0 where there is none."""
    steps: tuple[Step, ...]


def plan_history(seed: int, majors: tuple[int, ...]) -> HistoryPlan:
    """Return the history of a seed, for the majors that are installed, newest first."""
    rng = Random(f"history {seed}")
    shape = _shape(rng, majors)
    clinic = rng.random() < 0.35
    steps: list[Step] = []
    segments = rng.randrange(5, 8)
    changing = None if shape.cascades else rng.choice([None, None, Trouble.PROMOTE, Trouble.FAIL_OVER])
    for segment in range(segments):
        part = Random(f"history {seed} segment {segment}")
        loads = _loads(part, clinic=clinic)
        last = segment == segments - 1
        fault = _fault(part, still=not loads, last=last) if part.random() < 0.55 else None
        for _ in range(part.randrange(2, 5)):
            steps.append(_step(seed, len(steps) + 1, loads, fault))
    if changing is not None:
        steps = _with_change(rng, steps, changing)
    return HistoryPlan(
        seed=seed,
        shape=shape,
        schema_seed=rng.randrange(1 << 30),
        patients=rng.choice((100, 250)) if clinic else 0,
        steps=tuple(steps),
    )


def _shape(rng: Random, majors: tuple[int, ...]) -> Shape:
    settings = {"shared_buffers": rng.choice(("4MB", "16MB")), "autovacuum_naptime": rng.choice(("1s", "5s", "60s"))}
    if rng.random() < 0.4:
        settings["max_standby_streaming_delay"] = rng.choice(("100ms", "1s", "5s"))
    if rng.random() < 0.2:
        settings["synchronous_commit"] = "off"
    odd = {
        "DateStyle": "German, DMY",
        "TimeZone": "Asia/Kolkata",
        "bytea_output": "escape",
        "extra_float_digits": "-3",
        "IntervalStyle": "iso_8601",
        "enable_tidscan": "off",
        "default_transaction_isolation": "repeatable read",
        "xmlbinary": "hex",
        "work_mem": "64kB",
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
    }
    chosen = rng.sample(sorted(odd), rng.randrange(5))
    return Shape(
        major=rng.choice(majors),
        standbys=rng.choice((1, 2, 2)),
        cascades=rng.random() < 0.2,
        feedback=rng.random() < 0.6,
        checksums=rng.random() < 0.7,
        settings=settings,
        odd_settings={name: odd[name] for name in chosen},
        odd_lot=rng.randrange(12),
        synchronous=rng.choice(("on", "remote_apply", "remote_write")) if rng.random() < 0.25 else "",
        apply_delay=rng.choice(("100ms", "300ms")) if rng.random() < 0.08 else None,
    )


def _loads(rng: Random, *, clinic: bool) -> tuple[Load, ...]:
    choices: list[tuple[Load, ...]] = [(), (Load.RANDOM,), (Load.RANDOM,), (Load.PGBENCH,), (Load.RANDOM, Load.PGBENCH)]
    if clinic:
        choices += [(Load.MIXED,), (Load.MIXED,), (Load.MIXED, Load.RANDOM)]
    return rng.choice(choices)


def _fault(rng: Random, *, still: bool, last: bool) -> FaultPlan:
    weights = dict.fromkeys((*LASTING_FAULTS, SEQUENCE_FAULT, *(STILL_FAULTS if still else ())), 6)
    weights |= dict.fromkeys(HARMLESS_FAULTS, 4)
    weights |= dict.fromkeys((*LAG_FAULTS, *ROLE_FAULTS, STOP_FAULT), 1)
    # What is broken on a primary can't be healed: only the last audits see it.
    on_primary = last and rng.random() < 0.5
    if on_primary:
        weights = dict.fromkeys((name for name in LASTING_FAULTS if name not in _NOT_ON_PRIMARY), 1)
    [name] = rng.choices(list(weights), weights=list(weights.values()))
    return FaultPlan(name=name, node_lot=rng.randrange(12), relation_lot=rng.randrange(1 << 16), on_primary=on_primary)


def _step(seed: int, number: int, loads: tuple[Load, ...], fault: FaultPlan | None) -> Step:
    rng = Random(f"history {seed} audit {number}")
    client = rng.choices(list(Client), weights=(88, 4, 4, 4))[0]
    disturbed = client is Client.LIBRARY and rng.random() < 0.5
    return Step(
        number=number,
        loads=loads,
        fault=fault,
        disturbances=tuple(_disturbance(rng) for _ in range(rng.randrange(1, 4) if disturbed else 0)),
        options=_options(rng),
        chunk_blocks=rng.choice((1, 4, 64, None)),
        roles_expected=rng.random() < 0.5,
        client=client,
        client_s=rng.uniform(0.6, 2.5),
    )


def _disturbance(rng: Random, trouble: Trouble | None = None) -> Disturbance:
    chosen = trouble or rng.choices(list(_TROUBLES), weights=list(_TROUBLES.values()))[0]
    return Disturbance(
        trouble=chosen,
        lot=rng.randrange(12),
        at_event=rng.choice((rng.randrange(3, 12), rng.randrange(8, 50), rng.randrange(20, 120))),
        lasts_s=rng.choice((0.0, rng.uniform(0, 0.4), rng.uniform(0.2, 1.5))),
        holds=rng.random() < 0.4,
    )


def _options(rng: Random) -> dict[str, Any]:
    return {
        "level": rng.choice(list(Level)),
        "jobs": rng.choice((1, 2, 2, 4)),
        "catalogs": rng.random() < 0.5,
        "databases": rng.choice(((), ("postgres",), ("postgres",), ("postgres", "bench*"))),
        "max_snapshot_age_s": rng.choice((1.0, 3.0, 60.0)),
        "chunk_target_s": rng.choice((0.01, 0.1, 1.0)),
        "align_budget_s": rng.choice((0.05, 0.3, 1.0, 5.0)),
        "max_rows_listed": rng.choice((1, 50, 10_000)),
        "settle_budget_s": rng.choice((6.0, 12.0)),
        "replay_wait_s": rng.choice((4.0, 8.0)),
        "node_timeout_s": rng.choice((3.0, 8.0)),
        "pacing": rng.choices(list(Pacing), weights=(1, 16, 8))[0],
        "fail_fast": rng.random() < 0.06,
        "time_budget_s": rng.choice((0.3, 2.0)) if rng.random() < 0.04 else None,
    }


def _with_change(rng: Random, steps: list[Step], trouble: Trouble) -> list[Step]:
    """Have one healthy audit of the history, if there is one, meet a change of roles."""
    healthy = [at for at, step in enumerate(steps) if step.fault is None and step.client is Client.LIBRARY]
    if not healthy:
        return steps
    at = rng.choice(healthy)
    change = _disturbance(rng, trouble)
    return [*steps[:at], replace(steps[at], disturbances=(change,)), *steps[at + 1 :]]
