"""Whether the raw files of a record are still those that were written: their sizes and sha256.

``launch.json`` lists the files of its engine start, ``finished.json`` every ``launch.json`` and the
files of the whole study: whoever trusts ``finished.json`` (by a signature, say) can trust the rest.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from enginebench.record import reading
from enginebench.record.schema import Checksum
from enginebench.record.schema_study import Published

PIECE_BYTES = 1 << 20
PUBLISHED = "published.json"
STUDY_FILES = ("study.json", "events.jsonl")


class HashingFile:
    """Passes on what is written to a file, and sums it up."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256, self._bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def checksum(self) -> Checksum:
        return Checksum(bytes=self._bytes, sha256=self._sha256.hexdigest())


def checksum(path: Path) -> Checksum:
    """Of a file, of a packed copy once unpacked; raises RecordError where it cannot be read."""
    sha256, size = hashlib.sha256(), 0
    where = reading.kept(path)
    is_packed = where != path
    most = reading.MOST_UNPACKED_BYTES if is_packed else math.inf
    with (reading.unpacked if is_packed else reading.opened)(where) as file:
        try:
            while (piece := file.read(PIECE_BYTES)) and size <= most:
                sha256.update(piece)
                size += len(piece)
        except reading.DAMAGED:
            reason = "a damaged packed file"
            raise reading.RecordError(where, "a readable file", reason) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise reading.RecordError(where, "a readable file", reason) from None
    return Checksum(bytes=size, sha256=sha256.hexdigest())


def damages(directory: Path, files: Mapping[str, Checksum]) -> dict[str, str]:
    """What is wrong with listed files: a text by path; empty where all are as they were.

    Args:
        files: the field ``files`` of ``launch.json`` or ``finished.json``; paths below
            ``directory``.
    """
    found: dict[str, str] = {}
    try:
        repacked = published(directory)
    except reading.RecordError as error:
        repacked, found[PUBLISHED] = {}, error.message
    for path, recorded in files.items():
        try:
            file = _below(directory, path)
            wanted = (
                repacked.get(path, recorded) if reading.kept(file).suffix == ".xz" else recorded
            )
            now = checksum(file)
        except reading.RecordError as error:
            found[path] = f"{path}: expected the file that was recorded, found {error.reason}"
            continue
        if now.bytes != wanted.bytes:
            found[path] = f"{path}: expected {wanted.bytes:,} bytes, found {now.bytes:,}"
        elif now.sha256 != wanted.sha256:
            found[path] = f"{path}: altered since it was recorded (its sha256 is another)"
    return found


def published(directory: Path) -> Mapping[str, Checksum]:
    """The files of a record that were packed anew when it was published, by their recorded paths.

    Their checksums are of the content; those recorded are of the gzip files that it was in.
    Raises RecordError for a damaged list.
    """
    file = directory / PUBLISHED
    return reading.read_document(file, Published).files if reading.is_of_record(file) else {}


def _below(directory: Path, path: str) -> Path:
    """A listed path; raises RecordError for one that leads out of the record."""
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise reading.RecordError(Path(path), "a path below the record", "one that leads out of it")
    return directory / path
