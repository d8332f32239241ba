"""Layer `rows against the primary`: every row of the copy is the primary's, or a later transaction explains it."""

import time
from collections.abc import Sequence

from replcheck.drill.layers.layer import Case, Moment
from replcheck.model.drill import LayerName, LayerReport, LayerState
from replcheck.model.node import NodeTarget


class PrimaryLayer:
    """Compares a physical copy with the live primary, which is found among `nodes`."""

    name = LayerName.PRIMARY
    moment = Moment.OPEN

    def __init__(self, nodes: Sequence[NodeTarget], *, jobs: int = 2) -> None:
        self._nodes = tuple(nodes)
        self._jobs = jobs

    def run(self, case: Case) -> LayerReport:
        """Compare every relation that both hold, and report."""
        began = time.monotonic()
        return LayerReport(
            name=self.name,
            state=LayerState.NOT_RUN,
            reason="not built yet",
            elapsed_s=time.monotonic() - began,
        )
