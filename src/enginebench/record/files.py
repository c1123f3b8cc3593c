"""The record of a study: what is written while it runs, and how it is read back.

Raw files are only ever added, except that a resumed study first removes the engine starts that it
runs again. Everything else is derived from them and can be deleted.
``results/README.md`` lists every file and field.

::

    results/<study>/
      study.json                    what was to be run, on what machine, with which prompts
      events.jsonl                  each step as it happened
      raw/<launch>/launch.json      one start of one engine: command, versions, outcome
      raw/<launch>/server.log
      raw/<launch>/<cell>/          cell.json  requests.jsonl  scrapes.jsonl.gz  processes.jsonl
      derived/                      metrics_data.json  metrics_summary.csv  report.md  report.html
"""

import contextlib
import errno
import fcntl
import gzip
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from msgspec import structs

from enginebench.base import redaction
from enginebench.base.errors import UserError
from enginebench.record import manifest
from enginebench.record.encoding import Encoder, with_finite_numbers
from enginebench.record.manifest import HashingFile
from enginebench.record.reading import RecordError
from enginebench.record.schema import Checksum, Launch
from enginebench.record.schema_study import Finished

BUFFER_BYTES = 1 << 20


class Writer:
    """Writes one study's raw files. A full disk or a read-only directory is a UserError.

    Files are written as a stream: a row is encoded and forgotten. Secrets are those of the
    environment at the time that the writer is made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._encoder = Encoder(redaction.values())
        self._files: dict[str, Checksum] = {}  # that were written, by path below the directory
        self._lock = os.open(directory, os.O_RDONLY)  # until this process ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{directory}: expected a record that nobody writes, found that another study is "
                "still at it; wait for its end"
            ) from None
        except OSError:  # a file system that has no locks
            pass

    @classmethod
    def create(cls, results: Path, name: str) -> "Writer":
        """A new directory ``results/<date>-<name>``; a number is added if there is one already."""
        try:
            results.mkdir(parents=True, exist_ok=True)
            day = datetime.now(UTC).date().isoformat()
            for number in itertools.count(1):
                directory = results / f"{day}-{name}{f'-{number}' if number > 1 else ''}"
                with contextlib.suppress(FileExistsError):
                    directory.mkdir()
                    return cls(directory)
            raise AssertionError("unreachable: numbers do not end")
        except (FileExistsError, NotADirectoryError):
            raise UserError(
                f"{results}: expected a directory for results, found something else of that name; "
                "move it or give another directory with --results"
            ) from None
        except OSError as error:
            raise UserError(
                f"{results}: cannot write results there ({error.strerror}); "
                "make it writable or give another directory with --results"
            ) from None

    def launch_directory(self, launch_id: str) -> Path:
        path = self.directory / "raw" / launch_id
        self._require_directory()
        with _one_line(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, path: str, value: Any) -> None:
        """Write one JSON file, whole or not at all.

        Raises:
            UserError: it cannot be written, or has a number that JSON has not (NaN).
        """
        content = self._encoder.document(value, str(self.directory / path))
        with self._replacing(path) as file:
            file.write(content)

    def write_launch(self, launch_id: str, facts: Launch) -> None:
        """Write ``launch.json``, last of its engine start, with the checksums of all other files.

        A number that JSON has not (NaN) is written as null: what is known must not be lost with it.
        """
        where = f"raw/{launch_id}"
        others = (p for p in sorted((self.directory / where).rglob("*")) if p.is_file())
        paths = [str(path.relative_to(self.directory)) for path in others]
        paths = [p for p in paths if p != f"{where}/launch.json" and not p.endswith(".part")]
        study = ["study.json"] if "study.json" in self._files else []
        whole = structs.replace(facts, files=self._checksums([*study, *paths]))
        self.write_json(f"{where}/launch.json", with_finite_numbers(whole))

    def write_finished(self, facts: Finished) -> None:
        """Write ``finished.json``, last of all, with the checksums that lead to all others."""
        launches = sorted((self.directory / "raw").glob("*/launch.json"))
        paths = [str(path.relative_to(self.directory)) for path in launches]
        whole = structs.replace(facts, files=self._checksums([*manifest.STUDY_FILES, *paths]))
        self.write_json("finished.json", with_finite_numbers(whole))

    def _checksums(self, paths: Iterable[str]) -> dict[str, Checksum]:
        """Of files as they were written by this process, or else as they are."""
        found = {}
        for path in paths:
            with contextlib.suppress(RecordError):  # it is gone, or a link: not a file of ours
                found[path] = self._files.get(path) or manifest.checksum(self.directory / path)
        return found

    def write_lines(self, path: str, rows: Iterable[Any], compress: bool = False) -> None:
        """Write one JSON-lines file, whole or not at all; raises like ``write_json``.

        Args:
            rows: plain data, dataclasses or structs; read one by one.
            compress: with gzip, without a time inside: the same rows are the same bytes.
        """
        where = str(self.directory / path)
        with self._replacing(path) as file:
            if not compress:
                self._write_rows(file, rows, where)
                return
            with gzip.GzipFile("", "wb", 6, cast(IO[bytes], file), mtime=0) as packed:
                self._write_rows(packed, rows, where)

    def _write_rows(
        self, file: "HashingFile | gzip.GzipFile", rows: Iterable[Any], where: str
    ) -> None:
        for number, row in enumerate(rows, 1):
            file.write(self._encoder.line(row, f"{where}, line {number}"))

    def event(self, step: str, **fields: Any) -> None:
        """Add one line to ``events.jsonl``."""
        row = {"t_s": time.perf_counter(), "step": step, **fields}
        target = self.directory / "events.jsonl"
        line = self._encoder.line(row, str(target))
        self._require_directory()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with _one_line(target), os.fdopen(os.open(target, flags, 0o666), "r+b", 0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # an earlier line was cut off
                line = b"\n" + line
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise

    def _require_directory(self) -> None:
        if not self.directory.is_dir():
            raise UserError(
                f"{self.directory}: expected the record that is being written, found that it was "
                "removed; run the study again"
            )

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[HashingFile]:
        """A new file that takes the place of ``path`` once all is written; else it is removed."""
        target = self.directory / path
        part = target.with_name(target.name + ".part")
        self._require_directory()
        with _one_line(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)  # of a harness that was killed
            try:
                with part.open("xb", BUFFER_BYTES) as file:
                    hashing = HashingFile(file)
                    yield hashing
                part.replace(target)
                self._files[path] = hashing.checksum()
            except BaseException:
                part.unlink(missing_ok=True)
                raise


@contextlib.contextmanager
def _one_line(target: Path) -> Iterator[None]:
    """Turns a failed write into one line that says what is left."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{target}: cannot write ({error.strerror}); what was recorded before is "
            "kept and readable: free some space, then run: make report"
        ) from error
