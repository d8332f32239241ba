"""What belongs to a database beside its rows."""

from dataclasses import dataclass, field

from replcheck.drill.layers.layer import Case, Moment
from replcheck.model.drill import LayerName, LayerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessLayer:
    """Looks for what a restore can lose beside rows."""

    name: LayerName = field(default=LayerName.COMPLETENESS, init=False)
    moment: Moment = field(default=Moment.OPEN, init=False)

    def run(self, case: Case) -> LayerReport:
        """Look, and report."""
        raise NotImplementedError
