"""What every part of instruments.yaml keeps: no unknown keys, nothing that is no number."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
