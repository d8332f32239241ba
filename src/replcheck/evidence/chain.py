"""Judges whether records are a whole chain: none changed, removed, put in, reordered or cut off. A fold, without I/O.

What is wrong is told of the first record that it can be told of, and nothing behind that is looked at. A verified
signature on a record *fixes* all before it, since each names the SHA-256 of the one before it: they were not changed
since. It does not say who made them. So a record without a signature of its own is never proven, unless an anchor (the
SHA-256 of a record that somebody kept elsewhere) or the signed checkpoint of an archive covers it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from replcheck.evidence.opening import Opened, Signature, Unreadable
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.evidence.tally import Tally, belied
from replcheck.evidence.unsigned import beyond
from replcheck.model.evidence import ChainReport, RecordKind

_SHORT = 12


class View(Enum):
    """Where the lines come from, and so what has to be at their ends."""

    FILE = "file"
    """An exported file: it begins anywhere, and ends with its closing line."""
    HISTORY = "history"
    """A whole chain: it begins with its first record, or behind an archive that a checkpoint tells of."""
    PART = "part"
    """Records that follow each other."""


@dataclass(slots=True, kw_only=True)
class ChainFold:
    """Takes the lines of a chain in their order."""

    view: View
    anchor: str | None = None
    """SHA-256 of a record that was kept elsewhere, and so vouches for all up to it."""
    problem: str = ""
    broken_at: int | None = None
    seen: Tally = field(default_factory=Tally)
    closing: Opened | None = None
    """The line that closes a file; None where it was not met yet."""

    def take(self, line: Opened | Unreadable) -> bool:
        """Take the next line; return whether nothing is wrong so far."""
        if not self.problem:
            at = self.seen.last + 1 if self.seen.first else None
            found = self._wrong_with(line, at)
            if found:
                self.problem = found
                self.broken_at = at or (line.sequence if isinstance(line, Opened) else 1)
            elif isinstance(line, Opened):
                self._keep(line)
        return not self.problem

    def take_part(self, part: "ChainFold") -> bool:
        """Take what was found of the next lines at once; return False, and take nothing, where they need a closer look.

        That is where anything is wrong with them, with how they follow, or where a closing line is among them.
        """
        if self.problem or self.closing or part.problem or part.closing or not self.seen.is_followed_by(part.seen):
            return False
        self.seen.take(part.seen)
        return True

    def finished(self) -> ChainReport:
        """Return what was found."""
        if not self.problem and self.seen.first:
            self._judge_the_end()
        return ChainReport(
            cluster=self.seen.cluster,
            chain_id=self.seen.chain_id,
            first=self.seen.first,
            last=self.seen.last,
            before=self.seen.before,
            head=self.seen.head,
            signed=self.seen.signed,
            attested=self.seen.attested,
            unsigned=self.seen.unsigned,
            unverified=self.seen.unverified,
            key_ids=tuple(self.seen.key_ids),
            vouched=self.seen.vouched,
            unsigned_at=self.seen.unsigned_at,
            first_signed=self.seen.first_signed,
            covered=self.seen.covered,
            head_signed=self.seen.head_signed,
            oldest_at=moment_of(self.seen.oldest_at),
            newest_at=moment_of(self.seen.newest_at),
            problem=self.problem,
            broken_at=self.broken_at,
            exported_at=moment_of(self.closing.recorded_at) if self.closing else None,
            archived=self.seen.first - 1 if self.view is View.HISTORY and self.seen.first and not self.problem else 0,
            earlier=self.seen.earlier,
            anchored_at=self.seen.anchored_at,
            closed=self.closing is not None and self.closing.signature.holds,
        )

    def _wrong_with(self, line: Opened | Unreadable, at: int | None) -> str:
        """Return what is wrong with the next line, which should be record `at`; empty where nothing is."""
        name = f"record {at}" if at is not None else "the first record"
        if self.closing is not None:
            return f"something follows behind the closing line and record {self.seen.last}"
        if isinstance(line, Unreadable):
            return f"{name} cannot be read: {line.reason}"
        if line.is_closing:
            return self._wrong_with_closing(line)
        name = f"record {at or line.sequence}"
        return _wrong_with_signature(name, line) or self._wrong_with_place(name, line, at)

    def _wrong_with_place(self, name: str, line: Opened, at: int | None) -> str:
        if at is None:
            begins = line.predicate_type == PREDICATE_TYPES[RecordKind.BEGIN]
            if line.sequence < 1 or (line.sequence == 1) != (line.previous is None) or (line.sequence == 1) != begins:
                return f"{name} is no beginning of a chain, and follows no record"
            return ""
        if (line.chain_id, line.cluster) != (self.seen.chain_id, self.seen.cluster):
            return f"{name} belongs to another chain than record {self.seen.last}"
        if line.sequence > at:
            return f"{name} is missing: record {line.sequence} follows record {self.seen.last}"
        if line.sequence < at:
            return f"{name} is missing: record {line.sequence} stands in its place"
        if line.previous != self.seen.head:
            return f"record {self.seen.last} was changed, or {name} was: it names another SHA-256 of the one before it"
        told = belied(line.told_before, signed=self.seen.bears_signature)
        return f"{name} belies record {self.seen.last}: {told}" if told else ""

    def _wrong_with_closing(self, line: Opened) -> str:
        extent = line.held
        end = extent.get("last")
        if line.signature in {Signature.WRONG, Signature.OTHER_KEY}:
            return _wrong_with_signature("the closing line", line)
        if not self.seen.first:
            return "the first record is missing: the closing line stands alone"
        if type(end) is int and end > self.seen.last:
            return f"record {self.seen.last + 1} is missing: the closing line tells of {end}"
        told = (extent.get("cluster"), extent.get("chain_id"), extent.get("first"), end, line.subject_sha256)
        if told != (self.seen.cluster, self.seen.chain_id, self.seen.first, self.seen.last, self.seen.head):
            return (
                f"the closing line does not fit: it tells of other records than {self.seen.first} to {self.seen.last}"
            )
        return ""

    def _keep(self, line: Opened) -> None:
        if not line.is_closing:
            self.seen.keep(line, self.anchor)
            return
        self.closing = line
        if line.signature.holds:
            self.seen.vouched = self.seen.last

    def _judge_the_end(self) -> None:
        last, before = self.seen.last, self.seen.first - 1
        if self.view is View.FILE and self.closing is None:
            self._refute(f"records were cut off behind record {last}: the closing line is missing", last + 1)
        elif self.view is View.HISTORY and before and self.seen.archives.get(before) != self.seen.before:
            self._refute(f"record {before} is missing, and no checkpoint tells of an archive", before)
        elif self.seen.signed and self.closing is not None and not self._end_is_vouched_for(self.closing):
            self._refute(f"records could have been cut off behind record {last}: the closing line is not signed", None)

    def _end_is_vouched_for(self, closing: Opened) -> bool:
        return closing.signature.holds or self.seen.head == self.anchor

    def _refute(self, problem: str, at: int | None) -> None:
        self.problem, self.broken_at = problem, at


def judge(lines: Iterable[Opened | Unreadable], view: View, *, anchor: str | None = None) -> ChainReport:
    """Return what is found of a chain of lines; nothing behind the first that is wrong is looked at."""
    return folded(lines, view, anchor=anchor).finished()


def folded(lines: Iterable[Opened | Unreadable], view: View, *, anchor: str | None = None) -> ChainFold:
    """Return the fold that has taken lines, up to the first that is wrong."""
    fold = ChainFold(view=view, anchor=anchor)
    for line in lines:
        if not fold.take(line):
            break
    return fold


def joined(reports: Sequence[ChainReport]) -> list[ChainReport]:
    """Return the reports of files of which each has to follow the one before it."""
    found: list[ChainReport] = []
    for report in reversed(reports):
        behind = found[0] if found else None
        if behind is not None and not report.problem and not behind.problem:
            if (behind.chain_id, behind.first, behind.before) != (report.chain_id, report.last + 1, report.head):
                problem = f"record {behind.first} does not follow record {report.last} of the file before it"
                found[0] = replace(behind, problem=problem, broken_at=behind.first)
            else:
                report = _before(report, behind)  # noqa: PLW2901 - what vouches for later records does so for these
        found.insert(0, report)
    return found


def _before(report: ChainReport, behind: ChainReport) -> ChainReport:
    """Return what is found of a file once what follows it is known."""
    covered = max(report.covered, behind.covered)
    return replace(
        report,
        vouched=report.last if behind.vouched >= behind.first else report.vouched,
        covered=covered,
        unsigned_at=beyond(report.unsigned_at, covered),
    )


def without_anchor(reports: Sequence[ChainReport]) -> list[ChainReport]:
    """Return the reports, the last of them refuted where the anchor is in none and nothing else is wrong."""
    found = list(reports)
    if found and not any(report.anchored or report.problem for report in found):
        problem = f"no record up to {found[-1].last} has the SHA-256 of --head: records were changed or cut off"
        found[-1] = replace(found[-1], problem=problem)
    return found


def _wrong_with_signature(name: str, line: Opened) -> str:
    if line.signature is Signature.WRONG:
        return f"{name} was changed: its signature is not that of its content"
    if line.signature is Signature.OTHER_KEY:
        return f"{name} is signed by key {line.key_id[:_SHORT]}, and not by one that it is verified with"
    return ""


def moment_of(text: str) -> datetime | None:
    """Return the time that a record names; None where it names none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
