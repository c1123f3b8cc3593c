"""The documents of a record, and what has become of its files since they were written.

Only a record without a ``study.json`` that can be read is refused. Any other file that is missing,
damaged or altered is noted, and the rest is read.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from enginebench.record import manifest, reading
from enginebench.record.schema import Launch
from enginebench.record.schema_study import Event, Finished, Study

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Documents:
    study: Study  # study.json
    finished: Finished | None  # finished.json; None: the study did not come to its end
    launches: Mapping[str, Launch]  # launch.json by launch id; only what was started and ended
    resumed: int  # how often the study was resumed
    damages: dict[str, str]  # by path below the directory: what is wrong with the file


def read(directory: Path) -> Documents:
    """All documents of a record; raises UserError where there is no study.json of ours."""
    study = reading.read_study(directory)
    damages: dict[str, str] = {}
    finished = _document(directory, "finished.json", Finished, damages)
    launches = {}
    for name in (planned.id for planned in study.plan):
        launch = _document(directory, f"raw/{name}/launch.json", Launch, damages)
        if launch is not None:
            launches[name] = launch
    listed = [launch.files for launch in launches.values()]
    for files in ([finished.files] if finished else []) + listed:
        damages |= manifest.damages(directory, files)
    return Documents(study, finished, launches, _resumed(directory, damages), damages)


def _document(directory: Path, path: str, kind: type[T], damages: dict[str, str]) -> T | None:
    """A document of a record, if it is there; one that cannot be read is noted as damaged."""
    if not os.path.lexists(directory / path):
        return None
    try:
        return reading.read_document(directory / path, kind)
    except reading.RecordError as error:
        damages[path] = error.message
        return None


def _resumed(directory: Path, damages: dict[str, str]) -> int:
    """How often a study was resumed; a line that a full disk has cut counts for nothing."""
    events = directory / "events.jsonl"
    if not os.path.lexists(events):
        return 0
    try:
        steps = list(reading.whole_rows(events, Event))
    except reading.RecordError as error:
        damages[events.name] = error.message
        return 0
    return sum(event.step == "resumed" for event in steps)
