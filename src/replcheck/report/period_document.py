"""A period as one JSON document: the contract that machines read, described by schemas/period.schema.json.

Keys are only ever added; one that changes its meaning gets another `schema`.
"""

import json

from replcheck.model.control import ControlResult, Standing
from replcheck.model.copy_times import Coverage
from replcheck.model.plain import Plain, plain_object, to_plain
from replcheck.report.checks_made import ChecksMade
from replcheck.report.drill_words import rows_were_proven
from replcheck.report.period import Gap, OtherRuns, Period, Proofs
from replcheck.report.period_facts import ControlTally, PastDrill, PeriodFacts
from replcheck.report.requirements import REQUIREMENTS, Requirement, cites_replaced_edition, requirements_of

PERIOD_SCHEMA = "replcheck/period/1"


def period_document(period: Period) -> dict[str, Plain]:
    """Return the summary as JSON has it."""
    return {
        "schema": PERIOD_SCHEMA,
        "kind": "period",
        "since": to_plain(period.since),
        "until": to_plain(period.until),
        "clusters": to_plain(period.clusters),
        "runs": period.runs,
        "outcomes": {outcome.value: count for outcome, count in period.outcomes.items()},
        "failed": period.failed,
        "limited": period.limited,
        "unended": period.unended,
        "running": period.running,
        "first_run_at": to_plain(period.first_run_at),
        "last_run_at": to_plain(period.last_run_at),
        "gaps": [_gap(gap) for gap in period.gaps],
        "replicas": [_replica(proofs) for proofs in period.replicas],
        "relations": to_plain(period.relations),
        "unread": to_plain(period.unread),
        "others": [_others(others) for others in period.others],
    }


def period_json(period: Period, facts: PeriodFacts | None = None) -> str:
    """Return the document as text, in ASCII, with a line break at its end.

    `facts` are what else is known of the period; None where it is one of several clusters.
    """
    return json.dumps(period_document(period) | cluster_document(facts), indent=2) + "\n"


def cluster_document(facts: PeriodFacts | None) -> dict[str, Plain]:
    """Return what is known of one cluster's period beside its audits; null where there are several clusters."""
    if facts is None:
        return dict.fromkeys(("record", "copies", "controls", "requirements", "drills", "events", "evidence"))
    return {
        "record": _record(facts),
        "copies": _copies(facts),
        "controls": {
            "checked_at": to_plain(facts.controls_at),
            "evidence_head": facts.evidence_head or None,
            "checks": _checks(facts.checks),
            "checks_left_out": facts.checks_left_out,
            "results": [_control(control, facts) for control in facts.controls],
            "tallies": [_tally(tally) for tally in facts.tallies],
        },
        "requirements": [_requirement(requirement) for requirement in REQUIREMENTS],
        "drills": [_drill(drill) for drill in facts.drills],
        "events": to_plain(facts.events),
        "evidence": to_plain(facts.evidence),
    }


def _gap(gap: Gap) -> dict[str, Plain]:
    plain = to_plain(gap)
    assert isinstance(plain, dict)  # noqa: S101 - a gap is a dataclass
    return plain | {"elapsed_s": gap.elapsed_s}


def _others(others: OtherRuns) -> dict[str, Plain]:
    return {
        "kind": others.kind,
        "runs": others.runs,
        "outcomes": {outcome.value: count for outcome, count in others.outcomes.items()},
        "verdicts": dict(others.verdicts),
        "unended": others.unended,
        "last_run_at": to_plain(others.last_run_at),
    }


def _replica(proofs: Proofs) -> dict[str, Plain]:
    plain = to_plain(proofs)
    assert isinstance(plain, dict)  # noqa: S101 - proofs are a dataclass
    return {key: value for key, value in plain.items() if key not in {"database", "relation"}}


def _record(facts: PeriodFacts) -> dict[str, Plain]:
    seen = facts.watched
    return {
        "cluster": facts.cluster,
        "since": to_plain(facts.since),
        "until": to_plain(facts.until),
        "samples": seen.samples,
        "longest_gap_s": seen.longest_gap_s,
        "watched_percent": seen.share,
        "unwatched_s": seen.unwatched_s,
        "gaps": [plain_object(gap) | {"elapsed_s": gap.seconds} for gap in seen.gaps],
        "damaged_rows": facts.damaged_rows,
        "unread": [{"run_id": run_id, "reason": reason} for run_id, reason in facts.unread.items()],
        "altered": list(facts.altered),
        "without_record": facts.without_record,
    }


def _copies(facts: PeriodFacts) -> dict[str, Plain]:
    asked, found = facts.asked.copies, facts.copies
    return {
        "asked": plain_object(asked) | {"from_policy": facts.asked.from_policy},
        "enough_percent": found.share,
        "enough_percent_at_best": found.share_at_best,
        "seconds": {coverage.value: found.spent(coverage) for coverage in Coverage},
    }


def _control(control: ControlResult, facts: PeriodFacts) -> dict[str, Plain]:
    outcome = control.outcome
    return plain_object(control) | {
        "outcome": outcome.value if outcome else None,
        "checked_at": to_plain(facts.checked_at(control.name)),
        "requirements": [requirement.reference for requirement in requirements_of(control.name)],
        "cites_replaced_edition": cites_replaced_edition(control.claim),
    }


def _checks(checks: ChecksMade) -> dict[str, Plain]:
    return {
        "whole": checks.whole,
        "limited": checks.limited,
        "failed": checks.failed,
        "failed_since": checks.failed_since,
        "uncounted": checks.uncounted,
        "usual_distance_s": checks.every_s,
        "age_s": checks.age_s,
        "old": checks.are_old,
    }


def _tally(tally: ControlTally) -> dict[str, Plain]:
    return {
        "name": tally.name.value,
        "standings": {standing.value: tally.standings.get(standing, 0) for standing in Standing},
        "last_not_met_at": to_plain(tally.last_not_met_at),
    }


def _requirement(requirement: Requirement) -> dict[str, Plain]:
    return plain_object(requirement)


def _drill(drill: PastDrill) -> dict[str, Plain]:
    result = drill.result
    return {
        "run_id": drill.run.run_id,
        "started_at": to_plain(drill.run.started_at),
        "finished_at": to_plain(drill.run.finished_at),
        "outcome": drill.run.outcome.value,
        "verdict": drill.verdict,
        "backup": result.backup if result else None,
        "recovery_time_s": result.recovery_time_s if result else None,
        "recovery_point_age_s": result.recovery_point_age_s if result else None,
        "rows_compared": rows_were_proven(result) if result else None,
    }
