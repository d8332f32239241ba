"""The demo as it is told: each scene in plain words, for somebody who never saw replcheck.

Only what a scene says is told, so that no sentence claims more than was found.
"""

import shlex
from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console
from rich.text import Text

from replcheck.model.audit import AuditResult
from replcheck.model.demo import (
    AuditEnded,
    BackupDamaged,
    BackupTaken,
    ClusterStarted,
    CopyMade,
    DemoBegun,
    DemoEnded,
    DrillEnded,
    FaultDone,
    Part,
    PartBegun,
    RowLookedUp,
    Scene,
    SealMade,
    UsualChecksRead,
    WritingStarted,
)
from replcheck.model.drill import LayerState
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.units import format_duration, format_size
from replcheck.report.drill_words import drill_sentence
from replcheck.report.human import print_divergences
from replcheck.report.style import Style, cell, heading, line, plain_table, verbatim
from replcheck.report.verdict import counted, joined, sentence, verdict_of

_TITLES = MappingProxyType(
    {
        Part.CLUSTER: "A primary and two standbys",
        Part.WRITING: "A clinic that never closes",
        Part.FIRST_AUDIT: "Are the standbys copies? An audit, while everybody goes on writing",
        Part.FAULT: "One standby is broken, in silence",
        Part.SECOND_AUDIT: "The same audit again",
        Part.NEW_COPY: "A new copy",
        Part.BACKUP: "A backup, and a seal on what it should bring back",
        Part.DRILL: "Does the backup restore?",
        Part.DAMAGED_DRILL: "One bit of the backup rots",
    }
)
_EXPLANATIONS = MappingProxyType(
    {
        Part.CLUSTER: """
            A standby is copied from the primary once, and from then on replays its write-ahead log. Nothing in
            PostgreSQL ever compares the two again.""",
        Part.WRITING: """
            Patients, visits, charts and prescriptions, and pgbench's accounts. The writers go on through all audits,
            with foreign keys, savepoints, long and prepared transactions, changed definitions and rewritten tables.""",
        Part.FIRST_AUDIT: """
            replcheck takes snapshots of all three nodes that see exactly the same transactions. Under these, each
            server digests every row: where it lies, and every byte of it. Where all digests are equal, so are the
            rows. The audit only reads, as an ordinary role, and nobody is paused for it.""",
        Part.FAULT: """
            One standby, and one row of it, are drawn by lot. In the standby's file one bit of that row is flipped and
            the page's checksum made to fit, as if memory had failed just before the page was written.""",
        Part.SECOND_AUDIT: """
            It is not told what was broken, nor that anything was. The writers still write.""",
        Part.NEW_COPY: """
            The broken standby is thrown away and copied anew with pg_basebackup. Is it a copy now?""",
        Part.BACKUP: """
            The primary is backed up with pg_basebackup, and from now on archives its write-ahead log. pgbench goes on
            writing. Then replcheck seals the primary: it makes a restore point, digests every row as it is at that very
            moment, and keeps the digests. Nobody waits for it, and more is written behind it.""",
        Part.DRILL: """
            replcheck restores the backup in a scratch server that nothing can reach, replays the archive to the
            restore point of the seal, and compares every row with what the primary held then. It times every stage,
            and removes the copy.""",
        Part.DAMAGED_DRILL: """
            The backup is copied, and one bit of that copy is flipped. It would still restore, and most queries would
            not notice.""",
    }
)


class Storyteller:
    """Prints scenes to a console as they come, and numbers the parts."""

    def __init__(self, console: Console, style: Style) -> None:
        self._console = console
        self._style = style
        self._parts = 0

    def __call__(self, scene: Scene) -> None:
        """Tell one scene."""
        match scene:
            case DemoBegun():
                self._begin(scene)
            case PartBegun():
                self._begin_part(scene)
            case ClusterStarted():
                self._show_cluster(scene)
            case WritingStarted():
                self._show_writing(scene)
            case AuditEnded():
                self._show_audit(scene)
            case FaultDone():
                self._show_fault(scene)
            case UsualChecksRead():
                self._show_usual_checks(scene)
            case RowLookedUp():
                self._show_row(scene)
            case CopyMade():
                self._show_copy(scene)
            case BackupTaken() | SealMade() | BackupDamaged() | DrillEnded():
                self._tell_of_backup(scene)
            case DemoEnded():
                self._end(scene)

    def _tell_of_backup(self, scene: BackupTaken | SealMade | BackupDamaged | DrillEnded) -> None:
        match scene:
            case BackupTaken():
                self._good(f"{format_size(scene.size_bytes)} were backed up ({format_duration(scene.took_s)})")
            case SealMade():
                self._show_seal(scene)
            case BackupDamaged():
                self._show_damage(scene)
            case DrillEnded():
                self._show_drill(scene)

    def _begin(self, scene: DemoBegun) -> None:
        end = "are left to play with" if scene.kept else "are removed at the end"
        self._console.print(Text("replcheck demo: are the copies really copies?", style="bold"))
        self._tell(
            f"Real servers are started in {scene.folder}, written to without a pause, audited, broken, audited again,"
            f" backed up and restored. They {end}. It takes a minute or two; Ctrl-C removes everything at any time.",
            indent=0,
        )

    def _begin_part(self, scene: PartBegun) -> None:
        self._parts += 1
        heading(self._console, f"{self._parts}. {_TITLES[scene.part]}")
        self._tell(" ".join(_EXPLANATIONS[scene.part].split()))

    def _show_cluster(self, scene: ClusterStarted) -> None:
        self._good(
            f"PostgreSQL {scene.version}: {joined([scene.primary, *scene.standbys])} run, and the standbys stream"
            f" ({format_duration(scene.took_s)})"
        )

    def _show_writing(self, scene: WritingStarted) -> None:
        self._good(
            f"{format_size(scene.size_bytes)} of data; {scene.connections} connections commit"
            f" {scene.per_second:,.0f} transactions a second"
        )

    def _show_audit(self, scene: AuditEnded) -> None:
        result = scene.result
        if verdict_of(result) is Verdict.DIVERGED:
            print_divergences(result, self._console, self._style)
            self._console.print()
        self._tell(self._style.verdict(verdict_of(result), upper=True), f"  {sentence(result)}")
        self._list(_facts(scene))

    def _show_fault(self, scene: FaultDone) -> None:
        self._tell(
            self._style.outcome(Outcome.REFUTED, scene.node),
            f": one bit was flipped in {scene.relation}, ctid ({scene.block},{scene.offset})."
            " This is what the usual checks say of it:",
        )

    def _show_usual_checks(self, scene: UsualChecksRead) -> None:
        state = scene.state or "not there"
        checks = {
            "pg_stat_replication": f"{state}, {format_size(scene.lag_bytes)} behind",
            "checksum failures": f"{scene.checksum_failures:,}",
            f"rows of {scene.relation}": f"{scene.primary_rows:,} on the primary, {scene.rows:,} on {scene.node}",
        }
        self._list(checks)

    def _show_row(self, scene: RowLookedUp) -> None:
        self._tell(
            f"The query above, run on every node: {joined(scene.agreeing)} return the same row,"
            f" {joined(scene.odd) or 'no node'} another one. The rows themselves never leave the servers in an audit."
        )

    def _show_copy(self, scene: CopyMade) -> None:
        self._good(f"{scene.node} was copied anew and streams ({format_duration(scene.took_s)})")

    def _show_seal(self, scene: SealMade) -> None:
        seal = scene.seal
        self._good(
            f"{counted(scene.transactions_before, 'transaction')} later, {counted(seal.rows, 'row')} of"
            f" {counted(seal.relations, 'relation')} were sealed at {seal.restore_point.lsn}"
            f" ({format_duration(scene.took_s)}); {counted(scene.transactions_after, 'transaction')} followed"
        )

    def _show_damage(self, scene: BackupDamaged) -> None:
        self._tell(
            self._style.outcome(Outcome.REFUTED, scene.file),
            f": one bit was flipped in block {scene.block}, where rows of {scene.relation} lie",
        )

    def _show_drill(self, scene: DrillEnded) -> None:
        result = scene.result
        self._tell(
            self._style.outcome(result.verdict.outcome, result.verdict.value.upper()), f"  {drill_sentence(result)}"
        )
        self._list(_drill_facts(scene))

    def _end(self, scene: DemoEnded) -> None:
        self._console.print()
        took = format_duration(scene.took_s)
        if scene.problems:
            self._tell(self._style.outcome(Outcome.UNCHECKED, "THE DEMO FAILED"), indent=0)
            for problem in scene.problems:
                self._tell(f"- {problem}")
        else:
            found = f"the only broken row of {scene.broken} was found, and no other row was blamed"
            healed = "; the new copy was proven" if scene.healed else ""
            drilled = "; the backup was restored and proven, and its damaged copy refuted" if scene.drilled else ""
            shown = self._style.outcome(Outcome.PROVEN, "AS PROMISED")
            self._tell(shown, f"  both copies were proven under load; {found}{healed}{drilled}.", indent=0)
        left = f"The servers go on in {scene.folder}." if scene.kept else "All servers and files were removed."
        self._tell(f"{left} The demo took {took}.", indent=0)
        self._tell_next(scene)

    def _tell_next(self, scene: DemoEnded) -> None:
        heading(self._console, "Where to go next")
        for what, commands in _next_steps(scene).items():
            self._tell(what)
            for command in commands:
                verbatim(self._console, command)

    def _list(self, facts: Mapping[str, str]) -> None:
        table = plain_table("", "")
        table.show_header = False
        for name, value in facts.items():
            table.add_row(cell(f"    {name}"), cell(value))
        self._console.print(table)

    def _good(self, text: str) -> None:
        self._tell(self._style.outcome(Outcome.PROVEN, ""), text)

    def _tell(self, *parts: str | Text, indent: int = 2) -> None:
        line(self._console, *parts, indent=indent)


def _facts(scene: AuditEnded) -> dict[str, str]:
    """Return what an audit's verdict rests on, in words."""
    result = scene.result
    per_second = scene.transactions / scene.took_s if scene.took_s else 0
    return {
        "compared": f"{counted(result.rows, 'row')} on each of {1 + len(result.replicas)} nodes, in"
        f" {format_duration(scene.took_s)}",
        "alignments": _alignments(result),
        "meanwhile": f"{counted(scene.transactions, 'transaction')} of the writers, {per_second:,.0f} a second"
        f" ({scene.usual_per_second:,.0f} without an audit)",
    }


def _drill_facts(scene: DrillEnded) -> dict[str, str]:
    """Return what a drill did, and which layer of proof said what."""
    result = scene.result
    facts = {}
    if result.recovery is not None:
        facts["recovered to"] = (
            f"{result.recovery.replayed}, {counted(result.recovery.wal_files, 'WAL file')} from the archive"
        )
    if result.recovery_time_s is not None:
        facts["recovery time"] = f"{format_duration(result.recovery_time_s)} until the copy could be used"
    for layer in result.layers:
        if layer.state is not LayerState.NOT_RUN:
            what = layer.checked if layer.state is LayerState.PASSED else layer.reason or layer.checked
            facts[layer.name.value] = f"{layer.state.value}: {what}"
    if result.scratch is not None and result.scratch.removed:
        facts["scratch copy"] = f"removed; the drill took {format_duration(scene.took_s)}"
    return facts


def _alignments(result: AuditResult) -> str:
    taken = [alignment for replica in result.replicas for alignment in replica.alignments]
    exact = sum(alignment.exact for alignment in taken)
    attempts = max((alignment.attempts for alignment in taken), default=0)
    share = "all" if exact == len(taken) else f"{exact:,}"
    return (
        f"{len(taken):,} pairs of snapshots, {share} of which saw exactly the same transactions"
        f" ({counted(attempts, 'attempt')} at most)"
    )


def _next_steps(scene: DemoEnded) -> dict[str, tuple[str, ...]]:
    steps: dict[str, tuple[str, ...]] = {
        "Audit your own cluster, as a role with pg_read_all_data and pg_monitor:": (
            'replcheck audit --primary "host=db1 dbname=app user=replcheck" \\',
            '                --replica "host=db2 dbname=app user=replcheck"',
        ),
        "Drill a backup of your own:": ("replcheck drill --from base:/backups/newest --wal /backups/wal",),
    }
    if scene.kept:
        name = f"--name {scene.kept} --dir {shlex.quote(str(scene.folder))}"
        steps["Play with this cluster: look at it, write to it, break it otherwise, heal it, remove it:"] = tuple(
            f"replcheck lab {command} {name}" for command in ("status", "load", "break zero-page", "heal", "down")
        )
    else:
        steps["Keep such a cluster to play with, and break it in other ways:"] = (
            "replcheck lab up",
            "replcheck lab break --list",
        )
    steps["How the proof works, what it needs and what it does to your servers: README.md"] = ()
    return steps
