"""Which study file a verb means."""

from pathlib import Path

from enginebench.cli.options import RunOptions
from enginebench.cli.terminal import Log
from enginebench.run import profile

DEVICES = {"": "", "gpu": "cuda", "cpu": "cpu"}  # by --profile


def study_file(name: str, options: RunOptions, log: Log) -> Path:
    """A study by its path or name; without a name, this machine's study, with the reason."""
    if name:
        path = Path(name)
        is_file = path.suffix in (".yaml", ".yml")
        return path if is_file else options.root / "studies" / f"{name}.yaml"
    file = default_file(options.root, profile.choose(DEVICES[options.profile], options.runner))
    log(f"profile {file.stem}: study {file}")
    return file


def default_file(root: Path, chosen: profile.Profile) -> Path:
    file = root / "studies" / f"{chosen.study}.yaml"
    return file if file.exists() else root / "studies" / "cpu.yaml"
