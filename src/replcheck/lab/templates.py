"""Empty data directories made once by initdb and copied for each new cluster, each with an identity of its own."""

import fcntl
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replcheck.postgres.programs import Account, Programs, run_program
from replcheck.postgres.server import initialize_data, make_private_folder

FOLDER = ".replcheck-lab-templates"
"""Name of the folder with the templates, beside the clusters."""
_LOCK = "replcheck-lab.lock"


def new_data_dir(root: Path, programs: Programs, data_dir: Path, *, account: Account | None, checksums: bool) -> None:
    """Make an empty data directory of a new cluster, from a template in `root` that is made where it is missing."""
    template = _template(root, programs, account=account, checksums=checksums)
    shutil.copytree(template, data_dir, symlinks=True, copy_function=_copy_file)
    if account is not None:
        for path in (data_dir, *data_dir.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    data_dir.chmod(0o700)
    _give_identity(programs, data_dir, account)


def remove_templates(root: Path) -> None:
    """Delete the templates of a folder, if it has any that are ours."""
    if (root / FOLDER / _LOCK).is_file():
        shutil.rmtree(root / FOLDER, ignore_errors=True)


def _template(root: Path, programs: Programs, *, account: Account | None, checksums: bool) -> Path:
    folder = root / FOLDER
    folder.mkdir(mode=0o711, exist_ok=True)
    target = folder / f"{programs.version}-{'checksums' if checksums else 'plain'}"
    with _locked(folder):
        if not target.is_dir():
            making = folder / f".making-{target.name}"
            shutil.rmtree(making, ignore_errors=True)
            make_private_folder(making, account)
            initialize_data(programs, making / "data", account=account, checksums=checksums)
            (making / "data").rename(target)
            making.rmdir()
    return target


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_file(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    Path(target).chmod(0o600)
    return target


def _give_identity(programs: Programs, data_dir: Path, account: Account | None) -> None:
    """Give a copied data directory a system identifier of its own, as initdb would have.

    The identifier is the first field of the control file (PostgreSQL catalog/pg_control.h, ControlFileData);
    pg_resetwal --force then accepts the changed file, writes its checksum anew and starts a WAL that matches.
    """
    with (data_dir / "global" / "pg_control").open("r+b") as control:
        control.write(struct.pack("=Q", secrets.randbits(62) | 1 << 62))
    run_program(programs, "pg_resetwal", ["--force", "--pgdata", str(data_dir)], account=account, timeout_s=60)
