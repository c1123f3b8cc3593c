"""A level of load: how cells are named after it. Pure."""


def cell_id(workload: str, concurrency: int, rate: float | None) -> str:
    """The name of a cell, and of its directory in the record."""
    level = f"c{concurrency}" if rate is None else f"r{rate:g}"
    return f"{workload}-{level}"


def load_text(concurrency: int, rate: float | None) -> str:
    """A level of load in words."""
    return f"{concurrency} in flight" if rate is None else f"{rate:g} requests/s offered"
