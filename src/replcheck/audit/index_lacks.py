"""Why an index was not checked: the reasons, each with a code that scripts may rely on and what to do about it."""

from replcheck.audit.shortfalls import Shortfall
from replcheck.model.outcome import Verdict
from replcheck.postgres import advice
from replcheck.postgres.amcheck import Access, Amcheck

_AMCHECK = "amcheck"

UNSTEADY = Shortfall(
    code="index_unsteady",
    reason="each look at the index reported something else",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when the table is written less.",
)
UNCONFIRMED = Shortfall(
    code="index_unsteady",
    reason="something was reported of the index, but the node lags too far behind for it to be confirmed",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when the node has caught up.",
)
UNSEEN = Shortfall(
    code="index_unseen",
    reason="the index was not there when the node was asked for it",
    verdict=Verdict.INCONCLUSIVE,
    hint="Audit again when no DDL runs.",
)
NO_LIBRARY = Shortfall(
    code=_AMCHECK,
    reason="the server lacks the library of the extension amcheck",
    verdict=Verdict.UNCHECKED,
    hint="Install PostgreSQL's contrib modules on that server.",
)
TOO_LONG = Shortfall(
    code="index_timeout",
    reason="checking the index took longer than audit.index_timeout",
    verdict=Verdict.UNCHECKED,
    hint="Raise audit.index_timeout.",
)
IN_THE_WAY = Shortfall(
    code="locked",
    reason="the check of the index was broken off each time, since somebody or replay waited for it",
    verdict=Verdict.INCONCLUSIVE,
    hint="Check its indexes when no DDL runs, and with hot_standby_feedback on the standbys.",
)


def refusal(reason: str) -> Shortfall:
    """Say that a node refused to check an index, or all of them."""
    return Shortfall(
        code="index_refused",
        reason=reason,
        verdict=Verdict.UNCHECKED,
        hint="Look the SQLSTATE up in that server's log: to check an index on an expression runs its functions.",
    )


def lost(node: str) -> Shortfall:
    """Say that a node's connection broke each time the same index was checked."""
    return Shortfall(
        code="lost_while_reading",
        reason=f"{node} was lost each time while it was checked",
        verdict=Verdict.UNCHECKED,
        hint="Look at that server's log: a damaged page can crash a server.",
    )


def without_amcheck(amcheck: Amcheck, role: str, database: str) -> Shortfall:
    """Say that amcheck is missing or out of reach in a database, with the SQL that mends it."""
    reason, hint = {
        Access.NOT_INSTALLED: (
            "the extension amcheck is not installed in the database",
            advice.install_amcheck(role, database),
        ),
        Access.TOO_OLD: (
            "the extension amcheck is too old to check indexes against tables",
            advice.update_amcheck(role, database, amcheck.schema),
        ),
    }.get(
        amcheck.access,
        ("the role may not run amcheck's bt_index_check", advice.grant_amcheck(role, database, amcheck.schema)),
    )
    return Shortfall(code=_AMCHECK, reason=reason, verdict=Verdict.UNCHECKED, hint=hint)
