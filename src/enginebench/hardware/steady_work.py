"""Fixed pieces of work on one CPU, each timed: a machine without noise takes equally long for all.

Run as a program by the harness, with the CPU's number and the seconds to work for. It prints
``ready``, waits for a line with the moment to begin (CLOCK_MONOTONIC, s), and prints a JSON list of
[start in s, wall time in s] at the end. Imports nothing of enginebench.
"""

import json
import os
import sys
import time

#: About 10 ms together on a CPU of today: arithmetic, and copies that leave a core's own caches.
LOOP = 100_000
COPY_BYTES = 8 << 20


def piece(source: bytearray) -> int:
    total = 0
    for number in range(LOOP):
        total += number
    return total + len(bytes(source))


def timed_pieces(start_s: float, seconds: float) -> list[tuple[float, float]]:
    """Pieces one after the other until the time is over: start and wall time of each, in s."""
    source = bytearray(COPY_BYTES)
    piece(source)  # the first takes its memory
    time.sleep(max(start_s - time.perf_counter(), 0.0))
    found = []
    while (begun_s := time.perf_counter()) < start_s + seconds:
        piece(source)
        found.append((begun_s, time.perf_counter() - begun_s))
    return found


def main() -> None:
    cpu, seconds = int(sys.argv[1]), float(sys.argv[2])
    os.sched_setaffinity(0, {cpu})
    print("ready", flush=True)
    if line := sys.stdin.readline():  # otherwise the harness has gone
        print(json.dumps(timed_pieces(float(line), seconds)))


if __name__ == "__main__":
    main()
