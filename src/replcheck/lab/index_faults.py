"""Faults of an index: the rows of the heap stay as they are, but a query through the index does not find them."""

from replcheck.errors import LabError
from replcheck.lab import pages, surgery
from replcheck.lab.planted import Cure, PlantedFault
from replcheck.lab.rows import prepared
from replcheck.lab.surgery import Site

_INDEXES = """
    select i.indexrelid::int8 from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
    where i.indrelid = %s::int8::oid and a.amname = 'btree' order by i.indisunique desc, i.indexrelid
"""


def index_mismatch(site: Site) -> PlantedFault:
    """Take one entry out of a B-tree index of a table, a unique one where it has one; the table stays as it is."""
    stored = prepared(site)
    found = site.cluster.primary.execute(_INDEXES, [stored.oid], site.database)
    if not found:
        raise LabError(f"{stored.name} has no B-tree index", hint="Choose another relation.")
    index = surgery.by_oid(site, found[0][0])
    with surgery.stopped(site):
        files = surgery.heap(site, index)
        for block in surgery.shuffled_blocks(site, files):
            page = files.read(block)
            entries = [entry.number for entry in pages.leaf_entries(page)]
            if entries:
                files.write(block, pages.without_line_pointer(page, site.rng.choice(entries)))
                break
        else:
            raise LabError(f"index {index.name} has no entry", hint="Choose another relation.")
    return PlantedFault(
        fault="",
        node=site.node.name,
        what=f"one entry was taken out of index {index.name}",
        cure=Cure.COPY,
        database=site.database,
        relation=stored.name,
    )
