"""A row filter as a run carries it.

A filter's text may hold values of rows. So it goes to the servers, inside the statements that read the relation, and
nowhere else: reports, records, events, stores and errors hold the pattern of the relations it is for, and its digest.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which rows of some relations an audit compares."""

    pattern: str
    """Of the relations it is for: `relation`, `schema.relation` or `database.schema.relation`."""
    condition: str = field(repr=False)
    """The boolean expression, parsed and rendered anew; columns are quoted and stand alone."""
    digest: str
    """Of `condition`, short: tells whether two runs used one filter. Whoever guesses the filter can confirm it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterUsed:
    """A filter as reports name it."""

    pattern: str
    digest: str
