"""``derived/phases_data.json``: prefill and decode, the grid of lengths, and batching as data."""

import json
from dataclasses import asdict
from pathlib import Path

from enginebench.summarize import batching_gain, length_grid, phases
from enginebench.summarize.study_summary import Summary

GRID_FIGURES = tuple(f"{name}_{p}" for name in ("e2e_s", "ttft_s", "itl_s") for p in ("p50", "p95"))


def write(summary: Summary, derived: Path) -> None:
    """Write the file, if the study varies lengths; its type is ``schema_phases.Phases``."""
    found = phases.phases(summary)
    data = {
        "phases": [
            asdict(phase) | {"curves": [_curve(curve) for curve in phase.curves]} for phase in found
        ],
        "roofline": [asdict(point) for point in phases.placed(summary, found)],
        "grid": _grid(summary),
        "batching": [
            asdict(gain) | {"computed": gain.lengths.gain} for gain in batching_gain.gains(summary)
        ],
    }
    if any(data.values()):
        text = json.dumps(data, indent=1, allow_nan=False)
        (derived / "phases_data.json").write_text(text + "\n", encoding="utf-8")


def _curve(curve: phases.Curve) -> dict[str, object]:
    values = asdict(curve)
    del values["dtypes"]  # in launch.json
    return values


def _grid(summary: Summary) -> list[dict[str, object]]:
    found = length_grid.grid(summary)
    if found is None:
        return []
    return [
        {
            "label": label,
            "in_flight": found.in_flight,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "figures": {
                name: asdict(value) if (value := group.figures[name]) else None
                for name in GRID_FIGURES
            },
        }
        for (label, prompt, output), group in found.cells.items()
    ]
