"""How gentle copies are on an instrument: rates, hours, the priority of their I/O."""

from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator

from kraken_dagster.config.times import Hours, TimeOfDay, TimeZone
from kraken_dagster.model.offsite import is_within
from kraken_dagster.model.strict import Strict

_ANY_DAY = date(2000, 1, 1)


class WhileAcquiring(StrEnum):
    """Whether files are copied while their instrument writes another."""

    YES = "yes"
    LIMITED = "limited"
    NO = "no"


def _as_words(value: Any) -> Any:
    """YAML takes `yes` and `no` for true and false."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


class CopyHours(Hours):
    """A limit that holds in some hours in place of `copy_mb_per_s`."""

    begin: TimeOfDay = Field(description="When the limit begins to hold, like `08:00`.")
    end: TimeOfDay = Field(description="When it holds no longer, like `18:30`.")
    mb_per_s: float | None = Field(
        gt=0, description="Megabytes per second in these hours. null: no limit."
    )


class Gentleness(Strict):
    copy_mb_per_s: float | None = Field(
        None,
        gt=0,
        description="Megabytes per second that one run may read from the instrument for copies; "
        "`copy_slots` runs may read at once. Without it there is no limit.",
    )
    copy_hours: list[CopyHours] = Field(
        [],
        description="Hours of the day with a limit of their own, in place of `copy_mb_per_s`. A "
        "copy that runs follows them.",
    )
    copy_timezone: TimeZone = Field("UTC", description="The time zone of `copy_hours`.")
    copy_ionice: Literal["idle"] | Annotated[int, Field(strict=True, ge=0, le=7)] | None = Field(
        None,
        description="The I/O priority of copies on this machine: `idle`, or a level of best effort "
        "from 0 (first) to 7 (last). Without it they have that of Kraken.",
    )
    copy_while_acquiring: Annotated[WhileAcquiring, BeforeValidator(_as_words)] = Field(
        WhileAcquiring.YES,
        description="Whether files are copied while the instrument writes another: `yes`; "
        "`limited`, at `copy_mb_per_s_while_acquiring`; `no`, none is begun.",
    )
    copy_mb_per_s_while_acquiring: float = Field(
        25,
        gt=0,
        description="Megabytes per second that one run may read then, where "
        "`copy_while_acquiring` is not `yes`; never more than the limit that holds anyhow.",
    )
    copy_at_the_latest_after_h: float = Field(
        24,
        gt=0,
        description="With `copy_while_acquiring: no`: hours after its end from which on a file is "
        "copied all the same.",
    )

    @field_validator("copy_hours")
    @classmethod
    def _do_not_overlap(cls, value: list[CopyHours]) -> list[CopyHours]:
        for one, other in combinations(value, 2):
            if _overlap(one, other):
                raise ValueError(
                    f"expected hours that don't overlap; {one.begin} to {one.end} and "
                    f"{other.begin} to {other.end} do"
                )
        return value

    @property
    def copy_zone(self) -> ZoneInfo:
        return ZoneInfo(self.copy_timezone)


def _overlap(one: Hours, other: Hours) -> bool:
    """Two spans of a circle do if either has the other's beginning."""
    return _has(one, other) or _has(other, one)


def _has(hours: Hours, other: Hours) -> bool:
    return is_within(hours.times, datetime.combine(_ANY_DAY, other.times[0], tzinfo=UTC))
