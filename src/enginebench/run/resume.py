"""Resuming a study: whether a record is of the same study, and which of its parts are complete.

A start of an engine is complete if it ended without a failure, no cell saw the engine die, and
every planned cell was recorded. The rest is removed and run again.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from enginebench.base import redaction
from enginebench.base.errors import UserError
from enginebench.plan.plan import Launch, Plan
from enginebench.record import manifest, reading, schema
from enginebench.record.encoding import Encoder
from enginebench.record.schema_study import Study, StudyFile


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What a record has already, as ids of engine starts; by default: nothing."""

    complete: frozenset[str] = frozenset()
    attempted: frozenset[str] = frozenset()  # begun and not complete


def require_same(directory: Path, now: Study) -> None:
    """Refuse to resume a record of another study, other work or another machine.

    Args:
        now: what ``study.json`` would hold if the study were started anew.

    Raises:
        UserError: they differ; names the first difference.
    """
    before = _identity(reading.read_study(directory))
    as_written = Encoder(redaction.values()).redacted(now)
    for what, new in _identity(msgspec.convert(as_written, Study, str_keys=True)).items():
        if (old := before[what]) != new:
            raise UserError(
                f"{directory}: expected the same {what} as in the record that is resumed, found "
                f"{_short(old)} in the record and {_short(new)} now; start anew without --resume, "
                "or move the record away"
            )


def _identity(facts: Study) -> dict[str, object]:
    machine = facts.machine
    study = {f"study ({name})": getattr(facts.study, name) for name in StudyFile.__struct_fields__}
    return study | {
        "commit": (facts.git.commit, facts.git.dirty),
        "runner": facts.runner,
        "device": facts.device,
        "prompts": facts.prompts.sha256,
        "model": facts.model.sha256,
        "processors": (machine.cpu, machine.cpus),
        "GPUs": [gpu.name for gpu in machine.gpus],
    }


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def keep_complete(directory: Path, plan: Plan) -> ResumeState:
    """Keep the complete engine starts of a record and remove the others.

    If any is missing, the record no longer counts as finished.
    """
    complete = frozenset(item.id for item in plan.launches if _is_complete(directory, item))
    # Only what the plan names is ours: whatever else somebody put there stays.
    rest = [directory / "raw" / item.id for item in plan.launches if item.id not in complete]
    attempted = frozenset(path.name for path in rest if os.path.lexists(path))
    for path in rest:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if len(complete) < len(plan.launches):
        (directory / "finished.json").unlink(missing_ok=True)
    return ResumeState(complete, attempted)


def _is_complete(directory: Path, item: Launch) -> bool:
    launch = directory / "raw" / item.id
    try:
        facts = reading.read_document(launch / "launch.json", schema.Launch)
        cells = [
            reading.read_document(launch / cell.id / "cell.json", schema.Cell)
            for cell in item.cells
        ]
    except reading.RecordError:  # interrupted, or damaged since
        return False
    if facts.failure is not None or any(cell.engine_death for cell in cells):
        return False
    return not manifest.damages(directory, facts.files)
