"""Where records without a signature stand in a chain. Pure.

Whoever can write to a history can make such a record. A later signature says only that it was not changed since then.
What vouches for it is an anchor outside, or a signed checkpoint under which somebody archived it.
"""

from replcheck.model.evidence import Places


def with_next(places: Places, sequence: int) -> Places:
    """Return the places with one more behind them all.

    >>> with_next(((1, 2),), 3), with_next(((1, 2),), 4)
    (((1, 3),), ((1, 2), (4, 4)))
    """
    return joined(places, ((sequence, sequence),))


def joined(before: Places, behind: Places) -> Places:
    """Return both, the second behind the first; stretches that touch become one.

    >>> joined(((1, 2), (4, 5)), ((6, 6),))
    ((1, 2), (4, 6))
    """
    if before and behind and before[-1][1] + 1 == behind[0][0]:
        return (*before[:-1], (before[-1][0], behind[0][1]), *behind[1:])
    return (*before, *behind)


def beyond(places: Places, sequence: int) -> Places:
    """Return what of the places is behind a sequence.

    >>> beyond(((1, 4), (6, 6)), 2)
    ((3, 4), (6, 6))
    """
    if not places or sequence < places[0][0]:
        return places
    return tuple((max(first, sequence + 1), last) for first, last in places if last > sequence)
