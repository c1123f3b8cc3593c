"""A copy of a record for a repository: its rows are packed, and everybody may read its files.

Checksums stay those of the files as they were written: ``manifest`` unpacks.
"""

import gzip
import shutil
from pathlib import Path

from enginebench.base.errors import UserError

PACKED = ("requests.jsonl", "processes.jsonl", "machine.jsonl")
READABLE_BY_ALL = 0o644  # logs are written for their owner only


def publish(record: Path, to: Path) -> Path:
    """Copy a record into the directory ``to``; returns where it is then.

    Raises:
        UserError: there is one of that name already, or the copy cannot be written.
    """
    target, part = to / record.name, to / f".{record.name}.part"
    if target.exists():
        raise UserError(f"{target}: expected no record of that name, found one; remove it first")
    try:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copytree(record, part, symlinks=True)
        for file in part.rglob("*"):
            if file.is_symlink() or not file.is_file():
                continue
            if file.name in PACKED:
                file = _packed(file)
            file.chmod(READABLE_BY_ALL)
        part.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error}); name another place") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _packed(file: Path) -> Path:
    """The file in gzip form, in its place; the same bytes for the same rows."""
    packed = file.with_name(f"{file.name}.gz")
    with (
        file.open("rb") as rows,
        packed.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as out,
    ):
        shutil.copyfileobj(rows, out)
    file.unlink()
    return packed
