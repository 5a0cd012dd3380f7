"""What stands in the way of moving or purging a file, beside its main status."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from kraken_dagster.model.files.dates import local


class Refusal(BaseModel):
    """Why a file was not moved or purged, and when it is looked at again.

    `refused`: time alone cures it not; somebody has to mend the cause. It is looked at again all
    the same, so that it ends with its cause. Earlier versions recorded no `retry_at` of those.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    problem: str
    at: AwareDatetime
    failures: int = 1
    unsorted_failures: int = 0
    retry_at: AwareDatetime | None = None
    refused: bool = False
    backup_lacks: bool = False  # the instrument has members that the backup has not

    def is_over(self, now: datetime) -> bool:
        """Whether its time has come again."""
        return self.retry_at is None or self.retry_at <= now

    def in_words(self) -> str:
        when = "at the next run" if self.retry_at is None else f"at {local(self.retry_at)}"
        if self.refused or self.retry_at is None:
            return (
                f"refused, looked at again {when}, or at once after `kraken retry`: {self.problem}"
            )
        return f"tried again {when}: {self.problem}"


class PurgeIntent(BaseModel):
    """That everything of a file was proven, and its deletion begun; sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    began_at: AwareDatetime
    run_id: str
    files: int
    bytes: int
