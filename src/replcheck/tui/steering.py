"""Leaves no control character in what goes to the terminal: the last line behind all that writes names as escapes."""

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class NoSteering(LineFilter):
    """Takes every control and direction character out of a line; none of them is counted as taking a cell."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's name
        """Return the segments of one line without them."""
        return [
            segment
            if segment.control or not _STEERING.search(segment.text)
            else Segment(_STEERING.sub("", segment.text), segment.style)
            for segment in segments
        ]
