"""The control `integrity`: data checksums are on, none failed, and those of backups verified in their drills."""

from collections.abc import Iterator

from replcheck.check.facts import DrillFact, Facts
from replcheck.check.found import Fault, Found, breached, listed, oldest, unchecked
from replcheck.config.model import Control, Policy
from replcheck.model.control import Measure, Unit
from replcheck.model.drill import DrillVerdict, LayerState

_NOT_PROVEN = (
    "pages that nobody has read since they were damaged: a checksum is verified when its page is read",
    "failures from before the statistics of a server were reset",
)


def find_integrity(_policy: Policy, _asked: Control, facts: Facts) -> Found:
    """Return which nodes verify their pages, how many failed, and what drills found of the backups' own checksums."""
    pages = _pages(facts)
    faults = [*_page_faults(pages), *(fault for name in _sealed(facts) for fault in _backup_faults(name, facts))]
    drills = [drill for name in _sealed(facts) if (drill := _judged(name, facts)) is not None]
    return Found(
        measured=_measured(pages, drills),
        limit="data checksums on every node, none failed; backups verify",
        faults=tuple(faults),
        measures=tuple(
            Measure(name="checksum_failures", unit=Unit.COUNT, value=failures, limit=0, subject=node)
            for node, (_, failures) in pages.items()
        ),
        runs=tuple(drill.run_id for drill in drills),
        not_proven=_NOT_PROVEN,
        as_of=oldest([facts.view.at if facts.view else None, *(drill.started_at for drill in drills)]),
    )


def _pages(facts: Facts) -> dict[str, tuple[bool | None, int | None]]:
    """Return of each configured node whether data checksums are on, and how many failed, as it last told."""
    found: dict[str, tuple[bool | None, int | None]] = dict.fromkeys(facts.node_names, (None, None))
    for span in sorted(facts.spans_with_look(), key=lambda span: span.ended_at):
        if span.node in found and span.data_checksums is not None:
            found[span.node] = (span.data_checksums, span.checksum_failures)
    return found


def _page_faults(pages: dict[str, tuple[bool | None, int | None]]) -> Iterator[Fault]:
    off = [node for node, (is_on, _) in pages.items() if is_on is False]
    unknown = [node for node, (is_on, failures) in pages.items() if is_on is None or (is_on and failures is None)]
    if off:
        yield breached(f"data checksums are off on {listed(off)}")
    for node, (is_on, failures) in pages.items():
        if is_on and failures:
            yield breached(f"{failures:,} checksum failures on {node}")
    if unknown:
        yield unchecked(f"whether checksums fail on {listed(unknown)} is unknown")


def _sealed(facts: Facts) -> list[str]:
    return [backup.name for backup in facts.backups if backup.manifest]


def _judged(name: str, facts: Facts) -> DrillFact | None:
    """Return the newest drill of a backup that looked at the backup's own checksums, or at its pages."""
    own = [
        drill
        for drill in facts.drills
        if drill.backup == name and {drill.manifest, drill.pages} & {LayerState.PASSED, LayerState.FAILED}
    ]
    return max(own, key=lambda drill: drill.started_at, default=None)


def _backup_faults(name: str, facts: Facts) -> Iterator[Fault]:
    if facts.history_problem:
        yield unchecked(facts.history_problem)
        return
    drill = _judged(name, facts)
    if drill is None:
        yield unchecked(f"no drill has verified the checksums of {name}")
    elif LayerState.FAILED in (drill.manifest, drill.pages):
        what = "manifest" if drill.manifest is LayerState.FAILED else "pages"
        told = f": {drill.problem}" if drill.problem and drill.verdict is DrillVerdict.FAILED else ""
        yield breached(f"the {what} of {name} did not verify{told}")


def _measured(pages: dict[str, tuple[bool | None, int | None]], drills: list[DrillFact]) -> str:
    on = sum(bool(is_on) for is_on, _ in pages.values())
    failed = sum(failures or 0 for _, failures in pages.values())
    verified = [drill.backup for drill in drills if LayerState.FAILED not in (drill.manifest, drill.pages)]
    told = f"checksums on {on} of {len(pages)} nodes, {failed:,} failures"
    return f"{told}; {listed(verified)} verified" if verified else told
