"""The numbers of a study file, and their limits."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

MOST_STREAMS = 65_536  # one address has no more ports
MOST_REQUESTS = 10_000_000  # of a cell; its prompts and records are kept in memory
MOST_PROMPT_TOKENS = 1_000_000_000  # of all prompts of a cell
MOST_CELLS = 100_000  # of a study
LONGEST_S = 1e7  # 115 days; more overflows the timeouts of the operating system


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("input should be a valid number")
    return value


# A number is also one that YAML reads as text, such as 1e3. Never infinite or NaN.
Number = Annotated[float, BeforeValidator(_no_bool), Field(strict=False, le=1e15)]
Amount = Annotated[Number, Field(gt=0)]
Seconds = Annotated[Number, Field(ge=0, le=LONGEST_S)]
Interval = Annotated[Number, Field(ge=1e-3, le=LONGEST_S)]
Flag = Annotated[bool, Field(strict=False)]  # also yes, no, on and off
Settings = dict[str, str | int | float | bool]

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Streams = Annotated[int, Field(ge=1, le=MOST_STREAMS)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
