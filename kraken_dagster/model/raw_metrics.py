"""What came of reading a raw file itself, as its document has it under `raw_metrics`."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class RawMetricsStatus(StrEnum):
    DONE = "done"
    UNSUPPORTED = "unsupported"  # no reader for it, or its version is not understood
    FAILED = "failed"


class RawMetricsState(BaseModel):
    """It says nothing of backup or processing, which it never holds up.

    Args:
        problem: why there are no metrics.
        complete: whether the reader reached the end of a complete index, and what it points to is
            there; None where nobody knows.
        incomplete: why it is not complete, or not known to be.
        traces: the file of its traces, relative to the output; None if there is none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    status: RawMetricsStatus
    at: AwareDatetime
    problem: str | None = None
    complete: bool | None = None
    incomplete: str | None = None
    traces: str | None = None

    @property
    def in_words(self) -> str:
        if self.problem is not None:
            return f"{self.status}: {self.problem}"
        if self.complete:
            return "its index is complete, and what it points to is there"
        how = "its index or its data are incomplete" if self.complete is False else "not known"
        return f"{how}: {self.incomplete}"

    @property
    def is_sound(self) -> bool:
        """Nothing was found to be missing; what can't be known is no fault."""
        return self.status is not RawMetricsStatus.FAILED and self.complete is not False
