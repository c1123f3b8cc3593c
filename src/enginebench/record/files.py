"""The record of a study: what is written while it runs, and how it is read back.

Raw files are only ever added to (only what a study that is gone on with runs again is removed
before); everything else is derived from them and can be deleted.
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
import fcntl
import gzip
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from enginebench.base.errors import UserError
from enginebench.base.redaction import redact_values

#: Version of the raw files' form. History:
#: 1 (2026-11): first form.
#: 2 (2026-11): open loops (``rate``), ``error_kind``, the client's own figures and its calibration.
#:   ``sent_s`` is read right before the last byte is handed over, and no longer right after.
SCHEMA = 2
READABLE = (1, 2)  # what is new in 2 is "not measured" in 1


class Writer:
    """Writes one study's raw files. A full disk or a read-only directory is a UserError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
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
        with _friendly(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, path: str, value: Any) -> None:
        """Write one JSON file, whole or not at all."""
        text = json.dumps(redact_values(value), indent=2, allow_nan=False) + "\n"
        self._write(path, text.encode())

    def write_lines(self, path: str, rows: Iterable[Any], compress: bool = False) -> None:
        """Write one JSON-lines file, whole or not at all."""
        text = "".join(
            json.dumps(redact_values(row), allow_nan=False) + "\n" for row in rows
        ).encode()
        self._write(path, gzip.compress(text, 6, mtime=0) if compress else text)

    def event(self, step: str, **fields: Any) -> None:
        """Add one line to ``events.jsonl``."""
        row = {"t_s": time.perf_counter(), "step": step, **fields}
        target = self.directory / "events.jsonl"
        with _friendly(target), target.open("a") as file:
            file.write(json.dumps(redact_values(row), allow_nan=False) + "\n")

    def _write(self, path: str, content: bytes) -> None:
        target = self.directory / path
        part = target.with_name(target.name + ".part")
        with _friendly(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(content)
                part.replace(target)
            except OSError:
                part.unlink(missing_ok=True)
                raise


class _friendly:
    """Turns a failed write into one line that says what is left."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise UserError(
                f"{self._target}: cannot write ({error.strerror}); what was recorded before is "
                "kept and readable: free some space, then run: make report"
            ) from error


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a JSON file of a study's record, found: {error}; "
            "name a directory below results/ that a study has written"
        ) from None


def read_lines(path: Path, told: Callable[[int], object] = int) -> Iterator[Any]:
    """The rows of a JSON-lines file, plain or gzip, one by one.

    Args:
        told: is given the bytes of each line once it is used up; of a gzip file, unpacked.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            yield _row(line)
            told(len(line))


def _row(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # half a character in a text: escaped in the file, not valid UTF-8


def read_study(directory: Path) -> dict[str, Any]:
    """A study's ``study.json``, checked for its schema.

    Raises:
        UserError: not there, or written by a newer version.
    """
    study: dict[str, Any] = read_json(directory / "study.json")
    if study.get("schema") not in READABLE:
        raise UserError(
            f"{directory / 'study.json'}: expected schema {SCHEMA}, found "
            f"{study.get('schema')!r}; read it with the version of enginebench that wrote it"
        )
    return study


def latest(results: Path) -> Path:
    """The study directory that was started last.

    Raises:
        UserError: there is none.
    """
    found = last(results)
    if found is None:
        raise UserError(
            f"{results}: expected a study's record, found none; run one with: make study"
        )
    return found


def last(results: Path, name: str | None = None) -> Path | None:
    """The study directory that was started last (of that name, if given); None: there is none."""
    read = ((read_json(path), path.parent) for path in results.glob("*/study.json"))
    found = [
        (facts.get("started_at", ""), directory)
        for facts, directory in read
        if name in (None, facts.get("study", {}).get("name"))
    ]
    return max(found)[1] if found else None
