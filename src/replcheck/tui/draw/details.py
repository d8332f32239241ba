"""All that is known of one node, claim or event, as lines of a window."""

from collections.abc import Iterable

from textual.content import Content

from replcheck.model.control import Standing
from replcheck.model.copies import CopyStanding
from replcheck.model.live import ClusterEvent, NodeView
from replcheck.model.names import printable
from replcheck.model.outcome import Outcome
from replcheck.model.run import short_id
from replcheck.model.units import format_duration, format_size
from replcheck.tui.draw.claims import claims_now
from replcheck.tui.draw.overview import state_mark
from replcheck.tui.draw.table import Cell, styled
from replcheck.tui.look import (
    COLOUR,
    GOOD,
    QUIET,
    SEVERITY_COLOUR,
    SEVERITY_SIGN,
    VALUE,
    Look,
    age,
    standing_mark,
)
from replcheck.tui.state import Model

_Pair = tuple[str, Cell | None]
_NAME_WIDTH = 20


def node_details(model: Model, name: str, look: Look) -> list[Content]:
    """Return all that is known of a node."""
    node = model.node(name)
    if node is None:
        return [Content("This node is no longer part of the cluster.")]
    sign, colour = state_mark(model, node, look)
    return [
        *_pairs(
            [
                ("state", (f"{sign} {node.state.value}", colour)),
                ("since", look.full(node.since)),
                ("why", node.reason),
                ("last answer", look.full(node.answered_at) if node.answered_at else "never"),
                ("took", format_duration(node.elapsed_s) if node.elapsed_s is not None else None),
                ("known from", "the configuration" if node.configured else "the primary's own senders"),
                ("zone", node.zone),
                ("host", node.host),
            ]
        ),
        Content(""),
        *_pairs(_server(node, look)),
        Content(""),
        *_pairs(_replication(node)),
        *_slots(node),
        *_archiver(node, look),
        Content(""),
        *_standing((model.standings or {}).get(node.node), look, watched=not model.stale(look.now)),
    ]


def _server(node: NodeView, look: Look) -> list[_Pair]:
    return [
        ("PostgreSQL", _version(node.server_version_num)),
        ("started", look.full(node.started_at) if node.started_at else None),
        ("system identifier", node.system_identifier),
        ("timeline", str(node.timeline) if node.timeline is not None else None),
        ("data checksums", None if node.data_checksums is None else "on" if node.data_checksums else "off"),
        ("checksum failures", _count(node.checksum_failures)),
    ]


def _replication(node: NodeView) -> list[_Pair]:
    return [
        ("WAL position", str(node.lsn) if node.lsn is not None else None),
        ("received", str(node.received_lsn) if node.received_lsn is not None else None),
        ("lag", format_size(node.lag_bytes) if node.lag_bytes is not None else None),
        ("behind", format_duration(node.lag_s) if node.lag_s is not None else None),
        ("streams from", node.upstream),
        ("synchronous", node.sync_state),
        ("replay", "paused" if node.replay_paused else None),
        ("delayed on purpose", format_duration(node.apply_delay_s) if node.apply_delay_s else None),
        ("cancelled queries", _count(node.conflicts)),
    ]


def _slots(node: NodeView) -> list[Content]:
    if not node.slots:
        return []
    lines = [Content(""), Content.styled("slots", VALUE)]
    for slot in node.slots:
        kept = f"keeps {format_size(slot.retained_bytes)}" if slot.retained_bytes is not None else "keeps no WAL"
        state = "active" if slot.active else "inactive"
        kind = "logical" if slot.logical else "physical"
        told = ", ".join(part for part in (kind, state, kept, slot.wal_status) if part)
        lines.append(Content(printable(f"  {slot.name}: {told}")))
    return lines


def _archiver(node: NodeView, look: Look) -> list[Content]:
    archiver = node.archiver
    if archiver is None:
        return []
    last = f"{archiver.last_archived}, {look.ago(archiver.last_archived_at)}" if archiver.last_archived_at else None
    failed = f"{archiver.last_failed}, {look.ago(archiver.last_failed_at)}" if archiver.last_failed_at else None
    return [
        Content(""),
        *_pairs(
            [
                ("archiving", archiver.mode),
                ("files archived", f"{archiver.archived:,}"),
                ("the last", last),
                ("attempts failed", f"{archiver.failed:,}"),
                ("the last failed", failed),
            ]
        ),
    ]


def _standing(standing: CopyStanding | None, look: Look, *, watched: bool) -> list[Content]:
    if standing is None:
        return [Content.styled("whether it is a proven copy is not known", QUIET)]
    proof = standing.proof
    counts = ("yes", GOOD) if standing.proven else (f"no: {standing.reason}", COLOUR[None])
    pairs: list[_Pair] = [("proven copy", counts if watched else ("? not watched", COLOUR[Outcome.UNCHECKED]))]
    if proof is not None:
        pairs += [
            ("last whole audit", f"{proof.verdict.value}, level {proof.level}, run {short_id(proof.run_id)}"),
            ("as of", f"{look.full(proof.proven_at)}, {look.ago(proof.proven_at)}"),
            ("against", proof.primary if proof.node == standing.node else f"{proof.node}, which agrees with it"),
        ]
    return _pairs(pairs)


def claim_details(model: Model, look: Look, name: str | None = None) -> list[Content]:
    """Return all that is known of a claim, or of all."""
    claims = [claim for claim in claims_now(model, look) if name in {None, claim.name}]
    if not claims and model.claims is None:
        return [Content(printable(f"Whether they hold is not known. {model.claims_problem}".strip()))]
    if not claims:
        return [Content("The policy asks for nothing: see [policy] of the configuration.")]
    lines: list[Content] = []
    for claim in claims:
        window = standing_mark(claim.window) if claim.window is not Standing.NOT_ASKED else None
        lines += [Content(""), Content.styled(printable(claim.name), VALUE), Content(printable(claim.sentence))]
        pairs: list[_Pair] = [
            ("now", standing_mark(claim.now)),
            ("over the window", window),
            ("found", claim.measured),
            *(("problem", problem) for problem in claim.problems),
            ("rests on facts of", look.full(claim.as_of) if claim.as_of else None),
        ]
        lines += _pairs(pairs)
    return lines[1:]


def event_details(event: ClusterEvent, look: Look) -> list[Content]:
    """Return all that is known of an event."""
    return [
        Content.styled(printable(event.what), VALUE),
        Content(""),
        *_pairs(
            [
                ("seen", f"{look.full(event.at)}, {look.ago(event.at)}"),
                (
                    "severity",
                    (f"{SEVERITY_SIGN[event.severity]} {event.severity.value}", SEVERITY_COLOUR[event.severity]),
                ),
                ("node", event.node),
                ("began", look.full(event.began_at) if event.began_at else None),
                ("lasted", age(event.seconds) if event.seconds is not None else None),
                ("lag", format_size(event.size_bytes) if event.size_bytes is not None else None),
                ("timeline", str(event.timeline) if event.timeline is not None else None),
                ("WAL position", str(event.lsn) if event.lsn is not None else None),
                ("about", event.detail),
            ]
        ),
    ]


def _pairs(pairs: Iterable[_Pair]) -> list[Content]:
    """Return names and values, without those of which nothing is known."""
    known = [(name, value) for name, value in pairs if value is not None and value != ""]
    return [Content.assemble((name.ljust(_NAME_WIDTH), QUIET), styled(value)) for name, value in known]


def _count(number: int | None) -> str | None:
    return f"{number:,}" if number is not None else None


def _version(number: int | None) -> str | None:
    return f"{number // 10000}.{number % 10000}" if number is not None else None
