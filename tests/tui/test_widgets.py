"""Lists and drawn lines on their own: they draw what changed, and what they show is what they were given."""

from collections.abc import Iterable

import pytest
from textual.app import App
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

from replcheck.tui.widgets.canvas import Canvas, DrawLines
from replcheck.tui.widgets.rows import RowList

WIDTH, HEIGHT = 40, 12


class Alone(App[None]):
    """An application of one widget."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self._widget = widget

    def compose(self) -> Iterable[Widget]:
        """Make the widget."""
        yield self._widget


class Listed:
    """Rows that are shown in a list, each an object of its own, and the lines that are drawn of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.list = RowList(id="rows")
        self.rows = [[f"row {number}"] for number in range(100)]
        self.drawn: list[int] = []
        self._shown = 0
        render = RowList.render_line

        def counted(widget: RowList, y: int) -> object:
            self.drawn.append(y)
            return render(widget, y)

        monkeypatch.setattr(RowList, "render_line", counted)

    def show(self) -> None:
        rows = list(self.rows)
        self._shown += 1
        self.list.show(
            range(len(rows)),
            lambda _: Content(f"shown {self._shown}"),
            lambda number, _: Content(rows[number][0]),
            of=self._shown,
            token=rows.__getitem__,
        )

    def lines(self) -> list[str]:
        return [self.list.render_line(y).text.strip(" ›") for y in range(HEIGHT)]


async def test_of_a_list_those_lines_are_drawn_anew_that_show_something_else(monkeypatch):
    listed = Listed(monkeypatch)
    async with Alone(listed.list).run_test(size=(WIDTH, HEIGHT)) as pilot:
        listed.show()
        await pilot.pause()
        listed.drawn.clear()
        listed.rows[4], listed.rows[50] = ["changed"], ["out of sight"]
        listed.show()
        await pilot.pause()
        assert set(listed.drawn) == {0, 1, 5}  # titles, the cursor's row, the row that changed
        assert listed.lines()[:6] == ["shown 2", "row 0", "row 1", "row 2", "row 3", "changed"]


async def test_of_a_list_that_is_scrolled_the_lines_in_sight_are_drawn_anew(monkeypatch):
    listed = Listed(monkeypatch)
    async with Alone(listed.list).run_test(size=(WIDTH, HEIGHT)) as pilot:
        listed.show()
        await pilot.pause()
        await pilot.press("end")
        await pilot.pause()
        listed.drawn.clear()
        listed.rows[4], listed.rows[95] = ["out of sight"], ["changed"]
        listed.show()
        await pilot.pause()
        assert set(listed.drawn) == {0, 7, 11}
        assert listed.lines()[6:9] == ["row 94", "changed", "row 96"]


async def test_rows_that_come_and_go_are_drawn(monkeypatch):
    listed = Listed(monkeypatch)
    async with Alone(listed.list).run_test(size=(WIDTH, HEIGHT)) as pilot:
        listed.show()
        await pilot.pause()
        del listed.rows[2:]
        listed.show()
        await pilot.pause()
        assert [line for line in listed.lines() if line] == ["shown 2", "row 0", "row 1"]
        listed.drawn.clear()
        listed.rows.append(["new"])
        listed.show()
        await pilot.pause()
        assert len(set(listed.drawn)) == HEIGHT
        assert [line for line in listed.lines() if line] == ["shown 3", "row 0", "row 1", "new"]


def drawing(said: list[str]) -> DrawLines:
    return lambda _width, _height: [Content(word) for word in said]


async def test_lines_are_laid_out_anew_only_where_their_number_changes(monkeypatch):
    canvas = Canvas()
    canvas.styles.height = "auto"
    async with Alone(canvas).run_test(size=(WIDTH, HEIGHT)) as pilot:
        for shown, (said, height) in enumerate([(["a"], 1), (["b"], 1), (["b", "c"], 2), (["d"], 1)]):
            canvas.show(drawing(said), shown)
            await pilot.pause()
            assert canvas.size.height == height
            assert [canvas.render_line(y).text.strip() for y in range(height)] == said
        laid_out: list[bool] = []
        refresh = Canvas.refresh

        def counted(widget: Canvas, *regions: Region, layout: bool = False, **more: bool) -> Canvas:
            laid_out.append(layout)
            return refresh(widget, *regions, layout=layout, **more)

        monkeypatch.setattr(Canvas, "refresh", counted)
        canvas.show(lambda _width, _height: [Content("e")], "another")
        assert laid_out == [False]
