"""The control `placement`: no two copies share a host (observed) or a rack or zone (attested).

A server tells its own address, not the machine beneath it. Sockets and loopback addresses are of one machine: that on
which this runs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, breached, listed, oldest, unchecked
from replcheck.config.model import PlacementControl, Policy
from replcheck.model.control import Bound, Measure, Unit
from replcheck.model.spans import GAP_S
from replcheck.model.units import format_duration

THIS_MACHINE = "this machine"
_HOSTS_NOT_PROVEN = "that two addresses are two machines: virtual machines and containers may share one"
_ZONES_NOT_PROVEN = "that racks and zones are what the configuration attests: SQL cannot see them"


def find_placement(_policy: Policy, asked: PlacementControl, facts: Facts) -> Found:
    """Return where the nodes stand, and which of them stand together."""
    hosts, seen_at = _hosts(facts)
    zones = {node.name: node.zone or "" for node in facts.nodes}
    faults: list[Fault] = []
    if "host" in asked.distinct:
        faults += _shared(hosts, "host")
        faults += [unchecked(facts.view_problem)] if facts.view is None else _lacking(hosts, "host", "was not observed")
    if "zone" in asked.distinct:
        faults += [*_shared(zones, "zone"), *_lacking(zones, "zone", "is not configured")]
    return Found(
        measured=_measured(asked, hosts, zones, facts.age_s(seen_at) if seen_at else 0.0),
        limit=f"one node to each {listed(asked.distinct)}",
        faults=tuple(faults),
        measures=tuple(_measures(asked, hosts, zones)),
        not_proven=tuple(
            text for word, text in (("host", _HOSTS_NOT_PROVEN), ("zone", _ZONES_NOT_PROVEN)) if word in asked.distinct
        ),
        as_of=seen_at if "host" in asked.distinct else None,
    )


def machine_of(host: str) -> str:
    """Return what tells a machine from others, of an address or a socket's directory; empty where it is unknown.

    >>> machine_of("/var/run/postgresql"), machine_of("127.0.0.1"), machine_of("10.0.0.7"), machine_of("")
    ('this machine', 'this machine', '10.0.0.7', '')
    """
    if host.startswith(("/", "@")):
        return THIS_MACHINE
    try:
        return THIS_MACHINE if ip_address(host.partition("%")[0]).is_loopback else host
    except ValueError:
        return THIS_MACHINE if host == "localhost" else host


def _hosts(facts: Facts) -> tuple[dict[str, str], datetime | None]:
    """Return the machine of each configured node as it was lately observed, and when the oldest of them was."""
    found = dict.fromkeys(facts.node_names, "")
    seen: dict[str, datetime] = {}
    for span in facts.lately_told():
        if span.node in found and span.host:
            found[span.node], seen[span.node] = machine_of(span.host), span.ended_at
    return found, oldest(seen.values())


def _shared(places: Mapping[str, str], word: str) -> Iterator[Fault]:
    for place, nodes in _together(places).items():
        if len(nodes) > 1:
            yield breached(f"{listed(nodes)} stand on one {word}: {place}")


def _lacking(places: Mapping[str, str], word: str, unknown: str) -> Iterator[Fault]:
    lacking = [node for node, place in places.items() if not place]
    if lacking:
        yield unchecked(f"the {word} of {listed(lacking)} {unknown}")


def _together(places: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for node, place in places.items():
        if place:
            found[place].append(node)
    return found


def _measured(asked: PlacementControl, hosts: Mapping[str, str], zones: Mapping[str, str], age_s: float) -> str:
    told = []
    if "host" in asked.distinct:
        aged = f" (one of them {format_duration(age_s)} ago)" if age_s > GAP_S else ""
        found = len(_together(hosts))
        told.append(f"{found} host{'s' * (found != 1)} observed{aged}")
    if "zone" in asked.distinct:
        found = len(_together(zones))
        told.append(f"{found} zone{'s' * (found != 1)} attested")
    return f"{', '.join(told)}, for {len(zones)} nodes"


def _measures(asked: PlacementControl, hosts: Mapping[str, str], zones: Mapping[str, str]) -> Iterator[Measure]:
    for word, places in (("host", hosts), ("zone", zones)):
        if word in asked.distinct:
            known = all(places.values())
            yield Measure(
                name=f"{word}s",
                unit=Unit.COUNT,
                value=len(_together(places)) if known else None,
                bound=Bound.AT_LEAST,
                limit=len(places),
            )
