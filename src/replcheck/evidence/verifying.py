"""Verifies chains: a file with nothing but public keys, or the lines of a history. Streams; memory does not grow.

Signatures are most of the work, so that where there are many lines, several processes open them; what they found is
judged here, in order.
"""

import gc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, TypeVar

from replcheck.errors import StoreError, UsageError
from replcheck.evidence.chain import ChainFold, View, folded
from replcheck.evidence.keys import PublicKey
from replcheck.evidence.opening import MOST_BYTES, Keys, Opened, Unreadable, open_line, open_lines
from replcheck.model.evidence import ChainReport

_AT_A_TIME = 250
_FEW = 2_000
"""So many lines are opened sooner than another process is started."""
_MOST_PROCESSES = 8
Line = Opened | Unreadable
Opening = Callable[[Sequence[bytes], Keys], list[Line]]
Done = TypeVar("Done")


def verify_file(
    path: Path, keys: Sequence[PublicKey], *, anchor: str | None = None, every_signature: bool = False
) -> ChainReport:
    """Return what is found of an exported file; raise UsageError where it cannot be read or is no such file.

    Where there are many lines, signatures that later records attest are verified with `every_signature` only.
    """
    opening = _every if every_signature else open_lines
    with reading(path) as lines:
        few = list(islice(lines, _FEW))
        processes = _processes()
        if len(few) < _FEW or processes == 1:
            verifiers = _verifiers_of(keys)
            work = partial(_judged_part, anchor, _every if len(few) < _FEW else opening, verifiers)
            batches = iter(partial(_batch, chain(few, lines)), [])
            return _joined(((batch, work(batch)) for batch in batches), keys, anchor)
        judging = partial(_judged_there, anchor, opening)
        return _joined(_by_several(chain(few, lines), keys, processes, judging), keys, anchor)


def _joined(
    parts: Iterable[tuple[list[bytes], ChainFold]], keys: Sequence[PublicKey], anchor: str | None
) -> ChainReport:
    """Return what is found of parts that were judged apart; one that is not simply whole is looked at here, closely."""
    fold = ChainFold(view=View.FILE, anchor=anchor)
    verifiers = _verifiers_of(keys)
    for lines, part in parts:
        if not fold.take_part(part) and not all(fold.take(line) for line in _every(lines, verifiers)):
            break
    return fold.finished()


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


def opened(lines: Iterable[bytes], keys: Sequence[PublicKey], *, every_signature: bool = False) -> Iterator[Line]:
    """Yield what each line says, in order; opened by several processes where there are many.

    Then signatures that later records attest are verified with `every_signature` only.
    """
    verifiers = _verifiers_of(keys)
    opening = _every if every_signature else open_lines
    rest = iter(lines)
    few = list(islice(rest, _FEW))
    yield from _every(few, verifiers)
    processes = _processes()
    if len(few) < _FEW or processes == 1:
        for batch in iter(partial(_batch, rest), []):
            yield from opening(batch, verifiers)
        return
    for _, read in _by_several(rest, keys, processes, partial(_opened_there, opening)):
        yield from read


def _processes() -> int:
    return min(os.cpu_count() or 1, _MOST_PROCESSES)


def _by_several(
    lines: Iterator[bytes], keys: Sequence[PublicKey], processes: int, work: Callable[[list[bytes]], Done]
) -> Iterator[tuple[list[bytes], Done]]:
    """Yield lines, a few at a time and in order, with what another process made of them."""
    # Started afresh: a copy of this process would hold its threads' locks and its connections.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(tuple(keys),))
    try:
        waiting: deque[tuple[list[bytes], Future[Done]]] = deque()
        for batch in iter(partial(_batch, lines), []):
            waiting.append((batch, pool.submit(work, batch)))
            if len(waiting) > 2 * processes:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()
    except BrokenProcessPool as error:
        raise StoreError("a process that verified signatures was ended", hint="Try again.") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(lines: Iterator[bytes]) -> list[bytes]:
    return list(islice(lines, _AT_A_TIME))


def _verifiers_of(keys: Iterable[PublicKey]) -> Keys:
    return {key.key_id: key.verifier for key in keys}


_verifiers: Keys = {}


def _begin(keys: tuple[PublicKey, ...]) -> None:
    global _verifiers  # noqa: PLW0603 - what a process of the pool works with all its life
    _verifiers = _verifiers_of(keys)
    gc.disable()  # what is read refers to nothing that refers back


def _opened_there(opening: Opening, lines: list[bytes]) -> list[Line]:
    return opening(lines, _verifiers)


def _judged_there(anchor: str | None, opening: Opening, lines: list[bytes]) -> ChainFold:
    return _judged_part(anchor, opening, _verifiers, lines)


def _judged_part(anchor: str | None, opening: Opening, keys: Keys, lines: list[bytes]) -> ChainFold:
    return folded(opening(lines, keys), View.PART, anchor=anchor)


def _every(lines: Sequence[bytes], keys: Keys) -> list[Line]:
    """Open lines with each signature verified."""
    return [open_line(line, keys) for line in lines]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends; one that is longer than any record comes cut, and is refused as such."""
    while line := file.readline(MOST_BYTES + 2):
        yield line.removesuffix(b"\n")
