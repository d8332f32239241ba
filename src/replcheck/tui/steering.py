"""Leaves no control character in what goes to the terminal: the last line behind all that writes names as escapes."""

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from replcheck.model.names import STEERING


class NoSteering(LineFilter):
    """Takes every control and direction character out of a line; none of them is counted as taking a cell."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's name
        """Return the segments of one line without them."""
        return [
            segment
            if segment.control or not STEERING.search(segment.text)
            else Segment(STEERING.sub("", segment.text), segment.style)
            for segment in segments
        ]
