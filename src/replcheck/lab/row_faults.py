"""Faults of single rows: what memory, disks and software do to them without telling PostgreSQL."""

from collections.abc import Callable
from itertools import pairwise

from replcheck.errors import LabError
from replcheck.lab import pages, surgery
from replcheck.lab.pages import HEADER_SIZE, LinePointer, LineState
from replcheck.lab.planted import PlantedFault
from replcheck.lab.rows import Row, any_row, bit_flipped, found, prepared, row_with_value, toasted_row, unreadable
from replcheck.lab.surgery import Heap, Site
from replcheck.model.audit import DifferenceKind


def flip_row_bytes(site: Site) -> PlantedFault:
    """Flip one bit of a column's value in one live row; the page checksum is right again, so that nothing notices."""
    return _flip(site, mend_checksum=True)


def flip_on_primary(site: Site) -> PlantedFault:
    """Flip one bit of a column's value in one live row of the primary, silently: the broken copy is the original."""
    return _flip(site, mend_checksum=True)


def flip_page_bytes(site: Site) -> PlantedFault:
    """Flip one bit of a column's value in one live row and leave the page checksum: unreadable where there is one."""
    return _flip(site, mend_checksum=False)


def lose_row(site: Site) -> PlantedFault:
    """Mark the line pointer of one live row dead."""

    def lose(page: bytes, row: Row) -> bytes:
        dead = LinePointer(number=row.pointer.number, offset=0, state=LineState.DEAD, length=0)
        return pages.with_line_pointer(page, dead)

    return _change_row(site, lose, DifferenceKind.MISSING, "the line pointer of one row was marked dead")


def hide_row(site: Site) -> PlantedFault:
    """Hint one row as inserted by an aborted transaction, as an imported snapshot can do on a standby."""

    def hide(page: bytes, row: Row) -> bytes:
        mask = pages.infomask(row.data) & ~pages.HEAP_XMIN_COMMITTED | pages.HEAP_XMIN_INVALID
        page = pages.with_bytes(page, row.pointer.offset, pages.with_infomask(row.data, mask))
        return pages.with_flags(page, pages.flags(page) & ~pages.PD_ALL_VISIBLE)

    return _change_row(site, hide, DifferenceKind.MISSING, "one row was hinted as never committed")


def invent_row(site: Site) -> PlantedFault:
    """Add a copy of a live row where its page, or another one, has room."""
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        for block in surgery.shuffled_blocks(site, files):
            page = files.read(block)
            rows = [pointer for pointer in files.live(page) if _fits(page, pointer)]
            if rows:
                changed, number = _with_copy(page, site.rng.choice(rows), block)
                files.write(block, changed)
                break
        else:
            raise LabError(f"no page of {stored.name} has room for another row", hint="Choose another relation.")
    what = "a copy of one row was added to its page"
    return found(site, stored, DifferenceKind.EXTRA, what, rows=1, block=block, offset=number)


def swap_rows(site: Site) -> PlantedFault:
    """Exchange the positions of two rows of one page: the same rows, each where the other was."""
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        for block in surgery.shuffled_blocks(site, files):
            page = files.read(block)
            pair = _two_different(site, files, page)
            if pair:
                files.write(block, _swapped(page, block, *pair))
                break
        else:
            raise LabError(f"no page of {stored.name} has two different rows", hint="Choose another relation.")
    what = "two rows of one page changed places"
    return found(site, stored, DifferenceKind.CHANGED, what, rows=2, block=block, offset=pair[0].number)


def corrupt_toast(site: Site) -> PlantedFault:
    """Flip one bit of a value that is stored out of line and uncompressed; the page checksum is right again."""
    return _change_toast(site, lose=False)


def lose_toast_chunk(site: Site) -> PlantedFault:
    """Mark the line pointer of one chunk of an out-of-line value dead: its row cannot be read any more."""
    return _change_toast(site, lose=True)


def _flip(site: Site, *, mend_checksum: bool) -> PlantedFault:
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        row, span = row_with_value(site, stored, files)
        page = files.read(row.block)
        changed = bit_flipped(site, page, row.pointer.offset, span)
        has_checksum = pages.stored_checksum(page) != 0
        files.write(row.block, changed, mend_checksum=mend_checksum)
    if mend_checksum or not has_checksum:
        what = "one bit of a value was flipped"
        block, offset = row.block, row.pointer.number
        return found(site, stored, DifferenceKind.CHANGED, what, rows=1, block=block, offset=offset)
    return unreadable(site, stored, "XX001", "one bit was flipped under a page checksum", block=row.block)


def _change_row(site: Site, change: Callable[[bytes, Row], bytes], kind: DifferenceKind, what: str) -> PlantedFault:
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        row = any_row(site, stored, files)
        files.write(row.block, change(files.read(row.block), row))
    return found(site, stored, kind, what, rows=1, block=row.block, offset=row.pointer.number)


def _change_toast(site: Site, *, lose: bool) -> PlantedFault:
    stored = prepared(site)
    if not stored.toast_oid:
        raise LabError(f"{stored.name} has no TOAST table", hint="Choose a relation with wide values.")
    toast = surgery.by_oid(site, stored.toast_oid)
    with surgery.stopped(site):
        row, chunk, span = toasted_row(site, stored, toast)
        files = surgery.heap(site, toast)
        page = files.read(chunk.block)
        if lose:
            dead = LinePointer(number=chunk.pointer.number, offset=0, state=LineState.DEAD, length=0)
            files.write(chunk.block, pages.with_line_pointer(page, dead))
        else:
            files.write(chunk.block, bit_flipped(site, page, chunk.pointer.offset, span))
    if lose:
        return unreadable(site, stored, "XX001", "one chunk of an out-of-line value was lost", block=row.block)
    what = "one bit of an out-of-line value was flipped"
    block, offset = row.block, row.pointer.number
    return found(site, stored, DifferenceKind.CHANGED, what, rows=1, block=block, offset=offset)


def _fits(page: bytes, pointer: LinePointer) -> bool:
    return pages.free_bytes(page) >= pages.maxalign(pointer.length) + 4


def _with_copy(page: bytes, pointer: LinePointer, block: int) -> tuple[bytes, int]:
    """Return a page with a copy of one of its rows, and the copy's line pointer number."""
    number = len(pages.line_pointers(page)) + 1
    at = pages.upper(page) - pages.maxalign(pointer.length)
    copy = pages.with_ctid(pages.tuple_bytes(page, pointer), block, number)
    page = pages.with_bounds(page, lower=pages.lower(page) + 4, upper=at)
    page = pages.with_bytes(page, at, copy)
    added = LinePointer(number=number, offset=at, state=LineState.NORMAL, length=pointer.length)
    return pages.with_line_pointer(page, added), number


def _two_different(site: Site, files: Heap, page: bytes) -> tuple[LinePointer, LinePointer] | None:
    rows = files.live(page)
    site.rng.shuffle(rows)
    for first, second in pairwise(rows):
        if pages.tuple_bytes(page, first)[HEADER_SIZE:] != pages.tuple_bytes(page, second)[HEADER_SIZE:]:
            return first, second
    return None


def _swapped(page: bytes, block: int, first: LinePointer, second: LinePointer) -> bytes:
    for number, other in ((first.number, second), (second.number, first)):
        moved = LinePointer(number=number, offset=other.offset, state=other.state, length=other.length)
        row = pages.with_ctid(pages.tuple_bytes(page, other), block, number)
        page = pages.with_line_pointer(pages.with_bytes(page, other.offset, row), moved)
    return page
