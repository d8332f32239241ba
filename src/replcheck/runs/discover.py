"""Finds the servers of a cluster, beginning with one of them: upwards to its primary, then down along what streams.

An address is only believed when a standby of the same cluster answers there. Servers are asked through `probe`, so that
everything here runs without one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from replcheck.errors import AuthenticationRefused, ConnectionsExhausted, DatabaseMissing, NodeError, NodeUnfit
from replcheck.model.node import NodeRole, NodeTarget
from replcheck.postgres import advice, dsn
from replcheck.postgres.discovery import Receiver, Receivers, SelfImage, read_receivers, read_self_image, sockets_beside
from replcheck.postgres.nodes import NodeFacts, read_facts
from replcheck.postgres.session import Limits, open_session

_PLACE = frozenset({"host", "hostaddr", "port"})
"""Words that tell where a server is; a service may do so too, but also tells who asks."""
_DEFAULT_PORT = "5432"
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_MOST_STEPS = 8
_TELLING = (AuthenticationRefused, ConnectionsExhausted, DatabaseMissing, NodeUnfit)
"""Errors of a server that is there."""

Words = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered."""

    words: Words = field(repr=False)
    """Its connection string, secrets included."""
    facts: NodeFacts
    image: SelfImage
    receivers: Receivers

    @property
    def address(self) -> str:
        """Return where it was reached, as it may be shown."""
        return dsn.public_address(dsn.written(self.words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlocated:
    """A standby that streams, and that answers at no address that could be guessed."""

    receiver: Receiver
    sender: Server
    trouble: str = ""
    """What kept a server from being used that did answer; empty where none did."""


Probe = Callable[[str, Words], Awaitable[Server]]
"""Asks the server at an address, for whom it is named; raises NodeError."""


async def probe(name: str, words: Words) -> Server:
    """Connect to a server and read what a configuration needs to know of it; raise NodeError."""
    session = await open_session(NodeTarget(name=name, dsn=dsn.written(words)), purpose="init", limits=Limits())
    try:
        return Server(
            words=words,
            facts=await read_facts(session),
            image=await read_self_image(session),
            receivers=await read_receivers(session),
        )
    finally:
        await session.close()


@dataclass(slots=True)
class Discovery:
    """What is known of a cluster so far."""

    probe: Probe = probe
    sockets: Callable[[str, str], list[str]] = sockets_beside
    servers: list[Server] = field(default_factory=list)
    """The primary first, once it is known."""
    unlocated: list[Unlocated] = field(default_factory=list)
    _recognized: list[tuple[Server, Receiver]] = field(default_factory=list)
    _spare: list[Server] = field(default_factory=list)
    """Servers met where another standby was looked for."""

    async def begin(self, given: Sequence[tuple[str, Words]]) -> None:
        """Take the servers that the user named, find the primary and follow everything that streams.

        `given` are names for messages with connection words. Raises NodeError where one of them can't be used, or no
        primary can be found.
        """
        for name, words in given:
            self.add(await self.probe(name, words), name)
        await self._climb()
        await self._descend(list(self.servers))

    def add(self, server: Server, name: str) -> None:
        """Take a server in; raise NodeUnfit where it is known already or of another cluster."""
        for other in self.servers:
            if _same(server, other):
                raise NodeUnfit(
                    f'node "{name}" at {server.address} is the server that answers at {other.address} too',
                    node=name,
                    hint="Name each server once.",
                )
            if server.facts.identity.system_identifier != other.facts.identity.system_identifier:
                raise NodeUnfit(
                    f'node "{name}" at {server.address} belongs to another cluster than the server at {other.address}',
                    node=name,
                    hint="Check the address; their system identifiers differ.",
                )
            if server.facts.role is NodeRole.PRIMARY is other.facts.role:
                raise NodeUnfit(
                    f'node "{name}" at {server.address} is a primary, as is the server at {other.address}',
                    node=name,
                    hint="A replica that was promoted is no copy any more.",
                )
        if server.facts.role is NodeRole.PRIMARY:
            self.servers.insert(0, server)
        else:
            self.servers.append(server)

    async def locate(self, standby: Unlocated, words: Words, name: str) -> None:
        """Take the server at an address as a standby that was not found, with all that streams from it.

        Raises NodeError where it is not that.
        """
        server = await self.probe(name, words)
        if server.facts.role is NodeRole.PRIMARY or _contradicts(standby.receiver, server):
            raise NodeUnfit(f"the server at {server.address} is another one", node=name)
        self.add(server, name)
        self._recognized.append((server, standby.receiver))
        self.unlocated.remove(standby)
        await self._descend([server])

    def receiver_of(self, server: Server) -> Receiver | None:
        """Return how a server's sender shows it, None where nobody does."""
        return next((receiver for known, receiver in self._recognized if known is server), None)

    async def _climb(self) -> None:
        lowest = self.servers[0]
        for _ in range(_MOST_STEPS):
            if self.servers[0].facts.role is NodeRole.PRIMARY:
                return
            lowest = await self._sender_of(lowest)
            if not any(_same(lowest, known) for known in self.servers):
                self.add(lowest, "primary")
        raise NodeUnfit("no primary was found above these standbys", node="primary", hint="Name it with --primary.")

    async def _sender_of(self, standby: Server) -> Server:
        upstream, role = standby.facts.upstream, standby.facts.privileges
        if upstream is None:
            grant = f"Run {advice.grant_monitor(role.role)} on the primary, and try again."
            raise NodeUnfit(
                f"the server at {standby.address} is a standby, and it can't be seen from whom it streams",
                node="primary",
                hint="Name the primary with --primary." if role.monitors else grant,
            )
        host, port = upstream
        try:
            return await self.probe("primary", without_place(standby.words) | {"host": host, "port": str(port)})
        except NodeError as error:
            raise NodeUnfit(
                f"the server at {standby.address} is a standby, and its sender can't be used: {error.message}",
                node="primary",
                hint="Name the primary with --primary, by an address that this machine can reach.",
            ) from error

    async def _descend(self, senders: list[Server]) -> None:
        while senders:
            sender = senders.pop(0)
            for receiver in sender.receivers.standbys:
                found = self._known(receiver) or await self._search(receiver, sender)
                if isinstance(found, Unlocated):
                    self.unlocated.append(found)
                    continue
                self._recognized.append((found, receiver))
                if not any(found is server for server in self.servers):
                    self.servers.append(found)
                    self._spare = [server for server in self._spare if not _same(server, found)]
                    senders.append(found)

    def _known(self, receiver: Receiver) -> Server | None:
        known = [server for server in (*self.servers, *self._spare) if self.receiver_of(server) is None]
        return next((server for server in known if _fits(receiver, server)), None)

    async def _search(self, receiver: Receiver, sender: Server) -> Server | Unlocated:
        name = f"standby {receiver.application_name}"
        candidates = list(candidates_of(receiver, sender.words, str(sender.facts.identity.own_port), self.sockets))
        answers = await asyncio.gather(*(self.probe(name, words) for words in candidates), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NodeError):
                raise answer
        standbys = [answer for answer in answers if isinstance(answer, Server) and self._is_new_standby(answer)]
        sure = [server for server in standbys if _fits(receiver, server)]
        possible = [server for server in standbys if not _contradicts(receiver, server)]
        self._spare += [server for server in standbys if server not in (sure or possible)[:1]]
        if sure or possible:
            return (sure or possible)[0]
        troubles = [answer.message for answer in answers if isinstance(answer, _TELLING)]
        return Unlocated(receiver=receiver, sender=sender, trouble=next(iter(troubles), ""))

    def _is_new_standby(self, server: Server) -> bool:
        mine, first = server.facts.identity, self.servers[0].facts.identity
        known = any(_same(server, other) for other in self.servers)
        return mine.in_recovery and not known and mine.system_identifier == first.system_identifier


def candidates_of(
    receiver: Receiver, sender: Words, sender_port: str, sockets: Callable[[str, str], list[str]]
) -> Iterable[Words]:
    """Yield connection words at which a standby may answer, the likeliest first.

    `sender` are the words of the server that sends to it, `sender_port` the port that it itself listens on. A standby's
    own port can't be seen: those tried are its sender's and the usual one, and over Unix sockets those in the same
    folder.
    """
    common = without_place(sender)
    own_host, own_port = sender.get("host", ""), sender.get("port", _DEFAULT_PORT)
    if receiver.address is None or ip_address(receiver.address).is_loopback:
        if own_host.startswith("/"):
            yield from (common | {"host": own_host, "port": port} for port in sockets(own_host, own_port))
        if receiver.address is None:
            return
    hosts = [receiver.address]
    if receiver.hostname is not None and _HOST_NAME.fullmatch(receiver.hostname):
        # A certificate is checked against a name; elsewhere the address that was seen is the surer one.
        hosts.insert(0 if sender.get("sslmode") == "verify-full" else 1, receiver.hostname)
    for host in hosts:
        for port in dict.fromkeys([own_port, sender_port, _DEFAULT_PORT]):
            yield common | {"host": host, "port": port}


def without_place(words: Words) -> dict[str, str]:
    """Return what words say of the role and the manner, not of where a server is."""
    return {word: value for word, value in words.items() if word not in _PLACE}


def _same(server: Server, other: Server) -> bool:
    return server.facts.identity.same_start(other.facts.identity)


def _fits(receiver: Receiver, server: Server) -> bool:
    """Return whether a server is surely the standby that its sender shows."""
    if server.facts.role is NodeRole.PRIMARY or _contradicts(receiver, server):
        return False
    if receiver.slot is not None and server.image.slot is not None:
        return True
    if server.image.cluster_name and server.image.cluster_name == receiver.application_name:
        return True
    hosts = {server.facts.identity.host, *dsn.hosts(dsn.written(server.words))}
    return bool({receiver.address, receiver.hostname} - {None} & hosts)


def _contradicts(receiver: Receiver, server: Server) -> bool:
    return None not in (receiver.slot, server.image.slot) and receiver.slot != server.image.slot
