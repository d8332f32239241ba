"""Answers that come too late, are cancelled or come from another heap: what a comparison is told of each node."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from replcheck.audit import reading
from replcheck.audit.comparison import ChunkFinding, Comparison, Reply, WholeRequest
from replcheck.audit.reading import HeapRewritten, ReadAhead, Readers, RoleChanged, drive, read_ahead
from replcheck.errors import NodeError, NodeLost, StatementCancelled, StatementFailed
from replcheck.postgres.digests import Digest, PartDigests, RowHash
from tests.core.proofs import relation

RELATION = relation()
DIGEST = Digest(3, (17,))
DONE = ChunkFinding(digest=None, replicas={})


def parts(name: str, **changes: Any) -> PartDigests:
    facts = {"filenode": RELATION.filenode_now, "in_recovery": name != "db1", "digests": (DIGEST,)} | changes
    return PartDigests(**facts)


class Asked:
    """A comparison that asks for the same thing several times and keeps the replies."""

    def __init__(self, times: int) -> None:
        self.replies: list[Reply] = []
        self._times = times

    def __call__(self) -> Comparison:
        for _ in range(self._times):
            self.replies.append((yield WholeRequest()))
        return DONE


def driven(
    monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Sequence[PartDigests | NodeError]], *, late_after: int = 100
) -> tuple[list[Reply], Readers]:
    """Drive as many requests as the primary has answers; the snapshots are too old after so many of them."""
    asked = Asked(max(map(len, answers.values())))
    counts = dict.fromkeys(answers, 0)

    async def digest_whole(session: Any, *_: object) -> PartDigests:
        answer = answers[session.node][counts[session.node]]
        counts[session.node] += 1
        if isinstance(answer, NodeError):
            raise answer
        return answer

    monkeypatch.setattr(reading, "digest_whole", digest_whole)
    sessions: Any = {name: SimpleNamespace(node=name) for name in answers}
    how: Any = SimpleNamespace(by_column=False)
    readers = Readers(
        relation=RELATION, how=how, sessions=sessions, primary="db1", late=lambda: counts["db1"] >= late_after
    )
    assert asyncio.run(drive(asked(), readers)) is DONE
    return asked.replies, readers


def test_every_node_is_asked_and_answers(monkeypatch):
    replies, readers = driven(monkeypatch, {"db1": [parts("db1")] * 2, "db2": [parts("db2")] * 2})
    assert replies == [{"db1": (DIGEST,), "db2": (DIGEST,)}] * 2
    assert readers.troubles == {}


def test_under_snapshots_that_grew_too_old_nobody_is_asked_anything_more(monkeypatch):
    replies, readers = driven(monkeypatch, {"db1": [parts("db1")] * 3, "db2": [parts("db2")] * 3}, late_after=2)
    assert [set(reply) for reply in replies] == [{"db1", "db2"}, {"db1", "db2"}, set()]
    late = readers.troubles["db1"]
    assert isinstance(late, StatementCancelled)
    assert late.sqlstate == "57014", "it counts as a statement that was cancelled, and is read again in smaller parts"


def test_the_first_request_is_made_even_under_snapshots_that_are_about_to_end(monkeypatch):
    """Else a lane whose snapshots expire between two chunks would give each of them back without end."""
    replies, readers = driven(monkeypatch, {"db1": [parts("db1")], "db2": [parts("db2")]}, late_after=0)
    assert set(replies[0]) == {"db1", "db2"}
    assert readers.troubles == {}


@pytest.mark.parametrize(
    "error",
    [
        StatementCancelled("cancelled", node="db2", sqlstate="57014"),
        NodeLost("lost", node="db2", sqlstate="25P04"),
        StatementFailed("refused", node="db2", sqlstate="42501"),
    ],
)
def test_a_replica_in_trouble_is_left_out_from_then_on_and_the_others_go_on(monkeypatch, error):
    answers = {"db1": [parts("db1")] * 2, "db2": [error], "db3": [parts("db3")] * 2}
    replies, readers = driven(monkeypatch, answers)
    assert [set(reply) for reply in replies] == [{"db1", "db3"}] * 2
    assert readers.troubles == {"db2": error}


def test_after_the_primarys_trouble_no_replica_is_asked(monkeypatch):
    error = StatementCancelled("cancelled", node="db1", sqlstate="57014")
    replies, readers = driven(monkeypatch, {"db1": [error, error], "db2": [parts("db2")]})
    assert [set(reply) for reply in replies] == [{"db2"}, set()]
    assert readers.troubles == {"db1": error}


def test_an_answer_from_another_heap_or_another_role_is_none(monkeypatch):
    answers = {"db1": [parts("db1")], "db2": [parts("db2", filenode=1)], "db3": [parts("db3", in_recovery=False)]}
    replies, readers = driven(monkeypatch, answers)
    assert set(replies[0]) == {"db1"}
    assert isinstance(readers.troubles["db2"], HeapRewritten)
    assert isinstance(readers.troubles["db3"], RoleChanged)


# --- several relations at once ---


def ahead(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, list[PartDigests] | NodeError]) -> ReadAhead:
    """Read two relations ahead on nodes that answer like this."""
    sent: list[bytes] = []

    async def digest_together(session: Any, statement: bytes) -> list[PartDigests]:
        sent.append(statement)
        answer = answers[session.node]
        if isinstance(answer, NodeError):
            raise answer
        return answer

    def rendered(statement: Any) -> bytes:
        return bytes(statement.as_bytes(None))

    monkeypatch.setattr(reading, "digest_together", digest_together)
    sessions: Any = {name: SimpleNamespace(node=name, rendered=rendered) for name in answers}
    found = asyncio.run(read_ahead([relation(1), relation(2)], RowHash(seeds=(1,)), sessions, "db1"))
    assert len(sent) == len(answers)
    assert len(set(sent)) == 1
    assert b"visit_1" in sent[0]
    assert b"visit_2" in sent[0]
    return found


def test_of_several_relations_each_node_answers_in_their_order(monkeypatch):
    second = Digest(4, (18,))
    found = ahead(monkeypatch, {name: [parts(name), parts(name, digests=(second,))] for name in ("db1", "db2")})
    assert {name: part.digests for name, part in found.of(0).items()} == {"db1": (DIGEST,), "db2": (DIGEST,)}
    assert {name: part.digests for name, part in found.of(1).items()} == {"db1": (second,), "db2": (second,)}
    assert found.troubles == {}


@pytest.mark.parametrize(
    "error",
    [
        StatementFailed("refused", node="db2", sqlstate="42501"),
        StatementCancelled("locked", node="db2", sqlstate="55P03"),
        NodeLost("gone", node="db2", sqlstate="40001"),
    ],
)
def test_a_node_that_refuses_one_of_several_has_answered_none_and_the_trouble_is_nobodys(monkeypatch, error):
    found = ahead(monkeypatch, {"db1": [parts("db1"), parts("db1")], "db2": error})
    assert set(found.of(0)) == {"db1"}
    assert dict(found.troubles) == {"db2": error}


def ready_in(
    monkeypatch: pytest.MonkeyPatch, ready: Mapping[str, PartDigests]
) -> tuple[list[Reply], Readers, list[str]]:
    """Drive one request of two nodes of which some have answered already; tell who was asked."""
    asked_nodes: list[str] = []

    async def digest_whole(session: Any, *_: object) -> PartDigests:
        asked_nodes.append(session.node)
        return parts(session.node)

    monkeypatch.setattr(reading, "digest_whole", digest_whole)
    how: Any = SimpleNamespace(by_column=False)
    sessions: Any = {name: SimpleNamespace(node=name) for name in ("db1", "db2")}
    readers = Readers(relation=RELATION, how=how, sessions=sessions, primary="db1", ready=ready)
    asked = Asked(1)
    asyncio.run(drive(asked(), readers))
    return asked.replies, readers, asked_nodes


def test_what_was_answered_already_is_not_asked_again(monkeypatch):
    replies, readers, asked = ready_in(monkeypatch, {"db1": parts("db1"), "db2": parts("db2")})
    assert replies == [{"db1": (DIGEST,), "db2": (DIGEST,)}]
    assert (readers.troubles, asked) == ({}, [])


def test_who_has_not_answered_yet_is_asked(monkeypatch):
    replies, _, asked = ready_in(monkeypatch, {"db1": parts("db1")})
    assert replies == [{"db1": (DIGEST,), "db2": (DIGEST,)}]
    assert asked == ["db2"]


@pytest.mark.parametrize(
    ("node", "changes", "trouble"),
    [("db2", {"filenode": 4}, HeapRewritten), ("db1", {"filenode": None}, HeapRewritten),
     ("db2", {"in_recovery": False}, RoleChanged), ("db1", {"in_recovery": True}, RoleChanged)],
)  # fmt: skip
def test_what_was_answered_already_is_checked_like_any_answer(monkeypatch, node, changes, trouble):
    ready = {name: parts(name, **(changes if name == node else {})) for name in ("db1", "db2")}
    replies, readers, _ = ready_in(monkeypatch, ready)
    assert node not in replies[0]
    assert isinstance(readers.troubles[node], trouble)
