"""Resuming a study: whether a record is of the same study, and which of its parts are complete.

A start of an engine is complete if it ended without a failure, no cell saw the engine die, and
every planned cell was recorded. The rest is removed and run again.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError
from enginebench.plan.plan import Launch, Plan
from enginebench.record import files


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What a record has already, as ids of engine starts; by default: nothing."""

    complete: frozenset[str] = frozenset()
    attempted: frozenset[str] = frozenset()  # begun and not complete


def require_same(directory: Path, now: Mapping[str, Any]) -> None:
    """Refuse to resume a record of another study, other work or another machine.

    Args:
        now: what ``study.json`` would hold if the study were started anew.

    Raises:
        UserError: they differ; names the first difference.
    """
    before = _identity(files.read_study(directory))
    for what, new in _identity(now).items():
        if (old := before[what]) != new:
            raise UserError(
                f"{directory}: expected the same {what} as in the record that is resumed, found "
                f"{_short(old)} in the record and {_short(new)} now; start anew without --resume, "
                "or move the record away"
            )


def _identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    machine = facts["machine"]
    return {
        "study": facts["study"],
        "commit": (facts["git"]["commit"], facts["git"]["dirty"]),
        "runner": facts["runner"],
        "device": facts["device"],
        "prompts": facts["prompts"]["sha256"],
        "model": facts["model"]["sha256"],
        "processors": (machine["cpu"], machine["cpus"]),
        "GPUs": [gpu["name"] for gpu in machine["gpus"]],
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def keep_complete(directory: Path, plan: Plan) -> ResumeState:
    """Keep the complete engine starts of a record and remove the others.

    If any is missing, the record no longer counts as finished.
    """
    complete = frozenset(item.id for item in plan.launches if _is_complete(directory, item))
    attempted = frozenset(path.name for path in (directory / "raw").glob("*")) - complete
    for name in attempted:
        shutil.rmtree(directory / "raw" / name)
    if len(complete) < len(plan.launches):
        (directory / "finished.json").unlink(missing_ok=True)
    return ResumeState(complete, attempted)


def _is_complete(directory: Path, item: Launch) -> bool:
    launch = directory / "raw" / item.id
    file = launch / "launch.json"
    return (
        file.exists()
        and files.read_json(file).get("failure", "interrupted") is None
        and all(_is_recorded(launch / cell.id / "cell.json") for cell in item.cells)
    )


def _is_recorded(cell: Path) -> bool:
    return cell.exists() and not files.read_json(cell).get("engine_death")
