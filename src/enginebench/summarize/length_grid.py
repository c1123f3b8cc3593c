"""A grid of prompt and output lengths, as far as a study has one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from enginebench.summarize import growth
from enginebench.summarize.groups import Group
from enginebench.summarize.study_summary import Summary, workload_of


@dataclass(frozen=True, slots=True)
class Grid:
    """Valid closed-loop cells with every one of these prompts and outputs, at one level of load."""

    in_flight: int
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    cells: Mapping[tuple[str, int, int], Group]  # variant, prompt and output


def grid(summary: Summary) -> Grid | None:
    """The largest grid of at least three prompt lengths by three output lengths; None: none."""
    levels = sorted({group.concurrency for group in summary.groups if group.rate is None})
    grids = [found for level in levels if (found := _grid_at(summary, level))]
    return max(grids, key=lambda found: len(found.cells), default=None)


def _grid_at(summary: Summary, level: int) -> Grid | None:
    cells = {}
    for group in summary.groups:
        work = workload_of(summary, group.workload)
        output = work.output_tokens
        is_here = (group.concurrency, group.rate) == (level, None) and group.trials_valid > 0
        if is_here and isinstance(output, int) and not work.shared_prefix_tokens:
            cells[group.label, work.prompt_tokens, output] = group
    outputs_of: dict[int, set[int]] = {}
    for _, prompt, output in cells:
        outputs_of.setdefault(prompt, set()).add(output)
    whole = []
    for outputs in outputs_of.values():
        prompts = [prompt for prompt, own in outputs_of.items() if outputs <= own]
        if min(len(prompts), len(outputs)) >= growth.MINIMUM_POINTS:
            whole.append((tuple(sorted(prompts)), tuple(sorted(outputs))))
    if not whole:
        return None
    rows, columns = max(whole, key=lambda found: len(found[0]) * len(found[1]))
    inside = {place: g for place, g in cells.items() if place[1] in rows and place[2] in columns}
    return Grid(level, rows, columns, inside)
