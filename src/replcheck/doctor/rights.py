"""What the role may do: databases, relations, functions, and the SQL that grants what is missing. Pure."""

import re
import shlex
from collections.abc import Iterator, Sequence

from replcheck.audit.options import AuditOptions
from replcheck.audit.plan import in_scope, plan_relations
from replcheck.doctor.facts import Failure, NodeExam, Place
from replcheck.model.audit import NotChecked
from replcheck.model.doctor import Check
from replcheck.model.names import quoted
from replcheck.postgres import advice
from replcheck.postgres.examination import Amcheck, DatabaseFacts, Platform, Rights
from replcheck.postgres.nodes import NodeFacts

_NAMES_SHOWN = 5
_LARGE_OBJECTS = "pg_catalog.pg_largeobject"
_SYSTEM = ("pg_catalog.", "information_schema.")
"""A user's own relations are named before these."""
_ROLES_KNOW_ADMIN_OPTION = 160000
"""From here on CREATEROLE alone grants nothing that was not granted to it with the admin option."""


def role_checks(rights: Rights, facts: NodeFacts, place: Place) -> Iterator[Check]:
    """Say what the role may do on the whole server."""
    may, who = facts.privileges, quoted(facts.privileges.role)
    if may.superuser:
        remedy = "Give replcheck a role of its own, and its password with \\password."
        yield place.warning(
            "superuser", f"role {who} is a superuser: an audit needs far less", remedy, *advice.audit_role()
        )
        return
    if may.reads_all_data:
        yield place.ok("read_all_data", f"role {who} may read everything (pg_read_all_data)")
    if may.monitors:
        yield place.ok("monitor", f"role {who} sees settings, replication and activity (pg_monitor)")
        return
    if rights.member_of_monitor:
        sql = advice.inherit_grant("pg_monitor", may.role, version_num=facts.version_num)
    else:
        sql = advice.grant_monitor(may.role)
    yield place.warning(
        "monitor",
        f"role {who} lacks pg_monitor: an audit can prove without it, but can't tell why a standby lags or from whom"
        " it streams",
        who_may_grant(rights, rights.administrators.of_monitor, facts.version_num),
        sql,
    )


def database_checks(exam: NodeExam, role: str, place: Place) -> Iterator[Check]:
    """Say which databases in scope the role can't enter, and why."""
    for database in exam.databases:
        here, leave_out = place.of(database.name), f"Leave it out with --exclude {_pattern(database.name)}"
        visited = exam.visited.get(database.name)
        if not database.allows_connections:
            yield here.missing("no_connections", "it lets nobody in (ALLOW_CONNECTIONS is false)", f"{leave_out}.")
        elif not database.valid:
            yield here.missing("invalid_database", "a DROP DATABASE of it was cut off", "Drop it again.")
        elif not database.may_connect:
            yield here.missing(
                "connect",
                f"role {quoted(role)} may not connect",
                f"{leave_out}, or let its owner or a superuser grant it.",
                advice.grant_connect(role, database.name),
            )
        elif isinstance(visited, Failure):
            yield here.missing(visited.code, visited.what, visited.hint)
    entered = [quoted(name) for name, found in exam.visited.items() if not isinstance(found, Failure)]
    if entered:
        yield place.ok("connect", f"role {quoted(role)} can enter {_some(entered, 'database', 'databases')}")


def relation_checks(
    exam: NodeExam, database: str, found: DatabaseFacts, options: AuditOptions, *, shared_here: bool, place: Place
) -> Iterator[Check]:
    """Say which relations in scope the role can't read whole, and what grants it."""
    assert exam.facts is not None  # noqa: S101 - a database was read after the node
    assert exam.rights is not None  # noqa: S101
    role = exam.facts.privileges.role
    plan = plan_relations(found.relations, options, database=database, shared_here=shared_here, role=role)
    asked = sum(in_scope(relation, options, database, shared_here=shared_here) for relation in found.relations)
    by_code: dict[str, list[NotChecked]] = {}
    for note in plan.not_checked:
        by_code.setdefault(note.code, []).append(note)
    unreadable = [note.relation or "" for note in by_code.get("privilege", ())]
    tables = sorted((name for name in unreadable if name != _LARGE_OBJECTS), key=lambda name: name.startswith(_SYSTEM))
    if tables:
        what = f"role {quoted(role)} may not read {_some(tables, f'of {asked:,} relations in scope')}"
        yield place.missing("read_relations", what, *_to_read(exam.rights, exam.facts, tables))
    if _LARGE_OBJECTS in unreadable:
        what = f"role {quoted(role)} may not read large objects ({_LARGE_OBJECTS})"
        yield place.missing("large_objects", what, *_to_read(exam.rights, exam.facts, [_LARGE_OBJECTS]))
    # Of what the role may not even read the plan says no more; a grant would only bring this to light.
    secured = {relation.label for relation in found.relations if relation.row_security}
    hidden = [note.relation or "" for note in by_code.get("row_security", ())]
    hidden += [name for name in tables if name in secured]
    if hidden:
        what = f"row-level security hides rows of {_some(hidden, 'relation', 'relations')} from role {quoted(role)}"
        yield place.missing(
            "row_security", what, _who_may_bypass(exam.rights, exam.facts), advice.bypass_row_security(role)
        )
    for code, notes in by_code.items():
        if code not in ("privilege", "row_security") and not notes[0].by_design:
            names = [note.relation or "" for note in notes]
            yield place.missing(
                code,
                f"{_some(names, 'relation', 'relations')}: {notes[0].reason}",
                "Nothing grants that: leave what can't be compared out with --exclude.",
            )
    if not (unreadable or hidden):
        yield place.ok("read_relations", f"role {quoted(role)} can read all relations in scope")


def function_checks(functions: Sequence[str], role: str, place: Place) -> Iterator[Check]:
    """Say which functions an audit runs and the role may not."""
    if functions:
        yield place.missing(
            "execute",
            f"role {quoted(role)} may not run {', '.join(functions)}",
            "Everybody may, unless somebody revokes it as here. Grant it again, in that database.",
            *(advice.grant_execute(function, role) for function in functions),
        )


def amcheck_checks(amcheck: Amcheck | None, role: str, place: Place) -> Iterator[Check]:
    """Say whether indexes can be checked against their tables: something more, which no audit of rows needs."""
    if amcheck is None:
        yield place.ok("amcheck", "amcheck is not installed: indexes can't be checked against their tables")
    elif amcheck.functions:
        yield place.ok(
            "amcheck",
            f"amcheck is installed, but role {quoted(role)} may not run it",
            "Only where indexes are to be checked too.",
            *(advice.grant_execute(function, role) for function in amcheck.functions),
        )
    else:
        yield place.ok("amcheck", "amcheck is installed and may be run")


def who_may_grant(rights: Rights, holders: Sequence[str], version_num: int) -> str:
    """Say who may run a grant of a predefined role here, as far as the server shows it."""
    able = holders if version_num >= _ROLES_KNOW_ADMIN_OPTION else rights.administrators.of_roles
    names = ", ".join(quoted(name) for name in able[:_NAMES_SHOWN])
    if rights.platform is Platform.OWN:
        return f"Run it as a superuser{f', or as {names}' if names else ''}."
    if names:
        return f"On {rights.platform.value}, run it as {names} or one of its members."
    return f"On {rights.platform.value}, no role that can be seen may grant it: ask your provider."


def _to_read(rights: Rights, facts: NodeFacts, names: Sequence[str]) -> tuple[str, ...]:
    """Return what to do, and the SQL for it, so that the role can read these relations."""
    role = facts.privileges.role
    if facts.privileges.reads_all_data:
        catalogs_only = all(name.startswith(_SYSTEM) for name in names) and _LARGE_OBJECTS not in names
        without = "--no-catalogs" if catalogs_only else "--exclude"
        held_back = "The role has pg_read_all_data already, so this server holds them back"
        return (f"{held_back}: leave them out with {without}, or ask your provider.",)
    granting = who_may_grant(rights, rights.administrators.of_read_all_data, facts.version_num)
    if rights.member_of_read_all_data:
        inherit = advice.inherit_grant("pg_read_all_data", role, version_num=facts.version_num)
        return (f"It is a member of pg_read_all_data, but does not inherit from it. {granting}", inherit)
    return (granting, advice.grant_read_all_data(role))


def _who_may_bypass(rights: Rights, facts: NodeFacts) -> str:
    able = rights.administrators.of_bypass if facts.version_num >= _ROLES_KNOW_ADMIN_OPTION else ()
    names = ", ".join(quoted(name) for name in able[:_NAMES_SHOWN])
    if rights.platform is Platform.OWN:
        who = f"run this as a superuser{f', or as {names}' if names else ''}"
    elif names:
        who = f"on {rights.platform.value} run this as {names}, with the admin option on the role"
    else:
        who = (
            f"ask your provider: on {rights.platform.value} only a superuser of theirs may do this, as far as can be"
            " seen"
        )
    return f"Leave these relations out with --exclude, or {who}."


def _pattern(database: str) -> str:
    """Return the pattern for a whole database, to be typed into a shell.

    >>> _pattern("clinic"), _pattern("a.b c")
    ("'clinic.*.*'", "'a?b?c.*.*'")
    """
    return shlex.quote(re.sub(r"[^\w-]", "?", database) + ".*.*")


def _some(names: Sequence[str], noun: str, plural: str = "") -> str:
    """Return how many there are, and the first ones by name.

    >>> _some(["a"], "relation", "relations"), _some(["a", "b"], "of 9 relations")
    ('1 relation (a)', '2 of 9 relations (a, b)')
    """
    shown = ", ".join(names[:_NAMES_SHOWN])
    rest = len(names) - _NAMES_SHOWN
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"{len(names):,} {noun if len(names) == 1 or not plural else plural} ({shown}{more})"
