"""The control `copies`: so many run, so many of them are proven, now and as a share of the time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from replcheck.check.controls.consistency import is_unread, left_out, unread
from replcheck.check.facts import Facts, is_proof_ahead
from replcheck.check.found import Fault, Found, at_risk, breached, listed, oldest, percent, unchecked
from replcheck.config.model import CopiesControl, Policy
from replcheck.model.control import Bound, Measure, Unit
from replcheck.model.copies import CopyStanding, standings
from replcheck.model.copy_times import CopiesAsked, CopiesOverTime, Coverage, copies_over_time
from replcheck.model.live import NodeState, NodeView
from replcheck.model.outcome import Verdict
from replcheck.model.spans import GAP_S
from replcheck.model.units import format_duration, format_size

DEFAULT_PROOF_AGE_S = 86_400.0
"""How old a proof may be where the policy does not ask for `consistency`."""
_NOT_PROVEN = (
    "that copies would survive the loss of one rack, site or provider",
    f"what happened between two samples; times without any for more than {format_duration(GAP_S)} count as unwatched",
)


def find_copies(policy: Policy, asked: CopiesControl, facts: Facts) -> Found:
    """Return how many copies run and are proven."""
    over = _over_time(policy, asked, facts)
    copies = _now(policy, facts)
    running = [node for node in facts.viewed().values() if node.state.is_running_copy]
    proven = [standing for standing in copies.values() if standing.proven]
    faults = [
        *_running_faults(asked, facts, running),
        *_proven_faults(asked, facts, copies),
        *_lag_faults(facts, running),
        *_window_faults(policy, asked, facts, over),
    ]
    return Found(
        measured=_measured(facts, len(running), len(proven), over),
        limit=_limit(asked),
        faults=tuple(faults),
        measures=tuple(_measures(asked, facts, len(running), len(proven), over)),
        runs=tuple(dict.fromkeys(standing.proof.run_id for standing in proven if standing.proof)),
        not_proven=(*_NOT_PROVEN, *_informing(asked), *left_out(facts)),
        as_of=oldest([facts.view.at if facts.view else None, *(s.proof.proven_at for s in proven if s.proof)]),
    )


def proof_age_limit(policy: Policy) -> float:
    """Return how old a proof may be, in seconds."""
    return policy.consistency.max_age if policy.consistency else DEFAULT_PROOF_AGE_S


def lapsed_proofs(policy: Policy, facts: Facts) -> list[CopyStanding]:
    """Return the replicas whose proof lapsed though they stream, are watched, and nothing speaks against them."""
    watched = {span.node for span in facts.spans if facts.age_s(span.ended_at) <= GAP_S}
    streaming = {name for name, node in facts.viewed().items() if node.state is NodeState.STREAMING}
    copies = _now(policy, facts).values()
    return [
        one for one in copies if one.proof and not one.proven and not one.refuted and one.node in watched & streaming
    ]


def _now(policy: Policy, facts: Facts) -> dict[str, CopyStanding]:
    found = standings(facts.now, facts.proofs, facts.spans_with_look(), max_age_s=proof_age_limit(policy))
    return {name: found[name] for name in facts.node_names if name in found}


def _over_time(policy: Policy, asked: CopiesControl, facts: Facts) -> CopiesOverTime | None:
    if asked.window is None:
        return None
    wanted = CopiesAsked(
        nodes=facts.node_names, running=asked.running, proven=asked.proven, max_age_s=proof_age_limit(policy)
    )
    ended_at = _known_until(facts)
    began_at = ended_at - timedelta(seconds=asked.window)
    return copies_over_time(began_at, ended_at, facts.proofs, facts.spans_with_look(), wanted)


def _known_until(facts: Facts) -> datetime:
    """Return where a window ends: at the last look while that is trusted, else now.

    The moment that a check takes to think would count as unwatched, and no window would ever be full.
    """
    looked_at = facts.view.at if facts.view else None
    return looked_at if looked_at is not None and 0 <= facts.age_s(looked_at) <= GAP_S else facts.now


def _running_faults(asked: CopiesControl, facts: Facts, running: list[NodeView]) -> Iterator[Fault]:
    if facts.view is None:
        yield unchecked(facts.view_problem)
        return
    if len(running) >= asked.running:
        return
    viewed = facts.viewed()
    unsure = [name for name in facts.node_names if name not in viewed or viewed[name].state is NodeState.UNSURE]
    gone = [node for node in viewed.values() if not node.state.is_running_copy and node.state is not NodeState.UNSURE]
    told = "; ".join([*map(_why_gone, gone), *(f"{name} could not be looked at" for name in unsure)])
    what = f"{len(running)} of {asked.running} copies run{f': {told}' if told else ''}"
    yield unchecked(what) if len(running) + len(unsure) >= asked.running else breached(what)


def _why_gone(node: NodeView) -> str:
    # Whoever looks once has not seen before what does not answer now.
    state = "out of reach" if node.state is NodeState.UNSEEN else node.state.value
    return f"{node.node} is {state}" + (f" ({node.reason})" if node.reason else "")


def _proven_faults(asked: CopiesControl, facts: Facts, copies: dict[str, CopyStanding]) -> Iterator[Fault]:
    if facts.history_problem:
        yield unchecked(facts.history_problem)
        return
    proven = sum(standing.proven for standing in copies.values())
    if proven >= asked.proven:
        yield from _doubted(asked, facts, copies)
        return
    doubts = [
        f"{name}: {copies[name].reason if name in copies else 'it was never audited as a whole'}"
        for name in facts.node_names
        if name not in copies or not copies[name].proven
    ]
    refuted = sum(standing.refuted for standing in copies.values())
    what = f"{proven} of {asked.proven} copies are proven; {'; '.join(doubts)}"
    # What is merely not proven any more may be as good as ever: that is not known, and no breach.
    yield unchecked(what) if len(facts.node_names) - refuted >= asked.proven else breached(what)


def _doubted(asked: CopiesControl, facts: Facts, copies: dict[str, CopyStanding]) -> Iterator[Fault]:
    """Yield what may speak against copies that count as proven, where without those there would be too few."""
    doubts: dict[str, str] = {}
    for name, standing in copies.items():
        if standing.proof is None or not standing.proven or standing.proof.node != name:
            continue
        against = [one for one in facts.proofs if one.node == name and one.verdict is not Verdict.CONSISTENT]
        if is_unread(name, standing.proof, facts):
            doubts[name] = unread(name)
        elif any(is_proof_ahead(one, facts) for one in against):
            doubts[name] = f"what an audit found of {name} is dated ahead of the clock"
    sure = sum(standing.proven for name, standing in copies.items() if name not in doubts)
    # The primary stands on the word of the others.
    witnessed = any(
        one.proven and one.proof and one.proof.node == name for name, one in copies.items() if name not in doubts
    )
    if doubts and (sure < asked.proven or not witnessed):
        yield unchecked("; ".join(doubts.values()))


def _lag_faults(facts: Facts, running: list[NodeView]) -> Iterator[Fault]:
    for node in running:
        size, seconds = facts.lag.size_bytes, facts.lag.seconds
        if size is not None and node.lag_bytes is not None and node.lag_bytes > size:
            yield at_risk(f"{node.node} is {format_size(node.lag_bytes)} behind (limit {format_size(size)})")
        elif seconds is not None and node.lag_s is not None and node.lag_s - node.apply_delay_s > seconds:
            yield at_risk(f"{node.node} is {format_duration(node.lag_s)} behind (limit {format_duration(seconds)})")


def _window_faults(policy: Policy, asked: CopiesControl, facts: Facts, over: CopiesOverTime | None) -> Iterator[Fault]:
    if over is None or asked.window is None:
        return
    since = facts.since(asked.window + proof_age_limit(policy))
    told = f"enough copies are shown in {percent(over.share)} of the last {format_duration(asked.window)}"
    if asked.share is not None and over.share_at_best < asked.share:
        yield breached(f"{told} (limit {asked.share:g}%), too few for {_spent(over, Coverage.SHORT)}")
    elif asked.share is not None and over.share < asked.share:
        yield unchecked(f"{told} (limit {asked.share:g}%): {_unknown(over)}")
    elif asked.share is not None and any(one.at is None or one.at >= since for one in facts.unread_proofs):
        yield unchecked(f"{told}, and what an audit said in that time cannot be read")
    elif asked.warn is not None and over.share < asked.warn:
        yield at_risk(f"{told} (at risk below {asked.warn:g}%)")


def _unknown(over: CopiesOverTime) -> str:
    unproven = f"copies were not proven for {_spent(over, Coverage.UNPROVEN)}"
    unwatched = f"nothing watched for {_spent(over, Coverage.UNWATCHED)}"
    told = [unproven] * (over.spent(Coverage.UNPROVEN) > 0) + [unwatched] * (over.spent(Coverage.UNWATCHED) > 0)
    return listed(told)


def _spent(over: CopiesOverTime, coverage: Coverage) -> str:
    return format_duration(over.spent(coverage))


def _measured(facts: Facts, running: int, proven: int, over: CopiesOverTime | None) -> str:
    seen = f"{running} running" if facts.view else "running copies unknown"
    told = f"{seen}, {proven} proven now"
    if over is None:
        return told
    parts = [
        f"{_spent(over, kind)} {kind.value}" for kind in Coverage if kind is not Coverage.ENOUGH and over.spent(kind)
    ]
    lacking = f" ({', '.join(parts)})" if parts else ""
    return f"{told}; enough in {percent(over.share)} of {format_duration(over.seconds)}{lacking}"


def _limit(asked: CopiesControl) -> str:
    told = f"at least {asked.running} running and {asked.proven} proven"
    if asked.window is None:
        return told
    window = format_duration(asked.window)
    if asked.share is not None:
        return f"{told} in {asked.share:g}% of the time, over {window}"
    share = f"at risk below {asked.warn:g}%" if asked.warn is not None else "no share is asked"
    return f"{told} now; over {window} {share}"


def _informing(asked: CopiesControl) -> Iterator[str]:
    if asked.window is not None and asked.share is None:
        window = format_duration(asked.window)
        yield f"that there were enough copies over {window}: without a share that is asked, the window only informs"


def _measures(
    asked: CopiesControl, facts: Facts, running: int, proven: int, over: CopiesOverTime | None
) -> Iterator[Measure]:
    least = Bound.AT_LEAST
    known = facts.view is not None
    yield Measure(name="running", unit=Unit.COUNT, value=running if known else None, bound=least, limit=asked.running)
    yield Measure(
        name="proven", unit=Unit.COUNT, value=None if facts.history_problem else proven, bound=least, limit=asked.proven
    )
    if over is None:
        return
    yield Measure(name="share", unit=Unit.PERCENT, value=over.share, bound=least, limit=asked.share, warn=asked.warn)
    for kind in (Coverage.SHORT, Coverage.UNPROVEN, Coverage.UNWATCHED):
        yield Measure(name=kind.value, unit=Unit.SECONDS, value=over.spent(kind))
