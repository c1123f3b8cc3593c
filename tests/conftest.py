"""Shared by all tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# `python -m pytest` puts the working directory on the path; from the repository's root, `vllm/`
# would then answer to `import vllm`.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
