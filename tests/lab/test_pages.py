"""Pages are read and changed as PostgreSQL lays them out."""

import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcheck.lab import pages
from replcheck.lab.cluster import LabCluster
from replcheck.lab.pages import HEADER_SIZE, PAGE_SIZE, Attribute, LinePointer, LineState
from replcheck.lab.schema import create_schema

ATTRIBUTES = (
    Attribute(name="id", length=4, align=4),
    Attribute(name="name", length=-1, align=4),
    Attribute(name="amount", length=8, align=8),
    Attribute(name="note", length=-1, align=4),
)


def row(values: bytes, *, columns: int = 4, nulls: bytes = b"", mask: int = 0, xmin: int = 700) -> bytes:
    offset = pages.maxalign(pages.TUPLE_HEADER_SIZE + len(nulls))
    header = struct.pack("<IIIHHHHHB", xmin, 0, 0, 0, 0, 1, columns, mask | bool(nulls), offset) + nulls
    return header.ljust(offset, b"\0") + values


@given(
    st.lists(
        st.builds(
            LinePointer,
            number=st.just(0),
            offset=st.integers(0, 0x7FFF),
            state=st.sampled_from(LineState),
            length=st.integers(0, 0x7FFF),
        ),
        max_size=50,
    )
)
def test_line_pointers_are_read_as_they_were_written(drawn: list[LinePointer]) -> None:
    page = pages.with_bounds(bytes(PAGE_SIZE), lower=HEADER_SIZE + 4 * len(drawn), upper=PAGE_SIZE)
    written = [
        LinePointer(number=number, offset=pointer.offset, state=pointer.state, length=pointer.length)
        for number, pointer in enumerate(drawn, 1)
    ]
    for pointer in written:
        page = pages.with_line_pointer(page, pointer)
    assert len(page) == PAGE_SIZE
    assert pages.line_pointers(page) == written


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(64, 79))
def test_a_checksum_is_never_zero_and_does_not_cover_itself(seed: int, block: int, bit: int) -> None:
    page = Random(seed).randbytes(PAGE_SIZE)
    assert 0 < pages.checksum(page, block) <= 65_535
    assert pages.checksum(pages.with_checksum(page, block), block) == pages.checksum(page, block)
    flipped = bytearray(page)
    flipped[bit // 8] ^= 1 << bit % 8
    assert pages.checksum(bytes(flipped), block) == pages.checksum(page, block)


def test_values_are_found_behind_short_headers_and_padding() -> None:
    values = struct.pack("<I", 7) + b"\x07ab" + b"\0" + struct.pack("<q", -1) + struct.pack("<I", (4 + 3) << 2) + b"xyz"
    spans = pages.column_spans(row(values), ATTRIBUTES)
    assert {name: (span.start - 24, span.length, span.plain) for name, span in spans.items()} == {
        "id": (0, 4, True),
        "name": (5, 2, True),
        "amount": (8, 8, True),
        "note": (20, 3, True),
    }


def test_null_and_later_columns_have_no_place() -> None:
    spans = pages.column_spans(row(struct.pack("<I", 7) + b"\x05z", columns=2, nulls=b"\x03"), ATTRIBUTES)
    assert list(spans) == ["id", "name"]
    spans = pages.column_spans(row(struct.pack("<I", 7), columns=4, nulls=b"\x01"), ATTRIBUTES)
    assert list(spans) == ["id"]


def test_a_toast_pointer_tells_its_value() -> None:
    pointer = b"\x01\x12" + struct.pack("<IIII", 9_000, 9_000, 4711, 16_400)
    data = row(struct.pack("<I", 7) + pointer, columns=2)
    assert not pages.column_spans(data, ATTRIBUTES)["name"].plain
    assert list(pages.toast_value_ids(data, ATTRIBUTES)) == [4711]


@pytest.mark.parametrize(
    ("mask", "xmin", "live"),
    [
        (pages.HEAP_XMIN_COMMITTED | pages.HEAP_XMAX_INVALID, 900, True),
        (pages.HEAP_XMAX_INVALID, 700, True),
        (pages.HEAP_XMAX_INVALID, 800, False),
        (pages.HEAP_XMAX_INVALID, 2**32 - 5, True),
        (pages.HEAP_XMIN_INVALID | pages.HEAP_XMAX_INVALID, 700, False),
        (pages.HEAP_XMIN_COMMITTED, 700, False),
    ],
    ids=["committed", "ended before", "perhaps running", "before the wraparound", "aborted", "perhaps deleted"],
)
def test_only_settled_rows_count_as_live(mask: int, xmin: int, live: bool) -> None:
    data = row(b"", columns=0, mask=mask, xmin=xmin)
    pointer = LinePointer(number=1, offset=8_000, state=LineState.NORMAL, length=len(data))
    page = pages.with_bounds(bytes(PAGE_SIZE), lower=HEADER_SIZE + 4, upper=8_000)
    page = pages.with_bytes(pages.with_line_pointer(page, pointer), 8_000, data)
    assert pages.live_tuples(page, finished_before=800) == ([pointer] if live else [])


def test_an_entry_taken_out_leaves_the_others_in_order() -> None:
    page = pages.with_bounds(bytes(PAGE_SIZE), lower=HEADER_SIZE + 12, upper=8_000)
    for number in (1, 2, 3):
        pointer = LinePointer(number=number, offset=8_000 + 8 * number, state=LineState.NORMAL, length=8)
        page = pages.with_line_pointer(page, pointer)
    left = pages.line_pointers(pages.without_line_pointer(page, 2))
    assert [(pointer.number, pointer.offset) for pointer in left] == [(1, 8_008), (2, 8_024)]


def test_checksums_and_rows_agree_with_the_server(cluster: LabCluster, database: str) -> None:
    create_schema(cluster.primary, database, patients=200)
    cluster.primary.execute("vacuum (freeze) clinic.patient", dbname=database)
    cluster.primary.execute("checkpoint")
    [(path, rows)] = cluster.primary.execute(
        "select pg_relation_filepath('clinic.patient'), count(*) from clinic.patient", dbname=database
    )
    content = Path(cluster.primary.data_dir / path).read_bytes()
    found = 0
    for block in range(len(content) // PAGE_SIZE):
        page = content[block * PAGE_SIZE : (block + 1) * PAGE_SIZE]
        assert pages.stored_checksum(page) == pages.checksum(page, block)
        found += len(pages.live_tuples(page, finished_before=0))
    assert found == rows
