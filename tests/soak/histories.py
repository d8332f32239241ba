"""Play a history: make its cluster, and audit it again and again while things happen to it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from replcheck.audit import pace
from replcheck.audit.auditor import audit_cluster
from replcheck.audit.options import AuditOptions, Pacing
from replcheck.errors import Interrupted, LabError, NodeError, NodeUnfit, ReplcheckError
from replcheck.lab.cluster import LabCluster
from replcheck.lab.faults import apply_fault
from replcheck.lab.pgbench import PgbenchLoad
from replcheck.lab.planted import PlantedFault
from replcheck.lab.schema import create_schema
from replcheck.lab.workload import MixedWorkload
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres.local import connect
from replcheck.report.document import audit_document
from replcheck.runs.audit import run_audit
from replcheck.runs.request import AuditRequest
from tests.auditing import parts_of
from tests.soak import leftovers
from tests.soak.disturbances import Disturber, bring_back, copy_anew
from tests.soak.judging import Circumstances, Judgement, Label, Seen, judge, judge_refusal
from tests.soak.plans import (
    LAG_FAULTS,
    SEQUENCE_FAULT,
    STILL_FAULTS,
    STOP_FAULT,
    TOAST_FAULTS,
    Client,
    FaultPlan,
    HistoryPlan,
    Load,
    Step,
)
from tests.soak.records import AuditRecord
from tests.soak.tables import QUIET, random_schema
from tests.soak.writers import RandomLoad

ROOT = Path(__file__).parents[2]
_BENCH = "bench"
_CLINIC_QUIET = ("chart", "staff")
"""Tables of the lab's clinic that its load leaves alone."""
_COMMAND_S = 180.0

Stopping = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one audit ended: with a document, with an error, or neither where it was killed."""

    verdict: str
    document: dict[str, Any] | None = None
    error: ReplcheckError | None = None
    problems: tuple[str, ...] = ()


class CutShort(Exception):
    """The lab could not bring the cluster back; the history ends here."""


def play(
    plan: HistoryPlan,
    root: Path,
    *,
    begun: Callable[[str], None],
    told: Callable[[AuditRecord], None],
    stopping: Stopping,
    complaints: leftovers.Complaints,
    only: int | None = None,
) -> list[str]:
    """Play a history, or audit `only` of it alone; return what is left of its cluster when it was removed.

    `begun` hears the name of each audit and `told` its record. Raises CutShort, and LabError or ProgramError where
    there is no cluster.
    """
    shape = plan.shape
    with LabCluster.create(
        root,
        name=f"soak_{os.getpid()}_{plan.seed}",
        major=shape.major,
        standbys=shape.standbys,
        checksums=shape.checksums,
        feedback=shape.feedback,
        settings=shape.settings,
    ) as cluster:
        try:
            player = _Player(plan, cluster, complaints, stopping)
            player.prepare()
            for step in plan.steps:
                if stopping():
                    break
                if only in (None, step.number):
                    begun(f"{plan.seed}/{step.number}")
                    told(player.audit(step))
        finally:
            player.close()
    return leftovers.of_cluster(cluster.state)


class _Player:
    def __init__(
        self, plan: HistoryPlan, cluster: LabCluster, complaints: leftovers.Complaints, stopping: Stopping
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._complaints = complaints
        self._stopping = stopping
        self._schema = random_schema(plan.schema_seed)
        self._quiet: frozenset[Label] = frozenset()
        self._loads: dict[Load, AbstractContextManager[Any]] = {}
        self._fault: FaultPlan | None = None
        self._planted: PlantedFault | None = None

    def prepare(self) -> None:
        """Make the tables and the odd nodes of the cluster."""
        cluster, shape = self._cluster, self._plan.shape
        with connect(cluster.primary.dsn(), node="primary") as connection:
            for statement in self._schema.statements:
                connection.execute(statement)
        if self._plan.patients:
            create_schema(cluster.primary, "postgres", patients=self._plan.patients)
        cluster.create_database(_BENCH)
        cluster.catch_up()
        if shape.cascades:
            cluster.add_standby("leaf", upstream="standby1")
        if shape.synchronous:
            # Not before there is a standby: the first commit would wait for it.
            for node in cluster.nodes.values():
                node.configure(synchronous_standby_names="*", synchronous_commit=shape.synchronous)
                node.reload()
        standbys = sorted(cluster.standbys, key=lambda standby: standby.name)
        odd = standbys[shape.odd_lot % len(standbys)]
        delay = {"recovery_min_apply_delay": shape.apply_delay} if shape.apply_delay else {}
        odd.configure(**shape.odd_settings, **delay)
        odd.reload()
        self._late = frozenset({odd.name} if shape.apply_delay else ())
        self._quiet = self._quiet_relations()

    def close(self) -> None:
        """End the loads."""
        for load in [*self._loads]:
            self._end(load)

    def audit(self, step: Step) -> AuditRecord:
        """Bring the cluster to where the step wants it, audit it, bring it back and judge what was said."""
        began = time.monotonic()
        new_fault = self._bring_to(step)
        began_at = datetime.now(UTC)
        roles = (self._cluster.primary.name, frozenset(standby.name for standby in self._cluster.standbys))
        disturber = Disturber(self._cluster, step.disturbances)
        audit_began = time.monotonic()
        outcome = self._outcome(step, disturber)
        seconds = time.monotonic() - audit_began
        disturber.finish()
        circumstances = self._circumstances(step, disturber, roles)
        judgement = self._judged(outcome, circumstances, seconds)
        problems = [*outcome.problems, *judgement.problems, *self._complaints.take()]
        self._bring_back(disturber)
        problems += [f"left behind: {what}" for what in leftovers.on_servers(self._cluster)]
        document = outcome.document or {"rows": 0, "relations": (), "replicas": (), "not_checked": ()}
        planted = self._planted
        return AuditRecord(
            name=f"{self._plan.seed}/{step.number}",
            began_at=began_at.isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
            total_s=round(time.monotonic() - began, 2),
            shape=str(self._plan.shape),
            loads=tuple(load.value for load in step.loads),
            fault=f"{planted.fault} on {planted.node} in {planted.relation}" if planted else "",
            fault_name=planted.fault if planted else "",
            new_fault=new_fault,
            seen=judgement.seen,
            disturbances=tuple(f"{done.trouble.value} {done.node}" for done in disturber.done if not done.failure),
            client=step.client.value,
            options=dict(step.options) | {"chunk_blocks": step.chunk_blocks},
            verdict=outcome.verdict,
            rows=document["rows"],
            relations=len(document["relations"]),
            alignments=sum(len(replica["alignments"]) for replica in document["replicas"]),
            not_checked=dict(Counter(note["code"] for note in document["not_checked"] if not note["by_design"])),
            problems=tuple(problems),
        )

    # --- before ---

    def _bring_to(self, step: Step) -> bool:
        """Have the loads and the fault that the step wants; return whether the fault is new."""
        changed = step.fault != self._fault
        if changed and self._planted is not None:
            self._heal()
        for load in [*self._loads]:
            if load not in step.loads:
                self._end(load)
        for load in step.loads:
            if load not in self._loads:
                self._begin(load, step)
        if changed and step.fault is not None:
            self._plant(step.fault)
        self._fault = step.fault
        if not step.loads and (self._planted is None or self._planted.fault not in (*LAG_FAULTS, STOP_FAULT)):
            self._cluster.catch_up()
        return changed and self._planted is not None

    def _begin(self, load: Load, step: Step) -> None:
        seed = self._plan.seed * 100 + step.number
        if load is Load.RANDOM:
            made: AbstractContextManager[Any] = RandomLoad(self._cluster, self._schema, seed=seed)
        elif load is Load.MIXED:
            made = MixedWorkload(self._cluster, seed=seed, rate=80, patients=self._plan.patients, writers=3)
        else:
            made = PgbenchLoad(self._cluster, database=_BENCH, rate=150, clients=3, seed=seed)
        made.__enter__()
        self._loads[load] = made

    def _end(self, load: Load) -> None:
        made = self._loads.pop(load)
        try:
            made.__exit__(None, None, None)
        except LabError as error:
            # pgbench ends by itself when its primary goes away.
            if load is not Load.PGBENCH:
                raise CutShort(leftovers.error_of(error)) from error

    def _plant(self, plan: FaultPlan) -> None:
        cluster = self._cluster
        standbys = sorted(standby.name for standby in cluster.standbys)
        node = cluster.primary.name if plan.on_primary else standbys[plan.node_lot % len(standbys)]
        candidates = self._candidates(plan)
        for number in range(len(candidates)):
            relation = candidates[(plan.relation_lot + number) % len(candidates)]
            try:
                self._planted = apply_fault(cluster, plan.name, node=node, relation=relation, seed=plan.relation_lot)
            except LabError:
                continue
            return
        raise CutShort(f"{plan.name} fits no relation of {len(candidates)}")

    def _candidates(self, plan: FaultPlan) -> list[str]:
        """Return the relations that a fault may strike: those that nobody writes."""
        kinds = ["S"] if plan.name == SEQUENCE_FAULT else ["r", "m"]
        found = self._cluster.primary.execute(
            "select format('%%I.%%I', n.nspname, c.relname) from pg_class c join pg_namespace n"
            " on n.oid = c.relnamespace where c.relkind::text = any (%s) and c.relpersistence = 'p'"
            " and (n.nspname = %s or n.nspname = 'clinic' and c.relname = any (%s)) and pg_relation_size(c.oid) > 0"
            " and (not %s or coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) > 0) order by 1",
            [kinds, QUIET, list(_CLINIC_QUIET), plan.name in TOAST_FAULTS],
        )
        names = [name for (name,) in found]
        if plan.name == SEQUENCE_FAULT:
            # The lab sets a sequence back by subtracting, which is no step back for one that descends.
            names = [name for name in names if not name.endswith(".cycle")]
        if plan.name in STILL_FAULTS:
            # The lab composes parameters into these statements, where a percent sign in a name would be one.
            names = [name for name in names if "%" not in name]
        return names

    def _quiet_relations(self) -> frozenset[Label]:
        names = self._cluster.primary.execute(
            "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'm', 'S') and c.relpersistence = 'p'"
            " and (n.nspname = %s or n.nspname = 'clinic' and c.relname = any (%s))",
            [QUIET, list(_CLINIC_QUIET)],
        )
        return frozenset((schema, name) for schema, name in names)

    # --- the audit ---

    def _targets(self, *, roles_expected: bool) -> tuple[NodeTarget, ...]:
        cluster = self._cluster
        roles = {
            name: NodeRole.STANDBY if server.is_standby else NodeRole.PRIMARY for name, server in cluster.nodes.items()
        }
        return tuple(
            NodeTarget(name=name, dsn=cluster.audit_dsn(name), expected_role=roles[name] if roles_expected else None)
            for name in cluster.nodes
        )

    def _outcome(self, step: Step, disturber: Disturber) -> Outcome:
        try:
            if step.client is not Client.LIBRARY:
                return self._by_command(step)
            with _chunks_of(step.chunk_blocks):
                finished = run_audit(
                    AuditRequest(
                        cluster=self._cluster.name,
                        targets=self._targets(roles_expected=step.roles_expected),
                        options=AuditOptions(**step.options),
                    ),
                    sinks=(disturber.heed,),
                    auditor=self._stoppable,
                )
        except Exception as defect:  # noqa: BLE001 - whatever an audit raises is what is looked for
            frames = traceback.format_exception(defect)[-8:]
            return Outcome("defect", problems=(f"{leftovers.error_of(defect)}\n{''.join(frames)}",))
        if finished.result is None:
            stopped = isinstance(finished.error, Interrupted)
            return Outcome("interrupted" if stopped else "refused", error=finished.error)
        document = json.loads(json.dumps(audit_document(finished.result)))
        return Outcome("interrupted" if self._stopping() else document["verdict"], document)

    async def _stoppable(self, *arguments: Any, stop: asyncio.Event, **words: Any) -> Any:
        async def watch() -> None:
            while not self._stopping():  # noqa: ASYNC110 - another process says so
                await asyncio.sleep(0.1)
            stop.set()

        watching = asyncio.create_task(watch())
        try:
            return await audit_cluster(*arguments, stop=stop, **words)
        finally:
            watching.cancel()

    def _by_command(self, step: Step) -> Outcome:
        """Audit by the command, as a user would, and perhaps end it in the middle."""
        with _configuration(self._cluster, step.options, self._targets(roles_expected=False)) as file:
            command = [sys.executable, "-m", "replcheck", "audit", "--config", str(file), "--format", "json"]
            running = subprocess.Popen(
                [*command, "--no-store"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            )
            try:
                out, err = running.communicate(timeout=_COMMAND_S if step.client is Client.COMMAND else step.client_s)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGKILL if step.client is Client.KILLED else signal.SIGTERM)
                out, err = running.communicate(timeout=_COMMAND_S)
                if step.client is Client.KILLED:
                    return Outcome("killed")
        unheeded = running.returncode == -signal.SIGTERM or "error: ended by SIGTERM" in err
        if unheeded and step.client is Client.INTERRUPTED:
            # The signal came before the interpreter was ready, or the work had begun.
            return Outcome("interrupted")
        if not out:
            hampered = running.returncode == 3 and "Traceback" not in err
            return Outcome("refused", error=error_told(err.strip()), problems=() if hampered else (f"command: {err}",))
        document = json.loads(out)
        problems = [] if running.returncode == document["exit_code"] else [f"exit status {running.returncode}"]
        verdict = "interrupted" if document["stopped"] else document["verdict"]
        return Outcome(verdict, document, problems=tuple(problems))

    # --- after ---

    def _circumstances(self, step: Step, disturber: Disturber, roles: tuple[str, frozenset[str]]) -> Circumstances:
        hampered = disturber.hampered() | self._late
        if self._planted is not None and self._planted.fault in (*LAG_FAULTS, STOP_FAULT):
            below = {name for name in self._cluster.nodes if self._cluster.upstream(name) == self._planted.node}
            hampered |= {self._planted.node, *below}
        primary, replicas = roles
        return Circumstances(
            primary=primary,
            replicas=replicas,
            planted=self._planted,
            fault_on_primary=self._fault is not None and self._fault.on_primary,
            hampered=hampered,
            written=bool(step.loads),
            quiet=self._quiet,
            ended_early=self._stopping()
            or step.client in (Client.INTERRUPTED, Client.KILLED)
            or step.options["time_budget_s"] is not None,
            ended_by_fault=step.options["fail_fast"] and self._planted is not None,
            read_share=step.options.get("pacing", Pacing.DEFAULT).share,
        )

    def _judged(self, outcome: Outcome, circumstances: Circumstances, seconds: float) -> Judgement:
        if outcome.document is not None:
            judgement = judge(outcome.document, circumstances, seconds=seconds)
        elif outcome.error is not None:
            judgement = judge_refusal(outcome.error, circumstances)
        else:
            judgement = Judgement((), Seen.UNPROVEN if circumstances.planted else Seen.NOTHING)
        if judgement.seen is Seen.MISSED and self._planted is not None and not self._still_differs(self._planted):
            kept = tuple(problem for problem in judgement.problems if "was missed" not in problem)
            return Judgement(kept, Seen.MENDED)
        return judgement

    def _still_differs(self, planted: PlantedFault) -> bool:
        """Return whether the rows really are other ones on the broken node, by a look of our own."""
        schema, name = parts_of(planted.relation or "")
        others = [node for node in self._cluster.nodes.values() if node.name != planted.node]
        mine, others_rows = (_rows(node, schema, name) for node in (self._cluster.node(planted.node), others[0]))
        return mine is None or mine != others_rows

    def _bring_back(self, disturber: Disturber) -> None:
        planted = self._planted
        if planted is not None and planted.fault in (*LAG_FAULTS, STOP_FAULT) and disturber.done:
            self._heal()
            self._fault = None
        if not disturber.done and (planted is None or planted.relation is not None):
            return
        if self._planted is None or self._planted.fault not in (*LAG_FAULTS, STOP_FAULT, "promote", "split-brain"):
            try:
                bring_back(self._cluster)
            except ReplcheckError as error:
                raise CutShort(leftovers.error_of(error)) from error
        if any(done.node == self._cluster.primary.name or "PRIMARY" in done.trouble.name for done in disturber.done):
            self._restart_pgbench()

    def _restart_pgbench(self) -> None:
        if Load.PGBENCH in self._loads:
            self._end(Load.PGBENCH)

    def _heal(self) -> None:
        planted, self._planted = self._planted, None
        if planted is None:
            return
        cluster = self._cluster
        try:
            node = cluster.node(planted.node)
            if planted.fault == "cut-connection":
                source = cluster.node(cluster.upstream(node.name) or cluster.primary.name)
                node.follow(source, slot=node.name)
                node.start()
                node.reload()
            elif planted.fault == "delay-apply":
                node.configure(recovery_min_apply_delay=self._plan.shape.apply_delay if self._late else None)
                node.start()
                node.reload()
            elif planted.fault in ("pause-replay", STOP_FAULT):
                node.start()
                node.execute("select pg_wal_replay_resume()")
            else:
                copy_anew(cluster, planted.node)
            cluster.set_faults(())
            cluster.wait_streaming()
        except ReplcheckError as error:
            raise CutShort(leftovers.error_of(error)) from error


class _Told(ReplcheckError):
    """What a command said on standard error."""


def error_told(said: str) -> ReplcheckError:
    """Return it as the error of a node where that is what it tells of, as the library would raise it."""
    if primaries := re.match(r'replcheck: error: more than one node is a primary: "(\w+)"', said):
        return NodeUnfit(said, node=primaries[1])
    named = re.match(r'replcheck: error: (?:the connection to )?node "(\w+)"', said)
    return NodeError(said, node=named[1]) if named else _Told(said)


@contextmanager
def _configuration(cluster: LabCluster, options: Mapping[str, Any], targets: Sequence[NodeTarget]) -> Iterator[Path]:
    file = cluster.directory / "soak.toml"
    lines = [f'cluster = "{cluster.name}"', "[nodes]"]
    lines += [f"{target.name} = {{ dsn = {json.dumps(target.dsn)} }}" for target in targets]
    lines += ["[audit]", f'level = "{options["level"].value}"', f'pace = "{options["pacing"].value}"']
    lines += [f"jobs = {options['jobs']}"]
    lines += [f"catalogs = {json.dumps(options['catalogs'])}", f"databases = {json.dumps(options['databases'])}"]
    lines += [
        f'{name} = "{int(options[f"{name}_s"])}s"'
        for name in ("max_snapshot_age", "node_timeout", "replay_wait", "settle_budget")
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    try:
        yield file
    finally:
        file.unlink()


def _chunks_of(blocks: int | None) -> AbstractContextManager[Any]:
    """Have small tables read in many chunks."""
    if blocks is None:
        return nullcontext()
    stack = ExitStack()
    for name in ("_FIRST_CHUNK_BLOCKS", "_SMALLEST_CHUNK_BLOCKS"):
        stack.enter_context(patch.object(pace, name, blocks))
    return stack


def _rows(node: Any, schema: str, name: str) -> list[Any] | None:
    """Return a relation's rows by position, None where they can't be read."""
    from replcheck.postgres.local import sql

    try:
        with connect(node.dsn(), node=node.name) as connection:
            for setting in ("DateStyle = ISO", "TimeZone = UTC", "bytea_output = hex", "extra_float_digits = 1"):
                connection.execute(f"set {setting}")
            connection.execute("set IntervalStyle = postgres")
            return connection.execute(
                sql.SQL("select ctid::text, md5(r::text) from {} as r").format(sql.Identifier(schema, name))
            ).fetchall()
    except Exception:  # noqa: BLE001 - unreadable is one of the differences
        return None
