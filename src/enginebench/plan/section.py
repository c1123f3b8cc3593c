"""What all sections of a study file share."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of a study file: unknown keys, other types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
