import pytest

from enginebench.summarize import growth


def test_a_power_law_is_found_with_its_exponent():
    found = growth.power_law([(n, 3 * n**2) for n in (32, 64, 128, 256)])
    assert found.exponent == pytest.approx(2)
    assert found.last_exponent == pytest.approx(2)
    assert found.exponent_error == pytest.approx(0, abs=1e-9)


def test_a_constant_and_a_square_rise_towards_two():
    # 1 + (n/100)²: 1.01, 2 and 101 at 10, 100 and 1000.
    found = growth.power_law([(10, 1.01), (100, 2), (1000, 101)])
    assert found.exponent == pytest.approx(1.0, abs=0.001)  # (log 101 - log 1.01) / 2
    assert found.last_exponent == pytest.approx(1.7033, abs=0.0001)  # log10(50.5)


@pytest.mark.parametrize("points", [[], [(1, 1), (2, 2)], [(1, 1), (1, 2), (2, 3)], [(1, 0)] * 5])
def test_fewer_than_three_lengths_have_no_exponent(points):
    assert growth.power_law(points) is None


def test_a_length_that_is_there_twice_is_one_point():
    found = growth.power_law([(16, 1), (64, 4), (256, 9), (256, 16)])
    assert (found.exponent, found.last_exponent) == (pytest.approx(1), pytest.approx(1))


def test_curves_cross_between_two_lengths_on_logarithms():
    # At 10 half as much, at 1000 twice as much: they are equal at 100.
    assert growth.crossover([(10, 1), (1000, 8)], [(10, 2), (1000, 4)]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("one", "length"),
    [
        ([(10, 3), (20, 9)], 10),  # above at every length
        ([(10, 3), (20, 1)], None),  # not above at the end
        ([(10, 1), (20, 1)], None),
        ([(10, 2), (20, 9)], 10),  # equal there, above after
        ([], None),
    ],
)
def test_what_is_above_from_the_start_or_never(one, length):
    found = growth.crossover(one, [(10, 2), (20, 2)])
    assert found == (None if length is None else pytest.approx(length))


def test_a_line_is_found_with_its_error():
    found = growth.line([(1, 3), (2, 5), (4, 9)])  # 1 + 2 n
    assert (found.constant, found.slope) == (pytest.approx(1), pytest.approx(2))
    assert found.slope_error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("points", [[], [(1, 1), (2, 2)], [(1, 1), (1, 2), (2, 3)]])
def test_fewer_than_three_lengths_have_no_line(points):
    assert growth.line(points) is None
