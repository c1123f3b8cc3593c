import pytest

from enginebench.base.verdicts import meanings, verdict


@pytest.mark.parametrize(
    ("log_ratio", "together", "tie", "expected"),
    [
        (0.05, 0.04, 0.02, "apart"),
        (-0.05, 0.04, 0.02, "apart"),
        (0.05, 0.06, 0.02, "cannot tell"),  # 1 is in the interval
        (0.02, 0.01, 0.015, "cannot tell"),  # sure, but neither beyond 3 % nor within it
        (0.01, 0.005, 0.003, "tie"),  # sure, and within 3 % as surely
        (0.0, 0.05, 0.029, "tie"),
        (0.0, 0.05, 0.030, "cannot tell"),  # ln 1.03 = 0.02956
    ],
)
def test_the_three_words(log_ratio, together, tie, expected):
    assert verdict(log_ratio, together, tie) == expected


def test_every_word_has_a_meaning_that_names_the_margin():
    assert "more than 3 %" in meanings(0.03)["apart"]
    assert set(meanings()) == {"apart", "tie", "cannot tell"}
