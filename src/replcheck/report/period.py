"""What the audits of a period proved together, and how other runs ended: a fold over runs, oldest first, one at a time.

A proof counts from the beginning of its run, or from the oldest proof of an earlier run that it was built upon. Runs
without a report count by their outcome alone, and reports that cannot be read are named.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from replcheck.model.audit import AuditResult
from replcheck.model.names import qualified
from replcheck.model.outcome import Outcome, Verdict
from replcheck.model.run import RunRecord, RunStart
from replcheck.report.history import PastRun, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """How often one replica, or one relation on it, was given which verdict."""

    cluster: str
    node: str
    database: str | None
    """None where the whole replica is meant."""
    relation: str | None
    """Schema-qualified and quoted as SQL wants it."""
    consistent: int
    inconclusive: int
    diverged: int
    unchecked: int
    first_proven_at: datetime | None
    """When the first run began that found it consistent; of a replica, a run that left nothing out."""
    last_proven_at: datetime | None
    last_verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which no audit of everything began that found a cluster consistent."""

    cluster: str
    since: datetime
    until: datetime

    @property
    def elapsed_s(self) -> float:
        """Return how long it was, in seconds."""
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadReport:
    """A run whose report or record cannot be read, and so is missing from the counts of replicas and relations."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRuns:
    """The runs of another kind than audits, such as drills and seals, by how they ended."""

    kind: str
    outcomes: dict[Outcome, int]
    """Runs that ended, by outcome."""
    verdicts: dict[str, int]
    """The same by their own words, the best first."""
    unended: int
    """Runs that have no end: killed, or still at work."""
    last_run_at: datetime
    """When the last of them began."""

    @property
    def runs(self) -> int:
        """Return how many there are."""
        return sum(self.outcomes.values()) + self.unended


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The audits that began in a period, and how many other runs did."""

    since: datetime | None
    """None where it begins with the first run of the history."""
    until: datetime
    clusters: tuple[str, ...]
    outcomes: dict[Outcome, int]
    """Runs that ended, by outcome."""
    failed: int
    """Of these, runs that ended without a report."""
    limited: int
    """Of the proven ones, those that left something out at the user's wish."""
    unended: int
    """Runs that were killed."""
    running: int
    """Runs that have no end yet."""
    first_run_at: datetime | None
    last_run_at: datetime | None
    gaps: tuple[Gap, ...]
    """Times between whole proofs, longest first within a cluster; from `since` on and up to `until`."""
    replicas: tuple[Proofs, ...]
    relations: tuple[Proofs, ...]
    unread: tuple[UnreadReport, ...]
    others: tuple[OtherRuns, ...] = ()

    @property
    def runs(self) -> int:
        """Return how many audits began in the period, as far as their records can be read."""
        return sum(self.outcomes.values()) + self.unended + self.running


@dataclass(slots=True)
class _Count:
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    first_proven_at: datetime | None = None
    last_proven_at: datetime | None = None
    last_verdict: Verdict = Verdict.UNCHECKED

    def add(self, verdict: Verdict, at: datetime, *, whole: bool = True) -> None:
        self.verdicts[verdict] += 1
        self.last_verdict = verdict
        if verdict is Verdict.CONSISTENT and whole:
            self.first_proven_at = min(self.first_proven_at or at, at)
            self.last_proven_at = max(self.last_proven_at or at, at)


@dataclass(slots=True)
class _Others:
    ended: Counter[tuple[Outcome, str]] = field(default_factory=Counter)
    unended: int = 0
    last_run_at: datetime | None = None

    def add(self, run: RunStart) -> None:
        self.last_run_at = max(self.last_run_at or run.started_at, run.started_at)
        if isinstance(run, RunRecord):
            self.ended[run.outcome, run.verdict] += 1
        else:
            self.unended += 1

    def counted(self, kind: str) -> OtherRuns:
        assert self.last_run_at is not None  # noqa: S101 - a kind is there because a run of it was added
        order = list(Outcome)
        in_order = sorted(self.ended.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        return OtherRuns(
            kind=kind,
            outcomes={outcome: sum(n for (each, _), n in in_order if each is outcome) for outcome in Outcome},
            verdicts={verdict: n for (_, verdict), n in in_order},
            unended=self.unended,
            last_run_at=self.last_run_at,
        )


_Key = tuple[str, str, str | None, str | None]


class PeriodTally:
    """Adds up runs in the order in which they began."""

    def __init__(self, *, since: datetime | None, until: datetime) -> None:
        self._since = since
        self._until = until
        self._outcomes: Counter[Outcome] = Counter()
        self._failed = self._limited = self._unended = self._running = 0
        self._began: list[datetime] = []
        self._audited: set[str] = set()
        self._first_of: dict[str, datetime] = {}
        self._whole_proofs: defaultdict[str, list[datetime]] = defaultdict(list)
        self._counts: defaultdict[_Key, _Count] = defaultdict(_Count)
        self._unread: list[UnreadReport] = []
        self._others: defaultdict[str, _Others] = defaultdict(_Others)

    def add(self, run: RunRecord, report: AuditResult | str | None) -> None:
        """Add a run that ended; `report` is None where it has none, and a text where it cannot be read."""
        self._began_one(run.cluster, run.started_at)
        self._outcomes[run.outcome] += 1
        if report is None:
            self._failed += 1
        elif isinstance(report, str):
            self._unread.append(UnreadReport(run_id=run.run_id, reason=report))
        else:
            self._add_report(run, report)

    def add_unended(self, past: PastRun) -> None:
        """Add a run that had no end when the history was read."""
        self._began_one(past.run.cluster, past.run.started_at)
        if past.state is RunState.LOST:
            self._unended += 1
        else:
            self._running += 1

    def add_other(self, run: RunStart) -> None:
        """Add a run of another kind, be it without an end."""
        self._first_of.setdefault(run.cluster, run.started_at)
        self._others[run.kind].add(run)

    def finished(self, *, damaged: tuple[str, ...]) -> Period:
        """Return the sum; `damaged` are ids of runs whose records cannot be read."""
        unread = [UnreadReport(run_id=run_id, reason="its record is damaged") for run_id in damaged]
        proofs = [_proofs(key, count) for key, count in sorted(self._counts.items(), key=_order)]
        return Period(
            since=self._since,
            until=self._until,
            clusters=tuple(sorted(self._first_of)),
            others=tuple(others.counted(kind) for kind, others in sorted(self._others.items())),
            outcomes={outcome: self._outcomes[outcome] for outcome in Outcome},
            failed=self._failed,
            limited=self._limited,
            unended=self._unended,
            running=self._running,
            first_run_at=min(self._began, default=None),
            last_run_at=max(self._began, default=None),
            gaps=tuple(gap for cluster in sorted(self._audited) for gap in self._gaps(cluster)),
            replicas=tuple(proof for proof in proofs if proof.relation is None),
            relations=tuple(proof for proof in proofs if proof.relation is not None),
            unread=(*self._unread, *unread),
        )

    def _began_one(self, cluster: str, at: datetime) -> None:
        self._audited.add(cluster)
        self._began.append(at)
        self._first_of.setdefault(cluster, at)

    def _add_report(self, run: RunRecord, report: AuditResult) -> None:
        at = min([run.started_at, *(relation.proven_since or run.started_at for relation in report.relations)])
        if run.outcome is Outcome.PROVEN and report.scope.whole:
            self._whole_proofs[run.cluster].append(at)
        elif run.outcome is Outcome.PROVEN:
            self._limited += 1
        for replica in report.replicas:
            self._counts[run.cluster, replica.node.name, None, None].add(replica.verdict, at, whole=report.scope.whole)
        for relation in report.relations:
            name, since = qualified(relation.schema, relation.name), relation.proven_since or run.started_at
            for on in relation.replicas:
                self._counts[run.cluster, on.node, relation.database, name].add(on.verdict, since)

    def _gaps(self, cluster: str) -> Iterator[Gap]:
        begin = self._since or self._first_of[cluster]
        # A run that went on where another had ended may rest on proofs from before the period.
        marks = [begin, *sorted(max(begin, at) for at in self._whole_proofs[cluster]), self._until]
        pairs = pairwise(marks)
        gaps = [Gap(cluster=cluster, since=since, until=until) for since, until in pairs if until > since]
        yield from sorted(gaps, key=lambda gap: (-gap.elapsed_s, gap.since))


def _order(item: tuple[_Key, _Count]) -> tuple[str, ...]:
    cluster, node, database, relation = item[0]
    return (cluster, database or "", relation or "", node)


def _proofs(key: _Key, count: _Count) -> Proofs:
    cluster, node, database, relation = key
    return Proofs(
        cluster=cluster,
        node=node,
        database=database,
        relation=relation,
        consistent=count.verdicts[Verdict.CONSISTENT],
        inconclusive=count.verdicts[Verdict.INCONCLUSIVE],
        diverged=count.verdicts[Verdict.DIVERGED],
        unchecked=count.verdicts[Verdict.UNCHECKED],
        first_proven_at=count.first_proven_at,
        last_proven_at=count.last_proven_at,
        last_verdict=count.last_verdict,
    )
