"""What tokens cost. Pure."""

SECONDS_PER_HOUR = 3600


def usd_per_million_output_tokens(price_usd_per_hour: float, output_tokens_per_s: float) -> float:
    """price / (tokens/s · 3600) · 10⁶: the whole machine is paid, and output tokens carry it all.

    Raises:
        ValueError: no throughput: nothing was made, so there is no price.
    """
    if output_tokens_per_s <= 0:
        raise ValueError(f"output_tokens_per_s must be above 0, found {output_tokens_per_s}")
    return price_usd_per_hour / (output_tokens_per_s * SECONDS_PER_HOUR) * 1e6
