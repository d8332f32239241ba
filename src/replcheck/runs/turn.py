"""A run's turn: runs that were killed are recorded first, then the lock is taken.

What was killed could record nothing itself, and what finds another at work never begins: both leave evidence all the
same. What cannot be recorded here costs the record, never the run.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from replcheck.errors import AlreadyRunning, StoreError
from replcheck.model.run import RunStart
from replcheck.runs.lock import is_held, lock_file
from replcheck.runs.recorder import Recorder
from replcheck.runs.records import failed
from replcheck.runs.signing import Signing


@contextmanager
def turn_of(
    start: RunStart, lock: AbstractContextManager[None], *, store: Path | None, signing: Signing, unchecked: str
) -> Iterator[None]:
    """Hold `lock` while the block runs; raise AlreadyRunning, and record the run as skipped, where another holds it.

    `unchecked` is the use case's word for a run that looked at nothing.
    """
    if store is not None:
        record_killed(store, start.cluster, signing)
    with ExitStack() as held:
        try:
            held.enter_context(lock)
        except AlreadyRunning as error:
            Recorder(store, signing).finish(failed(start, unchecked, error))
            raise
        yield


def record_killed(store: Path, cluster: str, signing: Signing) -> int:
    """Record the runs of a cluster that were killed and of which no record tells; return how many.

    A run whose lock is held may still be at work, and is left alone, and so are all of its kind.
    """
    if not store.exists():
        return 0
    from replcheck.store import open_evidence, open_history

    with suppress(StoreError):
        # Asked for in this order: who is listed had the lock before, and who still works still has it.
        unended = open_evidence(store).unended(cluster)
        lost = [run for run in unended if _is_lost(store, run.kind)]
        if lost:
            history, notary = open_history(store), signing.notary()
            return sum(history.append_abort(run, notary.of_run(run)) for run in lost)
    return 0


def _is_lost(store: Path, kind: str) -> bool:
    lock = lock_file(store, kind)
    # Without its file nothing can be said: where it cannot be created, runs work without a lock.
    return lock.exists() and not is_held(lock)
