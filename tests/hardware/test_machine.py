import pytest

from enginebench.hardware import machine


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 3, 8], "0-3,8"), ([5], "5"), ([1, 3, 4], "1,3-4")]
)
def test_processors_are_listed_as_taskset_does(numbers, text):
    assert machine.cpu_list(numbers) == text
