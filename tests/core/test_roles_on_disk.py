"""Whom to connect as is read from files that may be damaged: then only the usual name is tried."""

import struct
from pathlib import Path

import pytest

from replcheck.postgres.roles_on_disk import superusers


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<ii", 1, 1),
        struct.pack("<iiII", 0x592717, 1, 1262, 1262),
        struct.pack("<iiII", 0x592717, -5, 1260, 1260),
        struct.pack("<iiI", 0x592717, 1, 1260),
    ],
)
def test_a_damaged_map_of_relations_leaves_the_usual_name(data: bytes, tmp_path: Path):
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "pg_filenode.map").write_bytes(data)
    assert superusers(tmp_path) == ["postgres"]
