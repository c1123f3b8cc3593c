"""How a record is read: each file once, through its type, with its sizes bounded.

Whatever has become of a file since it was written (cut, edited, replaced by a link, a pipe or a
directory) is one ``RecordError`` that names the file, the line and the reason.
"""

import contextlib
import errno
import functools
import gzip
import io
import json
import lzma
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar, cast

import msgspec

from enginebench.base.errors import UserError
from enginebench.record.schema import READABLE, SCHEMA
from enginebench.record.schema_study import Study

T = TypeVar("T")

LONGEST_LINE_BYTES = 128 << 20  # a page of 16 MiB, should JSON escape every byte of it
LARGEST_DOCUMENT_BYTES = 64 << 20
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)  # what unpacking ends in
_PACKED = {".gz": "a gzip file", ".xz": "an xz file"}
_MOST_XZ_BYTES = 64 << 20  # memory to unpack one
_PIECE_BYTES = 1 << 16
MOST_UNPACKED_BYTES = 8 << 30  # of one compressed file
_DEPTH = 4  # directories from a record's deepest file up to study.json
_NAME = re.compile(r"[A-Za-z0-9][^/\0]{0,254}")  # of an engine start or a cell


class RecordError(UserError):
    """A file of a record that is damaged, missing, or no file at all."""

    def __init__(self, path: Path, expected: str, reason: str, line: int | None = None) -> None:
        where = f"{path}, line {line}" if line else f"{path}"
        super().__init__(
            f"{where}: expected {expected}, found {reason}; restore the file from a copy, or "
            "remove its directory and measure it again"
        )
        self.path, self.reason, self.line = path, reason, line


def ignore(_: object) -> None:
    """Progress, or a warning, that nobody follows."""


def read_rows(path: Path, kind: type[T], progress: Callable[[int], object] = ignore) -> Iterator[T]:
    """The rows of a JSON-lines file, plain or gzip, one by one; a packed copy will do.

    Args:
        kind: the type of each row; ``Any`` leaves it as it is.
        progress: is called with the bytes of each line once it is used up; of gzip, unpacked.

    Raises:
        RecordError: at the first row that is not one; rows before it have been yielded.
    """
    decode = _decoder(cast(Any, kind)).decode
    number, path = 0, kept(path)
    with unpacked(path) as file:
        for line in _lines(path, file):
            number += 1
            try:
                row: T = decode(line)
            except (ValueError, RecursionError) as error:
                row = _decoded_slowly(path, line, kind, error, number)
            yield row
            progress(len(line))


def whole_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows that can be read, of a file that is added to while a study runs; the others are left
    out. Raises RecordError where the file itself cannot be read."""
    decode = _decoder(cast(Any, kind)).decode
    with unpacked(path) as file:
        for line in _lines(path, file):
            with contextlib.suppress(ValueError, RecursionError):
                yield decode(line)


def read_document(path: Path, kind: type[T]) -> T:
    """The content of a JSON file, checked for its type.

    Raises:
        RecordError: not there, or not of this type.
    """
    content = document_bytes(path)
    try:
        document: T = _decoder(cast(Any, kind)).decode(content)
    except (ValueError, RecursionError) as error:
        document = _decoded_slowly(path, content, kind, error)
    return document


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decoded_slowly(
    path: Path, content: bytes, kind: Any, error: Exception, line: int | None = None
) -> Any:
    """Once more with the standard library, which reads half a character (a lone surrogate, written
    as an escape) where the fast decoder fails; it becomes U+FFFD."""
    if b"\\ud" in content or b"\\uD" in content:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(content, parse_constant=_refuse, parse_float=_finite)
            return msgspec.convert(_with_whole_characters(value), kind, str_keys=True)
    if line is not None and not content.endswith(b"\n"):
        reason = f"that it is cut off after {len(content):,} bytes"
    elif isinstance(error, RecursionError):
        reason = "too many levels of nesting"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
    elif not content.strip():
        reason = "nothing" if not content else "an empty line"
    else:
        reason = f"something else: {error}"
    raise RecordError(path, _described(kind, line), reason, line) from None


def _described(kind: Any, line: int | None) -> str:
    of_kind = f" of type {kind.__name__}" if kind is not Any else ""
    return f"{'a JSON object on one line' if line else 'a JSON file'}{of_kind}"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is too large a number")
    return value


def _with_whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_with_whole_characters(k): _with_whole_characters(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_whole_characters(item) for item in value]
    return value


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file of a record as it is on disk; never a link, a pipe or a device.

    Raises:
        RecordError: it is not there, or no regular file.
    """
    expected = "a file of a study's record"
    _refuse_links(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        known = {errno.ELOOP: "a symbolic link", errno.ENOENT: "none"}
        reason = known.get(error.errno or 0, f"one that cannot be opened ({error.strerror})")
        raise RecordError(path, expected, reason) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RecordError(path, expected, "no regular file")
    with os.fdopen(fd, "rb") as file:
        yield file


def is_of_record(path: Path) -> bool:
    """Whether there is a regular file there, and no link leads to it."""
    try:
        with opened(path):
            return True
    except RecordError:
        return False


def kept(path: Path) -> Path:
    """Where a file of rows is: a published record has it packed (``publishing``)."""
    packed = path.with_suffix(".xz") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return packed if not os.path.lexists(path) and os.path.lexists(packed) else path


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """A file of a record, unpacked if it is compressed."""
    with opened(path) as file:
        if path.suffix not in _PACKED:
            yield file
            return
        if not os.fstat(file.fileno()).st_size:
            raise RecordError(path, _PACKED[path.suffix], "0 bytes")
        if path.suffix == ".xz":
            yield io.BufferedReader(_Xz(file))
            return
        with gzip.GzipFile(fileobj=file) as content:
            yield content  # type: ignore[misc]


class _Xz(io.RawIOBase):
    """An xz file unpacked in bounded memory, which ``lzma.LZMAFile`` has no limit for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacker.eof:
            piece = self._file.read(_PIECE_BYTES) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not piece:
                raise EOFError
            made = self._unpacker.decompress(piece, len(buffer))
            if made:
                buffer[: len(made)] = made
                return len(made)
        return 0


def unpacked_bytes(path: Path) -> int:
    """How many bytes a gzip file says that it has unpacked, below 4 GiB (RFC 1952)."""
    with opened(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4))
        return int.from_bytes(file.read(4), "little")


def _refuse_links(path: Path) -> None:
    """No directory between a record's study.json and its file may be a link out of it."""
    parents = path.parents[:_DEPTH]
    root = next((i for i, parent in enumerate(parents) if (parent / "study.json").exists()), 0)
    for parent in parents[:root]:
        if parent.is_symlink():
            raise RecordError(path, "a file of a study's record", f"a symbolic link: {parent}")


def _lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    number, size = 0, 0
    readline, is_compressed = file.readline, path.suffix in _PACKED
    while True:
        try:
            line = readline(LONGEST_LINE_BYTES + 1)
        except EOFError:
            reason = f"that the file is cut off after line {number}"
            raise RecordError(path, f"a whole {path.suffix[1:]} file", reason) from None
        except (OSError, *DAMAGED) as error:
            expected = _PACKED.get(path.suffix, "a readable file")
            raise RecordError(path, expected, f"something else: {error}") from None
        if not line:
            return
        number += 1
        size += len(line)
        if len(line) > LONGEST_LINE_BYTES:
            limit = f"a line of at most {LONGEST_LINE_BYTES >> 20} MiB"
            raise RecordError(path, limit, "a longer one", number)
        if is_compressed and size > MOST_UNPACKED_BYTES:
            limit = f"at most {MOST_UNPACKED_BYTES >> 30} GiB unpacked"
            raise RecordError(path, limit, "more", number)
        yield line


def document_bytes(path: Path) -> bytes:
    """The bytes of a document; raises RecordError where they cannot be read, or are too many."""
    with unpacked(path) as file:
        try:
            content = file.read(LARGEST_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise RecordError(path, "a readable file", error.strerror or str(error)) from None
    if len(content) > LARGEST_DOCUMENT_BYTES:
        limit = f"at most {LARGEST_DOCUMENT_BYTES >> 20} MiB"
        raise RecordError(path, limit, f"{path.stat().st_size >> 20} MiB")
    return content


class _Head(msgspec.Struct):
    """What says whether the rest of ``study.json`` can be read."""

    schema: Any = None


def read_study(directory: Path) -> Study:
    """A study's ``study.json``.

    Raises:
        UserError: not there, damaged, or written by a newer version.
    """
    file = directory / "study.json"
    if not os.path.lexists(file):
        raise UserError(
            f"{directory}: expected a study's record, found no study.json; name a directory below "
            "results/ that a study has written"
        )
    found = read_document(file, _Head).schema
    if type(found) is not int or found not in READABLE:
        raise UserError(
            f"{file}: expected schema {SCHEMA}, found {repr(found)[:80]}; read it with the version "
            "of enginebench that wrote it"
        )
    study = read_document(file, Study)
    names = [item.id for item in study.plan]
    names += [cell.id for item in study.plan for cell in item.cells]
    for name in names:
        if not _NAME.fullmatch(name):
            expected = "names of directories in its plan"
            raise RecordError(file, expected, f"{name[:80]!r}, which leads elsewhere")
    return study
