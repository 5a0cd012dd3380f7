"""The section `qc` of instruments.yaml: which runs are quality control, and how they are judged."""

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from kraken_dagster.config.patterns import why_not_pattern
from kraken_dagster.model.metric_values import field_name
from kraken_dagster.model.strict import Strict

SampleClass = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]


class Side(StrEnum):
    BOTH = "both"
    LOW = "low"
    HIGH = "high"


class Chart(StrEnum):
    """Beside Levey-Jennings and fixed bounds, which are always there."""

    CUSUM_MEAN = "cusum_mean"
    CUSUM_VARIABILITY = "cusum_variability"
    EWMA = "ewma"
    MOVING_RANGE = "moving_range"
    WESTGARD = "westgard"


class Bounds(Strict):
    """Fixed bounds in the metric's own unit."""

    lower: float | None = Field(None, description="A value below it is out of control.")
    upper: float | None = Field(None, description="A value above it is out of control.")

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"expected lower < upper, found {self.lower:g} and {self.upper:g}")
        return self

    @property
    def are_set(self) -> bool:
        return self.lower is not None or self.upper is not None


class QcMetric(Bounds):
    """A metric that runs are judged by."""

    side: Side = Field(Side.BOTH, description="Which change is an alarm: `low`, `high` or `both`.")
    log: bool = Field(
        False, description="Chart its log10: for intensities. A value of 0 or less is missing."
    )
    bounds: dict[str, Bounds] = Field(
        default_factory=dict,
        description="Fixed bounds of one instrument, by its id, in place of the metric's own.",
    )

    def bounds_on(self, instrument_id: str) -> Bounds:
        return self.bounds.get(instrument_id, self)


class QcClass(Strict):
    """A kind of quality control sample, and the runs that are of it."""

    pattern: str = Field(
        description="A regular expression that is found in the file's name, whatever its case."
    )
    projects: list[str] = Field(
        default_factory=list, description="Only files of these projects. Empty: of any."
    )
    instruments: list[str] = Field(
        default_factory=list, description="Only files of these instruments. Empty: of any."
    )
    metrics: dict[str, QcMetric] | None = Field(
        None, description="What runs of this class are judged by, in place of `qc.metrics`."
    )

    @field_validator("metrics")
    @classmethod
    def _as_stored(cls, value: dict[str, QcMetric] | None) -> dict[str, QcMetric] | None:
        return None if value is None else _by_field(value)

    @field_validator("pattern")
    @classmethod
    def _usable_pattern(cls, value: str) -> str:
        problem = "expected some pattern, found none" if not value else why_not_pattern(value)
        if problem:
            raise ValueError(problem)
        return value

    def takes(self, name: str, *, project_id: str | None, instrument_id: str) -> bool:
        if self.projects and project_id not in self.projects:
            return False
        if self.instruments and instrument_id not in self.instruments:
            return False
        return re.search(self.pattern, name, re.IGNORECASE) is not None


def _by_field(metrics: dict[str, QcMetric]) -> dict[str, QcMetric]:
    """Under the names of the documents, where a `.` is a `:`."""
    return {field_name(name): metric for name, metric in metrics.items()}


def _default_metrics() -> dict[str, QcMetric]:
    """By the names of docs/metrics.md: at most seven of one program's."""
    low, high = QcMetric(side=Side.LOW), QcMetric(side=Side.HIGH)
    both, intensity = QcMetric(), QcMetric(log=True)
    return {
        "proteins": low,
        "precursors": low,
        "weighted_ms1_intensity_sum": intensity,
        "ms1_signal": intensity,
        "ms2_signal": intensity,
        "ms1_median_tic": intensity,
        "ms2_median_tic": intensity,
        "ms2_scans": both,
        "fwhm_rt": high,
        "calibration:ms1_bias": both,
        "median_mass_acc_ms1": both,
        "evosep_pump_hp_pressure_max": high,
    }


class QcHint(Strict):
    """What it points to when these metrics are out together."""

    metrics: dict[str, Side] = Field(
        description="The metrics that must be out, each `low`, `high` or, either way, `both`."
    )
    text: str = Field(description="What is told of it, like `spray or column?`.")

    @field_validator("metrics")
    @classmethod
    def _some(cls, value: dict[str, Side]) -> dict[str, Side]:
        if not value:
            raise ValueError("expected some metric, found none")
        return {field_name(name): side for name, side in value.items()}


def _default_hints() -> list[QcHint]:
    """For the default metrics; what several metrics together tell comes first."""
    low, high, both = Side.LOW, Side.HIGH, Side.BOTH
    spray, less = "spray or source?", "too little sample, or spray?"
    column = "column or dead volume?"
    table: list[tuple[dict[str, Side], str]] = [
        ({"ms1_signal": low, "fwhm_rt": high}, "column?"),
        ({"weighted_ms1_intensity_sum": low, "fwhm_rt": high}, "column?"),
        ({"evosep_pump_hp_pressure_max": high, "fwhm_rt": high}, "column is blocked?"),
        ({"ms1_signal": low, "ms2_signal": low}, less),
        ({"ms1_median_tic": low, "ms2_median_tic": low}, less),
        ({"evosep_pump_hp_pressure_max": high}, "a blocked column or line?"),
        ({"fwhm_rt": high}, column),
        ({"ms1_signal": low}, spray),
        ({"weighted_ms1_intensity_sum": low}, spray),
        ({"ms1_median_tic": low}, spray),
        ({"ms2_signal": low}, "isolation or fragmentation?"),
        ({"ms2_median_tic": low}, "isolation or fragmentation?"),
        ({"calibration:ms1_bias": both}, "mass calibration?"),
        ({"median_mass_acc_ms1": both}, "mass calibration?"),
        ({"ms2_scans": both}, "another method, or a broken run?"),
        ({"proteins": low}, "sample, or how it was digested?"),
        ({"precursors": low}, "sample, or how it was digested?"),
    ]
    return [QcHint(metrics=metrics, text=text) for metrics, text in table]


class QualityControl(Strict):
    """Which runs are quality control, and how they are judged."""

    classes: dict[SampleClass, QcClass] = Field(
        default_factory=dict,
        description="Kinds of quality control samples by name ([a-z0-9_]+); the first whose rule "
        "holds is a run's. None: no run is judged.",
    )
    metrics: dict[str, QcMetric] = Field(
        default_factory=_default_metrics,
        description="What runs are judged by, by the metric's name: 5 to 8 of one program's are a "
        "good number. What a result doesn't have is left out.",
    )
    charts: list[Chart] = Field(
        default_factory=lambda: [Chart.CUSUM_MEAN, Chart.CUSUM_VARIABILITY],
        description="Charts beside Levey-Jennings and fixed bounds: `cusum_mean`, "
        "`cusum_variability`, `ewma`, `moving_range` (a run to look at), `westgard` (out of "
        "control).",
    )
    guide_set_runs: int = Field(
        20, ge=5, le=500, description="How many good runs make an automatic guide set."
    )
    hints: list[QcHint] = Field(
        default_factory=_default_hints,
        description="What is told of a run by which metrics are out, in place of the table in "
        "quality.md; the first that hold are told.",
    )
    mzqc_files: bool = Field(
        False,
        description="Leave an mzQC file, `kraken.mzQC`, beside each result, also of ordinary "
        "samples.",
    )

    @field_validator("metrics")
    @classmethod
    def _as_stored(cls, value: dict[str, QcMetric]) -> dict[str, QcMetric]:
        return _by_field(value)

    def class_of(self, name: str, *, project_id: str | None, instrument_id: str) -> str | None:
        """The sample class of a file by its original name; None: an ordinary sample."""
        for title, rule in self.classes.items():
            if rule.takes(name, project_id=project_id, instrument_id=instrument_id):
                return title
        return None

    @property
    def metric_names(self) -> frozenset[str]:
        """Of every class."""
        classes = [rule.metrics for rule in self.classes.values() if rule.metrics is not None]
        return frozenset(name for metrics in (self.metrics, *classes) for name in metrics)

    def metrics_of(self, sample_class: str) -> Mapping[str, QcMetric]:
        rule = self.classes.get(sample_class)
        return self.metrics if rule is None or rule.metrics is None else rule.metrics


def unknown_instruments(
    qc: QualityControl, known: Collection[str]
) -> list[tuple[tuple[str, ...], str]]:
    """Pairs of the key that names an instrument which is not configured, and what was expected."""
    named: list[tuple[tuple[str, ...], str]] = [
        (("qc", "classes", title, "instruments"), name)
        for title, rule in qc.classes.items()
        for name in rule.instruments
    ]
    metrics: dict[tuple[str, ...], dict[str, QcMetric]] = {("qc", "metrics"): qc.metrics}
    for title, rule in qc.classes.items():
        metrics["qc", "classes", title, "metrics"] = rule.metrics or {}
    named += [
        ((*key, metric, "bounds"), name)
        for key, rules in metrics.items()
        for metric, wanted in rules.items()
        for name in wanted.bounds
    ]
    expected = f"expected one of {sorted(known)}"
    return [(key, f"{expected}, found {name!r}") for key, name in named if name not in known]
