"""Ways to damage a copy of a backup, and the whole command run on it."""

import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replcheck.lab import pages
from tests.commands import run_here
from tests.drill.physicals import replaced

SECRET = "secret note"
"""Begins the values that no output may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What the command said of one backup."""

    status: int
    document: dict[str, Any]

    @property
    def verdict(self) -> str:
        return str(self.document["verdict"])

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by code."""
        return {problem["code"]: problem["what"] for problem in self.document["problems"]}

    def layer(self, name: str) -> dict[str, Any]:
        [found] = [layer for layer in self.document["layers"] if layer["name"] == name]
        return dict(found)

    @property
    def differences(self) -> set[tuple[str, str]]:
        """Which relations differ from the seal, and how."""
        found = self.layer("rows against a seal")["differences"]
        return {(difference["relation"], difference["kind"]) for difference in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where one test drills damaged copies: a home that may know a seal, and a folder for scratch directories."""

    home: Path
    scratch: Path
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def know(self, sealing_home: Path) -> None:
        """Take over what another home has sealed."""
        shutil.copytree(sealing_home / ".local", self.home / ".local")

    def drill(self, *words: str, target: str = "latest", layers: Sequence[str] = ("seal", "checksums")) -> Drilled:
        """Run the command to its end; nothing of a row may be in what it says."""
        chosen = [word for layer in layers for word in ("--layer", layer)]
        options = ("--scratch", str(self.scratch), "--target", target, *chosen, "--format", "json", "--quiet")
        ended = run_here("drill", *words, *options, home=self.home, monkeypatch=self.monkeypatch, capfd=self.capfd)
        assert SECRET not in ended.out + ended.err
        assert "Traceback" not in ended.err
        assert ended.out, ended
        document = json.loads(ended.out)
        assert document["exit_code"] == ended.status
        return Drilled(status=ended.status, document=document)


def garbled(path: Path, at: int, length: int = 400) -> None:
    """Write other bytes over a part of a file."""
    data = bytearray(path.read_bytes())
    assert at + length <= len(data)
    data[at : at + length] = bytes(byte ^ 0x5A for byte in data[at : at + length])
    replaced(path, bytes(data))


def truncated(path: Path, size: int) -> None:
    """Cut a file off."""
    data = path.read_bytes()
    assert size < len(data)
    replaced(path, data[:size])


def zeroed(path: Path, block: int) -> None:
    """Make a page of a relation one that was never written."""
    data = bytearray(path.read_bytes())
    data[block * pages.PAGE_SIZE : (block + 1) * pages.PAGE_SIZE] = bytes(pages.PAGE_SIZE)
    replaced(path, bytes(data))


def flipped(path: Path, block: int, *, honest: bool) -> None:
    """Flip a bit inside the last value of a page; an honest page has a checksum that fits all the same."""
    data = bytearray(path.read_bytes())
    page = slice(block * pages.PAGE_SIZE, (block + 1) * pages.PAGE_SIZE)
    data[page.stop - 8] ^= 1
    if honest:
        data[page] = pages.with_checksum(bytes(data[page]), block)
    replaced(path, bytes(data))


def of_another_system(control: Path) -> int:
    """Give a control file another system identifier, and the checksum that goes with it; return the identifier."""
    data = bytearray(control.read_bytes())
    [at] = [at for at in range(200, 400, 4) if struct.unpack_from("<I", data, at)[0] == _crc32c(data[:at])]
    data[:8] = struct.pack("<Q", 1234567)
    struct.pack_into("<I", data, at, _crc32c(data[:at]))
    replaced(control, bytes(data))
    return 1234567


def _crc32c(data: bytes | bytearray) -> int:
    """Return the checksum of a control file (port/pg_crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
