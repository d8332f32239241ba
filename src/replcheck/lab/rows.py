"""Finding a row to damage in the files of a stopped node, and saying what was done to it."""

from dataclasses import dataclass

from replcheck.errors import LabError
from replcheck.lab import pages, surgery
from replcheck.lab.pages import LinePointer, Span
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.lab.surgery import Heap, Site, Stored
from replcheck.model.audit import DifferenceKind

QUIET_TABLE = "clinic.chart"
"""The table of the lab's schema that no workload writes to."""
_LARGEST_TABLE = """
    select format('%I.%I', n.nspname, c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema')
    order by pg_relation_size(c.oid) desc limit 1
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A live row of a page."""

    block: int
    pointer: LinePointer
    data: bytes


def prepared(site: Site) -> Stored:
    """Return the relation to be damaged, its pages settled on disk; the quiet table or the largest one by default."""
    name = site.relation
    if name is None:
        primary = site.cluster.primary
        quiet = primary.execute("select to_regclass(%s) is not null", [QUIET_TABLE], site.database) == [(True,)]
        largest = [] if quiet else primary.execute(_LARGEST_TABLE, [], site.database)
        if not quiet and not largest:
            raise LabError(
                f"database {site.database} has no table to damage",
                hint="Let a load make its tables first: replcheck lab load",
            )
        name = QUIET_TABLE if quiet else largest[0][0]
    stored = surgery.describe(site, name)
    surgery.settle(site, stored)
    return stored


def found(
    site: Site,
    stored: Stored,
    kind: DifferenceKind,
    what: str,
    *,
    also: frozenset[DifferenceKind] = frozenset(),
    rows: int | None = None,
    block: int | None = None,
    offset: int | None = None,
) -> PlantedFault:
    """Describe a fault that makes rows differ; `what` is what was done, the rest as in PlantedFault."""
    return PlantedFault(
        fault="",
        node=site.node.name,
        what=what,
        cure=Cure.COPY,
        database=site.database,
        relation=stored.name,
        kind=kind,
        also=also,
        rows=rows,
        block=block,
        offset=offset,
    )


def unreadable(site: Site, stored: Stored, sqlstate: str, what: str, block: int | None = None) -> PlantedFault:
    """Describe a fault that makes rows unreadable, with what the server then raises."""
    return PlantedFault(
        fault="",
        node=site.node.name,
        what=what,
        cure=Cure.COPY,
        database=site.database,
        relation=stored.name,
        kind=DifferenceKind.UNREADABLE,
        block=block,
        sqlstate=sqlstate,
    )


def shuffled_rows(site: Site, files: Heap, block: int) -> list[Row]:
    """Return the live rows of a page, shuffled."""
    page = files.read(block)
    rows = [Row(block, pointer, pages.tuple_bytes(page, pointer)) for pointer in files.live(page)]
    site.rng.shuffle(rows)
    return rows


def any_row(site: Site, stored: Stored, files: Heap) -> Row:
    """Return a row that every snapshot sees; raise LabError where there is none."""
    for block in surgery.shuffled_blocks(site, files):
        for row in shuffled_rows(site, files, block):
            return row
    raise LabError(f"{stored.name} has no settled row", hint="Choose a relation with committed rows.")


def row_with_value(site: Site, stored: Stored, files: Heap) -> tuple[Row, Span]:
    """Return a row and a value of it, outside every index, that stays valid whatever its bytes."""
    for block in surgery.shuffled_blocks(site, files):
        for row in shuffled_rows(site, files, block):
            spans = pages.column_spans(row.data, stored.attributes)
            usable = [
                spans[name]
                for name in sorted(stored.robust_columns & spans.keys())
                if spans[name].plain and _flippable(row.data, spans[name])
            ]
            if usable:
                return row, site.rng.choice(usable)
    raise LabError(
        f"{stored.name} has no value whose bytes could be flipped unnoticed", hint="Choose another relation."
    )


def toasted_row(site: Site, stored: Stored, toast: Stored) -> tuple[Row, Row, Span]:
    """Return a row with an out-of-line value, the first chunk of that value, and where its bytes lie in the chunk."""
    chunks = {}
    toast_files = surgery.heap(site, toast)
    for block in range(toast_files.blocks):
        for chunk in shuffled_rows(site, toast_files, block):
            spans = pages.column_spans(chunk.data, toast.attributes)
            value_id = int.from_bytes(chunk.data[spans["chunk_id"].start :][:4], "little")
            if chunk.data[spans["chunk_seq"].start :][:4] == bytes(4):
                chunks[value_id] = (chunk, spans["chunk_data"])
    files = surgery.heap(site, stored)
    for block in surgery.shuffled_blocks(site, files):
        for row in shuffled_rows(site, files, block):
            for value_id in pages.toast_value_ids(row.data, stored.attributes):
                if value_id in chunks:
                    return row, *chunks[value_id]
    raise LabError(f"{stored.name} has no out-of-line value", hint="Choose a relation with wide values.")


def _flippable(row: bytes, span: Span) -> list[int]:
    """Return the offsets in a value at which the lowest bit can be flipped: not inside a multibyte character."""
    return [at for at in range(span.start, span.start + span.length) if row[at] < 0x80]


def bit_flipped(site: Site, page: bytes, row_at: int, span: Span) -> bytes:
    """Return a page with the lowest bit of one byte of a value flipped; the row begins at `row_at`."""
    row = page[row_at : row_at + span.start + span.length]
    at = row_at + site.rng.choice(_flippable(row, span) or [span.start])
    return pages.with_bytes(page, at, bytes([page[at] ^ 1]))
