"""Faults of pages and files: what disks and file systems lose, keep too long or cut off."""

from replcheck.errors import LabError
from replcheck.lab import pages, surgery
from replcheck.lab.pages import HEADER_SIZE
from replcheck.lab.planted import PlantedFault
from replcheck.lab.rows import any_row, found, prepared, unreadable
from replcheck.lab.surgery import Site, Stored
from replcheck.model.audit import DifferenceKind
from replcheck.postgres.local import sql

QUIET_SEQUENCE = "clinic.invoice"


def zero_page(site: Site) -> PlantedFault:
    """Replace one page by zeros, as after a lost extent: PostgreSQL takes it for a page not used yet."""
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        row = any_row(site, stored, files)
        rows = len(files.live(files.read(row.block)))
        files.write(row.block, bytes(pages.PAGE_SIZE))
    return found(site, stored, DifferenceKind.MISSING, "one page was zeroed", rows=rows, block=row.block)


def break_page_header(site: Site) -> PlantedFault:
    """Make a page header impossible: unreadable with and without checksums."""
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        row = any_row(site, stored, files)
        page = files.read(row.block)
        files.write(row.block, pages.with_bounds(page, lower=pages.PAGE_SIZE - 1, upper=HEADER_SIZE))
    return unreadable(site, stored, "XX001", "one page header was overwritten", block=row.block)


def lost_write(site: Site) -> PlantedFault:
    """Put an old version of a page back after the primary updated all its rows: a write that never reached the disk."""
    stored = prepared(site)
    files = surgery.heap(site, stored)
    row = any_row(site, stored, files)
    before = files.read(row.block)
    table = sql.Identifier(stored.schema, stored.relation)
    column = sql.Identifier(_column(stored))
    site.cluster.primary.execute(
        sql.SQL("update {table} set {column} = {column} where ctid >= %s::tid and ctid < %s::tid").format(
            table=table, column=column
        ),
        [f"({row.block},0)", f"({row.block + 1},0)"],
        site.database,
    )
    surgery.settle(site, stored)
    with surgery.stopped(site):
        files.write(row.block, before)
    return found(
        site,
        stored,
        DifferenceKind.EXTRA,
        "an old version of one page was put back",
        also=frozenset({DifferenceKind.MISSING, DifferenceKind.CHANGED}),
        block=row.block,
    )


def truncate_file(site: Site) -> PlantedFault:
    """Cut off the last third of a relation's file, at least one page."""
    stored = prepared(site)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        if not 0 < files.blocks <= pages.BLOCKS_PER_SEGMENT:
            raise LabError(f"{stored.name} does not lie in one file of at least one page")
        kept = files.blocks - max(1, files.blocks // 3)
        rows = sum(len(files.live(files.read(block))) for block in range(kept, files.blocks))
        files.truncate(kept)
    return found(site, stored, DifferenceKind.MISSING, "the end of a file was cut off", rows=rows, block=kept)


def missing_file(site: Site) -> PlantedFault:
    """Remove a relation's file."""
    stored = prepared(site)
    with surgery.stopped(site):
        surgery.heap(site, stored).unlink()
    return unreadable(site, stored, "58P01", "the file of a relation was removed")


def sequence_behind(site: Site) -> PlantedFault:
    """Set a sequence back by half of its value, at least 100, in its file."""
    stored = surgery.describe(site, site.relation or QUIET_SEQUENCE)
    [(last,)] = site.cluster.primary.execute(
        sql.SQL("select last_value from {}").format(sql.Identifier(stored.schema, stored.relation)), [], site.database
    )
    surgery.settle(site, None)
    with surgery.stopped(site):
        files = surgery.heap(site, stored)
        page = files.read(0)
        [pointer] = pages.line_pointers(page)
        row = pages.tuple_bytes(page, pointer)
        value = (last - max(100, last // 2)).to_bytes(8, "little", signed=True)
        files.write(0, pages.with_bytes(page, pointer.offset + row[22], value))
    return found(site, stored, DifferenceKind.CHANGED, "a sequence was set back", rows=1)


def _column(stored: Stored) -> str:
    """Return a column that can be updated."""
    names = sorted(stored.robust_columns) or [
        attribute.name for attribute in stored.attributes if not attribute.name.startswith("........pg.dropped")
    ]
    if not names:
        raise LabError(f"{stored.name} has no column to update", hint="Choose another relation.")
    return names[0]
