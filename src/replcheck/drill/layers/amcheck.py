"""Tables and indexes of the copy, checked by the extension amcheck."""

from dataclasses import dataclass, field

from replcheck.drill.layers.layer import Case, Moment
from replcheck.model.drill import LayerName, LayerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AmcheckLayer:
    """Checks every heap and B-tree index of the copy."""

    jobs: int = 2
    """Connections that check at the same time."""
    name: LayerName = field(default=LayerName.AMCHECK, init=False)
    moment: Moment = field(default=Moment.OPEN, init=False)

    def run(self, case: Case) -> LayerReport:
        """Check, and report."""
        raise NotImplementedError
