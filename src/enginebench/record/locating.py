"""Which record of a study is meant where none is named: the one that was started last."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from enginebench.base.errors import UserError
from enginebench.record.reading import RecordError, read_document


class _StudyName(msgspec.Struct):
    name: str = ""


class _Started(msgspec.Struct):
    """Which study a record is of, and when it was started."""

    started_at: str = ""
    study: _StudyName = msgspec.field(default_factory=_StudyName)


def _ignore(_: str) -> None:
    """Nobody is interested."""


def latest(results: Path, warn: Callable[[str], object] = _ignore) -> Path:
    """The study directory that was started last.

    Args:
        warn: is called with one line for each study that cannot be read; it is skipped.

    Raises:
        UserError: there is none.
    """
    newest = last(results, warn=warn)
    if newest is None:
        raise UserError(
            f"{results}: expected a study's record, found none; run one with: make study"
        )
    return newest


def last(
    results: Path,
    name: str | None = None,
    warn: Callable[[str], object] = _ignore,
) -> Path | None:
    """The study directory that was started last (of that name, if given); None: there is none."""
    records = []
    for file in results.glob("*/study.json"):
        try:
            started = read_document(file, _Started)
        except RecordError as error:
            warn(error.message)
            continue
        if name in (None, started.study.name):
            records.append((started.started_at, file.parent))
    return max(records)[1] if records else None
