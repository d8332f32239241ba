"""Judges whether records are a whole chain: none changed, removed, put in, reordered or cut off. A fold, without I/O.

What is wrong is told of the first record that it can be told of, and nothing behind that is looked at. A record is
*vouched for* by a verified signature on it or on any later one, since each names the SHA-256 of the one before it, and
by an anchor: the SHA-256 of a record that somebody kept elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from replcheck.evidence.opening import Opened, Signature, Unreadable
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.model.evidence import ChainReport, EarlierRuns, RecordKind
from replcheck.model.plain import utc_text

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
    with_keys: bool
    """Whether there are keys: then every record must be vouched for."""
    anchor: str | None = None
    """SHA-256 of a record that was kept elsewhere, and so vouches for all up to it."""
    problem: str = ""
    broken_at: int | None = None
    _cluster: str = ""
    _chain_id: str = ""
    _first: int = 0
    _last: int = 0
    _before: str | None = None
    _head: str = ""
    _signed: int = 0
    _attested: int = 0
    _unsigned: int = 0
    _unverified: int = 0
    _vouched: int = 0
    _anchored: bool = False
    _key_ids: dict[str, None] = field(default_factory=dict)
    _oldest_at: str = ""
    _newest_at: str = ""
    _closing: Opened | None = None
    _earlier: EarlierRuns | None = None
    _archives: dict[int, str] = field(default_factory=dict)
    """Ends of archives that checkpoints tell of: the last sequence and its SHA-256."""

    def take(self, line: Opened | Unreadable) -> bool:
        """Take the next line; return whether nothing is wrong so far."""
        if not self.problem:
            at = self._last + 1 if self._first else None
            found = self._wrong_with(line, at)
            if found:
                self.problem = found
                self.broken_at = at or (line.sequence if isinstance(line, Opened) else 1)
            elif isinstance(line, Opened):
                self._keep(line)
        return not self.problem

    def take_part(self, part: ChainReport) -> bool:
        """Take what was found of the next lines at once; return False, and take nothing, where they need a closer look.

        That is where anything is wrong with them, with how they follow, or where a closing line is among them.
        """
        follows = not self._first or (part.chain_id, part.cluster, part.first, part.before) == (
            *(self._chain_id, self._cluster, self._last + 1),
            self._head,
        )
        if self.problem or self._closing or part.problem or part.exported_at or not part.records or not follows:
            return False
        if not self._first:
            self._first, self._before, self._oldest_at = part.first, part.before, _text(part.oldest_at)
            self._cluster, self._chain_id = part.cluster, part.chain_id
        self._last, self._head, self._newest_at = part.last, part.head, _text(part.newest_at)
        self._signed += part.signed
        self._attested += part.attested
        self._unsigned += part.unsigned
        self._unverified += part.unverified
        self._key_ids |= dict.fromkeys(part.key_ids)
        self._vouched = part.vouched or self._vouched
        self._anchored |= part.anchored
        self._earlier = part.earlier or self._earlier
        return True

    def finished(self) -> ChainReport:
        """Return what was found."""
        if not self.problem and self._first:
            self._judge_the_end()
        return ChainReport(
            cluster=self._cluster,
            chain_id=self._chain_id,
            first=self._first,
            last=self._last,
            before=self._before,
            head=self._head,
            signed=self._signed,
            attested=self._attested,
            unsigned=self._unsigned,
            unverified=self._unverified,
            key_ids=tuple(self._key_ids),
            vouched=self._vouched,
            oldest_at=moment_of(self._oldest_at),
            newest_at=moment_of(self._newest_at),
            problem=self.problem,
            broken_at=self.broken_at,
            exported_at=moment_of(self._closing.recorded_at) if self._closing else None,
            archived=self._first - 1 if self.view is View.HISTORY and self._first and not self.problem else 0,
            earlier=self._earlier,
            anchored=self._anchored,
        )

    def _wrong_with(self, line: Opened | Unreadable, at: int | None) -> str:
        """Return what is wrong with the next line, which should be record `at`; empty where nothing is."""
        name = f"record {at}" if at is not None else "the first record"
        if self._closing is not None:
            return f"something follows behind the closing line and record {self._last}"
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
        if (line.chain_id, line.cluster) != (self._chain_id, self._cluster):
            return f"{name} belongs to another chain than record {self._last}"
        if line.sequence > at:
            return f"{name} is missing: record {line.sequence} follows record {self._last}"
        if line.sequence < at:
            return f"{name} is missing: record {line.sequence} stands in its place"
        if line.previous != self._head:
            return f"record {self._last} was changed, or {name} was: it names another SHA-256 of the one before it"
        return ""

    def _wrong_with_closing(self, line: Opened) -> str:
        extent = line.held
        end = extent.get("last")
        if line.signature in {Signature.WRONG, Signature.OTHER_KEY}:
            return _wrong_with_signature("the closing line", line)
        if not self._first:
            return "the first record is missing: the closing line stands alone"
        if type(end) is int and end > self._last:
            return f"record {self._last + 1} is missing: the closing line tells of {end}"
        told = (extent.get("cluster"), extent.get("chain_id"), extent.get("first"), end, line.subject_sha256)
        if told != (self._cluster, self._chain_id, self._first, self._last, self._head):
            return f"the closing line does not fit: it tells of other records than {self._first} to {self._last}"
        return ""

    def _keep(self, line: Opened) -> None:
        if line.is_closing:
            self._closing = line
            if line.signature.holds:
                self._vouched = self._last
            return
        if not self._first:
            self._first, self._before = line.sequence, line.previous
            self._cluster, self._chain_id, self._oldest_at = line.cluster, line.chain_id, line.recorded_at
        self._last, self._head, self._newest_at = line.sequence, line.sha256, line.recorded_at
        self._signed += line.signature.holds
        self._attested += line.signature is Signature.ATTESTED
        self._unsigned += line.signature is Signature.NONE
        self._unverified += line.signature is Signature.NO_KEY
        if line.key_id:
            self._key_ids[line.key_id] = None
        if line.sha256 == self.anchor:
            self._anchored = True
        if line.signature.holds or line.sha256 == self.anchor:
            self._vouched = self._last
        self._keep_facts(line)

    def _keep_facts(self, line: Opened) -> None:
        begin, checkpoint = PREDICATE_TYPES[RecordKind.BEGIN], PREDICATE_TYPES[RecordKind.CHECKPOINT]
        if line.predicate_type in {begin, checkpoint}:
            self._earlier = _earlier(line.held) or self._earlier
        self._archives |= archive_of(line)

    def _judge_the_end(self) -> None:
        last, before, vouched = self._last, self._first - 1, self._vouched
        if self.view is View.FILE and self._closing is None:
            self._refute(f"records were cut off behind record {last}: the closing line is missing", last + 1)
        elif self.view is View.HISTORY and before and self._archives.get(before) != self._before:
            self._refute(f"record {before} is missing, and no checkpoint tells of an archive", before)
        elif self.with_keys and vouched < last:
            self._refute(f"record {vouched + 1} is not signed, and no later one vouches for it", vouched + 1)
        elif self.with_keys and self._closing is not None and not self._end_is_vouched_for(self._closing):
            self._refute(f"records could have been cut off behind record {last}: the closing line is not signed", None)

    def _end_is_vouched_for(self, closing: Opened) -> bool:
        return closing.signature.holds or self._head == self.anchor

    def _refute(self, problem: str, at: int | None) -> None:
        self.problem, self.broken_at = problem, at


def judge(
    lines: Iterable[Opened | Unreadable], view: View, *, with_keys: bool, anchor: str | None = None
) -> ChainReport:
    """Return what is found of a chain of lines; nothing behind the first that is wrong is looked at."""
    fold = ChainFold(view=view, with_keys=with_keys, anchor=anchor)
    for line in lines:
        if not fold.take(line):
            break
    return fold.finished()


def archive_of(line: Opened) -> dict[int, str]:
    """Return the last record of the archive that a checkpoint tells of, with its SHA-256; nothing for other records."""
    last, head = line.held.get("last"), line.held.get("head")
    if line.predicate_type == PREDICATE_TYPES[RecordKind.CHECKPOINT] and type(last) is int and isinstance(head, str):
        return {last: head}
    return {}


def joined(reports: Sequence[ChainReport]) -> list[ChainReport]:
    """Return the reports of files of which each has to follow the one before it."""
    found: list[ChainReport] = []
    for report in reversed(reports):
        behind = found[0] if found else None
        if behind is not None and not report.problem and not behind.problem:
            if (behind.chain_id, behind.first, behind.before) != (report.chain_id, report.last + 1, report.head):
                problem = f"record {behind.first} does not follow record {report.last} of the file before it"
                found[0] = replace(behind, problem=problem, broken_at=behind.first)
            elif behind.vouched >= behind.first:
                report = replace(report, vouched=report.last)  # noqa: PLW2901 - what vouches for later records does so
        found.insert(0, report)
    return found


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


def _earlier(held: Mapping[str, Any]) -> EarlierRuns | None:
    count, digest = held.get("earlier_runs"), held.get("earlier_runs_sha256")
    return EarlierRuns(count=count, sha256=digest) if type(count) is int and isinstance(digest, str) else None


def _text(moment: datetime | None) -> str:
    return utc_text(moment) if moment is not None else ""


def moment_of(text: str) -> datetime | None:
    """Return the time that a record names; None where it names none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
