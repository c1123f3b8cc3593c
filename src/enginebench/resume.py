"""Going on with a study: which record it is, and what of it still stands.

A start of an engine stands if it ended without a failure and left every cell that was planned for
it; what is left of any other is removed, and it is run again.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginebench import record
from enginebench.errors import UserError
from enginebench.plan import Launch, Plan


def last(results: Path, name: str) -> Path | None:
    """The record of the study of that name that was started last; None: there is none."""
    found = [
        (facts.get("started_at", ""), path.parent)
        for path in results.glob("*/study.json")
        if (facts := record.read_json(path)).get("study", {}).get("name") == name
    ]
    return max(found)[1] if found else None


def require_same(directory: Path, now: Mapping[str, Any]) -> None:
    """Whether the record is of the same study, work and machine.

    Args:
        now: what ``study.json`` would say if the study were started anew.

    Raises:
        UserError: it is not; says what differs.
    """
    before = _identity(record.read_study(directory))
    for what, new in _identity(now).items():
        if (old := before[what]) != new:
            raise UserError(
                f"{directory}: expected to go on with the same {what}, found {_short(old)} in the "
                f"record and {_short(new)} now; start anew without --resume"
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


def keep_whole(directory: Path, plan: Plan) -> frozenset[str]:
    """The ids of the engine starts that stand; the rest of the record's are removed.

    If any is missing, the record no longer counts as finished.
    """
    whole = frozenset(item.id for item in plan.launches if _stands(directory, item))
    for path in (directory / "raw").glob("*"):
        if path.name not in whole:
            shutil.rmtree(path)
    if len(whole) < len(plan.launches):
        (directory / "finished.json").unlink(missing_ok=True)
    return whole


def _stands(directory: Path, item: Launch) -> bool:
    where = directory / "raw" / item.id
    file = where / "launch.json"
    return (
        file.exists()
        and record.read_json(file).get("failure", "cut off") is None
        and all((where / cell.id / "cell.json").exists() for cell in item.cells)
    )
