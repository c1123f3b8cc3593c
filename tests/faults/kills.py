"""kill -9 at random moments of a study with two engines, then --resume: the table must be that of a
study that nobody disturbed, and no secret in clear on disk at any of these moments."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import (
    GRACE_S,
    Ended,
    Fault,
    Result,
    place,
    processes,
    result,
    run,
    secrets,
)
from project import make_project, metrics, pass_on_the_token, study, write_study

ENGINES = ({"engine": "alpha"}, {"engine": "beta"})
#: What must be the same: all of a cell that is no time.
COUNTS = ("requests", "requests_failed", "output_tokens", "prompt_tokens", "counters_checked")
Table = Mapping[tuple[str, str, int], tuple[Any, ...]]


def command(root: Path, cache: Path, *flags: str) -> list[object]:
    make_project(root, "alpha", "beta")
    for name in ("alpha", "beta"):
        pass_on_the_token(root / name / "launch.yaml")  # the double prints it
    file = write_study(root, study(*ENGINES, trials=2, agreement=AGREEMENT))
    return ["study", file, "--root", root, "--cache", cache, *flags]


AGREEMENT = {"prompts": 3, "prompt_tokens": 24, "output_tokens": 6}


def table(root: Path) -> Table:
    """By start, workload and level: verdict, problems and counts."""
    return {
        (cell["launch"], cell["workload"], cell["concurrency"]): (
            cell["verdict"],
            tuple(cell["problems"]),
            *(cell["figures"].get(name) for name in COUNTS),
        )
        for cell in metrics(root)["cells"]
    }


def undisturbed(cache: Path) -> tuple[Table, float]:
    """The table of a study that nobody kills, and the seconds it takes."""
    with place() as root:
        ended = run(root, command(root, cache), deadline_s=180)
        if ended.code:
            raise SystemExit(f"the study that nobody kills failed:\n{ended.said}")
        return table(root), ended.seconds


def killed(cache: Path, number: int, after_s: float, expected: Table) -> Result:
    """One kill at a moment, and the resumed study."""
    found: list[str] = []

    def kill(process: "subprocess.Popen[Any]") -> None:
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)

    with place() as root:
        words = command(root, cache)
        run(root, words, during=kill)
        found += [f"secret in {path.relative_to(root)}" for path in secrets(root)]
        until_s = time.perf_counter() + GRACE_S
        while (alive := processes(root)) and time.perf_counter() < until_s:
            time.sleep(0.05)
        found += [f"process {name} outlived the harness" for name in alive]
        begun = sorted(root.glob("results/*/events.jsonl"))
        step = begun[0].read_text().splitlines()[-1:] if begun else []
        where = (step[0] if step else "before the record")[:90]
        ended = run(root, [*words, "--resume"], deadline_s=180)
        now = table(root) if list(root.glob("results/*/derived/metrics_data.json")) else {}
    lost = sum(now.get(key) != row for key, row in expected.items()) + len(now.keys() - expected)
    ended = Ended(
        ended.code, ended.said, ended.mib, ended.seconds, ended.hung, (*found, *ended.left)
    )
    fault = Fault(f"kill -9, moment {number:2d}", "report: ", 0)
    row = result("kill", fault, ended, lost)
    same = "the table is that of a study that nobody disturbed"
    print(f"{fault.name}: after {after_s:.2f} s, {where}", flush=True)
    return Result(
        row.group, row.fault, row.found and same, row.code, lost, row.ended, ended.said[-600:]
    )


def moments(count: int, seed: int, seconds: float) -> list[float]:
    """So many moments, one drawn in each of as many equal parts of the study."""
    draw = random.Random(f"kills/{seed}")
    return [(number + draw.random()) * seconds / count for number in range(count)]


def jobs(cache: Path, count: int, seed: int) -> list[Callable[[], list[Result]]]:
    if not count:
        return []
    expected, seconds = undisturbed(cache)
    return [
        lambda number=number, after_s=after_s: [killed(cache, number, after_s, expected)]
        for number, after_s in enumerate(moments(count, seed, seconds), 1)
    ]
