"""A few hundred inputs of every fuzzing target; `make fuzz` runs them for longer."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.append(str(Path(__file__).resolve().parent))

import targets

pytestmark = pytest.mark.slow
EXAMPLES = {"report": 5, "record": 60}  # others are quick


@pytest.fixture(autouse=True, scope="module")
def place():
    yield
    targets.remove_place()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_that_is_read_ends_in_anything_but_the_edges_own_words(name):
    target = targets.TARGETS[name]

    @settings(
        max_examples=EXAMPLES.get(name, 300),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs())
    def check(data):
        target.check(data)

    check()
