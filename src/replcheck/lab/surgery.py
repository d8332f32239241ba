"""Changes to the files of a stopped node: how storage breaks, while the server looks away.

A change lasts only if the node's WAL replay does not overwrite it. So the relation is vacuumed and frozen first, both
nodes make a checkpoint, the standby's at the primary's, and the node is stopped cleanly: what it replays after its
start then begins behind the pages in question. Later writes of the primary to such a page may still mend it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from replcheck.errors import LabError
from replcheck.lab import pages
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pages import BLOCKS_PER_SEGMENT, PAGE_SIZE, Attribute, LinePointer
from replcheck.postgres.local import sql
from replcheck.postgres.server import LocalServer

_FREEZE_S = 4.0
_ALIGN = {"c": 1, "s": 2, "i": 4, "d": 8}

_ROBUST_TYPES = (
    *("int2", "int4", "int8", "float4", "float8", "date", "timestamp", "timestamptz"),
    *("uuid", "text", "varchar", "bpchar", "bytea"),
)
"""Types of which any value stays one when the lowest bit of one of its bytes is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a fault is to be planted; `relation` is None where the fault may choose."""

    cluster: LabCluster
    node: LocalServer
    database: str
    relation: str | None
    rng: Random

    @property
    def on_primary(self) -> bool:
        """Return whether the node is the one that takes writes."""
        return not self.node.is_standby


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A relation as the catalog describes it; the same on every node of a cluster."""

    oid: int
    schema: str
    relation: str
    name: str
    """Schema-qualified and quoted as SQL wants it."""
    path: str
    """Of its first file, relative to the data directory."""
    toast_oid: int
    attributes: tuple[Attribute, ...]
    finished_before: int
    """A 32-bit xid: all before it had ended when the relation was described."""
    robust_columns: frozenset[str]
    """Columns outside every index whose bytes can be changed without making the value invalid."""


@dataclass(frozen=True, slots=True)
class Heap:
    """The files of a relation of a stopped node."""

    data_dir: Path
    path: str
    finished_before: int

    @property
    def blocks(self) -> int:
        """Return the number of blocks in all files."""
        total = 0
        for segment in self._segments():
            total += segment.stat().st_size // PAGE_SIZE
        return total

    def read(self, block: int) -> bytes:
        """Return one page."""
        with self._segment(block).open("rb") as file:
            file.seek(block % BLOCKS_PER_SEGMENT * PAGE_SIZE)
            return file.read(PAGE_SIZE)

    def live(self, page: bytes) -> list[LinePointer]:
        """Return the rows of a page that every snapshot sees."""
        return pages.live_tuples(page, finished_before=self.finished_before)

    def write(self, block: int, page: bytes, *, mend_checksum: bool = True) -> None:
        """Replace one page; its checksum is recomputed unless the node has none, or the fault wants it wrong."""
        if mend_checksum and pages.stored_checksum(page):
            page = pages.with_checksum(page, block)
        descriptor = os.open(self._segment(block), os.O_WRONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.seek(block % BLOCKS_PER_SEGMENT * PAGE_SIZE)
            file.write(page)

    def truncate(self, blocks: int) -> None:
        """Cut a relation of one file off after that many blocks."""
        os.truncate(self._segment(0), blocks * PAGE_SIZE)

    def unlink(self) -> None:
        """Remove the relation's first file."""
        self._segment(0).unlink()

    def _segment(self, block: int) -> Path:
        number = block // BLOCKS_PER_SEGMENT
        return self.data_dir / (f"{self.path}.{number}" if number else self.path)

    def _segments(self) -> Iterator[Path]:
        number = 0
        while (segment := self._segment(number * BLOCKS_PER_SEGMENT)).exists():
            yield segment
            number += 1


def describe(site: Site, relation: str) -> Stored:
    """Return what the catalog says of a relation; raise LabError where it is not there, or holds no pages."""
    found = site.cluster.primary.execute(
        "select c.oid::int8, n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname),"
        " pg_relation_filepath(c.oid), c.reltoastrelid::int8,"
        " (pg_snapshot_xmin(pg_current_snapshot())::text::numeric %% 4294967296)::int8"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass(%s)",
        [relation],
        site.database,
    )
    if not found or found[0][4] is None:
        raise LabError(
            f"database {site.database} has no relation {relation} with pages of its own",
            hint="Name a table as schema.table; a partitioned one by one of its partitions.",
        )
    oid, schema, name, quoted, path, toast_oid, finished_before = found[0]
    columns = site.cluster.primary.execute(
        "select a.attname, a.attlen, a.attalign, not a.attisdropped and t.typname = any (%s) and not exists ("
        " select 1 from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey))"
        " from pg_attribute a left join pg_type t on t.oid = a.atttypid"
        " where a.attrelid = %s::int8::oid and a.attnum > 0 order by a.attnum",
        [list(_ROBUST_TYPES), oid],
        site.database,
    )
    return Stored(
        oid=oid,
        schema=schema,
        relation=name,
        name=quoted,
        path=path,
        toast_oid=toast_oid,
        finished_before=finished_before,
        attributes=tuple(Attribute(name=row[0], length=row[1], align=_ALIGN[row[2]]) for row in columns),
        robust_columns=frozenset(row[0] for row in columns if row[3]),
    )


def by_oid(site: Site, oid: int) -> Stored:
    """Return what the catalog says of a relation of that oid."""
    [(name,)] = site.cluster.primary.execute("select %s::int8::oid::regclass::text", [oid], site.database)
    return describe(site, name)


def settle(site: Site, stored: Stored | None) -> None:
    """Bring the node to a state from which its replay does not touch the relation's pages again."""
    primary = site.cluster.primary
    if stored is not None:
        _freeze(site, stored)
    primary.execute("checkpoint")
    if not site.on_primary:
        site.cluster.catch_up(only=site.node.name)
        site.node.execute("checkpoint")


def _freeze(site: Site, stored: Stored) -> None:
    """Vacuum a relation until no later vacuum has a reason to write to its pages, or for a few seconds.

    An old snapshot somewhere prevents it; a standby's feedback holds back what is younger than its last message.
    """
    table = sql.Identifier(stored.schema, stored.relation)
    deadline = time.monotonic() + _FREEZE_S
    settled = [(False,)]
    while settled != [(True,)] and time.monotonic() < deadline:
        site.cluster.primary.execute(sql.SQL("vacuum (freeze) {}").format(table), dbname=site.database)
        settled = site.cluster.primary.execute(
            "select relallvisible >= relpages from pg_class where oid = %s::int8::oid", [stored.oid], site.database
        )
        time.sleep(0 if settled == [(True,)] else 0.1)


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    """Stop the node cleanly, and start it again afterwards, whatever happened in between."""
    streamed = not site.on_primary and site.node.execute("select 1 from pg_stat_wal_receiver") != []
    site.node.stop()
    try:
        yield
    finally:
        site.node.start()
        if streamed:
            site.cluster.wait_streaming()


def heap(site: Site, stored: Stored) -> Heap:
    """Return the files of a relation on the site's node."""
    return Heap(site.node.data_dir, stored.path, stored.finished_before)


def shuffled_blocks(site: Site, files: Heap) -> list[int]:
    """Return the blocks of a relation in the order of the site's random sequence."""
    blocks = list(range(files.blocks))
    site.rng.shuffle(blocks)
    return blocks
