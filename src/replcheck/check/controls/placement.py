"""The control `placement`: no two copies share a host (observed) or a rack or zone (attested).

A server tells its own address, not the machine beneath it. Sockets and loopback addresses are of one machine: that on
which this runs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from replcheck.check.facts import Facts
from replcheck.check.found import Fault, Found, breached, listed, oldest, unchecked
from replcheck.config.model import PlacementControl, Policy
from replcheck.model.control import Bound, Measure, Unit

THIS_MACHINE = "this machine"
_HOSTS_NOT_PROVEN = "that two addresses are two machines: virtual machines and containers may share one"
_ZONES_NOT_PROVEN = "that racks and zones are what the configuration attests: SQL cannot see them"


def find_placement(_policy: Policy, asked: PlacementControl, facts: Facts) -> Found:
    """Return where the nodes stand, and which of them stand together."""
    hosts, zones = _hosts(facts), {node.name: node.zone or "" for node in facts.nodes}
    faults: list[Fault] = []
    if "host" in asked.distinct:
        faults += _faults(hosts, "host", "was not observed")
    if "zone" in asked.distinct:
        faults += _faults(zones, "zone", "is not configured")
    return Found(
        measured=_measured(asked, hosts, zones),
        limit=f"one node to each {listed(asked.distinct)}",
        faults=tuple(faults),
        measures=tuple(_measures(asked, hosts, zones)),
        not_proven=tuple(
            text for word, text in (("host", _HOSTS_NOT_PROVEN), ("zone", _ZONES_NOT_PROVEN)) if word in asked.distinct
        ),
        as_of=oldest([facts.view.at if facts.view and "host" in asked.distinct else None]),
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


def _hosts(facts: Facts) -> dict[str, str]:
    """Return the machine of each configured node as it was last observed."""
    found = dict.fromkeys(facts.node_names, "")
    for span in sorted(facts.spans_with_look(), key=lambda span: span.ended_at):
        if span.node in found and span.host:
            found[span.node] = machine_of(span.host)
    return found


def _faults(places: Mapping[str, str], word: str, unknown: str) -> Iterator[Fault]:
    for place, nodes in _together(places).items():
        if len(nodes) > 1:
            yield breached(f"{listed(nodes)} stand on one {word}: {place}")
    lacking = [node for node, place in places.items() if not place]
    if lacking:
        yield unchecked(f"the {word} of {listed(lacking)} {unknown}")


def _together(places: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for node, place in places.items():
        if place:
            found[place].append(node)
    return found


def _measured(asked: PlacementControl, hosts: Mapping[str, str], zones: Mapping[str, str]) -> str:
    told = []
    if "host" in asked.distinct:
        told.append(f"{len(_together(hosts))} hosts observed")
    if "zone" in asked.distinct:
        told.append(f"{len(_together(zones))} zones attested")
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
