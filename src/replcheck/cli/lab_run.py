"""`replcheck lab`: what its commands do, and how they tell it."""

import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import typer

from replcheck.cli.lab_show import audit_command, counted, describe, planted_lines, taken_over, write_configuration
from replcheck.cli.options import LoadKind
from replcheck.errors import LabError
from replcheck.lab.backups import ARCHIVING, begin_archive
from replcheck.lab.cluster import LabCluster, remove, remove_root
from replcheck.lab.failover import fail_over, switch_over
from replcheck.lab.faults import FAULTS, apply_fault, heal
from replcheck.lab.ledger import LEDGER, Ledger, LedgerLoad
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.schema import create_schema
from replcheck.lab.state import LabState, default_root, find_states
from replcheck.lab.workload import MixedWorkload
from replcheck.model.names import printable
from replcheck.postgres import processes
from replcheck.postgres.processes import ProcessState

_LOAD_LOG = "load.log"


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster is meant; `directory` is None for this user's usual folder."""

    directory: Path | None
    name: str

    @property
    def root(self) -> Path:
        """Return the folder that holds the cluster's."""
        return root_of(self.directory)

    @property
    def options(self) -> str:
        """Return the options that name the cluster to other commands, with a blank before each."""
        name = f" --name {self.name}" if self.name != "lab" else ""
        return name + (f" --dir {shlex.quote(str(self.root))}" if self.directory else "")

    def open(self) -> LabCluster:
        """Return the cluster; raise LabError where there is none."""
        return LabCluster.open(self.root, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a new cluster is to be like."""

    standbys: int
    major: int | None
    checksums: bool
    feedback: bool
    archive: bool
    patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be written; `rate` is in transactions per second, None without limit."""

    kind: LoadKind
    rate: float | None
    seconds: float | None
    writers: int
    seed: int
    database: str
    ledger: bool

    def on(self, cluster: LabCluster) -> MixedWorkload | PgbenchLoad:
        """Return the load for a cluster, not yet started."""
        if self.kind is LoadKind.PGBENCH:
            return PgbenchLoad(cluster, rate=self.rate, database=self.database, clients=self.writers, seed=self.seed)
        return MixedWorkload(cluster, seed=self.seed, rate=self.rate, database=self.database, writers=self.writers)

    @property
    def arguments(self) -> list[str]:
        """Return the options of `replcheck lab load` that describe it."""
        limit = [] if self.seconds is None else ["--seconds", str(self.seconds)]
        return [
            *("--kind", self.kind.value, "--rate", str(self.rate or 0), "--writers", str(self.writers)),
            *("--seed", str(self.seed), "--database", self.database),
            *(["--ledger"] if self.ledger else []),
            *limit,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Which fault is to be planted where."""

    fault: str
    node: str | None
    database: str
    relation: str | None
    seed: int


def root_of(directory: Path | None) -> Path:
    """Return the folder that holds clusters: the one given, or this user's usual one."""
    return directory.absolute() if directory else default_root()


def up(place: Place, shape: Shape) -> None:
    """Start a cluster and print how to go on."""
    _note(f"starting a primary and {counted(shape.standbys, 'standby')} in {place.root / place.name}")
    cluster = LabCluster.create(
        place.root,
        name=place.name,
        major=shape.major,
        standbys=shape.standbys,
        checksums=shape.checksums,
        feedback=shape.feedback,
        settings=ARCHIVING if shape.archive else {},
    )
    try:
        if shape.archive:
            begin_archive(cluster)
        if shape.patients:
            create_schema(cluster.primary, "postgres", patients=shape.patients)
            cluster.catch_up()
        configuration = write_configuration(cluster, archives=shape.archive)
    except BaseException:
        cluster.destroy()
        raise
    describe(cluster)
    typer.echo(f"""
audit it:   {audit_command(cluster)}
or:         replcheck audit --config {shlex.quote(str(configuration))}
watch it:   replcheck watch --config {shlex.quote(str(configuration))}
write:      replcheck lab load --background{place.options}
break:      replcheck lab break flip-row-bytes{place.options}
remove:     replcheck lab down{place.options}""")


def status(directory: Path | None, name: str | None) -> None:
    """Print what there is."""
    states = [state for state in find_states(root_of(directory)) if name in (None, state.name)]
    if name is not None and not states:
        LabState.load_from(root_of(directory) / name)
    if not states:
        typer.echo(f"no lab cluster in {root_of(directory)}")
    for state in states:
        cluster = LabCluster.from_state(state)
        describe(cluster)
        load_state = state.load
        if load_state is not None:
            doing = "writing" if load_state.alive else "no longer writing"
            typer.echo(f"  load      {load_state.what}, process {load_state.pid}, {doing}")
        for fault in state.faults:
            typer.echo(f"  fault     {fault.fault} on {fault.node}")


def load(place: Place, work: Load) -> None:
    """Write until the time is over or a signal comes, and print how much."""
    cluster = place.open()
    running = work.on(cluster)
    noting = LedgerLoad(cluster, _ledger_of(cluster), database=work.database) if work.ledger else nullcontext()
    with _until_signal() as ended, running, noting:
        _note(f"writing to {cluster.primary.name} of {cluster.name}; end it with Ctrl-C")
        begun = time.monotonic()
        ended.wait(work.seconds)
        elapsed, finished = time.monotonic() - begun, running.transactions
    typer.echo(f"{finished} transactions in {elapsed:.1f} s, {finished / max(elapsed, 0.001):.0f} a second")


def load_in_background(place: Place, work: Load) -> None:
    """Start a load that goes on when this command has ended, and note it in the cluster's state."""
    cluster = place.open()
    if cluster.state.load is not None and cluster.state.load.alive:
        raise LabError(
            f"cluster {cluster.name} is written to already",
            hint=f"End that load with: replcheck lab load --stop{place.options}",
        )
    log_file = cluster.directory / _LOAD_LOG
    begin = log_file.stat().st_size if log_file.exists() else 0
    where = ["--name", place.name, "--dir", str(place.root)]
    command = [sys.executable, "-m", "replcheck", "lab", "load", *work.arguments, *where]
    pid = processes.start_detached(command, log_file)
    cluster.set_load(ProcessState.of(pid, f"{work.kind.value} at {_rate(work)}"))
    deadline = time.monotonic() + 60
    while b"writing to" not in log_file.read_bytes()[begin:]:
        if not processes.is_alive(pid) or time.monotonic() > deadline:
            raise LabError("the load did not start", hint=f"See the end of {log_file}.")
        time.sleep(0.05)
    typer.echo(
        f"writing to {cluster.primary.name} at {_rate(work)}; end it with: replcheck lab load --stop{place.options}"
    )


def stop_load(place: Place) -> None:
    """End the load in the background and print what it did."""
    cluster = place.open()
    running = cluster.state.load
    if running is None or not running.alive:
        cluster.set_load(None)
        raise LabError(f"nothing writes to cluster {cluster.name} in the background")
    processes.end(running.pid, timeout_s=60)
    cluster.set_load(None)
    lines = (cluster.directory / _LOAD_LOG).read_text("utf-8", errors="replace").splitlines()
    typer.echo(f"the load has ended: {lines[-1] if lines else 'it said nothing'}")


def list_faults() -> None:
    """Print the faults with what each does."""
    width = max(len(name) for name in FAULTS)
    for fault in FAULTS.values():
        typer.echo(f"{fault.name:{width}}  {fault.what}")


def break_node(place: Place, damage: Damage) -> None:
    """Plant a fault and print what an audit should find."""
    planted = apply_fault(
        place.open(),
        damage.fault,
        node=damage.node,
        database=damage.database,
        relation=damage.relation,
        seed=damage.seed,
    )
    for line in planted_lines(planted):
        typer.echo(line)
    typer.echo(f"heal it with: replcheck lab heal{place.options}")


def heal_nodes(place: Place, node: str | None) -> None:
    """Undo what was broken and print what was done."""
    for done in heal(place.open(), node) or ["nothing was broken"]:
        typer.echo(printable(done))


def take_over(place: Place, to: str | None, *, orderly: bool) -> None:
    """Have a standby take over from the primary and print who did."""
    cluster = place.open()
    done = switch_over(cluster, to) if orderly else fail_over(cluster, to)
    typer.echo(taken_over(done))
    if not orderly:
        typer.echo(f"{done.old} is down; copy it anew with: replcheck lab heal{place.options}")


def audit_ledger(place: Place, node: str | None, database: str) -> None:
    """Print what the ledger says of a node; raise LabError where an acknowledged commit is not there."""
    cluster = place.open()
    server = cluster.node(node) if node else cluster.primary
    found = _ledger_of(cluster).audit(server, database)
    held = f"{server.name} holds {found.acknowledged - len(found.lost)} of {found.acknowledged} acknowledged commits"
    beside = f", and {found.unacknowledged} more that nobody was told of" if found.unacknowledged else ""
    typer.echo(held + beside)
    if found.lost:
        raise LabError(f"node {server.name} lacks {counted(len(found.lost), 'acknowledged commit')}")


def _ledger_of(cluster: LabCluster) -> Ledger:
    return Ledger(cluster.directory / LEDGER)


def down(place: Place, *, everything: bool) -> None:
    """Remove a cluster or all of them; say so where there is none."""
    states = [state for state in find_states(place.root) if everything or state.name == place.name]
    folder = place.root / place.name
    if not states and not everything and folder.is_dir():
        if any(folder.iterdir()):
            LabState.load_from(folder)
        folder.rmdir()
    for state in states:
        remove(state)
        typer.echo(f"cluster {state.name} was removed")
    if not states:
        typer.echo(f"nothing to remove in {place.root}")
    remove_root(place.root)


def _rate(work: Load) -> str:
    return "full speed" if work.rate is None else f"{work.rate:g} transactions a second"


def _note(text: str) -> None:
    typer.echo(f"replcheck: {text}", err=True)


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that the load ends in an orderly way."""
    ended = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: ended.set())
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
