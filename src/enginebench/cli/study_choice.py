"""Which study a verb means, and what it would run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from enginebench.base.text import clock
from enginebench.cli.options import RunOptions
from enginebench.cli.terminal import Log
from enginebench.plan import plan
from enginebench.plan.plan import Plan
from enginebench.plan.study_file import Study

if TYPE_CHECKING:
    from enginebench.run.profile import Device, Profile

#: By ``--profile``.
DEVICES: Mapping[str, 'Device | Literal[""]'] = {"": "", "gpu": "cuda", "cpu": "cpu"}


def study_file(name: str, options: RunOptions, log: Log) -> Path:
    """A study by its path or name; without a name, this machine's study, with the reason."""
    if name:
        path = Path(name)
        is_file = path.suffix in (".yaml", ".yml")
        return path if is_file else options.root / "studies" / f"{name}.yaml"
    from enginebench.run import profile  # looks for Docker and GPUs

    file = default_file(options.root, profile.choose(DEVICES[options.profile], options.runner))
    log(f"profile {file.stem}: study {file}")
    return file


def default_file(root: Path, chosen: "Profile") -> Path:
    file = root / "studies" / f"{chosen.study}.yaml"
    return file if file.exists() else root / "studies" / "cpu.yaml"


def print_plan(study: Study, planned: Plan, left_out: Mapping[str, str], log: Log) -> None:
    """Print what would run.

    Args:
        left_out: by engine/variant: why it is not run.
    """
    log(
        f"{study.name}: {len(planned.launches)} engine starts, {planned.cells} cells, "
        f"{planned.requests} requests; about {clock(planned.estimate_s)}"
    )
    for item in planned.launches:
        cells = ", ".join(cell.id for cell in item.cells)
        duration = clock(plan.launch_estimate_s(item))
        log(f"  trial {item.trial}  {item.variant.label:24} {cells}  (about {duration})")
    for label, reason in left_out.items():
        log(f"  left out {label:24} {reason}")
    if balance := plan.balance_text(planned):
        log(balance)
