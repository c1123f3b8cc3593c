"""What the scripts in an engine's directory call. This address is documented and stays."""

import sys
from pathlib import Path

from enginebench.cli import terminal
from enginebench.cli.app import app, run_cli

KV_STUDY = "kv-cpu"  # a GPU runs it too: its counts and curves are the same


def bench_script(file: Path) -> None:
    """All that an engine's ``metrics.py`` does: ``enginebench bench`` for its own directory."""
    _bench(file)


def kv_script(file: Path) -> None:
    """All that an engine's ``kv_cache.py`` does: its part of the study of where memory goes."""
    _bench(file, "--study", KV_STUDY)


def _bench(file: Path, *defaults: str) -> None:
    """Options of the command line come last, as the last of two equal ones counts."""
    engine = file.resolve().parent
    arguments = ["bench", engine.name, "--root", str(engine.parent), *defaults, *sys.argv[1:]]
    terminal.never_fail()
    run_cli(lambda: app(arguments))
