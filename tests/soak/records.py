"""What is kept of every audit, how it is told, and the summary of all. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.judging import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One audit of a soak."""

    name: str
    """History and number, as `--replay` takes it."""
    began_at: str
    seconds: float
    """Of the audit alone."""
    total_s: float
    """With what was prepared and brought back for it."""
    shape: str
    loads: tuple[str, ...]
    fault: str
    """Name, node and relation; empty where nothing was broken."""
    fault_name: str
    new_fault: bool
    """Whether the fault was planted for this audit, not for an earlier one."""
    seen: Seen
    disturbances: tuple[str, ...]
    client: str
    options: dict[str, Any]
    verdict: str
    """The audit's, or `refused`, `interrupted`, `killed`."""
    rows: int
    relations: int
    alignments: int
    not_checked: dict[str, int]
    """Notes by code, without those by design."""
    problems: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {"seen": self.seen.value, "options": {k: _plain(v) for k, v in self.options.items()}}

    def line(self) -> str:
        """Return it in one line for people."""
        words = []
        if self.fault:
            words.append(f"{self.fault} {self.seen.value if self.seen is not Seen.NOTHING else ''}".rstrip())
        words += self.disturbances
        words += ["+".join(self.loads) + " load" if self.loads else "no load"]
        words += [] if self.client == "library" else [self.client]
        sign = "PROBLEM " if self.problems else ""
        return f"{self.name:<10} {self.seconds:6.1f} s  {sign}{self.verdict:<12}  {'; '.join(words)}"


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


@dataclass(slots=True)
class Summary:
    """All audits of a soak, folded."""

    audits: int = 0
    seconds: float = 0.0
    histories: set[str] = field(default_factory=set)
    verdicts: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    disturbed: int = 0
    loaded: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Planted, by name."""
    seen: Counter[Seen] = field(default_factory=Counter)
    """Audits with a fault, by what became of it."""
    rows: int = 0
    relations: int = 0
    alignments: int = 0
    problems: list[str] = field(default_factory=list)
    """With the name of the audit before each."""

    def add(self, record: AuditRecord) -> None:
        """Take one audit in."""
        self.audits += 1
        self.seconds += record.seconds
        self.histories.add(record.name.partition("/")[0])
        self.verdicts[record.verdict] += 1
        self.clients[record.client] += 1
        self.disturbances.update(entry.rpartition(" ")[0] for entry in record.disturbances)
        self.disturbed += bool(record.disturbances)
        self.loaded += bool(record.loads)
        if record.new_fault:
            self.faults[record.fault_name] += 1
        if record.fault:
            self.seen[record.seen] += 1
        self.rows += record.rows
        self.relations += record.relations
        self.alignments += record.alignments
        self.problems += [f"{record.name}: {problem}" for problem in record.problems]

    def fail(self, name: str, what: str) -> None:
        """Take in what went wrong beside an audit."""
        self.problems.append(f"{name}: {what}")

    @property
    def false_divergences(self) -> int:
        """Return how many healthy relations were accused."""
        return sum("healthy relation is" in problem or "finding refutes" in problem for problem in self.problems)

    def lines(self, *, seconds: float, machine: Sequence[str]) -> list[str]:
        """Return the summary for people."""
        each = self.seconds / max(self.audits, 1)
        became = ", ".join(f"{seen.value} {self.seen[seen]:,}" for seen in Seen if self.seen[seen])
        histories, faulty = len(self.histories), self.seen.total()
        told = {
            "audits": f"{self.audits:,} of {histories:,} histories in {_duration(seconds)}, {each:.1f} s each",
            "circumstances": f"{self.loaded:,} under a load, {self.disturbed:,} disturbed, {faulty:,} of faults",
            "compared": f"{self.rows:,} rows, {self.relations:,} relations, {self.alignments:,} alignments",
            "verdicts": _counted(self.verdicts),
            "clients": _counted(self.clients),
            "faults": f"{self.faults.total():,} planted: {_counted(self.faults)}",
            "audits of them": became or "none",
            "disturbances": f"{self.disturbances.total():,}: {_counted(self.disturbances)}",
            "false alarms": f"{self.false_divergences}",
            "problems": f"{len(self.problems)}",
        }
        lines = [f"{label:<16}{what}" for label, what in told.items()]
        return [*lines, *(f"  {problem}" for problem in self.problems), *machine]

    def document(self, *, seconds: float, machine: dict[str, Any]) -> dict[str, Any]:
        """Return the summary as JSON has it."""
        return {
            "audits": self.audits,
            "histories": len(self.histories),
            "seconds": round(seconds, 1),
            "verdicts": dict(self.verdicts),
            "clients": dict(self.clients),
            "faults": dict(self.faults),
            "seen": {seen.value: count for seen, count in self.seen.items()},
            "disturbances": dict(self.disturbances),
            "rows": self.rows,
            "relations": self.relations,
            "alignments": self.alignments,
            "false_divergences": self.false_divergences,
            "problems": self.problems,
            "machine": machine,
        }


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
