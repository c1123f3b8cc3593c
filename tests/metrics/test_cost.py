import pytest

from enginebench.metrics import cost


def test_the_cost_of_a_million_tokens():
    # 2.93 USD buy 3 600 000 tokens
    assert cost.usd_per_million_output_tokens(2.93, 1000) == pytest.approx(0.813888888)
    assert cost.usd_per_million_output_tokens(3.6, 1) == pytest.approx(1000)


@pytest.mark.parametrize("rate", [0, -1.0])
def test_nothing_made_has_no_price(rate):
    with pytest.raises(ValueError, match="output_tokens_per_s must be above 0"):
        cost.usd_per_million_output_tokens(2.93, rate)
