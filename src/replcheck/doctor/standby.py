"""What a standby does to long reads, what an audit does about it, and settings that make an audit blind. Pure."""

from collections.abc import Iterator, Mapping

from replcheck.audit.parity import compare_nodes
from replcheck.doctor.facts import NodeExam, Place
from replcheck.model.doctor import Check
from replcheck.model.node import NodeRole
from replcheck.model.outcome import Outcome
from replcheck.model.units import format_duration, format_size
from replcheck.postgres import advice
from replcheck.postgres.examination import Platform, ServerFacts
from replcheck.postgres.nodes import NodeFacts, standby_lifetime_s

_FAR_BEHIND_BYTES = 64 << 20
_SHORT_LIFE_S = 1.0
_PARAMETERS = {
    Platform.RDS: "Set it in the DB parameter group.",
    Platform.AZURE: "Set it as a server parameter.",
    Platform.CLOUD_SQL: "Set it as a database flag, where the service offers it.",
}
_SETTING_REMEDIES = {
    "setting_fsync": "A crash of that server's machine can lose or damage what it has acknowledged.",
    "setting_full_page_writes": "A crash of that server's machine can damage its pages.",
    "setting_data_checksums": "Consider pg_checksums --enable, at the next planned stop of all nodes.",
    "setting_ignore_checksum_failure": "Turn it off: damaged pages would be read as if nothing were wrong with them.",
    "setting_zero_damaged_pages": "Turn it off: damaged pages would be read as empty, and their rows called missing.",
    "checksum_failures": "Look at that server's log and disk now: an audit will not call it a copy.",
}


def standby_checks(facts: NodeFacts, server: ServerFacts, platform: Platform, place: Place) -> Iterator[Check]:
    """Say how a standby treats an audit's snapshots, and whether it can be compared with the present at all."""
    yield _conflicts(facts.settings, platform, place)
    replay = server.replay
    if replay is not None and replay.paused:
        yield place.warning(
            "replay_paused",
            "its replay is paused: an audit finds it inconclusive",
            "Find out who paused it and why, then resume it.",
            advice.RESUME_REPLAY,
        )
    delay_ms = int(facts.settings.get("recovery_min_apply_delay") or 0)
    if delay_ms > 0:
        delay = format_duration(delay_ms / 1000)
        yield place.warning(
            "apply_delay",
            f"it is delayed on purpose by {delay} (recovery_min_apply_delay): it can't be compared with the present,"
            " and an audit finds it inconclusive",
            "Leave it out of the audit, or keep it knowing that its rows are not proven.",
        )
    if server.receiving is False:
        yield place.warning(
            "not_streaming",
            "it has no WAL receiver: it does not stream, and can lag by whole WAL files",
            "Look at primary_conninfo and at that server's log.",
        )
    if facts.timeline is None and server.receiving and not facts.privileges.monitors:
        yield place.unknown("timeline", "its timeline and its WAL sender can't be seen without pg_monitor")


def lag_checks(lag_bytes: int | None, place: Place) -> Iterator[Check]:
    """Warn where a standby is so far behind that an audit would wait for it."""
    if lag_bytes is not None and lag_bytes > _FAR_BEHIND_BYTES:
        yield place.warning(
            "lag",
            f"it is {format_size(lag_bytes)} of WAL behind: an audit waits for it, and gives up after"
            " audit.replay_wait (30s)",
            "Audit it when it has caught up.",
        )


def primary_checks(facts: NodeFacts, place: Place) -> Iterator[Check]:
    """Say what an audit's snapshots on the standbys could do to commits on the primary."""
    if facts.settings.get("synchronous_commit") == "remote_apply" and facts.settings.get("synchronous_standby_names"):
        yield place.warning(
            "remote_apply",
            "commits wait until synchronous standbys have applied them (remote_apply), so whatever holds up replay"
            " there delays commits: an audit holds its snapshots for at most 1s then",
            "Turn hot_standby_feedback on there, and audit when few write.",
        )


def setting_checks(primary: NodeExam | None, exam: NodeExam, platform: Platform, place: Place) -> Iterator[Check]:
    """Tell the findings about settings and parity that an audit would report of this node.

    Without a primary to compare with, the node is looked at by itself.
    """
    assert exam.facts is not None  # noqa: S101 - only nodes that were read come here
    if primary is None or primary.facts is None or primary is exam:
        found = compare_nodes(exam.facts, [])
    else:
        found = [finding for finding in compare_nodes(primary.facts, [exam.facts]) if finding.node == exam.name]
    for finding in found:
        remedy = _SETTING_REMEDIES.get(finding.code, "")
        if not remedy and finding.outcome is Outcome.PARTIAL:
            remedy = "An audit is inconclusive as long as that is so."
        if remedy and finding.code.startswith("setting_"):
            remedy = " ".join(filter(None, (remedy, _PARAMETERS.get(platform, ""))))
        yield place.warning(finding.code, finding.what, remedy)


def lag_of(exam: NodeExam, primary: NodeExam | None) -> int | None:
    """Return how many bytes of WAL a standby is behind the primary, both read at about the same time."""
    if primary is None or primary.facts is None or exam.facts is None or exam.facts.role is NodeRole.PRIMARY:
        return None
    if primary.facts.lsn is None or exam.facts.lsn is None:
        return None
    return max(0, primary.facts.lsn - exam.facts.lsn)


def _conflicts(settings: Mapping[str, str], platform: Platform, place: Place) -> Check:
    if settings.get("hot_standby_feedback") == "on":
        return place.ok("conflicts", "hot_standby_feedback is on: replay seldom waits for reads, nor ends them")
    life = standby_lifetime_s(settings)
    delay_ms = int(settings.get("max_standby_streaming_delay") or 30_000)
    waits = f"waits at most {format_duration(delay_ms / 1000)} for a read and then ends it"
    if delay_ms <= 0:
        waits = "ends a read in its way at once" if delay_ms == 0 else "waits for a read as long as it takes"
    what = (
        f"without hot_standby_feedback, replay {waits} (max_standby_streaming_delay); an audit holds no snapshot longer"
        f" than {format_duration(life)} there, and reads again what was ended"
    )
    if life > _SHORT_LIFE_S:
        return place.ok("conflicts", what)
    remedy = "Turning hot_standby_feedback on makes the audit quicker; vacuum on the primary then waits for reads here."
    if platform in _PARAMETERS:
        return place.warning("conflicts", what, f"{remedy} {_PARAMETERS[platform]}")
    return place.warning("conflicts", what, remedy, *advice.change_setting("hot_standby_feedback", "on"))
