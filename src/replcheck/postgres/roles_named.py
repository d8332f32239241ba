"""Roles that the statements of a dump name: as owners, in grants, in policies. A dump does not make them."""

import re
from collections.abc import Iterable

_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\U0010ffff][\w$]*)'
_LIST = rf"{_NAME}(?:\s*,\s*{_NAME})*"
_PATTERNS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"^ALTER .* OWNER TO (?P<names>{_NAME});$",
        rf"^GRANT .* TO (?P<names>{_LIST})(?: WITH .*| GRANTED BY .*)?;$",
        rf"^REVOKE .* FROM (?P<names>{_LIST})(?: CASCADE)?;$",
        rf"^ALTER DEFAULT PRIVILEGES FOR ROLE (?P<names>{_NAME}) ",
        rf"^ALTER DEFAULT PRIVILEGES .* (?:TO|FROM) (?P<names>{_LIST})(?: WITH .*)?;$",
        rf"^CREATE POLICY .*? TO (?P<names>{_LIST})(?: USING| WITH CHECK|;)",
        rf"^CREATE USER MAPPING FOR (?P<names>{_NAME}) SERVER",
        rf"^CREATE SCHEMA .* AUTHORIZATION (?P<names>{_NAME});$",
    )
)
_EACH = re.compile(_NAME)
_NO_ROLES = frozenset({"PUBLIC", "public", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"})


def roles_named(statements: Iterable[str]) -> frozenset[str]:
    """Return the names of the roles in statements as pg_dump writes them, unquoted.

    >>> sorted(roles_named(["ALTER TABLE a OWNER TO app;", 'GRANT ALL ON TABLE a TO "The R";', "SELECT 1;"]))
    ['The R', 'app']
    """
    found = set()
    for statement in statements:
        for pattern in _PATTERNS:
            for match in pattern.finditer(statement):
                found |= {_unquoted(name) for name in _EACH.findall(match["names"]) if name not in _NO_ROLES}
    return frozenset(found)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
