"""What failed while a dump was restored, judged: what refutes the dump, and what this machine lacks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replcheck.errors import BackupRefuted, DrillBlocked
from replcheck.model.drill import Blame, Problem
from replcheck.model.names import printable, quoted
from replcheck.postgres.restore_errors import Cause, RestoreError

MOST_PROBLEMS = 20
"""How many statements that failed are named one by one."""

_ROWS_AMISS = frozenset({"22P04", "22021", "23503", "23505", "23514"})
"""What a server of any major version refuses rows with; statements may also be refused because they are too old."""
_CHECK_VIOLATED = "23514"
"""Of a constraint, or of the bounds of a partition: both may depend on the order of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decides whose fault a failed statement is."""

    dump: str
    """How the dump is called in messages."""
    has_globals: bool
    """Whether the roles were to come from a file of their own."""
    missing_roles: frozenset[str]
    """Roles that the dump names and that nothing made but a placeholder, or nothing at all."""
    own_server: bool
    """Whether it was restored by a superuser of ours."""
    replaced_locale: bool = False
    """Whether the database has another locale than the one it was taken from, which is not available here."""
    newer_server: bool = False
    """Whether it was restored into a newer major version than that of the server it was taken from."""


def refuse_unreadable(errors: Iterable[RestoreError], dump: str) -> None:
    """Raise BackupRefuted where a dump could not be read, DrillBlocked where there was no room or no server."""
    for error in errors:
        at = f" at {printable(error.entry)}" if error.entry else ""
        match error.cause:
            case Cause.TRUNCATED:
                raise BackupRefuted(f"{dump} is cut off{at}", code=error.cause.value)
            case Cause.FILE_MISSING if error.name == dump:
                raise DrillBlocked(
                    f"{dump} cannot be opened", code="backup_unreadable", hint="Look whether it is still there."
                )
            case Cause.FILE_MISSING:
                raise BackupRefuted(f"{dump} lacks its file {printable(error.name)}", code=error.cause.value)
            case Cause.ARCHIVE:
                raise BackupRefuted(f"{dump} is corrupt{at}", code=error.cause.value)
            case Cause.NO_SPACE:
                raise DrillBlocked(
                    f"there was no space left while {dump} was restored",
                    code=error.cause.value,
                    hint="Choose a scratch place with more room.",
                )
            case Cause.SERVER_LOST:
                raise DrillBlocked(f"the scratch server went away while {dump} was restored{at}", code="server_lost")
            case _:
                pass


def problems_of(errors: Sequence[RestoreError], circumstances: Circumstances) -> tuple[Problem, ...]:
    """Return what went wrong although rows came back; nothing of it quotes what the server said."""
    missing = sorted(circumstances.missing_roles | {e.name for e in errors if e.cause is Cause.ROLE_MISSING})
    extensions = sorted({error.name for error in errors if error.cause is Cause.EXTENSION_MISSING})
    problems = [_role_missing(role, circumstances) for role in missing]
    problems += [extension_missing(name) for name in extensions]
    lacking = sorted({error.name for error in errors if error.cause is Cause.SOFTWARE_MISSING})
    problems += [_software_missing(name) for name in lacking]
    whole = not extensions and not lacking
    problems += [_disarmed(error) for error in errors if error.cause is Cause.DISARMED]
    refused = [error for error in errors if error.cause in (Cause.REFUSED, Cause.PRIVILEGE)]
    for error in refused[:MOST_PROBLEMS]:
        problems.append(_refused(error, circumstances, whole=whole))
    if len(refused) > MOST_PROBLEMS:
        blames = {_blame(error, circumstances, whole=whole) for error in refused[MOST_PROBLEMS:]}
        problems.append(
            Problem(
                code="restore_error",
                what=f"{len(refused) - MOST_PROBLEMS} more statements failed",
                blame=Blame.BACKUP if Blame.BACKUP in blames else Blame.ENVIRONMENT,
            )
        )
    return tuple(problems)


def extension_missing(name: str) -> Problem:
    """Return the problem of an extension that this machine's PostgreSQL does not have."""
    return Problem(
        code="extension_missing",
        what=f"extension {quoted(printable(name))} is not available to the scratch server",
        blame=Blame.ENVIRONMENT,
        hint="Install the package that holds it for this major version of PostgreSQL.",
    )


def _software_missing(name: str) -> Problem:
    what = quoted(printable(name)) if name else "something"
    return Problem(
        code=Cause.SOFTWARE_MISSING.value,
        what=f"the dump needs {what}: a locale, library or feature that the scratch server does not have",
        blame=Blame.ENVIRONMENT,
        hint="Install it on this machine, or drill on a system like the original's, with PostgreSQL built like there.",
    )


def _role_missing(role: str, circumstances: Circumstances) -> Problem:
    name = quoted(printable(role))
    if circumstances.has_globals:
        return Problem(
            code="role_missing",
            what=f"role {name} is named in {circumstances.dump}, and not in the file of globals",
            blame=Blame.BACKUP,
            hint="Make the file of globals anew, by the same job that makes the dump.",
        )
    return Problem(
        code="role_missing",
        what=f"role {name} is named in {circumstances.dump}, which does not hold it",
        blame=Blame.ENVIRONMENT,
        hint="Back up roles too, with pg_dumpall --globals-only, and name that file with --globals or as `globals`.",
    )


def _disarmed(error: RestoreError) -> Problem:
    return Problem(
        code=error.cause.value,
        what=f"{printable(error.entry) or 'a statement'} reads a foreign table, and a drill reaches no other server",
        blame=Blame.ENVIRONMENT,
    )


def _refused(error: RestoreError, circumstances: Circumstances, *, whole: bool) -> Problem:
    entry = printable(error.entry) or "a statement"
    reason = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    about = f", {quoted(printable(error.name))}" if error.name else ""
    return Problem(
        code="privilege_missing" if error.cause is Cause.PRIVILEGE else "restore_error",
        what=f"{entry} was not restored{about}{reason}",
        blame=_blame(error, circumstances, whole=whole),
    )


def _blame(error: RestoreError, circumstances: Circumstances, *, whole: bool) -> Blame:
    """Return who is to blame: what follows from software, a role or a privilege that lacks is not the dump's fault."""
    if not whole:
        return Blame.ENVIRONMENT
    if circumstances.replaced_locale and error.sqlstate == _CHECK_VIOLATED:
        return Blame.ENVIRONMENT
    if circumstances.newer_server and error.sqlstate not in _ROWS_AMISS:
        return Blame.ENVIRONMENT
    if error.cause is Cause.PRIVILEGE and (not circumstances.own_server or circumstances.missing_roles):
        return Blame.ENVIRONMENT
    return Blame.BACKUP
