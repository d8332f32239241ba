"""What an audit must say, and must not say, under the circumstances in which it ran. Pure.

It may never accuse a healthy relation or call a broken one consistent. Where nothing kept it from the proof, it must
have proven what is healthy and refuted what is broken; where something did, it must say what it could not do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from replcheck.errors import NodeError, NodeUnfit, ReplcheckError
from replcheck.lab.planted import PlantedFault
from tests.auditing import AWAY_CODES, BUSY_CODES, parts_of
from tests.soak.plans import HARMLESS_FAULTS, ROLE_FAULTS

LEFT_CODES = AWAY_CODES | {"primary_lost"}
"""Why a relation may stay unproven where nodes go away, the primary too, or lag."""
CONSISTENT, DIVERGED = "consistent", "diverged"
_LONGEST_S = 120.0
"""Seconds that an audit may read at most."""

Label = tuple[str, str]
"""Schema and name of a relation."""


class Seen(Enum):
    """What became of a planted fault."""

    NOTHING = "nothing planted"
    SEEN = "seen"
    REFUSED = "refused"
    """The audit would not begin with such nodes, and said so."""
    UNPROVEN = "unproven"
    """Not seen and not passed either, where something kept the audit from looking."""
    MENDED = "mended"
    """Called consistent, and found to be so by a look of our own: the fault did not last."""
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What was true while an audit ran."""

    primary: str
    replicas: frozenset[str]
    planted: PlantedFault | None = None
    fault_on_primary: bool = False
    hampered: frozenset[str] = frozenset()
    """Nodes that were disturbed, lag or are broken as a whole."""
    written: bool = False
    """Whether anybody wrote."""
    quiet: frozenset[Label] = frozenset()
    """Relations of the database postgres that nobody writes."""
    ended_early: bool = False
    """Whether the audit was interrupted, or had little time."""
    ended_by_fault: bool = False
    """Whether the audit was to end at the first divergence, of which there is one."""
    read_share: float = 1.0
    """The part of its time in which the audit's pace lets it read."""

    @property
    def broken(self) -> Label | None:
        """Return the relation whose rows were damaged, None where none was."""
        planted = self.planted
        if planted is None or planted.relation is None or planted.fault in (*HARMLESS_FAULTS, *ROLE_FAULTS):
            return None
        return parts_of(planted.relation)

    @property
    def refused(self) -> bool:
        """Return whether no audit may begin with such nodes."""
        return self.planted is not None and self.planted.fault in ROLE_FAULTS

    def accusable(self, node: str, relation: Label) -> bool:
        """Return whether a node may be accused of a difference in a relation."""
        if relation != self.broken or self.planted is None:
            return False
        return self.fault_on_primary or node == self.planted.node

    def judges_broken(self, node: str) -> bool:
        """Return whether the broken relation must differ on a replica."""
        return self.planted is not None and (self.fault_on_primary or node == self.planted.node)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was wrong with an audit, nothing in a good one, and what became of the fault."""

    problems: tuple[str, ...]
    seen: Seen


def judge(document: Mapping[str, Any], circumstances: Circumstances, *, seconds: float = 0.0) -> Judgement:
    """Judge an audit by its JSON document."""
    problems = _false_alarms(document, circumstances)
    if not circumstances.ended_early and not circumstances.ended_by_fault:
        problems += _not_excused(document, circumstances) + _not_thorough(document, circumstances)
    if circumstances.refused and not circumstances.ended_early:
        problems.append("an audit of two primaries was not refused")
    if seconds * circumstances.read_share > _LONGEST_S:
        problems.append(f"the audit took {seconds:.0f} s")
    seen, complaint = _fault(document, circumstances)
    return Judgement((*problems, *complaint), seen)


def judge_refusal(error: ReplcheckError, circumstances: Circumstances) -> Judgement:
    """Judge an audit that did not begin."""
    if circumstances.refused and isinstance(error, NodeUnfit):
        return Judgement((), Seen.REFUSED)
    excused = circumstances.ended_early or (circumstances.hampered and isinstance(error, NodeError))
    problems = () if excused else (f"the audit did not begin: {type(error).__name__}: {error.message}",)
    return Judgement(problems, Seen.UNPROVEN if circumstances.planted else Seen.NOTHING)


def verdicts(document: Mapping[str, Any]) -> Iterator[tuple[str, Label, str, str]]:
    """Yield database, relation, replica and verdict of everything that was compared."""
    for relation in document["relations"]:
        for replica in relation["replicas"]:
            yield relation["database"], (relation["schema"], relation["table"]), replica["node"], replica["verdict"]


def _false_alarms(document: Mapping[str, Any], circumstances: Circumstances) -> list[str]:
    problems = [
        f"a healthy relation is accused: {found['relation']} on {found['node']} in {found['database']},"
        f" {found['count']} {found['kind']} {found['what']} {found['ctid_ranges'][:3]}"
        for found in document["divergences"]
        if not circumstances.accusable(found["node"], parts_of(found["relation"]))
    ]
    problems += [
        f"a healthy relation is called diverged: {label} on {node} in {database}"
        for database, label, node, verdict in verdicts(document)
        if verdict == DIVERGED and not (label == circumstances.broken and circumstances.judges_broken(node))
    ]
    damaged = circumstances.planted is not None
    problems += [
        f"a finding refutes: {finding['code']} of {finding['node']}: {finding['what']}"
        for finding in document["findings"]
        if finding["outcome"] == "refuted" and not (finding["code"] == "checksum_failures" and damaged)
    ]
    if document["verdict"] == DIVERGED and circumstances.planted is None:
        problems.append("the verdict is diverged, and nothing was broken")
    if document["odd_node"] is not None and (
        circumstances.planted is None or document["odd_node"] != circumstances.planted.node
    ):
        problems.append(f"node {document['odd_node']} is said to stand alone")
    return problems


def _not_excused(document: Mapping[str, Any], circumstances: Circumstances) -> list[str]:
    excuses: frozenset[str] = frozenset()
    if circumstances.written:
        excuses |= BUSY_CODES
    if circumstances.hampered:
        excuses |= BUSY_CODES | LEFT_CODES
    return [
        f"not checked without an excuse: {note['relation']} on {note['node']}: {note['code']}: {note['reason']}"
        for note in document["not_checked"]
        if not note["by_design"] and note["code"] not in excuses
    ]


def _not_thorough(document: Mapping[str, Any], circumstances: Circumstances) -> list[str]:
    """Return what nothing kept the audit from proving, and is not proven."""
    if circumstances.primary in circumstances.hampered:
        return []
    short: dict[tuple[str, str], list[str]] = {}
    for database, label, node, verdict in verdicts(document):
        quiet = not circumstances.written or (database == "postgres" and label in circumstances.quiet)
        broken = label == circumstances.broken and circumstances.judges_broken(node)
        if quiet and node not in circumstances.hampered and not broken and verdict != CONSISTENT:
            short.setdefault((node, verdict), []).append(f"{database}.{'.'.join(label)}")
    problems = [
        f"quiet and healthy, and {verdict} on {node}: {', '.join(names[:4])}, {len(names)} in all: {_notes(document)}"
        for (node, verdict), names in short.items()
    ]
    compared = {label for database, label, _, _ in verdicts(document) if database == "postgres"}
    if circumstances.replicas - circumstances.hampered:
        problems += [f"{label} was not compared" for label in sorted(circumstances.quiet - compared)[:4]]
    return problems


def _fault(document: Mapping[str, Any], circumstances: Circumstances) -> tuple[Seen, list[str]]:
    if circumstances.planted is None or circumstances.broken is None:
        return Seen.NOTHING, []
    expected = [node for node in circumstances.replicas if circumstances.judges_broken(node)]
    found = {
        node: verdict
        for database, label, node, verdict in verdicts(document)
        if (database, label) == (circumstances.planted.database, circumstances.broken)
    }
    missed = [node for node in expected if found.get(node) == CONSISTENT]
    if missed:
        return Seen.MISSED, [f"{circumstances.planted.fault} in {circumstances.broken} was missed on {missed}"]
    if any(found.get(node) == DIVERGED for node in expected):
        return Seen.SEEN, _without_divergence(document, circumstances)
    kept = circumstances.ended_early or circumstances.primary in circumstances.hampered
    free = [node for node in expected if node not in circumstances.hampered]
    if kept or not free:
        return Seen.UNPROVEN, []
    what = f"{circumstances.planted.fault} in {circumstances.broken} was not proven: {found}, {_notes(document)}"
    return Seen.UNPROVEN, [what]


def _without_divergence(document: Mapping[str, Any], circumstances: Circumstances) -> list[str]:
    told = {parts_of(found["relation"]) for found in document["divergences"]}
    problems = [] if circumstances.broken in told else [f"{circumstances.broken} diverged without a divergence"]
    if document["verdict"] != DIVERGED:
        problems.append(f"a relation diverged, and the verdict is {document['verdict']}")
    return problems


def _notes(document: Mapping[str, Any]) -> list[str]:
    return [
        f"{note['relation']} on {note['node']}: {note['code']}"
        for note in document["not_checked"]
        if not note["by_design"]
    ][:5]
