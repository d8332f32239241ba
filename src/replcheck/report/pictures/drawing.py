"""The pen of all pictures: shapes with a title and a description, written as SVG by an XML library.

Every text passes through `printable` and the library's own escaping, so that no name can be markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from replcheck.model.names import printable

Attribute = str | float
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One picture."""

    name: str
    """Unique in its paper: letters, digits and hyphens."""
    title: str
    description: str
    """What it shows, for whoever does not see it."""
    width: int
    """Of its own coordinates; it scales to the page."""
    height: int
    shapes: str
    """The content as SVG, without the element around it."""


class Canvas:
    """Collects shapes; `y` grows downwards, as in SVG."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._root = ET.Element("g")

    def rect(
        self, x: float, y: float, width: float, height: float, *, kind: str, tip: str = "", round_px: float = 0
    ) -> None:
        """Add a rectangle; `kind` are its classes, `tip` what a pointer over it tells."""
        if width <= 0 or height <= 0:
            return
        shape = self._shape("rect", kind, x=x, y=y, width=width, height=height)
        if round_px:
            shape.set("rx", _number(round_px))
        self._tip(shape, tip)

    def line(self, start: Point, end: Point, *, kind: str) -> None:
        """Add a straight line."""
        self._shape("line", kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def path(self, points: Sequence[Point], *, kind: str, closed: bool = False) -> None:
        """Add a line through points."""
        if len(points) < 2:
            return
        d = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points) + ("Z" if closed else "")
        self._shape("path", kind, d=d)

    def dot(self, x: float, y: float, radius: float, *, kind: str, tip: str = "") -> None:
        """Add a dot."""
        self._tip(self._shape("circle", kind, cx=x, cy=y, r=radius), tip)

    def text(self, x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> None:
        """Add a text whose base line begins, has its middle or ends at a point."""
        shape = self._shape("text", f"t {kind}".strip(), x=x, y=y)
        if anchor != "start":
            shape.set("text-anchor", anchor)
        shape.text = printable(text)

    def finished(self, *, name: str, title: str, description: str) -> Drawing:
        """Return the picture."""
        shapes = "".join(ET.tostring(shape, encoding="unicode") for shape in self._root)
        return Drawing(
            name=name, title=title, description=description, width=self.width, height=self.height, shapes=shapes
        )

    def _shape(self, tag: str, kind: str, **attributes: Attribute) -> ET.Element:
        given = {key: value if isinstance(value, str) else _number(value) for key, value in attributes.items()}
        return ET.SubElement(self._root, tag, {"class": kind, **given})

    def _tip(self, shape: ET.Element, tip: str) -> None:
        if tip:
            ET.SubElement(shape, "title").text = printable(tip)


def shortened(text: str, letters: int) -> str:
    """Return a text of at most so many letters, its middle left out where it is longer.

    >>> shortened("postgres.clinic.prescription", 15)
    'postgre…ription'
    """
    if len(text) <= letters:
        return text
    left = (letters - 1) // 2
    return f"{text[:left]}…{text[len(text) - (letters - 1 - left) :]}"


def _number(value: float) -> str:
    # A hundredth of a unit is less than any screen or printer shows, and keeps pictures of a year small.
    return f"{value:.2f}".rstrip("0").rstrip(".")
