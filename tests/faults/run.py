"""The fault matrix: `make test-faults`.

Every fault is made for real, one after another, and the harness runs as a process of its own. The
table says what it made of it: whether it named the fault, what was lost, what was left behind. The
exit code is 1 if a fault was not named, or there was a traceback, a hang, a lost record, something
left behind, or more than 1 GiB of memory.

    make test-faults ARGS="--only kit,verify"     some groups
    make test-faults ARGS="--kills 40 --only kill"   more of the kills
    make test-faults ARGS=--write                 and write docs/faults.md
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "faults")]

import cells  # noqa: E402
import files  # noqa: E402
import hosts  # noqa: E402
import kills  # noqa: E402
import kits  # noqa: E402
import records  # noqa: E402
import starts  # noqa: E402
from harness import MOST_MIB, Result, run  # noqa: E402
from project import make_project  # noqa: E402

from enginebench.plan import prompt_files, random_model  # noqa: E402

WORKERS = 2
#: The long ones first, so that none is alone at the end.
PARTS = {
    "events": cells,
    "start": starts,
    "host": hosts,
    "record": records,
    "file": files,
    "kit": kits,
}
STEPS_MIB = (64, 128, 256, 512, MOST_MIB)
HEAD = """# Faults

Made by `make test-faults ARGS=--write`. {count} faults were made for real, each against a harness
that ran as a process of its own. {bad} of them were not named, or ended in a traceback, a hang, a
lost record, something left behind or more than {most} MiB of memory.

- *Named*: what the harness said, in a cell's findings or in its only line.
- *Exit*: of the command. Faults of cells share a study, whose exit code says that some are invalid.
- *Lost*: records that should be there and are not, or other cells that were harmed.
- *Left*: processes, files in TMPDIR, halves of files, and files with the secret that was planted in
  the environment.
- *Memory*: of the command and of all that it waited for, at most, in MiB.
"""


def work(jobs: Sequence[Callable[[], list[Result]]]) -> list[Result]:
    """Do all jobs, as many at once as there are cores for."""
    found: list[Result] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for rows in pool.map(lambda job: job(), jobs):
            found += rows
            for row in rows:
                mark = f"BAD: {'; '.join(row.problems)}" if row.problems else "ok"
                print(f"{row.group:14} {row.fault:46.46} {mark}", flush=True)
    return found


def markdown(rows: Sequence[Result]) -> str:
    bad = sum(bool(row.problems) for row in rows)
    lines = [HEAD.format(count=len(rows), bad=bad, most=MOST_MIB)]
    for group in dict.fromkeys(row.group for row in rows):
        mine = [row for row in rows if row.group == group]
        lines += [
            f"\n## {group} ({len(mine)})\n",
            "| fault | named | exit | lost | left | memory |",
        ]
        lines += ["|---|---|---:|---:|---:|---:|"]
        for row in mine:
            named = row.found.replace("|", "\\|").replace("<", "&lt;")[:120] or "**not named**"
            left = len(row.ended.left)
            step = next((f"≤ {most}" for most in STEPS_MIB if row.ended.mib <= most), "**more**")
            fault = row.fault.replace("|", "\\|")
            lines += [f"| {fault} | {named} | {row.code} | {row.lost} | {left} | {step} |"]
    return "\n".join(lines) + "\n"


def made_cache(where: Path) -> Path:
    """The doubles' environment and the embedded model, made once."""
    project = where / "first"
    project.mkdir()
    (project / "tmp").mkdir()
    make_project(project, "alpha")
    cache = where / "cache"
    ended = run(project, ["setup", "--root", project, "--cache", cache], deadline_s=300)
    if ended.code:
        raise SystemExit(f"cannot set up the doubles: {ended.said}")
    random_model.make(list(prompt_files.read(ROOT / "prompts.txt").texts), cache / "models")
    return cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"parts: {', '.join([*PARTS, 'kill'])}")
    parser.add_argument("--kills", type=int, default=6, help="moments at which a study is killed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*PARTS, "kill"]
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        cache = made_cache(Path(name))
        jobs = [
            job for part, module in PARTS.items() if part in chosen for job in module.jobs(cache)
        ]
        rows = work(jobs)
        if "kill" in chosen:
            rows += work(kills.jobs(cache, options.kills, options.seed))
    bad = [row for row in rows if row.problems]
    tally = Counter(row.group for row in rows)
    print(f"\n{len(rows)} faults ({', '.join(f'{n} {group}' for group, n in tally.items())})")
    for row in bad:
        print(f"BAD {row.group}: {row.fault}: {'; '.join(row.problems)}")
    most = max(row.ended.mib for row in rows)
    seconds = time.perf_counter() - started_s
    print(
        f"{len(rows) - len(bad)} of {len(rows)} as they must be; tracebacks "
        f"{sum('traceback' in row.problems for row in rows)}, hangs "
        f"{sum(row.ended.hung for row in rows)}, lost {sum(row.lost for row in rows)}, left behind "
        f"{sum(len(row.ended.left) for row in rows)}; at most {most:.0f} MiB; {seconds:.0f} s"
    )
    if options.write:
        (ROOT / "docs" / "faults.md").write_text(markdown(rows))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
