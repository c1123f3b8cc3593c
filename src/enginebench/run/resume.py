"""Going on with a study: which record it is, and what of it still stands.

A start of an engine stands if it ended without a failure, the engine's death in a cell among them,
and left every cell that was planned for it; what is left of any other is removed, and it is run
again.
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
class There:
    """What a record has already; by default: nothing."""

    whole: frozenset[str] = frozenset()  # ids of the engine starts that stand
    tried: frozenset[str] = frozenset()  # of those that were begun and do not


def require_same(directory: Path, now: Mapping[str, Any]) -> None:
    """Whether the record is of the same study, work and machine.

    Args:
        now: what ``study.json`` would say if the study were started anew.

    Raises:
        UserError: it is not; says what differs.
    """
    before = _identity(files.read_study(directory))
    for what, new in _identity(now).items():
        if (old := before[what]) != new:
            raise UserError(
                f"{directory}: expected to go on with the same {what}, found {_short(old)} in the "
                f"record and {_short(new)} now; start anew without --resume, or move it away"
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


def keep_whole(directory: Path, plan: Plan) -> There:
    """The engine starts that stand are kept; the rest of the record's are removed.

    If any is missing, the record no longer counts as finished.
    """
    whole = frozenset(item.id for item in plan.launches if _stands(directory, item))
    tried = frozenset(path.name for path in (directory / "raw").glob("*")) - whole
    for name in tried:
        shutil.rmtree(directory / "raw" / name)
    if len(whole) < len(plan.launches):
        (directory / "finished.json").unlink(missing_ok=True)
    return There(whole, tried)


def _stands(directory: Path, item: Launch) -> bool:
    where = directory / "raw" / item.id
    file = where / "launch.json"
    return (
        file.exists()
        and files.read_json(file).get("failure", "cut off") is None
        and all(_is_whole(where / cell.id / "cell.json") for cell in item.cells)
    )


def _is_whole(cell: Path) -> bool:
    return cell.exists() and not files.read_json(cell).get("engine_death")
