"""Names of relations as people and SQL read them."""

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What could steer a terminal, or can't be written there: control and direction characters, and halves of pairs."""


def quoted(name: str) -> str:
    """Return an identifier for people to read, in double quotes where it would not be read back as it is.

    >>> quoted("visit"), quoted("Visit"), quoted('a"b')
    ('visit', '"Visit"', '"a""b"')
    """
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Return the schema-qualified name of a relation.

    >>> qualified("public", "Visit")
    'public."Visit"'
    """
    return f"{quoted(schema)}.{quoted(name)}"


def printable(text: str) -> str:
    r"""Return a text that cannot steer a terminal: control and direction characters are written as escapes.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return STEERING.sub(lambda match: ascii(match[0])[1:-1], text)
