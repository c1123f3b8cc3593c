"""Shared by all tests."""

import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# `python -m pytest` puts the working directory on the path; from the repository's root, `vllm/`
# would then answer to `import vllm`.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
sys.path.append(str(ROOT / "tests"))  # for fake_server

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def sources():
    from enginebench import prompts

    return prompts.read_sources(ROOT / "prompts.txt")


@pytest.fixture(scope="session")
def embedded_model(sources, tmp_path_factory):
    from enginebench import embedded

    return embedded.make(sources, tmp_path_factory.mktemp("models"))
