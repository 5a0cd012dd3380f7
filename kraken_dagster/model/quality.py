"""The documents of quality control: what people say of runs, and how runs were judged.

All are frozen, and none is ever changed but for `withdrawn_at`: a verdict can be explained years
later by what stands in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

RAW_FILES = "raw_metrics"  # stands in the place of the settings' name
GRADIENT_WITHIN = 0.1  # of a guide set's gradient: another one is another method


class AnnotationKind(StrEnum):
    """What happened to an instrument. `acknowledged`: somebody has seen a signal, and judged it."""

    COLUMN = "column"
    SOURCE = "source"
    CALIBRATION = "calibration"
    MAINTENANCE = "maintenance"
    ACKNOWLEDGED = "acknowledged"
    OTHER = "other"


class Outcome(StrEnum):
    """Of a run. `look`: something drifts, or is unusual; nobody needs to be woken."""

    IN_CONTROL = "in_control"
    LOOK = "look"
    OUT_OF_CONTROL = "out_of_control"
    NOT_JUDGED = "not_judged"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Annotation(_Document):
    """An event of an instrument, at `begins_at` or until `ends_at`. CUSUM starts anew after it.

    `new_guide_set`: what was before says nothing of what comes after, so that limits do too.
    """

    id: str
    instrument_id: str
    kind: AnnotationKind
    text: str
    begins_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    new_guide_set: bool = False
    by: str
    at: AwareDatetime
    withdrawn_at: AwareDatetime | None = None

    @property
    def over_at(self) -> AwareDatetime:
        return self.ends_at or self.begins_at


class Exclusion(_Document):
    """A run, or with `metric` one metric of it, that counts nowhere."""

    id: str
    raw_file: str
    metric: str | None = None
    why: str
    by: str
    at: AwareDatetime
    withdrawn_at: AwareDatetime | None = None


class Series(_Document):
    """Runs that may be compared: never of two versions of settings, whose scales may differ."""

    instrument_id: str
    sample_class: str
    settings_name: str
    settings_version: int

    @property
    def is_of_raw_files(self) -> bool:
        """Whether the metrics are those of the raw file itself, which no settings made."""
        return self.settings_name == RAW_FILES

    def in_words(self) -> str:
        settings = f"{self.settings_name}:{self.settings_version}"
        return f"{self.sample_class} on {self.instrument_id}, {settings}"


class LeftOut(_Document):
    """A value of a guide set that makes no limits: an outlier by median and MAD."""

    raw_file: str
    metric: str


class GuideSet(_Document):
    """The runs that a series is compared with from `valid_from` on, until the next one.

    `gradient_min`: the median of its runs; None where none of them tells it.
    """

    id: str
    series: Series
    gradient_min: float | None
    runs: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    valid_from: AwareDatetime
    why: str
    by: str
    at: AwareDatetime
    withdrawn_at: AwareDatetime | None = None

    def takes(self, gradient_min: float | None) -> bool:
        return same_gradient(self.gradient_min, gradient_min)


class Signal(_Document):
    """That a chart says something of a metric: its statistic, the limit that it passed, and for a
    CUSUM since when."""

    chart: str
    statistic: float
    limit: float
    since: AwareDatetime | None = None


class MetricVerdict(_Document):
    """A metric of a run, in its own unit, with the limits of that moment.

    `n` is the number of runs that `centre`, `lower` and `upper` come from; `reason` says why there
    are none. `z` is such that the limits are at 3.
    """

    name: str
    value: float | None
    n: int = 0
    centre: float | None = None
    lower: float | None = None
    upper: float | None = None
    z: float | None = None
    false_alarm: float = 0.0
    signals: tuple[Signal, ...] = ()
    outcome: Outcome
    reason: str


class Verdict(_Document):
    """How a run was judged. A later verdict of the same run has the next `revision`.

    `guide_set`: its id; None where the last good runs before it were compared with, `compared`.
    `false_alarms_a_month`: runs that the limits would call out of control for nothing, as the
    series goes.
    """

    raw_file: str
    series: Series
    gradient_min: float | None
    acquired_at: AwareDatetime
    outcome: Outcome
    reason: str
    metrics: tuple[MetricVerdict, ...] = ()
    guide_set: str | None = None
    compared: tuple[str, ...] = ()
    last_good: str | None = None
    false_alarms_a_month: float | None = None
    revision: int = 1
    by: str
    at: AwareDatetime


@dataclass(frozen=True)
class QcRun:
    """A run of quality control as it is charted: its metrics in one series' settings."""

    raw_file: str
    series: Series
    acquired_at: AwareDatetime
    gradient_min: float | None
    metrics: Mapping[str, float]

    @property
    def order(self) -> tuple[AwareDatetime, str]:
        return self.acquired_at, self.raw_file


def same_gradient(one: float | None, other: float | None) -> bool:
    """Whether runs of these gradients may be compared; one that is unknown only with another."""
    if one is None or other is None:
        return one is other
    return abs(other - one) <= GRADIENT_WITHIN * one
