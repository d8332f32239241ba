"""What a drill is asked for, as the parts that carry it out: its layers, and the seal that it may stand on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from replcheck.drill.layers.layer import Layer
from replcheck.model.drill import BackupKind, LayerName, LayerReport, LayerState, Target, TargetKind
from replcheck.model.node import NodeTarget
from replcheck.model.seal import SealManifest
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
    assertions: tuple[Assertion, ...]
    jobs: int = 2


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
    return replace(target, text=f"seal:{seal.seal_id}", seal_id=seal.seal_id, name=seal.restore_point.name)


def dump_of(seal: SealManifest | None) -> str | None:
    """Return the label that the dump of a seal has, wherever it lies by now; None where it has none."""
    return Path(seal.dump.file).name if seal is not None and seal.dump is not None else None


def _absent(kind: BackupKind, wishes: LayerWishes) -> Iterator[tuple[LayerName, str]]:
    if wishes.wanted is not None:
        yield from ((name, _NOT_ASKED) for name in LayerName if name not in wishes.wanted)
    if wishes.seal is None:
        yield LayerName.SEAL, "no seal was named as the target"
    if not wishes.nodes:
        yield LayerName.PRIMARY, "no primary was named"
    elif not kind.physical:
        yield LayerName.PRIMARY, f"a {kind.value} has no transaction ids of the primary"
    if kind not in (BackupKind.BASE, BackupKind.PGBACKREST):
        yield LayerName.MANIFEST, f"a {kind.value} has no manifest"
    if not kind.physical:
        yield LayerName.CHECKSUMS, f"a {kind.value} brings no pages of its own"
    if not wishes.assertions:
        yield LayerName.ASSERTIONS, "no assertions are configured"


def _all_layers(wishes: LayerWishes) -> Iterator[Layer]:
    from contextlib import suppress

    from replcheck.drill.layers.amcheck import AmcheckLayer
    from replcheck.drill.layers.assertions import AssertionsLayer
    from replcheck.drill.layers.completeness import CompletenessLayer
    from replcheck.drill.layers.primary import PrimaryLayer
    from replcheck.drill.layers.seal import SealLayer

    yield SealLayer(wishes.seal, jobs=wishes.jobs)
    yield PrimaryLayer(wishes.nodes, jobs=wishes.jobs)
    with suppress(ImportError):
        from replcheck.drill.layers.manifest import ManifestLayer

        yield ManifestLayer()
    with suppress(ImportError):
        from replcheck.drill.layers.checksums import ChecksumsLayer

        yield ChecksumsLayer()
    yield AmcheckLayer(jobs=wishes.jobs)
    yield AssertionsLayer(assertions=wishes.assertions)
    yield CompletenessLayer()
