"""Servers that commands of the user's provide and destroy, for instance a provider's own restore.

The connection string that the provision command hands back is a secret: it reaches the destroy command's environment,
and nothing else. The destroy command runs after every attempt, whatever became of it; what a drill that is killed had
provided is noted, without that secret, for the next one to destroy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from replcheck.config.model import CommandBackup
from replcheck.drill.backups.source import Restored
from replcheck.drill.provided import command_digest
from replcheck.drill.scratch import Provided, Scratch, note_provided
from replcheck.drill.stages import Stages
from replcheck.drill.wal import Segment
from replcheck.errors import DrillBlocked, NodeError, ProgramError, ReplcheckError, UsageError
from replcheck.model.drill import BackupKind, CopyFacts, Stage, Target, TargetKind
from replcheck.postgres import dsn
from replcheck.postgres.commands import find_command, run_command
from replcheck.postgres.copies import CopyServer, read_copy_server
from replcheck.postgres.processes import ProcessState
from replcheck.postgres.programs import Programs, available_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provision:
    """One attempt, as the commands are told of it."""

    variables: dict[str, str]
    scratch: Scratch
    dsn: str = ""
    process: ProcessState | None = None

    def noted(self, destroy: Sequence[str]) -> Provided:
        """Return what a later drill needs to destroy it, without anything secret."""
        if not self.dsn:
            return Provided(variables=self.variables, destroy=command_digest(destroy), process=self.process)
        words, _ = dsn.words_without_secrets(dsn.parse(self.dsn))
        return Provided(
            variables=self.variables | {"REPLCHECK_DSN": dsn.written(words)},
            destroy=command_digest(destroy),
            where=dsn.public_address(self.dsn),
        )


@dataclass(slots=True, kw_only=True)
class CommandSource:
    """One table of the kind `command` under `backups`."""

    name: str
    section: CommandBackup
    kind: BackupKind = field(default=BackupKind.COMMAND, init=False)
    _attempt: _Provision | None = field(default=None, init=False)

    def copies(self) -> Sequence[CopyFacts]:
        """Return the one backup there is: which one it restores is the provision command's own choice."""
        return [CopyFacts(label=self.name, kind=self.kind, format="command")]

    def requirements(self, copy: CopyFacts, target: Target) -> None:  # noqa: ARG002 - each copy is the same to it
        """Raise DrillBlocked where one of the two commands cannot be run: without `destroy` nothing is provided."""
        if target.kind is TargetKind.SEAL and target.seal_id is None:
            raise DrillBlocked("the target names no seal", code="target_unfit")
        for argv in (self.section.provision, self.section.destroy):
            try:
                find_command(argv)
            except ProgramError as error:
                raise DrillBlocked(error.message, code="programs_missing", hint=error.hint) from error

    def reaches(self, segment: Segment, segment_bytes: int) -> None:
        """Tell nothing: WAL means nothing to its commands."""

    def restore(self, copy: CopyFacts, target: Target, scratch: Scratch, stages: Stages) -> Restored:
        """Have a server provided and see that it answers; stages RESTORE and OPEN. Raises DrillBlocked."""
        variables = {
            "REPLCHECK_RUN_ID": scratch.run_id,
            "REPLCHECK_BACKUP": self.name,
            "REPLCHECK_COPY": copy.label,
            "REPLCHECK_TARGET": target.text,
            "REPLCHECK_TARGET_KIND": target.kind.value,
            "REPLCHECK_SCRATCH": str(scratch.directory),
        }
        attempt = _Provision(variables=variables, scratch=scratch)
        self._begin(attempt)
        with stages.enter(Stage.RESTORE):
            handed = self._provided(attempt, stages)
            self._begin(_Provision(variables=variables, scratch=scratch, dsn=handed))
        with stages.enter(Stage.OPEN):
            server = self._answered(handed)
        return Restored(
            kind=self.kind,
            dsn=handed,
            server=None,
            programs=_programs(server.major),
            databases=None,
            recovery=None,
            where=dsn.public_address(handed),
        )

    def kept(self) -> None:
        """Leave the server to the user, whose destroy command alone removes it."""
        self._attempt = None

    def release(self, restored: Restored | None) -> None:  # noqa: ARG002 - a half-made server is destroyed too
        """Run the destroy command, if anything was tried; raise DrillBlocked where it fails."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        try:
            run_command(
                self.section.destroy,
                variables=attempt.variables | ({"REPLCHECK_DSN": attempt.dsn} if attempt.dsn else {}),
                timeout_s=self.section.timeout,
            )
        except ProgramError as error:
            raise DrillBlocked(
                f"the server that was provided for backup {self.name} may still be there: {error.message}",
                code="destroy_failed",
                hint="It holds a copy of your data: make sure by hand that it is gone.",
            ) from error
        note_provided(attempt.scratch, None)

    def _begin(self, attempt: _Provision) -> None:
        """Note what is to be destroyed, before anything can be there: we may be killed at any time."""
        note_provided(attempt.scratch, attempt.noted(self.section.destroy))
        self._attempt = attempt

    def _provided(self, attempt: _Provision, stages: Stages) -> str:
        """Return the connection string that the provision command hands back."""
        try:
            handed = run_command(
                self.section.provision,
                variables=attempt.variables,
                timeout_s=self.section.timeout,
                obey=stages.obey,
                begun=lambda process: self._begin(replace(attempt, process=process)),
            )
        except ProgramError as error:
            raise DrillBlocked(error.message, code="provision_failed", hint=error.hint) from error
        if not handed:
            raise DrillBlocked(
                f"command {self.section.provision[0]} handed back no connection string",
                code="provision_failed",
                hint="Its last line of standard output must be one, as libpq reads it.",
            )
        try:
            dsn.parse(handed, origin=f"the last line of command {self.section.provision[0]}")
        except UsageError as error:
            raise DrillBlocked(error.message, code="provision_failed", hint=error.hint) from error
        return handed

    def _answered(self, handed: str) -> CopyServer:
        try:
            return read_copy_server(handed)
        except NodeError as error:
            raise DrillBlocked(
                f"the server that was provided for backup {self.name} cannot be used: {error.message}",
                code="provision_failed",
                hint=error.hint,
            ) from error


def _programs(major: int) -> Programs | None:
    """Return programs of the copy's major, with which it can be checked; None where this machine has none."""
    try:
        return next((programs for programs in available_programs() if programs.major == major), None)
    except ReplcheckError:
        return None
