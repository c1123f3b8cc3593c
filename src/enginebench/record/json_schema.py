"""The type of every file of a record by its name, and JSON Schema made of them.

``python -m enginebench.record.json_schema docs/schema`` writes the files there anew.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from enginebench.base.machine_row import MachineRow
from enginebench.record import (
    schema,
    schema_derived,
    schema_phases,
    schema_samples,
    schema_study,
)

#: A raw file's name -> the type of its content; of a ``.jsonl`` file, of each line.
RAW_FILES: dict[str, Any] = {
    "study.json": schema_study.Study,
    "events.jsonl": schema_study.Event,
    "finished.json": schema_study.Finished,
    "published.json": schema_study.Published,
    "launch.json": schema.Launch,
    "container.jsonl": schema_samples.ContainerSample,
    "agreement.jsonl.gz": schema.Request,
    "perplexity.jsonl": schema.PromptScore,
    "cell.json": schema.Cell,
    "requests.jsonl": schema.Request,
    "scrapes.jsonl.gz": schema_samples.Scrape,
    "processes.jsonl": schema_samples.ProcessSample,
    "gpus.jsonl.gz": schema_samples.GpuSample,
    "machine.jsonl": MachineRow,
}
DERIVED_FILES: dict[str, Any] = {
    "metrics_data.json": schema_derived.Metrics,
    "kv_cache_data.json": list[schema_derived.KvSeries],
    "gpu_memory_data.json": list[schema_derived.MemorySeries],
    "latency_data.json": list[schema_derived.LatencySeries],
    "other_tools_data.json": list[schema_derived.OtherTools],
    "phases_data.json": schema_phases.Phases,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, str]:
    """The JSON Schema of each file, by the name that it has below ``docs/schema/``."""
    made = {}
    for name, kind in (RAW_FILES | DERIVED_FILES).items():
        what = "each line of " if ".jsonl" in name else ""
        head = {"$schema": DIALECT, "title": f"{what}{name}", "x-record-schema": schema.SCHEMA}
        body = head | msgspec.json.schema(kind)
        made[f"{name}.schema.json"] = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    return made


def write(directory: Path) -> None:
    """Write every schema into a directory, and remove those of files that are no more."""
    directory.mkdir(parents=True, exist_ok=True)
    made = documents()
    for old in directory.glob("*.schema.json"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schema"))
