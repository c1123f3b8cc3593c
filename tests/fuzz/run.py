"""Fuzzing of every reader at an edge, for a time: `make fuzz SECONDS=1800`.

Each target runs for so long, two at a time, in processes of their own of at most 4 GiB. Whatever
is found is printed as small as hypothesis can make it; the exit code is then 1.

    make fuzz SECONDS=60 ARGS="--only sse,http1"
"""

import argparse
import os
import resource
import subprocess
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "fuzz")]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

MEMORY_BYTES = 4 << 30
SLOWEST_S = 10.0  # CPU time of one input: a reader that takes longer is taken to hang
EXAMPLES = 500  # between two looks at the clock
JOBS = 2


def fuzz(name: str, seconds: float, first: int, most: int) -> bool:
    """Fuzz one target for a time in this process; whether it held."""
    import targets

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    target = targets.TARGETS[name]
    inputs = target.inputs()
    count, slowest_s, started_s = 0, 0.0, time.monotonic()
    kinds: Counter[str] = Counter()
    number = first
    while time.monotonic() - started_s < seconds and count < most:
        number += 1

        @seed(number)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # shrinking would take minutes more than it was given
        )
        @given(inputs)
        def one(data: object) -> None:
            nonlocal count, slowest_s
            if time.monotonic() - started_s > seconds or count >= most:
                return
            count += 1
            began_s = time.process_time()
            target.check(data)
            slowest_s = max(slowest_s, took_s := time.process_time() - began_s)
            assert took_s < SLOWEST_S, f"{took_s:.1f} s"

        try:
            one()
        except BaseException as error:
            print(f"{name}: seed {number}, after {count:,} inputs:", flush=True)
            traceback.print_exc()
            kinds[type(error).__name__] += 1
            break
    took_s = time.monotonic() - started_s
    targets.remove_place()
    outcome = "FOUND " + ", ".join(kinds) if kinds else "nothing found"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: {count:,} inputs in {took_s:.0f} s, slowest {slowest_s:.2f} s, "
        f"at most {most:.0f} MiB: {outcome}",
        flush=True,
    )
    return not kinds


def main() -> None:
    import targets

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each target")
    parser.add_argument("--only", default="", help=f"of {', '.join(targets.TARGETS)}")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first inputs")
    parser.add_argument("--inputs", type=int, default=1 << 60, help="at most, of each target")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        sys.exit(not fuzz(options.inside, options.seconds, options.seed, options.inputs))
    names = options.only.split(",") if options.only else list(targets.TARGETS)
    print(f"{len(names)} targets, {options.seconds:g} s each, seed {options.seed}", flush=True)

    def run(name: str) -> int:
        words = [sys.executable, __file__, "--inside", name, "--seconds", str(options.seconds)]
        env = os.environ | {"MPLBACKEND": "Agg"}
        words += ["--seed", str(options.seed), "--inputs", str(options.inputs)]
        return subprocess.run(words, env=env).returncode

    with ThreadPoolExecutor(JOBS) as pool:
        sys.exit(any(list(pool.map(run, names))))


if __name__ == "__main__":
    main()
