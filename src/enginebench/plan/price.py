"""The price that a study file states."""

from collections.abc import Sequence

from pydantic import model_validator

from enginebench.base.errors import UserError
from enginebench.hardware import prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.plan.limits import Amount, Flag
from enginebench.plan.section import Section


class Price(Section):
    """What an hour costs: a published price by name, one of a GPU, or one of the whole machine."""

    name: str = ""  # of an entry of data/prices.yaml
    usd_per_gpu_hour: Amount | None = None
    usd_per_hour: Amount | None = None
    source: str = ""
    is_stand_in: Flag = False  # true: the study does not run on the hardware that the price is for

    @model_validator(mode="after")
    def _stated_once(self) -> "Price":
        own = [usd for usd in (self.usd_per_gpu_hour, self.usd_per_hour) if usd is not None]
        if len(own) + bool(self.name) != 1:
            raise ValueError(
                "expected one of `name` (of prices.yaml), `usd_per_gpu_hour` and `usd_per_hour`, "
                f"found {len(own) + bool(self.name) or 'none'}"
            )
        if own and not self.source:
            raise ValueError("a price of your own needs its `source`: of what, from where, when")
        if self.name and self.source:
            raise ValueError("a price by `name` has its source in prices.yaml; leave `source` out")
        if self.name:
            try:
                prices.find(self.name)
            except UserError as error:
                raise ValueError(str(error)) from None
        return self

    def hourly(self, gpus: Sequence[str | None]) -> HourlyPrice:
        """What an hour of the study costs.

        Args:
            gpus: the names of the machine's GPUs; empty on a CPU, where any price is a stand-in.

        Raises:
            UserError: the price is one of another GPU, and not declared a stand-in.
        """
        is_stand_in = self.is_stand_in or not gpus
        if self.name:
            found = prices.find(self.name)
            is_stand_in = is_stand_in or found.is_stand_in
            if not is_stand_in:
                prices.check(found, gpus)
            usd, is_per_gpu, source = found.usd_per_gpu_hour, True, found.text
        else:
            is_per_gpu = self.usd_per_gpu_hour is not None
            usd = self.usd_per_gpu_hour if is_per_gpu else self.usd_per_hour
            source = self.source
        assert usd is not None  # one of them is stated
        return HourlyPrice(
            usd_per_hour=usd, is_per_gpu=is_per_gpu, source=source, is_stand_in=is_stand_in
        )
