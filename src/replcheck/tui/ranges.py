"""Sets of blocks as sorted, disjoint ranges: small where neighbours are taken one after the other, as audits do."""

from bisect import bisect_left, bisect_right

Ranges = tuple[tuple[int, int], ...]
"""First block, and the block behind the last."""


def added(ranges: Ranges, first: int, end: int) -> Ranges:
    """Return the set with the blocks from `first` to before `end`.

    >>> added(((0, 4), (8, 9)), 4, 8)
    ((0, 9),)
    >>> added(((0, 4),), 6, 7)
    ((0, 4), (6, 7))
    """
    if first >= end:
        return ranges
    low = bisect_left(ranges, first, key=lambda part: part[1])
    high = bisect_right(ranges, end, key=lambda part: part[0])
    if low < high:
        first, end = min(first, ranges[low][0]), max(end, ranges[high - 1][1])
    return (*ranges[:low], (first, end), *ranges[high:])


def removed(ranges: Ranges, first: int, end: int) -> Ranges:
    """Return the set without the blocks from `first` to before `end`.

    >>> removed(((0, 10),), 3, 5)
    ((0, 3), (5, 10))
    """
    low = bisect_right(ranges, first, key=lambda part: part[1])
    high = bisect_left(ranges, end, key=lambda part: part[0])
    if low >= high or first >= end:
        return ranges
    kept = []
    if ranges[low][0] < first:
        kept.append((ranges[low][0], first))
    if ranges[high - 1][1] > end:
        kept.append((end, ranges[high - 1][1]))
    return (*ranges[:low], *kept, *ranges[high:])


def overlap(ranges: Ranges, first: int, end: int) -> int:
    """Return how many blocks from `first` to before `end` are in the set.

    >>> overlap(((0, 4), (8, 9)), 2, 20)
    3
    """
    if first >= end:
        return 0
    low = bisect_right(ranges, first, key=lambda part: part[1])
    held = 0
    for low_block, end_block in ranges[low:]:
        if low_block >= end:
            break
        held += min(end, end_block) - max(first, low_block)
    return held


def common(one: Ranges, other: Ranges) -> Ranges:
    """Return the blocks that both sets hold.

    >>> common(((0, 10),), ((2, 4), (8, 12)))
    ((2, 4), (8, 10))
    """
    found, at, held = [], 0, 0
    while at < len(one) and held < len(other):
        first, end = max(one[at][0], other[held][0]), min(one[at][1], other[held][1])
        if first < end:
            found.append((first, end))
        if one[at][1] < other[held][1]:
            at += 1
        else:
            held += 1
    return tuple(found)


def size(ranges: Ranges) -> int:
    """Return how many blocks the set holds."""
    return sum(end - first for first, end in ranges)
