import pytest
from scipy.stats import studentized_range

from enginebench.base.studentized import critical, probability


@pytest.mark.parametrize(
    ("k", "df", "table"),
    # Harter, Order Statistics and Their Use in Testing and Estimation (1969), upper 5 % points.
    [(2, 10, 3.151), (3, 4, 5.040), (5, 10, 4.654), (8, 20, 4.768), (3, 2, 8.331), (10, 5, 6.995)],
)
def test_the_upper_5_percent_points_are_those_of_the_tables(k, df, table):
    assert critical(k, df) == pytest.approx(table, abs=6e-4)


@pytest.mark.parametrize(("k", "df"), [(2, 1.0), (4, 1.5), (6, 10.2), (9, 72.0)])
def test_fractions_of_degrees_of_freedom_agree_with_scipy(k, df):
    assert probability(4.2, k, df) == pytest.approx(studentized_range.cdf(4.2, k, df), abs=1e-6)


def test_two_means_are_compared_by_student():
    # q / sqrt(2) of two means is t: t(0.975, 7) = 2.364624.
    assert critical(2, 7) / 2**0.5 == pytest.approx(2.364624, rel=1e-5)


@pytest.mark.parametrize(("k", "df"), [(1, 5), (3, 0), (3, float("nan"))])
def test_without_means_or_freedom_there_is_none(k, df):
    with pytest.raises(ValueError, match="at least 2"):
        critical(k, df)
