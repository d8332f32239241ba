"""Layer `rows against a seal`: every relation of the copy has the digests that the primary had at the restore point."""

import time

from replcheck.drill.layers.layer import Case, Moment
from replcheck.model.drill import LayerName, LayerReport, LayerState
from replcheck.model.seal import SealManifest


class SealLayer:
    """Compares a copy with a seal; `seal` is None where none belongs to this drill."""

    name = LayerName.SEAL
    moment = Moment.OPEN

    def __init__(self, seal: SealManifest | None, *, jobs: int = 2) -> None:
        self._seal = seal
        self._jobs = jobs

    def run(self, case: Case) -> LayerReport:
        """Compare every sealed relation, and report."""
        began = time.monotonic()
        return LayerReport(
            name=self.name,
            state=LayerState.NOT_RUN,
            reason="not built yet",
            elapsed_s=time.monotonic() - began,
        )
