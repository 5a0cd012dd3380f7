"""What stands in the way of moving or purging a file, beside its main status."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Trouble(BaseModel):
    """Why a file was not moved or purged, and when that is tried again.

    Without `retry_at` it waits until a person has looked at it and asked for it again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    problem: str
    at: AwareDatetime
    failures: int = 1
    unsorted_failures: int = 0
    retry_at: AwareDatetime | None = None
    backup_lacks: bool = False  # the instrument has members that the backup has not

    def is_over(self, now: datetime) -> bool:
        """Whether it is tried again by now."""
        return self.retry_at is not None and self.retry_at <= now

    def in_words(self) -> str:
        if self.retry_at is None:
            return f"refused until `kraken retry`: {self.problem}"
        return f"tried again at {self.retry_at:%Y-%m-%d %H:%M} UTC: {self.problem}"


class PurgeIntent(BaseModel):
    """That everything of a file was proven, and its deletion begun; sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    began_at: AwareDatetime
    run_id: str
    files: int
    bytes: int
