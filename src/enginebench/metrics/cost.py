"""What tokens cost. Pure."""

from collections.abc import Mapping
from typing import Any

from enginebench.hardware.prices import HourlyPrice

SECONDS_PER_HOUR = 3600


def usd_per_million_output_tokens(price_usd_per_hour: float, output_tokens_per_s: float) -> float:
    """price / (tokens/s · 3600) · 10⁶: the whole machine is paid, and output tokens carry it all.

    Raises:
        ValueError: no throughput: nothing was made, so there is no price.
    """
    if output_tokens_per_s <= 0:
        raise ValueError(f"output_tokens_per_s must be above 0, found {output_tokens_per_s}")
    return price_usd_per_hour / (output_tokens_per_s * SECONDS_PER_HOUR) * 1e6


def recorded_price(study: Mapping[str, Any]) -> HourlyPrice | None:
    """What an hour of a study costs, from its study.json; None: the study states no price.

    Records without `price` are of a time when the study file always had the price of a machine.
    """
    if "price" in study:
        return HourlyPrice(**study["price"]) if study["price"] else None
    stated = study["study"].get("price")
    if not stated or stated.get("usd_per_hour") is None:
        return None
    return HourlyPrice(
        usd_per_hour=stated["usd_per_hour"],
        is_per_gpu=False,
        source=stated["source"],
        is_stand_in=stated["is_stand_in"] or study["device"] == "cpu",
    )
