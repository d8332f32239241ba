"""Verifies chains: a file with nothing but public keys, or the lines of a history. Streams; memory does not grow.

Signatures are most of the work, so that where there are many lines, several processes open them; what they found is
judged here, in order.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

from replcheck.errors import StoreError, UsageError
from replcheck.evidence.chain import View, judge
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.opening import MOST_BYTES, Keys, Opened, Unreadable, open_line
from replcheck.evidence.statement import PREDICATE_TYPES
from replcheck.model.evidence import ChainReport, RecordKind

_AT_A_TIME = 250
_FEW = 2_000
"""So many lines are opened sooner than another process is started."""
_MOST_PROCESSES = 8
_RUN = PREDICATE_TYPES[RecordKind.RUN]
_WHERE_FROM = 'A file of evidence is written by "replcheck evidence export".'
Line = Opened | Unreadable


def verify_file(path: Path, keys: Sequence[PublicKey], *, anchor: str | None = None) -> ChainReport:
    """Return what is found of an exported file; raise UsageError where it cannot be read or is no such file."""
    with reading(path) as lines:
        return judge(opened(lines, keys, brief=True), View.FILE, with_keys=bool(keys), anchor=anchor)


@contextmanager
def reading(path: Path) -> Iterator[Iterator[bytes]]:
    """Give the block the lines of an exported file; raise UsageError where it cannot be read or is no such file."""
    try:
        with path.open("rb") as file:
            if not any(isinstance(open_line(line, {}), Opened) for line in _lines(file)):
                raise UsageError(
                    f"{path} is no exported evidence",
                    hint='A file of evidence is written by "replcheck evidence export".',
                )
            file.seek(0)
            yield _lines(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or 'unknown error').lower()}") from error


def opened(lines: Iterable[bytes], keys: Sequence[PublicKey], *, brief: bool = False) -> Iterator[Line]:
    """Yield what each line says, in order; opened by several processes where there are many.

    With `brief`, what is said of runs may be left out.
    """
    verifiers = {key.key_id: key.verifier for key in keys}
    rest = iter(lines)
    few = list(islice(rest, _FEW))
    yield from (open_line(line, verifiers) for line in few)
    more = next(rest, None)
    if more is None:
        return
    rest = chain([more], rest)
    processes = _processes()
    if processes == 1:
        yield from (open_line(line, verifiers) for line in rest)
        return
    yield from _opened_by_several(rest, keys, processes, brief=brief)


def _processes() -> int:
    return min(os.cpu_count() or 1, _MOST_PROCESSES)


def _opened_by_several(
    lines: Iterator[bytes], keys: Sequence[PublicKey], processes: int, *, brief: bool
) -> Iterator[Line]:
    # Started afresh: a copy of this process would hold its threads' locks and its connections.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(tuple(keys),))
    try:
        waiting: deque[Future[list[Line]]] = deque()
        for batch in iter(partial(_batch, lines), []):
            waiting.append(pool.submit(_open_batch, batch, brief))
            if len(waiting) > 2 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StoreError("a process that verified signatures was ended", hint="Try again.") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(lines: Iterator[bytes]) -> list[bytes]:
    return list(islice(lines, _AT_A_TIME))


_verifiers: Keys = {}


def _begin(keys: tuple[PublicKey, ...]) -> None:
    global _verifiers  # noqa: PLW0603 - what a process of the pool works with all its life
    _verifiers = {key.key_id: key.verifier for key in keys}


def _open_batch(lines: list[bytes], brief: bool) -> list[Line]:
    return [_shortened(open_line(line, _verifiers), brief) for line in lines]


def _shortened(line: Line, brief: bool) -> Line:
    return line._replace(held={}) if brief and isinstance(line, Opened) and line.predicate_type == _RUN else line


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends; one that is longer than any record comes cut, and is refused as such."""
    while line := file.readline(MOST_BYTES + 2):
        yield line.removesuffix(b"\n")
