"""What tokens cost. Pure."""

from enginebench.hardware.prices import HourlyPrice
from enginebench.record.schema_study import Study

SECONDS_PER_HOUR = 3600


def usd_per_million_output_tokens(price_usd_per_hour: float, output_tokens_per_s: float) -> float:
    """price / (tokens/s · 3600) · 10⁶: the whole machine is paid, and output tokens carry it all.

    Raises:
        ValueError: no throughput: nothing was made, so there is no price.
    """
    if output_tokens_per_s <= 0:
        raise ValueError(f"output_tokens_per_s must be above 0, found {output_tokens_per_s}")
    return price_usd_per_hour / (output_tokens_per_s * SECONDS_PER_HOUR) * 1e6


def recorded_price(study: Study) -> HourlyPrice | None:
    """What an hour of a study costs; None: the study states no price.

    Before schema 3 the study file itself had the price, always of a machine.
    """
    if price := study.price:
        return HourlyPrice(
            usd_per_hour=price.usd_per_hour,
            is_per_gpu=price.is_per_gpu,
            source=price.source,
            is_stand_in=price.is_stand_in,
        )
    stated = study.study.price
    if study.schema >= 3 or stated is None or stated.usd_per_hour is None:
        return None
    return HourlyPrice(
        usd_per_hour=stated.usd_per_hour,
        is_per_gpu=False,
        source=stated.source,
        is_stand_in=stated.is_stand_in or study.device == "cpu",
    )
