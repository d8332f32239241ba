"""Who streams from whom, as the senders tell: the upstream of each node, and standbys that nobody configured."""

from collections.abc import Iterable, Mapping

from replcheck.model.live import NodeAnswer, Sender
from replcheck.watch.scene import FoundSender, Link, NodeMemory

_MOST_FOUND = 32
_NO_STANDBYS = ("pg_basebackup", "pg_receivewal", "pg_recvlogical", "pg_rewind", "barman_", "pgbackrest")
_BACKUP = "backup"
_NAMELESS = frozenset({"", "walreceiver"})


def links_of(
    memories: Mapping[str, NodeMemory], identifier: str | None
) -> tuple[dict[str, Link], tuple[FoundSender, ...]]:
    """Return the link of each configured node that a sender shows, and the senders to nodes that none names.

    Only nodes of the system identifier count: what another cluster feeds is none of this one.
    """
    links: dict[str, Link] = {}
    found: dict[str, FoundSender] = {}
    for upstream in memories.values():
        if upstream.answer is None or upstream.silence is not None or upstream.answer.system_identifier != identifier:
            continue
        for sender in filter(is_standby, upstream.answer.senders):
            node = _receiver_of(sender, upstream.name, memories)
            if node is not None:
                links[node] = Link(upstream=upstream.name, sender=sender)
            elif len(found) < _MOST_FOUND and (name := _name_of(sender, upstream.name, memories)) is not None:
                found[name] = FoundSender(name=name, upstream=upstream.name, sender=sender)
    return links, tuple(found.values())


def is_standby(sender: Sender) -> bool:
    """Return whether a sender is seen to feed a server that replays what it receives."""
    return (
        sender.state in {"streaming", "catchup"}
        and not sender.logical
        and sender.replayed_lsn is not None
        and not sender.application.startswith(_NO_STANDBYS)
    )


def wal_receivers(answer: NodeAnswer) -> Iterable[Sender]:
    """Return the connections through which WAL is kept elsewhere as it is written: pg_receivewal and its like.

    They flush and never replay (PostgreSQL source, receivelog.c, sendFeedback). So does the stream beside a base
    backup, which is no archive: it begins at that backup and ends with it (pg_basebackup.c).
    """
    copying = {(sender.application, sender.address) for sender in answer.senders if sender.state == _BACKUP}
    return (
        sender
        for sender in answer.senders
        if sender.state == "streaming"
        and not sender.logical
        and sender.flushed_lsn
        and sender.replayed_lsn is None
        and not sender.temporary_slot
        and not sender.application.startswith("pg_basebackup")
        and (sender.application, sender.address) not in copying
    )


def takes_backup(answer: NodeAnswer) -> bool:
    """Return whether a base backup is being taken of a node."""
    return any(sender.state == _BACKUP for sender in answer.senders)


def _receiver_of(sender: Sender, upstream: str, memories: Mapping[str, NodeMemory]) -> str | None:
    """Return the configured node that a sender feeds: by the name it gives, else by an address that only one has."""
    others = [memory for memory in memories.values() if memory.name != upstream]
    if sender.application not in _NAMELESS:
        if sender.application in {memory.name for memory in others}:
            return sender.application
        # A cluster_name that several nodes share, as Patroni sets it, tells none of them.
        called = [memory.name for memory in memories.values() if _called(memory) == sender.application]
        if len(called) == 1:
            return called[0] if called[0] != upstream else None
    at_address = [memory.name for memory in others if sender.address and sender.address in _hosts(memory)]
    return at_address[0] if len(at_address) == 1 else None


def _called(memory: NodeMemory) -> str:
    return memory.answer.cluster_name if memory.answer else ""


def _hosts(memory: NodeMemory) -> frozenset[str]:
    return memory.node.hosts | ({memory.answer.host} if memory.answer and memory.answer.host else set())


def _name_of(sender: Sender, upstream: str, memories: Mapping[str, NodeMemory]) -> str | None:
    """Return what a standby is called that no configured node is shown to be; None where it may well be one of them.

    It may where neither its name nor its address tells it from theirs: names come along with copied settings.
    """
    known = _NAMELESS | set(memories) | {_called(memory) for memory in memories.values()}
    alike = sender.application in known
    at_theirs = not sender.address or any(sender.address in _hosts(memory) for memory in memories.values())
    if alike and at_theirs and set(memories) != {upstream}:
        return None
    name = "standby" if sender.application in _NAMELESS or (alike and not sender.address) else sender.application
    return "@".join(filter(None, (name, sender.address)))
