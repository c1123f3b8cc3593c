"""Where the memory of this engine goes: ``make kv-vllm``, or run this file."""

from pathlib import Path

from enginebench.cli.scripts import kv_script

if __name__ == "__main__":
    kv_script(Path(__file__))
