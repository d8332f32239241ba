"""The control `integrity`: data checksums are on, none failed, and those of backups verified in their drills.

A backup's manifest and its pages are judged each by the last drill that looked at them: neither speaks for the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from replcheck.check.facts import DrillFact, Facts, Untold
from replcheck.check.found import Fault, Found, at_risk, breached, listed, oldest, unchecked
from replcheck.config.model import Control, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.drill import DrillVerdict, LayerState
from replcheck.model.units import format_age, format_duration

_NOT_PROVEN = (
    "pages that nobody has read since they were damaged: a checksum is verified when its page is read",
    "failures from before the statistics of a server were reset",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """What a node told of its data checksums; None where it did not."""

    is_on: bool | None = None
    failures: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """The last drill of a backup that looked at its manifest, or at its pages."""

    backup: str
    word: str
    """`manifest` or `pages`."""
    drill: DrillFact | None
    """None where none did, though one should have."""
    ahead_s: float | None = None
    """Age of one that is ahead of the clock, and found nothing wrong; None where there is none."""
    refuting: DrillFact | None = None
    """One that is ahead of the clock, and found something wrong."""

    @property
    def state(self) -> LayerState | None:
        """Return what that drill found."""
        return _state(self.drill, self.word) if self.drill else None


def find_integrity(policy: Policy, _asked: Control, facts: Facts) -> Found:
    """Return which nodes verify their pages, how many failed, and what drills found of the backups' own checksums."""
    pages = _pages(facts)
    names = [backup.name for backup in facts.backups if backup.manifest]
    layers = [layer for name in names for layer in _layers(name, facts)]
    faults = [*_page_faults(pages, facts), *(fault for name in names for fault in _backup_faults(name, policy, facts))]
    drills = [layer.drill for layer in layers if layer.drill is not None]
    return Found(
        measured=_measured(pages, layers, facts),
        limit="data checksums on every node, none failed; backups verify",
        faults=tuple(faults),
        measures=tuple(
            Measure(name="checksum_failures", unit=Unit.COUNT, value=told.failures, limit=0, subject=node)
            for node, told in pages.items()
        ),
        runs=tuple(dict.fromkeys(drill.run_id for drill in drills)),
        not_proven=_NOT_PROVEN,
        as_of=oldest([*(told.at for told in pages.values()), *(drill.started_at for drill in drills)]),
    )


def _pages(facts: Facts) -> dict[str, _Pages]:
    """Return what each configured node lately told."""
    found = dict.fromkeys(facts.node_names, _Pages())
    for span in facts.lately_told():
        if span.node in found and span.data_checksums is not None:
            found[span.node] = _Pages(is_on=span.data_checksums, failures=span.checksum_failures, at=span.ended_at)
    return found


def _page_faults(pages: dict[str, _Pages], facts: Facts) -> Iterator[Fault]:
    off = [node for node, told in pages.items() if told.is_on is False]
    unknown = [node for node, told in pages.items() if told.is_on is None or (told.is_on and told.failures is None)]
    if off:
        yield breached(f"data checksums are off on {listed(off)}")
    for node, told in pages.items():
        if told.is_on and told.failures:
            yield breached(f"{told.failures:,} checksum failures on {node}")
    if facts.view is None:
        yield unchecked(facts.view_problem)
    elif unknown:
        yield unchecked(f"whether checksums fail on {listed(unknown)} is unknown")


def _state(drill: DrillFact, word: str) -> LayerState | None:
    return drill.manifest if word == "manifest" else drill.pages


def _layers(name: str, facts: Facts) -> Iterator[_Layer]:
    """Yield what was found of each layer that drills of a backup have: not every kind has a manifest, or pages."""
    own = sorted((drill for drill in facts.drills if drill.backup == name), key=lambda drill: drill.started_at)
    for word in ("manifest", "pages"):
        with_layer = [drill for drill in own if _state(drill, word) is not None]
        if not with_layer:
            continue
        judged = [drill for drill in with_layer if _state(drill, word) in {LayerState.PASSED, LayerState.FAILED}]
        ahead = [drill for drill in judged if facts.is_ahead(drill.started_at)]
        yield _Layer(
            backup=name,
            word=word,
            drill=next((drill for drill in reversed(judged) if drill not in ahead), None),
            ahead_s=next((facts.age_s(one.started_at) for one in ahead), None),
            refuting=next((drill for drill in ahead if _state(drill, word) is LayerState.FAILED), None),
        )


def _backup_faults(name: str, policy: Policy, facts: Facts) -> Iterator[Fault]:
    if facts.history_problem:
        yield unchecked(facts.history_problem)
        return
    layers = list(_layers(name, facts))
    if all(layer.drill is None and layer.ahead_s is None for layer in layers):
        yield unchecked(f"no drill has verified the checksums of {name}")
    else:
        for layer in layers:
            yield from _layer_faults(layer, policy, facts)
    since = min((layer.drill.started_at for layer in layers if layer.drill is not None), default=None)
    if facts.untold_since(name, since, Untold.FAILED, Untold.UNREADABLE):
        yield unchecked(f"what a later drill found of the checksums of {name} cannot be read")


def _layer_faults(layer: _Layer, policy: Policy, facts: Facts) -> Iterator[Fault]:
    what = f"the {layer.word} of {layer.backup}"
    if layer.refuting is not None:
        told = f"{what} did not verify in a drill that is {format_age(layer.ahead_s or 0)}"
        # Its date is wrong, so it may be of before the last success or of after it.
        yield unchecked(told) if layer.state is LayerState.PASSED else breached(told)
    if layer.drill is None:
        lacking = f"no drill has verified {what}"
        dated = f"the drill that verified {what} is {format_age(layer.ahead_s or 0)}"
        yield unchecked(lacking if layer.ahead_s is None else dated)
    elif layer.state is LayerState.FAILED:
        because = layer.drill.problem if layer.drill.verdict is DrillVerdict.FAILED else ""
        yield breached(f"{what} did not verify{f': {because}' if because else ''}")
    else:
        age_s = facts.age_s(layer.drill.started_at)
        if policy.restore is not None and age_s > policy.restore.every:
            limit = format_duration(policy.restore.every)
            yield at_risk(f"{what} was last verified {format_duration(age_s)} ago (at risk from {limit} on)")


def _measured(pages: dict[str, _Pages], layers: Sequence[_Layer], facts: Facts) -> str:
    on = sum(bool(told.is_on) for told in pages.values())
    failed = sum(told.failures or 0 for told in pages.values())
    told = f"checksums on {on} of {len(pages)} nodes, {failed:,} failures"
    verified: dict[str, float] = {}
    for layer in layers:
        if layer.drill is not None and layer.state is LayerState.PASSED:
            verified[layer.backup] = max(verified.get(layer.backup, 0.0), facts.age_s(layer.drill.started_at))
    bad = {layer.backup for layer in layers if layer.state is not LayerState.PASSED}
    parts = [f"{name} verified {format_duration(age_s)} ago" for name, age_s in verified.items() if name not in bad]
    return "; ".join([told, *parts])
