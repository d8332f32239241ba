"""Several layers that look at one copy at the same time, each by connections of its own.

Only the caller's thread emits and takes reports, in the order of the layers, whichever comes first. No layer outlives
the call: where the drill is to stop, or one of them fails us, the others are told to stop and are waited for.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from replcheck.drill.layers.layer import Case, Layer
from replcheck.drill.stages import Share, Stages
from replcheck.errors import ReplcheckError
from replcheck.model.drill import LayerReport

_POLL_S = 0.1

Look = Callable[[Layer, Case], LayerReport]
Take = Callable[[LayerReport], None]


def look_together(layers: Sequence[Layer], case: Case, stages: Stages, look: Look, take: Take) -> None:
    """Have all layers look at once, and give `take` what each reported, in their order.

    Raises what the wish to stop and what a layer raises, once every layer has ended; what others had reported by then
    is taken all the same.
    """
    shares = [Share(stages) for _ in layers]

    def looked(layer: Layer, share: Share) -> LayerReport:
        report = look(layer, replace(case, stages=share))
        # What a layer says that was made to stop proves nothing.
        share.obey()
        return report

    with ThreadPoolExecutor(len(layers), thread_name_prefix="layer") as pool:
        left = [pool.submit(looked, layer, share) for layer, share in zip(layers, shares, strict=True)]
        try:
            _follow(left, shares, stages, take)
        except BaseException as error:
            for share in shares:
                share.end()
            wait(left)
            if isinstance(error, ReplcheckError):
                for future in left:
                    if future.exception() is None:
                        take(future.result())
            raise


def _follow(left: "list[Future[LayerReport]]", shares: Sequence[Share], stages: Stages, take: Take) -> None:
    """Take report after report out of `left`, and tell how far all layers together are."""
    waiting = set(left)
    while left:
        _, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        while left and left[0].done():
            report = left[0].result()
            left.pop(0)
            take(report)
        if left:
            newest = max(shares, key=lambda share: share.told)
            stages.expect(_total(shares))
            stages.progressed(sum(share.done_bytes for share in shares), newest.what)


def _total(shares: Sequence[Share]) -> int | None:
    """Return how many bytes all layers read, None where one that reads does not know; some read next to nothing."""
    if any(share.done_bytes and share.total_bytes is None for share in shares):
        return None
    return sum(share.total_bytes or 0 for share in shares) or None
