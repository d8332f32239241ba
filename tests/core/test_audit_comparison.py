"""The comparison of one chunk, driven from model nodes: it shows exactly what differs, whatever happens to them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.audit.comparison import (
    LISTED_BLOCKS,
    BlockRange,
    Comparison,
    PartsRequest,
    ReplicaFinding,
    Reply,
    Request,
    RowsRequest,
    SweepRequest,
    UnreadableRange,
    UpdatersRequest,
    WholeRequest,
    compare,
    joined,
    lone_nodes,
)
from replcheck.audit.explanation import RowDifference
from replcheck.audit.visibility import Unsettled
from replcheck.model.audit import DifferenceKind
from replcheck.postgres.digests import LAST_BLOCK, Digest
from tests.core.heaps import (
    PRIMARY,
    ModelNode,
    ModelRelation,
    blocks_of,
    relations,
    requests,
    run,
    run_and_count,
    shown,
)

UNLIMITED = 1_000_000


def begin(
    relation: ModelRelation,
    request: WholeRequest | SweepRequest | PartsRequest | None = None,
    *,
    known_blocks: int = 100,
    rows_limit: int = UNLIMITED,
) -> Comparison:
    return compare(
        request or WholeRequest(),
        primary=PRIMARY,
        unsettled=relation.unsettled,
        known_blocks=known_blocks,
        rows_limit=rows_limit,
    )


class Losing:
    """Answers for a relation, and loses a node from some request on; a lost primary is asked for nothing more."""

    def __init__(self, relation: ModelRelation, node: str, after: int) -> None:
        self.relation = relation
        self.node = node
        self.left = after
        self.missed = False
        """Whether the node was asked in vain."""

    def __call__(self, request: Request) -> Reply:
        lost = self.left <= 0
        self.left -= 1
        needed = not isinstance(request, UpdatersRequest) or self.node in request.multixacts
        self.missed = self.missed or (lost and needed)
        if self.missed and self.node == PRIMARY:
            return {}
        return self.relation.reply(request, [name for name in self.relation.nodes if not (lost and name == self.node)])


@given(relations(), requests())
def test_the_rows_that_differ_are_shown_and_no_others(relation, beginning):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in finding.replicas.items():
        assert shown(found) == relation.expected[name]
        assert found.seen
        assert not found.unlisted
        assert not found.unreadable


@given(relations(corrupt=False), requests())
def test_equal_nodes_are_clean_after_one_request(relation, beginning):
    request, known = beginning
    finding, count = run_and_count(begin(relation, request, known_blocks=known), relation.reply)
    assert all(found.clean for found in finding.replicas.values())
    assert count == 1


@given(relations(), requests())
def test_a_finding_is_clean_exactly_where_nothing_differs(relation, beginning):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in finding.replicas.items():
        assert found.clean == (not relation.expected[name])
        assert found.unexplained == bool(relation.expected[name])


@given(relations(in_flight=True), requests())
def test_rows_of_unsettled_transactions_are_in_flight_and_none_else(relation, beginning):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in finding.replicas.items():
        assert shown(found) == relation.expected[name]
        assert found.in_flight == sum(flying for _, flying in relation.expected[name].values())
        assert found.unexplained == any(not flying for _, flying in relation.expected[name].values())


@given(relations(in_flight=True, corrupt=False), requests(), st.integers(-1, 5))
def test_a_healthy_replica_is_never_accused_whatever_the_limit(relation, beginning, limit):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known, rows_limit=limit), relation.reply)
    assert not any(found.unexplained for found in finding.replicas.values())


@given(relations(), requests(), st.integers(-1, 5))
def test_rows_beyond_the_limit_are_counted_by_range_and_never_dropped(relation, beginning, limit):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known, rows_limit=limit), relation.reply)
    for name, found in finding.replicas.items():
        expected = relation.expected[name]
        assert shown(found).items() <= expected.items()
        for ctid in expected.keys() - shown(found).keys():
            assert any(blocks.holds(ctid) for blocks, _ in found.unlisted)
        for blocks, least in found.unlisted:
            assert 1 <= least <= sum(blocks.holds(ctid) for ctid in expected), "nobody else's rows are counted"
        assert found.clean == (not expected)


@given(relations(replicas=1), requests())
def test_with_a_limit_of_none_no_row_is_listed(relation, beginning):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known, rows_limit=0), relation.reply)
    assert not finding.replicas["db2"].rows


@given(relations(in_flight=True), requests(), st.data())
def test_a_node_lost_at_any_step_is_not_seen_and_never_clean(relation, beginning, data):
    request, known = beginning
    node = data.draw(st.sampled_from(sorted(relation.nodes)))
    answer = Losing(relation, node, data.draw(st.integers(0, 6)))
    finding = run(begin(relation, request, known_blocks=known), answer)
    for name, found in finding.replicas.items():
        if answer.missed and node in (name, PRIMARY):
            assert not found.seen
            assert not found.clean
        else:
            assert shown(found) == relation.expected[name]


@given(relations(in_flight=True), requests(), st.integers(0, 8))
def test_a_comparison_may_be_cut_off_half_way(relation, beginning, steps):
    request, known = beginning
    comparison = begin(relation, request, known_blocks=known)
    next_request = next(comparison)
    try:
        for _ in range(steps):
            next_request = comparison.send(relation.reply(next_request))
    except StopIteration:
        return
    comparison.close()


@given(relations(), requests(), st.sets(st.integers(0, 80), min_size=1, max_size=5), st.data())
def test_damaged_blocks_are_told_apart_to_the_block_and_hide_nothing_else(relation, beginning, bad, data):
    request, known = beginning
    node = data.draw(st.sampled_from(sorted(relation.nodes)))
    relation.nodes[node].unreadable = bad
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in finding.replicas.items():
        touched = node in (name, PRIMARY)
        assert blocks_of(part.blocks for part in found.unreadable) == (bad if touched else set())
        assert {part.node for part in found.unreadable} <= {node}
        readable = {at: what for at, what in relation.expected[name].items() if not (touched and at[0] in bad)}
        assert shown(found) == readable
        assert found.clean == (not readable and not touched)


@given(relations(), requests(), st.sets(st.integers(0, 80), max_size=4), st.data())
def test_blocks_that_break_while_rows_are_listed_hide_nothing_else(relation, beginning, bad, data):
    request, known = beginning
    node = data.draw(st.sampled_from(sorted(relation.nodes)))
    relation.nodes[node].unlistable = bad
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in finding.replicas.items():
        unreadable = blocks_of(part.blocks for part in found.unreadable)
        assert unreadable <= bad
        hidden = {ctid for ctid in relation.expected[name] if ctid[0] in unreadable}
        assert shown(found).keys() == relation.expected[name].keys() - hidden
        assert found.clean == (not relation.expected[name] and not unreadable)


@given(relations(replicas=2), requests())
def test_a_missing_file_accuses_its_own_replica_alone_and_is_found_quickly(relation, beginning):
    request, known = beginning
    relation.nodes["db2"].no_file = True
    finding, count = run_and_count(begin(relation, request, known_blocks=known), relation.reply)
    broken, sound = finding.replicas["db2"], finding.replicas["db3"]
    assert broken.unexplained
    assert {part.sqlstate for part in broken.unreadable} == {"58P01"}
    covered = joined(part.blocks for part in broken.unreadable)
    assert covered == [BlockRange(0, LAST_BLOCK)]
    assert shown(sound) == relation.expected["db3"]
    assert not sound.unreadable
    assert count < 200


@given(relations(replicas=2), requests())
def test_a_file_missing_on_the_primary_leaves_no_replica_clean(relation, beginning):
    request, known = beginning
    relation.nodes[PRIMARY].no_file = True
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    assert finding.digest is None
    for found in finding.replicas.values():
        assert found.unexplained
        assert {part.node for part in found.unreadable} == {PRIMARY}


@given(relations(), requests(), st.sets(st.integers(0, 80), min_size=1, max_size=4))
def test_blocks_that_no_node_can_read_are_nobodys_divergence_and_never_clean(relation, beginning, bad):
    request, known = beginning
    for node in relation.nodes.values():
        node.unreadable = bad
    for name, found in run(begin(relation, request, known_blocks=known), relation.reply).replicas.items():
        assert found.unreadable_everywhere
        assert not found.unreadable
        assert not found.clean
        assert shown(found).keys() == {ctid for ctid in relation.expected[name] if ctid[0] not in bad}


@given(relations(), requests())
def test_the_digest_is_the_primarys(relation, beginning):
    request, known = beginning
    finding = run(begin(relation, request, known_blocks=known), relation.reply)
    rows = relation.nodes[PRIMARY].rows.values()
    assert finding.digest == Digest(len(rows), (sum(row.digest[0] for row in rows),) if rows else (0,))


@given(relations(), requests())
def test_rows_may_come_in_any_order(relation, beginning):
    request, known = beginning

    def backwards(asked: Request) -> Reply:
        reply: Reply = relation.reply(asked)
        if not isinstance(asked, RowsRequest):
            return reply
        return {name: rows[::-1] for name, rows in reply.items() if isinstance(rows, tuple)}

    straight = run(begin(relation, request, known_blocks=known), relation.reply)
    for name, found in run(begin(relation, request, known_blocks=known), backwards).replicas.items():
        assert shown(found) == shown(straight.replicas[name])


@given(relations(in_flight=True), requests())
def test_only_bounded_requests_of_few_blocks_list_rows(relation, beginning):
    request, known = beginning

    def watched(asked: Request) -> Reply:
        if isinstance(asked, RowsRequest):
            assert all(len(blocks) <= LISTED_BLOCKS for blocks in asked.ranges)
        reply: Reply = relation.reply(asked)
        return reply

    run(begin(relation, request, known_blocks=known), watched)


def planted(*ctids: tuple[int, int], replicas: int = 1) -> ModelRelation:
    """Return a relation whose first replica misses the rows at these positions."""
    names = [f"db{number}" for number in range(2, 2 + replicas)]
    relation = ModelRelation(
        {name: ModelNode() for name in (PRIMARY, *names)}, {name: Unsettled() for name in names}, {}
    )
    for name, node in relation.nodes.items():
        for ctid in ctids if name != "db2" else ():
            node.put(ctid)
    return relation


def test_a_small_relation_that_differs_is_looked_into():
    finding = run(begin(planted((0, 1)), known_blocks=3), planted((0, 1)).reply)
    assert shown(finding.replicas["db2"]) == {(0, 1): (DifferenceKind.MISSING, False)}


@pytest.mark.parametrize("block", [0, 99, 100, 16_483, 16_484, 40_000])
def test_rows_far_beyond_the_known_blocks_are_found(block):
    """The relation may have grown since it was planned."""
    relation = planted((block, 1))
    finding = run(begin(relation), relation.reply)
    assert shown(finding.replicas["db2"]) == {(block, 1): (DifferenceKind.MISSING, False)}


def test_the_tail_is_read_only_as_far_as_it_differs():
    _, count = run_and_count(begin(planted((100, 1), (20_000, 1))), planted((100, 1), (20_000, 1)).reply)
    _, nearer = run_and_count(begin(planted((100, 1))), planted((100, 1)).reply)
    assert nearer < count < 12


def test_a_difference_that_is_gone_when_its_rows_are_listed_is_not_clean():
    relation = planted((0, 1))
    answering = itertools.chain([relation], itertools.repeat(planted()))

    def once(request: Request) -> Reply:
        present: ModelRelation = next(answering)
        return present.reply(request)

    found = run(begin(relation, known_blocks=3), once).replicas["db2"]
    assert not found.clean
    assert found.unexplained


def test_with_two_replicas_only_the_one_that_differs_is_counted_beyond_the_limit():
    relation = planted(*((block, 1) for block in range(0, 1600, 16)), replicas=2)
    request = PartsRequest((BlockRange(0, 1600),), LISTED_BLOCKS)
    finding = run(begin(relation, request, known_blocks=1600, rows_limit=1), relation.reply)
    assert finding.replicas["db3"].clean
    found = finding.replicas["db2"]
    assert len(found.rows) + sum(least for _, least in found.unlisted) == 100
    assert len(found.rows) == 32, "a batch is listed before the limit is looked at"


def test_many_unreadable_blocks_do_not_cost_a_statement_each():
    relation = planted()
    relation.nodes["db2"].unreadable = set(range(0, 4_000, 2))
    request = PartsRequest((BlockRange(0, 4_000),), LISTED_BLOCKS)
    finding, count = run_and_count(begin(relation, request, known_blocks=4_000), relation.reply)
    assert blocks_of(part.blocks for part in finding.replicas["db2"].unreadable) >= relation.nodes["db2"].unreadable
    assert count < 100


def test_a_lost_file_is_not_searched_beyond_the_rows_that_the_others_have():
    relation = planted()
    relation.nodes["db2"].no_file = True
    finding, count = run_and_count(begin(relation, known_blocks=15), relation.reply)
    covered = joined(part.blocks for part in finding.replicas["db2"].unreadable)
    assert covered == [BlockRange(0, LAST_BLOCK)]
    assert count < 40


def test_an_unreadable_range_tells_sqlstate_and_block():
    relation = planted()
    relation.nodes["db2"].unreadable = {7}
    (part,) = run(begin(relation), relation.reply).replicas["db2"].unreadable
    assert part == UnreadableRange(node="db2", blocks=BlockRange(7, 8), sqlstate="XX001", block=7, readers=1)


def test_an_unreadable_range_tells_how_many_other_nodes_can_read_it():
    relation = planted(replicas=3)
    for name in ("db2", "db3"):
        relation.nodes[name].unreadable = {7}
    finding = run(begin(relation), relation.reply)
    assert {part.readers for found in finding.replicas.values() for part in found.unreadable} == {2}


def test_a_replica_lost_while_its_multixacts_are_asked_is_not_seen():
    relation = planted((0, 1))
    relation.unsettled = {"db2": Unsettled(behind=frozenset({9}))}
    relation.nodes[PRIMARY].put((0, 1), xmax=77)

    def losing(request: Request) -> Reply:
        asked = [PRIMARY] if isinstance(request, UpdatersRequest) else None
        return relation.reply(request, asked)

    assert not run(begin(relation), losing).replicas["db2"].seen


def test_multixacts_are_asked_only_where_they_could_explain_something():
    relation = planted((0, 1))
    relation.nodes[PRIMARY].put((0, 1), xmax=77)

    def settled(request: Request) -> Reply:
        assert not isinstance(request, UpdatersRequest)
        return relation.reply(request)

    assert run(begin(relation), settled).replicas["db2"].unexplained


def test_the_members_of_a_multixact_may_be_known_on_either_node():
    for knowing in (PRIMARY, "db2"):
        relation = planted((0, 1))
        relation.unsettled = {"db2": Unsettled(ahead=frozenset({9}))}
        relation.nodes[PRIMARY].put((0, 1), xmax=77)
        relation.nodes[knowing].updaters = {77: frozenset({9})}
        assert not run(begin(relation), relation.reply).replicas["db2"].unexplained


def test_of_three_nodes_the_odd_one_is_named_for_each_row():
    relation = planted((0, 1), (1, 1), replicas=2)
    relation.nodes["db2"].put((1, 1))
    relation.nodes[PRIMARY].put((1, 1), content="odd")
    finding = run(begin(relation), relation.reply)
    lone = {name: {row.ctid: row.lone for row in found.rows} for name, found in finding.replicas.items()}
    assert lone == {"db2": {(0, 1): "db2", (1, 1): PRIMARY}, "db3": {(1, 1): PRIMARY}}


def test_nobody_stands_alone_between_two_nodes_or_where_all_differ():
    two, three = planted((0, 1)), planted((0, 1), replicas=2)
    three.nodes["db3"].put((0, 1), content="another")
    for relation in (two, three):
        rows = {name: tuple(node.rows.values()) for name, node in relation.nodes.items()}
        assert lone_nodes(rows) == {}


def test_nobody_stands_alone_where_two_stand_against_two():
    relation = planted((0, 1), replicas=3)
    del relation.nodes["db3"].rows[0, 1]
    assert lone_nodes({name: tuple(node.rows.values()) for name, node in relation.nodes.items()}) == {}


def test_nobody_stands_alone_where_the_others_disagree():
    relation = planted((0, 1), replicas=4)
    for name in ("db3", "db4"):
        relation.nodes[name].put((0, 1), content="another")
    rows = {name: tuple(node.rows.values()) for name, node in relation.nodes.items()}
    assert sorted(len(listed) for listed in rows.values()) == [0, 1, 1, 1, 1]
    assert lone_nodes(rows) == {}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12))
def test_joined_ranges_hold_the_same_blocks_and_do_not_touch(spans):
    ranges = [BlockRange(first, first + length) for first, length in spans]
    runs = joined(ranges)
    assert blocks_of(runs) == blocks_of(ranges)
    assert all(earlier.end < later.first for earlier, later in itertools.pairwise(runs))


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 40))
def test_the_parts_of_a_range_cover_it_once_in_order(first, length, width):
    parts = BlockRange(first, first + length).cut(width)
    assert [block for part in parts for block in range(part.first, part.end)] == list(range(first, first + length))
    assert all(0 < len(part) <= width for part in parts)


def test_a_range_without_an_upper_bound_is_one_part():
    tail = BlockRange(7, LAST_BLOCK)
    assert tail.open_ended
    assert tail.cut(16) == [tail]
    assert PartsRequest((BlockRange(0, 20), tail), 16).parts == [BlockRange(0, 16), BlockRange(16, 20), tail]


def test_ranges_overlap_only_where_they_share_a_block():
    assert BlockRange(0, 5).overlaps(BlockRange(4, 9))
    assert not BlockRange(0, 5).overlaps(BlockRange(5, 9))
    assert not BlockRange(5, 9).overlaps(BlockRange(0, 5))
    assert BlockRange(2, 4).holds((3, 1))
    assert not BlockRange(2, 4).holds((4, 1))
    assert not BlockRange(2, 4).holds((1, 1))


def difference(*, in_flight: bool) -> RowDifference:
    return RowDifference(ctid=(0, 1), kind=DifferenceKind.MISSING, in_flight=in_flight)


def test_a_finding_counts_what_it_explains_apart_from_what_it_does_not():
    rows = (difference(in_flight=True), difference(in_flight=False))
    damage = UnreadableRange(node="db2", blocks=BlockRange(0, 1), sqlstate="XX001", block=None)
    beyond = ((BlockRange(3, 9), 4),)
    settled = ReplicaFinding(rows=rows, unlisted=beyond, unreadable=(damage,))
    assert (settled.in_flight, settled.differing) == (1, 6)
    doubtful = ReplicaFinding(rows=rows, unlisted=beyond, unreadable=(damage,), doubtful=True)
    assert (doubtful.in_flight, doubtful.differing) == (5, 2)


def test_only_what_was_seen_whole_and_matched_is_clean():
    assert ReplicaFinding().clean
    assert not ReplicaFinding(seen=False).clean
    assert not ReplicaFinding(rows=(difference(in_flight=True),)).clean
    assert not ReplicaFinding(unreadable_everywhere=True).clean
    assert not ReplicaFinding(unlisted=((BlockRange(0, 1), 1),), doubtful=True).clean
