"""The four figures that say at a glance how the cluster is: copies, proven copies, age of the proof, recovery point."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from textual.content import Content

from replcheck.model.live import ClusterView, NodeState
from replcheck.model.outcome import Outcome
from replcheck.tui.draw.banner import diverged_copies
from replcheck.tui.draw.digits import big
from replcheck.tui.draw.table import styled
from replcheck.tui.look import COLOUR, QUIET, SIGN, Look, age, ago
from replcheck.tui.state import Model

NONE = "–"
"""Stands for what is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure."""

    title: str
    value: str
    outcome: Outcome | None
    """Colours the value; None where nobody asked for a limit, and nothing is wrong."""
    note: str


def tiles(model: Model, look: Look) -> tuple[Tile, ...]:
    """Return the figures, the most important first."""
    found = (_copies(model, look), _proven(model, look), _oldest_proof(model, look), _recovery_point(model, look))
    if model.view is None or not model.stale(look.now):
        return found
    note = f"as of {look.moment(model.view.at)}"
    return tuple(Tile(title=one.title, value=one.value, outcome=Outcome.UNCHECKED, note=note) for one in found)


def glance(shown: Sequence[Tile], width: int, *, tall: bool) -> list[Content]:
    """Return the tiles beside each other: three lines, or five where the value is written in large digits."""
    share = width // len(shown)
    columns = [_tile_lines(tile, share - 1, tall=tall) for tile in shown]
    return [Content.assemble(*parts) for parts in zip(*columns, strict=True)]


def _tile_lines(tile: Tile, width: int, *, tall: bool) -> list[Content]:
    colour = COLOUR[tile.outcome] if tile.outcome is not None else "$foreground"
    sign = f"{SIGN[tile.outcome]} " if tile.outcome is not None else ""
    value = [(line, f"bold {colour}") for line in (big(tile.value, width - 2) if tall else [tile.value])]
    lines = [(tile.title, QUIET), *value, (f"{sign}{tile.note}", colour if tile.outcome is not None else QUIET)]
    return [_edge(tile) + _cut(styled(line), width) for line in lines]


def _edge(tile: Tile) -> Content:
    return Content.styled("▎", COLOUR[tile.outcome] if tile.outcome is not None else "$panel-lighten-2")


def _cut(content: Content, width: int) -> Content:
    if content.cell_length > width:
        content = content.truncate(width - 1, ellipsis=True)
    return content.pad_right(width - content.cell_length)


def _copies(model: Model, look: Look) -> Tile:
    title, view = "running copies", model.view
    if view is None:
        return Tile(title=title, value=NONE, outcome=None, note="connecting")
    have, asked = view.running_copies, look.asked.running_copies
    value = f"{have} of {len(view.nodes)}"
    missing = [node for node in view.nodes if not node.state.is_running_copy]
    if view.primary is None:
        return Tile(title=title, value=value, outcome=Outcome.REFUTED, note=_no_primary(view))
    if asked is not None and have < asked:
        return Tile(title=title, value=value, outcome=Outcome.REFUTED, note=f"{asked} are asked for")
    if missing:
        note = ", ".join(f"{node.node} {node.state.value}" for node in missing)
        return Tile(title=title, value=value, outcome=Outcome.PARTIAL, note=note)
    outcome = Outcome.PROVEN if asked is not None else None
    return Tile(title=title, value=value, outcome=outcome, note=f"primary {view.primary}")


def _no_primary(view: ClusterView) -> str:
    if view.split_brain:
        return "two primaries"
    silent = all(node.state in {NodeState.LOST, NodeState.UNSEEN} for node in view.nodes)
    return "no node answers" if silent else "no primary"


def _proven(model: Model, look: Look) -> Tile:
    title, proven, asked = "proven copies", model.proven_copies, look.asked.proven_copies
    if proven is None or model.view is None:
        return Tile(title=title, value=NONE, outcome=None, note="not known yet")
    of = len(model.view.nodes)
    value = f"{proven} of {of}"
    if asked is not None and proven < asked:
        # What is merely not proven any more may be as good as ever: that is not known, and no breach.
        there = sum(node.state.is_running_copy or node.state is NodeState.UNSURE for node in model.view.nodes)
        possible = there - len(diverged_copies(model))
        outcome = Outcome.UNCHECKED if possible >= asked else Outcome.REFUTED
        return Tile(title=title, value=value, outcome=outcome, note=f"{asked} are asked for")
    if proven == 0:
        return Tile(title=title, value=value, outcome=Outcome.UNCHECKED, note="no audit counts now")
    diverged = diverged_copies(model)
    if diverged:
        return Tile(title=title, value=value, outcome=Outcome.PARTIAL, note=f"{', '.join(diverged)} diverged")
    outcome = Outcome.PROVEN if proven >= (asked or of) else Outcome.PARTIAL
    return Tile(title=title, value=value, outcome=outcome, note=f"{asked} asked for" if asked else "row by row")


def _oldest_proof(model: Model, look: Look) -> Tile:
    title, limit = "oldest proof", look.asked.proof_age_s
    proofs = [
        standing.proof.proven_at
        for standing in (model.standings or {}).values()
        if standing.proof is not None and standing.proven
    ]
    if not proofs:
        outcome = Outcome.UNCHECKED if model.standings is not None else None
        return Tile(title=title, value=NONE, outcome=outcome, note="none counts now")
    age_s = max(0.0, (look.now - min(proofs)).total_seconds())
    outcome = None if limit is None else Outcome.REFUTED if age_s > limit else Outcome.PROVEN
    note = f"limit {age(limit)}" if limit is not None else look.moment(min(proofs))
    return Tile(title=title, value=age(age_s), outcome=outcome, note=note)


def _recovery_point(model: Model, look: Look) -> Tile:
    title, limit = "recovery point", look.asked.recovery_age_s
    if model.view is None:
        return Tile(title=title, value=NONE, outcome=None, note="not known yet")
    point = model.view.recovery_point
    at = recovery_clock(model)
    if at is None or point.age_s is None:
        outcome = Outcome.UNCHECKED if limit is not None else None
        return Tile(title=title, value=NONE, outcome=outcome, note=point.reason or "unknown")
    outcome = None if limit is None else Outcome.REFUTED if point.age_s > limit else Outcome.PROVEN
    note = f"{age(point.age_s)}, limit {age(limit)}" if limit is not None else ago(point.age_s)
    return Tile(title=title, value=look.moment(at), outcome=outcome, note=note)


def recovery_clock(model: Model) -> datetime | None:
    """Return up to when everything is archived: it goes with the clock while nothing is left to archive."""
    if model.view is None:
        return None
    point = model.view.recovery_point
    return model.view.at if point.age_s == 0 and point.at is not None else point.at
