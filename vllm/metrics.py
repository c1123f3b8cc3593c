"""Throughput, latency and cost of this engine: ``make bench-vllm``, or run this file."""

from pathlib import Path

from enginebench.cli.scripts import bench_script

if __name__ == "__main__":
    bench_script(Path(__file__))
