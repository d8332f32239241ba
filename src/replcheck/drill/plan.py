"""What a drill is asked for, as the parts that carry it out: its layers, and the seal that it may stand on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from replcheck.config.model import (
    Backup,
    BaseBackup,
    CommandBackup,
    DumpBackup,
    PgBackRestBackup,
    SnapshotBackup,
)
from replcheck.drill.backups.source import BackupSource
from replcheck.drill.layers.layer import Case, Layer, Moment
from replcheck.drill.software import ProgramsFor
from replcheck.errors import ProgramError
from replcheck.model.drill import BackupKind, LayerName, LayerReport, LayerState, SealedPoint, Target, TargetKind
from replcheck.model.node import NodeTarget
from replcheck.model.seal import SealManifest
from replcheck.postgres.programs import Programs, find_programs, programs_in

if TYPE_CHECKING:
    from replcheck.postgres.assertions import Assertion

_NOT_ASKED = "not asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWishes:
    """What there is to prove with, and what was asked for."""

    wanted: frozenset[LayerName] | None
    """None means all that make sense."""
    seal: SealManifest | None
    nodes: tuple[NodeTarget, ...]
    """Nodes among which the primary is found; empty where no comparison with it was asked for."""
    assertions: "tuple[Assertion, ...]"
    programs: ProgramsFor
    dumps: Path | None = None
    """One dump, or a folder with several; None for backups of other kinds."""
    jobs: int = 2


def source_of(name: str, backup: Backup, *, scratch_dsn: str | None, programs: ProgramsFor) -> BackupSource:
    """Return the source of a table under `backups`; reads nothing yet. `scratch_dsn` is where dumps may be restored."""
    match backup:
        case BaseBackup():
            from replcheck.drill.backups.base import BaseSource

            return BaseSource(name=name, section=backup, programs=programs)
        case SnapshotBackup():
            from replcheck.drill.backups.snapshot import SnapshotSource

            return SnapshotSource(name=name, section=backup, programs=programs)
        case DumpBackup():
            from replcheck.drill.backups.dump import DumpSource

            return DumpSource(name=name, section=backup, scratch_dsn=scratch_dsn, programs=programs)
        case PgBackRestBackup():
            from replcheck.drill.backups.pgbackrest import PgBackRestSource

            return PgBackRestSource(name=name, section=backup, programs=programs)
        case CommandBackup():
            from replcheck.drill.backups.command import CommandSource

            return CommandSource(name=name, section=backup)


def finder(folders: Mapping[str, str]) -> ProgramsFor:
    """Return a function that finds the programs of a major version, in the configured folder where there is one."""

    def find(major: int) -> Programs:
        folder = folders.get(str(major))
        if folder is None:
            return find_programs(major)
        found = programs_in(Path(folder).absolute())
        if found.major != major:
            raise ProgramError(
                f"folder {folder} holds the programs of PostgreSQL {found.major}, and drill.programs says {major}",
                hint="Name the folder of each major version under drill.programs.",
            )
        return found

    return find


def layers_for(kind: BackupKind, wishes: LayerWishes) -> tuple[list[Layer], list[LayerReport]]:
    """Return the layers that run, and reports of those that by design do not, each with its reason."""
    absent = dict(_absent(kind, wishes))
    layers = [layer for layer in _all_layers(wishes) if layer.name not in absent]
    reports = [
        LayerReport(name=name, state=LayerState.NOT_RUN, reason=reason, by_design=True)
        for name, reason in absent.items()
    ]
    return layers, reports


def where_it_lies(target: Target, seal: SealManifest | None) -> Target:
    """Return a target that tells which backups come before it: that of a seal is its position in the WAL."""
    if target.kind is not TargetKind.SEAL or seal is None:
        return target
    return Target(kind=TargetKind.LSN, text=target.text, lsn=seal.restore_point.lsn)


def sealed_target(target: Target, seal: SealManifest) -> Target:
    """Return the target with what the seal tells of it."""
    return replace(
        target,
        text=f"seal:{seal.seal_id}",
        seal_id=seal.seal_id,
        name=seal.restore_point.name,
        lsn=seal.restore_point.lsn,
        system_identifier=seal.server.system_identifier,
        sealed=SealedPoint(
            made_at=seal.restore_point.created_at,
            timeline=seal.restore_point.timeline,
            segment_bytes=seal.server.segment_bytes,
            lc_monetary=seal.monetary_locale,
        ),
    )


def dump_of(seal: SealManifest | None) -> str | None:
    """Return the label that the dump of a seal has, wherever it lies by now; None where it has none."""
    return Path(seal.dump.file).name if seal is not None and seal.dump is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _SealOfDumps:
    """The layer of a seal for dumps: which file is compared is known once the dump is chosen."""

    wishes: LayerWishes
    dumps: Path
    name: LayerName = LayerName.SEAL
    moment: Moment = Moment.OPEN

    def run(self, case: Case) -> LayerReport:
        """Compare the copy with the seal that the very dump was taken with."""
        from replcheck.drill.layers.seal import SealLayer

        inside = self.dumps / case.copy.label
        file = inside if inside.exists() else self.dumps
        return SealLayer(self.wishes.seal, jobs=self.wishes.jobs, dump_file=file).run(case)


def never_for(kind: BackupKind, layer: LayerName) -> str:
    """Say why no backup of a kind can have a layer; empty where one can."""
    if layer is LayerName.MANIFEST and kind is not BackupKind.BASE:
        return "only a base backup has one"
    if layer is LayerName.CHECKSUMS and not kind.physical:
        return f"a {kind.value} brings no pages of its own"
    if layer is LayerName.PRIMARY and not kind.physical:
        return f"a {kind.value} has no transaction ids of the primary"
    return ""


def _absent(kind: BackupKind, wishes: LayerWishes) -> Iterator[tuple[LayerName, str]]:
    if wishes.wanted is not None:
        yield from ((name, _NOT_ASKED) for name in LayerName if name not in wishes.wanted)
    if wishes.seal is None:
        yield LayerName.SEAL, "no seal was named as the target"
    if not wishes.nodes:
        yield LayerName.PRIMARY, "no primary was named"
    elif reason := never_for(kind, LayerName.PRIMARY):
        yield LayerName.PRIMARY, reason
    for name in (LayerName.MANIFEST, LayerName.CHECKSUMS):
        if reason := never_for(kind, name):
            yield name, reason
    if not wishes.assertions:
        yield LayerName.ASSERTIONS, "no assertions are configured"


def _all_layers(wishes: LayerWishes) -> Iterator[Layer]:
    from replcheck.drill.layers.amcheck import AmcheckLayer
    from replcheck.drill.layers.checksums import ChecksumsLayer
    from replcheck.drill.layers.completeness import CompletenessLayer
    from replcheck.drill.layers.manifest import ManifestLayer
    from replcheck.drill.layers.seal import SealLayer

    if wishes.dumps is not None:
        yield _SealOfDumps(wishes=wishes, dumps=wishes.dumps)
    else:
        yield SealLayer(wishes.seal, jobs=wishes.jobs)
    if wishes.nodes:
        from replcheck.drill.layers.primary import PrimaryLayer

        yield PrimaryLayer(wishes.nodes, jobs=wishes.jobs)
    yield ManifestLayer(programs=wishes.programs)
    yield ChecksumsLayer()
    yield AmcheckLayer(jobs=wishes.jobs)
    if wishes.assertions:
        # The parser behind it is large.
        from replcheck.drill.layers.assertions import AssertionsLayer

        yield AssertionsLayer(assertions=wishes.assertions)
    yield CompletenessLayer(seal=wishes.seal)
