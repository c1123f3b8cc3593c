"""A kit's contents as one tar file, cut into parts of one size, each with its checksum."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """A row of ``parts`` in ``kit.json``."""

    name: str
    bytes: int
    sha256: str


def write_parts(tree: Path, out: Path, part_bytes: int) -> list[Part]:
    """Write a directory as one tar file in parts ``part-000`` and so on."""
    writer = _Parts(out, part_bytes)
    with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as file:
        for path in sorted(tree.rglob("*")):
            file.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain_member)
    return writer.end()


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without who packed it and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


class _Parts(io.RawIOBase):
    """A file that is written in parts."""

    def __init__(self, directory: Path, part_bytes: int) -> None:
        self._directory = directory
        self._part_bytes = part_bytes
        self._rows: list[Part] = []
        self._file: io.BufferedWriter | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        total = len(left)
        while left:
            if self._file is None:
                self._file = (self._directory / f"part-{len(self._rows):03d}").open("wb")
            piece = left[: self._part_bytes - self._size]
            self._file.write(piece)
            self._digest.update(piece)
            self._size += len(piece)
            left = left[len(piece) :]
            if self._size == self._part_bytes:
                self._close_part()
        return total

    def end(self) -> list[Part]:
        self._close_part()
        return self._rows

    def _close_part(self) -> None:
        if self._file is None:
            return
        self._file.close()
        name = Path(self._file.name).name
        self._rows.append(Part(name, self._size, self._digest.hexdigest()))
        self._file, self._digest, self._size = None, hashlib.sha256(), 0
