"""The one form of JSON that is digested and signed: whoever writes the same content again gets the same bytes."""

import hashlib
import json


def canonical(content: object) -> bytes:
    r"""Return JSON in the one form that is digested: sorted keys, no blanks, ASCII.

    >>> print(canonical({"b": 1, "a": "é"}).decode())
    {"a":"\u00e9","b":1}
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def canonical_digest(content: object) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal digits."""
    return hashlib.sha256(canonical(content)).hexdigest()
