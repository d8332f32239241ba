"""The use case `init`: a configuration from what the servers of a cluster reveal.

People are asked through a callback, and only for what could not be found out; without one nobody is asked. Secrets of
connection strings are used to connect and never written.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replcheck.config import load
from replcheck.config.writing import Draft, DraftNode, exists_already, is_name, rendered, write_new
from replcheck.errors import ReplcheckError, UsageError
from replcheck.model.names import printable
from replcheck.model.node import NodeRole
from replcheck.postgres import advice, dsn
from replcheck.postgres.discovery import Receiver
from replcheck.runs.discover import Discovery, Server, Unlocated, Words, without_place

Ask = Callable[[str, str], str]
"""Asks a question with a default for the answer, which may be empty."""
_TRIES = 3
_UNNAMED_RECEIVER = "walreceiver"
_NAME_HINT = "Use letters, digits and . _ - (at most 63), and begin with a letter or a digit."
_HOST_AND_PORT = re.compile(r"\[?(?P<host>[^\[\],]*?)\]?(:(?P<port>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """What to write, and from which servers."""

    given: tuple[tuple[str, Words], ...] = field(repr=False)
    """Names for messages, and connection words with their secrets; the first may be any node."""
    path: Path
    cluster: str | None = None
    replace: bool = False
    """Whether a file that is there already is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialized:
    """What was written."""

    path: Path
    cluster: str
    nodes: tuple[tuple[str, NodeRole, str], ...]
    """Names, roles as observed, and addresses."""
    missing: tuple[str, ...]
    """Names of standbys that stream and whose address is not known."""

    @property
    def complete(self) -> bool:
        """Return whether an audit can run with it: a primary and at least one replica are known."""
        return len(self.nodes) > 1


def initialize(
    request: InitRequest,
    *,
    ask: Ask | None,
    tell: Callable[[str], None] = lambda _: None,
    discovery: Discovery | None = None,
) -> Initialized:
    """Find the nodes of a cluster and write its configuration.

    `ask` None asks nobody. Raises UsageError where the file is there already or can't be written, and NodeError where a
    server that was named can't be used or no primary is found. Must not be called from a running event loop.
    """
    if request.cluster is not None and not is_name(request.cluster):
        raise UsageError("--cluster is no name for a cluster", hint=_NAME_HINT)
    if request.path.exists() and not request.replace:
        raise exists_already(request.path)
    discovery = discovery or Discovery()
    asyncio.run(discovery.begin(request.given))
    if ask is not None:
        _ask_for_addresses(discovery, ask, tell)
    names = node_names(discovery)
    cluster = request.cluster or _cluster_name(discovery, names, ask, tell)
    zones = [_zone(name, ask, tell) for name in names[: len(discovery.servers)]]
    draft = draft_of(discovery, cluster, names, zones)
    write_new(request.path, rendered(draft), replace=request.replace)
    for note in (*draft.notes, *draft.node_notes):
        tell(f"note: {note}")
    found = discovery.servers
    written = Initialized(
        path=request.path,
        cluster=cluster,
        nodes=tuple((name, server.facts.role, server.address) for name, server in zip(names, found, strict=False)),
        missing=tuple(names[len(found) :]),
    )
    if written.complete:
        load(request.path)
    return written


def node_names(discovery: Discovery) -> list[str]:
    """Return a name for each server, and after these one for each standby that was not found; all differ.

    A standby has its application name where that can be a node's name; else each has its cluster_name where these
    differ; else they are numbered.
    """
    receivers = [discovery.receiver_of(server) for server in discovery.servers]
    receivers += [standby.receiver for standby in discovery.unlocated]
    wished = [_wish(receiver) for receiver in receivers]
    own = [server.image.cluster_name for server in discovery.servers]
    if len(own) > 1 and len(set(own)) == len(own):
        wished[: len(own)] = [wish if is_name(wish) else name for wish, name in zip(wished, own, strict=False)]
    good = [wish if is_name(wish) and wished.count(wish) == 1 else "" for wish in wished]
    names: list[str] = []
    for number, name in enumerate(good, start=1):
        free = (f"db{other}" for other in range(number, number + len(good) + 1) if f"db{other}" not in good + names)
        names.append(name or next(free))
    return names


def draft_of(discovery: Discovery, cluster: str, names: Sequence[str], zones: Sequence[str]) -> Draft:
    """Return what is to be written: what all nodes share once, and no secret."""
    kept, secrets = [], set[str]()
    for server in discovery.servers:
        words, left_out = dsn.words_without_secrets(server.words)
        kept.append(words)
        secrets |= set(left_out)
    common = shared_words(kept)
    nodes = [
        DraftNode(
            name=name,
            dsn=dsn.written({word: value for word, value in words.items() if word not in common}),
            zone=zone or None,
            notes=(_observed(server, discovery.receiver_of(server)),),
        )
        for name, zone, words, server in zip(names, zones, kept, discovery.servers, strict=False)
    ]
    nodes += [
        _incomplete(name, standby) for name, standby in zip(names[len(nodes) :], discovery.unlocated, strict=True)
    ]
    left_out_note = f"Left out of the connection strings that were given: {', '.join(sorted(secrets))}."
    return Draft(
        cluster=cluster,
        connect=dsn.written(common),
        nodes=tuple(nodes),
        notes=(left_out_note,) if secrets else (),
        node_notes=tuple(_cluster_notes(discovery)),
    )


def shared_words(nodes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the words that all nodes have alike, but for what tells where a server is.

    >>> shared_words([{"host": "db1", "user": "a", "port": "1"}, {"host": "db2", "user": "a", "port": "1"}])
    {'user': 'a'}
    """
    first = without_place(nodes[0])
    shared = {word: value for word, value in first.items() if all(node.get(word) == value for node in nodes)}
    shared.pop("service", None)
    return shared


def address_words(answer: str) -> dict[str, str]:
    """Return the connection words of an address as people write it; raise UsageError where it is none.

    >>> address_words("db2:5433"), address_words("[::1]:5433"), address_words("host=db2 port=5433")
    ({'host': 'db2', 'port': '5433'}, {'host': '::1', 'port': '5433'}, {'host': 'db2', 'port': '5433'})
    """
    no_address = UsageError("that is no address", hint="Write it as host:port, or as host=db2 port=5432.")
    if not answer.isprintable():
        raise no_address
    if "=" in answer or "://" in answer:
        return dsn.words_of(answer, {}, origin="the address")
    bare = answer.count(":") > 1 and not answer.startswith("[")
    match = None if bare else _HOST_AND_PORT.fullmatch(answer)
    words = {"host": answer} if match is None else {word: text for word, text in match.groupdict().items() if text}
    if "host" not in words:
        raise no_address
    return words


def _ask_for_addresses(discovery: Discovery, ask: Ask, tell: Callable[[str], None]) -> None:
    asked: list[Unlocated] = []
    while standby := next((known for known in discovery.unlocated if not any(known is done for done in asked)), None):
        asked.append(standby)
        if standby.trouble:
            tell(standby.trouble)
        for _ in range(_TRIES):
            answer = ask(f"Address of {_described(standby)}: host:port, empty to leave it out", "").strip()
            if not answer:
                break
            name = f"standby {printable(standby.receiver.application_name)}"
            try:
                words = without_place(standby.sender.words) | address_words(answer)
                asyncio.run(discovery.locate(standby, words, name))
            except ReplcheckError as error:
                tell(error.message)
            else:
                break


def _cluster_name(discovery: Discovery, names: Sequence[str], ask: Ask | None, tell: Callable[[str], None]) -> str:
    image = discovery.servers[0].image
    setting = image.cluster_name if image.cluster_name != names[0] else ""
    guesses = [re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:63] for text in (setting, image.database)]
    guess = next((guess for guess in guesses if is_name(guess)), "cluster")
    return _valid(ask, "Name of the cluster, for reports and the history", guess, is_name, tell, _NAME_HINT)


def _zone(name: str, ask: Ask | None, tell: Callable[[str], None]) -> str:
    question = f"Rack or zone that {name} stands in, empty for none"
    return _valid(ask, question, "", lambda text: printable(text) == text, tell, "Use letters that can be printed.")


def _valid(
    ask: Ask | None, question: str, default: str, good: Callable[[str], bool], tell: Callable[[str], None], hint: str
) -> str:
    for _ in range(_TRIES if ask is not None else 0):
        answer = ask(question, default).strip() if ask is not None else default
        if good(answer):
            return answer
        tell(hint)
    return default


def _wish(receiver: Receiver | None) -> str:
    name = receiver.application_name if receiver is not None else ""
    return "" if name == _UNNAMED_RECEIVER else name


def _observed(server: Server, receiver: Receiver | None) -> str:
    what = f"When this was written: {server.facts.role.value}, PostgreSQL {server.facts.version}"
    if receiver is None:
        return f"{what}."
    how = f"{receiver.state}, {receiver.sync_state}" if receiver.sync_state else receiver.state
    return f"{what}, {how} as application {receiver.application_name}."


def _incomplete(name: str, standby: Unlocated) -> DraftNode:
    note = f"Not found: {_described(standby)}. Complete its address and take the # away."
    if standby.trouble:
        note += f" What answered: {standby.trouble}."
    address = dsn.written({"host": standby.receiver.address or "HOST", "port": "PORT"})
    return DraftNode(name=name, dsn=address, notes=(note,), complete=False)


def _described(standby: Unlocated) -> str:
    receiver = standby.receiver
    where = f"from {receiver.address}" if receiver.address else "over a Unix socket"
    return f'the standby that streams {where} as application "{printable(receiver.application_name)}"'


def _cluster_notes(discovery: Discovery) -> list[str]:
    notes = []
    for server in discovery.servers:
        seen = server.receivers
        if seen.hidden:
            are = "connection receives" if seen.hidden == 1 else "connections receive"
            notes.append(f"{seen.hidden} {are} WAL from {server.address} that this role may not see. What lets it:")
            notes.append(advice.grant_monitor(server.facts.privileges.role))
        notes += [f"The logical subscriber {name} of {server.address} is no node." for name in seen.logical]
        notes += [f"Nobody uses slot {slot} of {server.address}: a standby that is down?" for slot in seen.idle_slots]
    return notes
