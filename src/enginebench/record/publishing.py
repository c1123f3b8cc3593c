"""A copy of a record for a repository: its rows are packed, and everybody may read its files.

Rows that were written plain become gzip files. Metrics pages, which repeat each other at a distance
that gzip does not see, become xz files. Recorded checksums stay: those of plain files are of what
is packed now. Those of metrics pages are of the gzip files that they were in, so ``published.json``
has checksums of their content.
"""

import gzip
import lzma
import shutil
from pathlib import Path

import msgspec

from enginebench.base.errors import UserError
from enginebench.record import reading
from enginebench.record.manifest import PUBLISHED, HashingFile
from enginebench.record.schema import Checksum
from enginebench.record.schema_study import Published

PLAIN = ("requests.jsonl", "processes.jsonl", "machine.jsonl")
PAGES = "scrapes.jsonl.gz"
READABLE_BY_ALL = 0o644  # logs are written for their owner only


def publish(record: Path, to: Path) -> Path:
    """Copy a record, all of whose files are as recorded, into the directory ``to``.

    Returns:
        where it is then.

    Raises:
        UserError: there is one of that name already, or the copy cannot be written.
    """
    target, part = to / record.name, to / f".{record.name}.part"
    if target.exists():
        raise UserError(f"{target}: expected no record of that name, found one; remove it first")
    try:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copytree(record, part, symlinks=True)
        _pack(part)
        for file in part.rglob("*"):
            if file.is_file() and not file.is_symlink():
                file.chmod(READABLE_BY_ALL)
        part.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error}); name another place") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _pack(record: Path) -> None:
    """Pack a record in its place; the same bytes for the same rows."""
    for name in PLAIN:
        for file in record.rglob(name):
            with (
                file.open("rb") as rows,
                file.with_name(f"{name}.gz").open("wb") as raw,
                gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
            ):
                shutil.copyfileobj(rows, packed)
            file.unlink()
    pages: dict[str, Checksum] = {}
    for file in sorted(record.rglob(PAGES)):
        with reading.unpacked(file) as content, lzma.open(file.with_suffix(".xz"), "wb") as xz:
            out = HashingFile(xz)
            shutil.copyfileobj(content, out)
        pages[str(file.relative_to(record))] = out.checksum()
        file.unlink()
    if pages:
        text = msgspec.json.format(msgspec.json.encode(Published(files=pages)), indent=1)
        (record / PUBLISHED).write_bytes(text + b"\n")
