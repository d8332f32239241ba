"""Posts a few lines of text to an address that is a secret: no message, log or exception holds any part of it."""

import http.client
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import stamina
from stamina.instrumentation import set_on_retry_hooks

from replcheck import __version__

if TYPE_CHECKING:
    from replcheck.runs.ping import Patience

_LONGEST_BODY = 10_000
"""Bytes; what a monitor keeps of a body is bounded."""
_WORTH_ANOTHER_TRY = (408, 429)


class NotHeard(Exception):
    """The monitor could not be told; holds no part of the address."""


class _TryAgain(NotHeard):
    """It may be able to be told in a moment."""


def post(url: str, body: str, patience: "Patience") -> None:
    """Send the text by POST, and again where that may help; raise NotHeard where it was to no avail."""
    for attempt in _attempts(patience):
        with attempt:
            _post_once(url, body, patience.request_s)


def _attempts(patience: "Patience") -> Iterator[AbstractContextManager[object]]:
    set_on_retry_hooks(())  # they would log what was tried
    yield from stamina.retry_context(
        on=_TryAgain,
        attempts=patience.attempts,
        timeout=patience.whole_s,
        wait_initial=patience.first_wait_s,
        wait_jitter=patience.first_wait_s,
        wait_max=patience.whole_s,
    )


def _post_once(url: str, body: str, timeout_s: float) -> None:
    data = body.encode("utf-8", errors="replace")[:_LONGEST_BODY]
    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": f"replcheck/{__version__}"}
    request = Request(url, data=data, headers=headers, method="POST")  # noqa: S310 - http and https alone come here
    try:
        with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read(1000)
    except HTTPError as error:
        error.close()  # it is the answer, too
        kind = _TryAgain if error.code >= 500 or error.code in _WORTH_ANOTHER_TRY else NotHeard
        raise kind(f"the monitor answered {error.code}") from None
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        # Messages of other libraries may quote the address.
        raise _TryAgain(_reason(error)) from None


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(inner, TimeoutError):
        return "the monitor did not answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return str(inner.strerror).lower()
    return type(inner).__name__
