"""What a GPU costs to rent: published prices by name, from ``data/prices.yaml``.

No price is ever chosen here: a study names the one that it uses.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One published price, or the reason why there is none."""

    name: str
    gpu: str  # a name of devices.yaml
    usd_per_gpu_hour: float | None  # None: no price is known
    usd_per_instance_hour: float | None
    gpus: int  # of the instance
    provider: str
    instance: str
    region: str
    kind: str  # on-demand or spot
    date: str  # year-month-day
    source: str
    reason: str  # why no price is known; empty where one is
    is_stand_in: bool  # never the price of a machine that a study ran on

    @property
    def text(self) -> str:
        """Where the price is from, in words."""
        if self.is_stand_in:
            return self.source
        where = f" in {self.region}" if self.region != "any" else ""
        return f"{self.provider} {self.instance}{where}, {self.kind}, {self.date}, {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyPrice:
    """What an hour costs that a study runs: ``study.json: price``."""

    usd_per_hour: float  # of the whole machine, or of one GPU
    is_per_gpu: bool
    source: str
    is_stand_in: bool  # the study does not run on the hardware that the price is for

    def usd(self, gpus: int) -> float:
        """What an hour of so many GPUs costs; on a CPU (0 GPUs), what one costs."""
        return self.usd_per_hour * max(gpus, 1) if self.is_per_gpu else self.usd_per_hour

    @property
    def text(self) -> str:
        each = " and GPU" if self.is_per_gpu else ""
        return f"{self.usd_per_hour} USD per hour{each} ({self.source})"


def prices() -> tuple[Price, ...]:
    """All entries, in the order of the file."""
    return tuple(
        Price(
            name=row["name"],
            gpu=row["gpu"],
            usd_per_gpu_hour=row.get("usd_per_gpu_hour"),
            usd_per_instance_hour=row.get("usd_per_instance_hour"),
            gpus=row.get("gpus", 1),
            provider=row.get("provider", ""),
            instance=row.get("instance", ""),
            region=row.get("region", ""),
            kind=row.get("kind", ""),
            date=str(row["date"]),
            source=row.get("source", ""),
            reason=row.get("reason", ""),
            is_stand_in=row.get("is_stand_in", False),
        )
        for row in data_sheets.table("prices.yaml")
    )


def find(name: str) -> Price:
    """An entry by its name.

    Raises:
        UserError: there is none, or it has no price.
    """
    priced = {price.name: price for price in prices() if price.usd_per_gpu_hour is not None}
    if name in priced:
        return priced[name]
    near = difflib.get_close_matches(name, priced, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(priced)}"
    raise UserError(f"price.name: expected a price of prices.yaml, found {name!r}; {advice}")


def of_gpu(name: str | None) -> list[Price]:
    """The prices of a GPU by the name that NVML gives it, stand-ins left out; empty: none known."""
    variants = {
        row["name"] for row in data_sheets.find_devices(name, data_sheets.table("devices.yaml"))
    }
    return [
        price
        for price in prices()
        if price.gpu in variants and price.usd_per_gpu_hour is not None and not price.is_stand_in
    ]


def advice(gpus: Sequence[str | None]) -> str:
    """What to write into a study so that it has a price for these GPUs."""
    known = [price.name for name in dict.fromkeys(gpus) for price in of_gpu(name)]
    if not known:
        return "prices.yaml has none of it: give `usd_per_gpu_hour` and `source` in `price`"
    names = " or ".join(f"`price: {{name: {name}}}`" for name in known)
    return f"put {names} into the study file, or your own `usd_per_gpu_hour` with its `source`"


def check(price: Price, gpus: Sequence[str | None]) -> None:
    """Refuse the price of another GPU than those that the study runs on.

    Raises:
        UserError: one of the GPUs is not the one that the price is for.
    """
    table = data_sheets.table("devices.yaml")
    for name in gpus:
        if price.gpu not in {row["name"] for row in data_sheets.find_devices(name, table)}:
            raise UserError(
                f"price: expected one of this machine's GPU ({name or 'no name'}), found "
                f"{price.name}, which is of {price.gpu}; {advice(gpus)}; `is_stand_in: true` "
                "lets it stand for comparison only"
            )
