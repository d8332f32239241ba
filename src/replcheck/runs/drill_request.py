"""What a drill is asked for: flags over environment over file, checked before anything is looked at."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.config.model import (
    Backup,
    BaseBackup,
    CommandBackup,
    Configuration,
    Drill,
    DumpBackup,
    PgBackRestBackup,
    Scratch,
    SnapshotBackup,
)
from replcheck.drill.plan import never_for
from replcheck.drill.scratch import default_root
from replcheck.drill.seals import seal_folder
from replcheck.drill.targets import parse_target
from replcheck.errors import UsageError
from replcheck.model.drill import FROM, BackupKind, DrillLimits, LayerName, Target
from replcheck.model.names import printable
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.model.run import UNNAMED_CLUSTER
from replcheck.runs.request import flag_target
from replcheck.runs.signing import UNSIGNED, Signing, signing_of
from replcheck.runs.targets import configured_targets

if TYPE_CHECKING:
    from replcheck.postgres.assertions import Assertion

SCRATCH_VARIABLE = "REPLCHECK_SCRATCH"
_FROM_KINDS = ("base", "snapshot", "dump", "pgbackrest")
_PATHS = ("path", "wal", "globals", "config")
"""Keys of backups that name a place in the file system."""
_LAYER_WORDS = {name.name.lower(): name for name in LayerName}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFlags:
    """What the caller gave; None means that the environment, the configuration, or the default, decides."""

    backup: str | None = None
    """Name of a configured backup."""
    source: str | None = None
    """`KIND:PATH` of one that is not configured."""
    wal: Path | None = None
    globals: Path | None = None
    copy: str | None = None
    every: bool = False
    """Whether all backups of the source are drilled in turn."""
    target: str | None = None
    scratch: Path | None = None
    require: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    primary: str | None = field(default=None, repr=False)
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """One drill, or one of each backup of a source, ready to run."""

    cluster: str
    name: str
    """Of the backup."""
    backup: Backup = field(repr=False)
    copy_label: str | None
    every: bool
    target: Target
    scratch: Path
    scratch_dsn: str | None = field(repr=False)
    """A server of the user's, on which dumps are restored."""
    layers: frozenset[LayerName] | None
    """None means all that make sense."""
    required: frozenset[LayerName]
    nodes: tuple[NodeTarget, ...]
    """Nodes among which the primary is found; empty where no comparison with it was asked for."""
    keep: bool
    limits: DrillLimits
    timeout_s: float | None
    assertions: "tuple[Assertion, ...]" = field(repr=False)
    programs: Mapping[str, str]
    """Folders of server programs by major version."""
    seals: Path | None
    """Folder of the seals."""
    signing: Signing = UNSIGNED
    """What its record is signed with, and seals are verified with."""
    commands: Mapping[str, CommandBackup] = field(default_factory=dict, repr=False)
    """All configured backups of the kind `command`, by name, for what killed drills had provided."""

    @property
    def argument_digest(self) -> str:
        """Return the SHA-256 of what was asked; no connection string, command or assertion is in it."""
        asked = {
            "cluster": self.cluster,
            "backup": self.name,
            "place": getattr(self.backup, "path", getattr(self.backup, "stanza", "")),
            "copy": self.copy_label,
            "every": self.every,
            "target": self.target.text,
            "layers": sorted(name.name for name in self.layers) if self.layers is not None else None,
            "required": sorted(name.name for name in self.required),
            "nodes": [node.name for node in self.nodes],
            "limits": [self.limits.max_time_s, self.limits.max_age_s],
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def drill_request(
    flags: DrillFlags, configuration: Configuration | None, environment: Mapping[str, str] = os.environ
) -> DrillRequest:
    """Return what to restore and how to prove it; raise UsageError or ConfigurationError for what makes no sense."""
    _require_sense(flags)
    drill = configuration.drill if configuration else Drill()
    name, backup = _backup(flags, configuration)
    backup = _placed(backup)
    wanted = drill.require if backup.require is None else backup.require
    required = _layers("--require", flags.require) or frozenset(_LAYER_WORDS[word] for word in wanted)
    layers = _layers("--layer", flags.layers) or _configured_layers(drill)
    if layers is not None and (missing := required - layers):
        words = ", ".join(sorted(name.name.lower() for name in missing))
        raise UsageError(
            f"a layer is required and left out: {words}", hint="Add it to --layer, or to drill.layers, or require less."
        )
    _require_possible("--layer", flags.layers, backup)
    _require_possible("--require", flags.require, backup)
    scratch = scratch_folder(flags.scratch, configuration, environment)
    _require_apart(scratch, backup)
    cluster = configuration.cluster if configuration else UNNAMED_CLUSTER
    return DrillRequest(
        cluster=cluster,
        name=name,
        backup=backup,
        copy_label=flags.copy,
        every=flags.every,
        target=parse_target(drill.target if flags.target is None else flags.target),
        scratch=scratch,
        scratch_dsn=drill.scratch.dsn if isinstance(drill.scratch, Scratch) else None,
        layers=layers,
        required=required,
        nodes=_nodes(flags, configuration, (layers or frozenset()) | required),
        keep=flags.keep,
        limits=DrillLimits(max_time_s=drill.max_time, max_age_s=drill.max_age, archive_delay_s=drill.archive_delay),
        timeout_s=drill.timeout,
        assertions=_assertions(drill),
        programs=drill.programs,
        seals=seal_folder(cluster, configuration, environment),
        signing=signing_of(configuration),
        commands=commands_of(configuration),
    )


def _assertions(drill: Drill) -> "tuple[Assertion, ...]":
    if not drill.assertions:
        return ()
    # Loaded here: the parser is large, and most drills have no assertion.
    from replcheck.postgres.assertions import parse_assertion

    return tuple(parse_assertion(word, text) for word, text in drill.assertions.items())


def commands_of(configuration: Configuration | None) -> Mapping[str, CommandBackup]:
    """Return the configured backups of the kind `command`, by name."""
    backups = configuration.backups if configuration is not None else {}
    return {name: backup for name, backup in backups.items() if isinstance(backup, CommandBackup)}


def _require_possible(flag: str, words: tuple[str, ...], backup: Backup) -> None:
    """Raise UsageError for a layer that no backup of the kind can have; a configuration speaks of several kinds."""
    kind = BackupKind(backup.kind)
    for word in words:
        reason = never_for(kind, _LAYER_WORDS[word])
        if reason:
            raise UsageError(
                f"{flag} {word} makes no sense for a backup of the kind {kind.value}: {reason}", hint="Leave it out."
            )


def _require_apart(scratch: Path, backup: Backup) -> None:
    """Raise UsageError where the copy would be made inside the backup or its archive: both are only read."""
    if isinstance(backup, BaseBackup | SnapshotBackup | DumpBackup):
        wal = None if isinstance(backup, DumpBackup) else backup.wal
        for place in (backup.path, wal):
            if place is not None and scratch.resolve().is_relative_to(Path(place).resolve()):
                raise UsageError(
                    f"the scratch folder {printable(str(scratch))} lies inside {printable(place)}, which is only read",
                    hint="Choose another folder with --scratch, or as drill.scratch.",
                )


def scratch_folder(flag: Path | None, configuration: Configuration | None, environment: Mapping[str, str]) -> Path:
    """Return the folder in which scratch directories are made."""
    configured = configuration.drill.scratch if configuration else None
    if isinstance(configured, Scratch):
        configured = configured.dir
    named = flag or environment.get(SCRATCH_VARIABLE) or configured
    return Path(named).absolute() if named else default_root()


def _require_sense(flags: DrillFlags) -> None:
    if flags.backup is not None and flags.source is not None:
        raise UsageError("a configured backup and --from were given", hint="Give one of the two.")
    if flags.wal is not None and flags.source is None:
        raise UsageError("--wal was given without --from", hint="A configured backup names its WAL archive itself.")
    if flags.globals is not None and flags.source is None:
        raise UsageError(
            "--globals was given without --from", hint="A configured backup names its file of globals itself."
        )
    if flags.every and flags.copy is not None:
        raise UsageError("--all and --copy were given", hint="Give one of the two.")
    if flags.every and flags.keep:
        raise UsageError("--all and --keep were given", hint="Keep one copy at a time, chosen with --copy.")


def _backup(flags: DrillFlags, configuration: Configuration | None) -> tuple[str, Backup]:
    if flags.source is not None:
        return FROM, _spelled_out(flags.source, flags.wal, flags.globals)
    configured = configuration.backups if configuration else {}
    name = flags.backup or (configuration.drill.backup if configuration else None)
    if name is None and len(configured) == 1:
        [name] = configured
    if name is None:
        known = f"Name one of {', '.join(configured)}." if configured else _how_to_name(configuration)
        raise UsageError("no backup to drill", hint=known)
    if name not in configured:
        known = f"There are: {', '.join(configured)}." if configured else _how_to_name(configuration)
        raise UsageError(f'no backup "{printable(name)}" is configured', hint=known)
    return name, configured[name]


def _how_to_name(configuration: Configuration | None) -> str:
    if configuration is None:
        return "Give --from KIND:PATH, or a configuration with --config FILE."
    return "The configuration has no backup: add [backups.NAME] to it, or give --from KIND:PATH."


def _spelled_out(text: str, wal: Path | None, roles: Path | None) -> Backup:
    kind, colon, place = text.partition(":")
    if not colon or not place or kind not in _FROM_KINDS:
        raise UsageError(
            f"--from must be KIND:PATH, with one of the kinds {', '.join(_FROM_KINDS)}",
            hint="Write for instance --from base:/backups/x --wal /backups/wal, or --from dump:/backups/app.dump.",
        )
    archive = str(wal) if wal is not None else None
    if wal is not None and kind not in ("base", "snapshot"):
        raise UsageError(f"--wal makes no sense for a backup of the kind {kind}")
    if roles is not None and kind != "dump":
        raise UsageError(f"--globals makes no sense for a backup of the kind {kind}")
    if kind == "base":
        return BaseBackup(kind="base", path=place, wal=archive)
    if kind == "snapshot":
        return SnapshotBackup(kind="snapshot", path=place, wal=archive)
    if kind == "dump":
        return DumpBackup(kind="dump", path=place, globals=str(roles) if roles is not None else None)
    return PgBackRestBackup(kind="pgbackrest", stanza=place)


def _placed(backup: Backup) -> Backup:
    """Return a backup with its paths seen from the root: the programs that read them run in another folder."""
    paths = {name: getattr(backup, name, None) for name in _PATHS}
    return backup.model_copy(
        update={name: str(Path(path).absolute()) for name, path in paths.items() if path is not None}
    )


def _layers(flag: str, words: tuple[str, ...]) -> frozenset[LayerName] | None:
    unknown = [word for word in words if word not in _LAYER_WORDS]
    if unknown:
        raise UsageError(f'{flag} "{printable(unknown[0])}" is no layer', hint=f"There are: {', '.join(_LAYER_WORDS)}.")
    return frozenset(_LAYER_WORDS[word] for word in words) or None


def _configured_layers(drill: Drill) -> frozenset[LayerName] | None:
    return None if drill.layers is None else frozenset(_LAYER_WORDS[word] for word in drill.layers)


def _nodes(
    flags: DrillFlags, configuration: Configuration | None, asked: frozenset[LayerName]
) -> tuple[NodeTarget, ...]:
    """Return where the primary is looked for: reading it all is not done unasked."""
    if flags.primary is not None:
        return (flag_target("primary", "--primary", flags.primary, NodeRole.PRIMARY, configuration),)
    return configured_targets(configuration) if LayerName.PRIMARY in asked else ()
