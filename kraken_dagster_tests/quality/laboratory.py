"""A laboratory's quality control runs by simulation, judged one after the other as they come."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from kraken_dagster.config.quality_rules import QcClass, QcMetric, QualityControl, Side
from kraken_dagster.model.quality import (
    Annotation,
    AnnotationKind,
    GuideSet,
    Outcome,
    QcRun,
    Series,
    Verdict,
)
from kraken_dagster.quality.facts import Facts
from kraken_dagster.quality.guide_sets import automatic
from kraken_dagster.quality.judge import judge

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = timedelta(hours=4)
QC = QualityControl(
    classes={"hela": QcClass(pattern="hela")},
    metrics={
        "proteins": QcMetric(side=Side.LOW),
        "precursors": QcMetric(side=Side.LOW),
        "ms1_signal": QcMetric(log=True),
        "ms2_signal": QcMetric(log=True),
        "fwhm_rt": QcMetric(side=Side.HIGH),
        "median_mass_acc_ms1": QcMetric(),
    },
)
GOOD = {  # mean and standard deviation; of intensities those of log10
    "proteins": (6_000.0, 80.0),
    "precursors": (60_000.0, 900.0),
    "ms1_signal": (9.0, 0.04),
    "ms2_signal": (8.5, 0.04),
    "fwhm_rt": (5.0, 0.15),
    "median_mass_acc_ms1": (1.0, 0.3),
}
LOGS = {name for name, metric in QC.metrics.items() if metric.log}


def series(version: int = 1) -> Series:
    return Series(
        instrument_id="astral1",
        sample_class="hela",
        settings_name="diann",
        settings_version=version,
    )


def run_of(number: int, metrics: Mapping[str, float], **changes: object) -> QcRun:
    standard = {
        "raw_file": f"hela_{number:04}.raw",
        "series": series(),
        "acquired_at": BEGAN + number * EVERY,
        "gradient_min": 21.0,
        "metrics": metrics,
    }
    return QcRun(**{**standard, **changes})


def good_metrics(chance: np.random.Generator) -> dict[str, float]:
    drawn = {name: chance.normal(mean, sd) for name, (mean, sd) in GOOD.items()}
    return {name: 10**value if name in LOGS else value for name, value in drawn.items()}


def event(number: float = 0, **changes: object) -> Annotation:
    standard = {
        "id": f"event {number}",
        "instrument_id": "astral1",
        "kind": AnnotationKind.COLUMN,
        "text": "new column",
        "begins_at": BEGAN + number * EVERY - timedelta(hours=1),
        "new_guide_set": True,
        "by": "somebody",
        "at": BEGAN,
    }
    return Annotation(**{**standard, **changes})


class Bench:
    """Judges runs in order, makes the guide sets that are due, and remembers."""

    def __init__(self, *annotations: Annotation, qc: QualityControl = QC) -> None:
        self.qc = qc
        self.annotations = list(annotations)
        self.runs: dict[int, list[QcRun]] = defaultdict(list)  # by version of the settings
        self.guide_sets: list[GuideSet] = []
        self.verdicts: dict[str, Verdict] = {}
        self.outcomes: dict[str, Outcome] = {}

    def take(self, run: QcRun) -> Verdict:
        self.runs[run.series.settings_version].append(run)
        now = run.acquired_at + timedelta(hours=1)
        metrics = self.qc.metrics_of(run.series.sample_class)
        made = automatic(run, self.facts(run), metrics, count=self.qc.guide_set_runs, now=now)
        self.guide_sets += [] if made is None else [made]
        verdict = judge(run, self.facts(run), self.qc, by="test", now=now)
        self.verdicts[run.raw_file] = verdict
        self.outcomes[run.raw_file] = verdict.outcome
        return verdict

    def take_all(self, run_number: Callable[[int], QcRun], count: int) -> list[Verdict]:
        return [self.take(run_number(number)) for number in range(count)]

    def facts(self, run: QcRun) -> Facts:
        """Of the newest runs, and those of guide sets."""
        runs = self.runs[run.series.settings_version]
        guide_sets = [item for item in self.guide_sets if item.series == run.series]
        members = {name for item in guide_sets for name in item.runs}
        older = [item for item in runs[:-200] if item.raw_file in members]
        return Facts(
            runs=[*older, *runs[-200:]],
            annotations=self.annotations,
            guide_sets=guide_sets,
            outcomes=self.outcomes,
        )


def first(verdicts: list[Verdict], outcome: Outcome, *, start: int = 0) -> int:
    """The number of the first run from `start` on with this outcome; -1 if there is none."""
    places = (n for n, item in enumerate(verdicts) if n >= start and item.outcome is outcome)
    return next(places, -1)
