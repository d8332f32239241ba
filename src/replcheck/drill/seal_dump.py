"""A dump under a seal's own snapshot: exact by construction, and what restores of dumps are compared with."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from replcheck.audit.handles import NodeHandle
from replcheck.drill.seal_options import SealOptions
from replcheck.errors import Interrupted, UsageError
from replcheck.model.seal import SealedDump
from replcheck.postgres.dumping import claim_place, dump, find_dump_program, remove_dump
from replcheck.postgres.dumps import DumpDamagedError, DumpUnsupportedError, NotADumpError, examine_dump

_BLOCK_BYTES = 1 << 20


def check_dump_file(file: Path) -> None:
    """Raise UsageError where a dump cannot be written there; nothing is ever overwritten."""
    if os.path.lexists(file):
        raise UsageError(f"{file} exists already", hint="Name a new file or folder with --dump.")
    if not file.absolute().parent.is_dir() or not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write a dump to {file}: its folder is missing or closed")


async def take_dump(
    primary: NodeHandle, database: str, snapshot: str, options: SealOptions, *, stop: asyncio.Event
) -> SealedDump:
    """Dump a database under an exported snapshot into a place that was not there; nothing is left where that fails.

    Raises ProgramError where pg_dump fails, UsageError where something is at that place already.
    """
    file = options.dump_file
    assert file is not None  # noqa: S101 - asked for by the caller

    def obey() -> None:
        if stop.is_set() or cancelled:
            raise Interrupted("the dump was stopped")

    cancelled: list[bool] = []
    program = find_dump_program(primary.facts.version_num // 10000, options.programs)
    claim_place(file.absolute(), options.dump_format.value)
    try:
        work = asyncio.create_task(
            asyncio.to_thread(
                dump,
                program,
                primary.target.dsn,
                database=database,
                snapshot=snapshot,
                file=file.absolute(),
                format_=options.dump_format.value,
                obey=obey,
            )
        )
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.append(True)
            await asyncio.gather(work, return_exceptions=True)
            raise
        digest, size_bytes = await asyncio.to_thread(dump_digest, file)
    except BaseException:
        remove_dump(file.absolute())
        raise
    return SealedDump(
        file=str(file.absolute()),
        database=database,
        format=options.dump_format.value,
        sha256=digest,
        size_bytes=size_bytes,
        program=program.version,
        created=created_at(file),
    )


def created_at(file: Path) -> str:
    """Return what an archive of pg_dump says of when it was begun; empty where it says nothing that can be read."""
    try:
        dump = examine_dump(file)
    except (DumpDamagedError, DumpUnsupportedError, NotADumpError, OSError):
        return ""
    told = dump.taken_at if dump.format.archive else None
    # The archive names no zone: what is compared with it later may be read on a machine that lives in another.
    return told.replace(tzinfo=None).isoformat(sep=" ") if told is not None else ""


def is_sealed_dump(file: Path, sealed: SealedDump) -> bool:
    """Return whether a file is the dump that was taken with a seal, be it changed since.

    An archive says when it was begun; without that, its name must do.
    """
    told = created_at(file)
    return told == sealed.created if told and sealed.created else file.name == Path(sealed.file).name


def discard_dump(dump: SealedDump | None) -> None:
    """Remove the dump of a seal that came to nothing: without a manifest nobody can tell what it holds."""
    if dump is not None:
        remove_dump(Path(dump.file))


def dump_digest(file: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a dump; of a directory, over names, sizes and contents of its sorted files.

    Follows no links out of a directory: only regular files belong to a dump.
    """
    digest, size_bytes = hashlib.sha256(), 0
    if not file.is_dir():
        for block in _blocks(file):
            digest.update(block)
            size_bytes += len(block)
        return digest.hexdigest(), size_bytes
    for path in sorted(path for path in file.rglob("*") if path.is_file()):
        name = os.fsencode(path.relative_to(file))
        digest.update(len(name).to_bytes(4, "big") + name + path.stat().st_size.to_bytes(8, "big"))
        for block in _blocks(path):
            digest.update(block)
            size_bytes += len(block)
    return digest.hexdigest(), size_bytes


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
