"""Control charts: run lengths by simulation against published tables, and how long they take.

A run length is how many values a chart takes until it signals. Each is shown beside the table's,
and how many standard errors it is from it. Of 70 lines one in six times one is farther than 3 by
chance alone. So such a line is simulated once more, by other numbers and ten times as many series,
and that counts. Exit code 1 if one is still farther than 3.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from kraken_dagster.config.quality_rules import Chart, QcMetric, QualityControl
from kraken_dagster.model.quality import QcRun, Series
from kraken_dagster.quality.facts import Facts
from kraken_dagster.quality.guide_sets import by_hand
from kraken_dagster.quality.judge import judge
from kraken_dagster.quality.statistics.charts import (
    CUSUM_H,
    CUSUM_K,
    cusum,
    ewma,
    levey_jennings,
    variability,
)
from kraken_dagster.quality.statistics.limits import limits
from kraken_dagster.quality.statistics.westgard import westgard

CASES = Path(__file__).parents[1] / "kraken_dagster_tests" / "cases" / "control_charts.json"
SERIES, AT_ONCE = 4_000, 400
MORE = 10  # times as many series for a line that is far from its table
SEED = 20
FAR = 3.0  # standard errors
LONGEST = 16  # mean run lengths that a series goes on: one in 10 million has not signalled then
RUNS, METRICS = 100_000, 8
Signals = Callable[[np.ndarray], np.ndarray]


def run_lengths(
    signals: Signals, shift: float, about: float, *, line: str, times: int = 1
) -> np.ndarray:
    """Of `times` SERIES series of normal values with mean `shift`.

    Each line has random numbers of its own: with those of another both would be far at once.
    """
    chance = np.random.default_rng([SEED, times, *line.encode()])
    found = []
    for _ in range(times * SERIES // AT_ONCE):
        z = chance.standard_normal((int(LONGEST * about) + 50, AT_ONCE)) + shift
        hit = signals(z)
        assert hit.any(axis=0).all()
        found.append(hit.argmax(axis=0) + 1)
    return np.concatenate(found)


def by_cusum(h: float) -> Signals:
    def signals(z: np.ndarray) -> np.ndarray:
        chart = cusum(z, k=0.5, h=h)
        return chart.up_signals | chart.down_signals

    return signals


def by_ewma(weight: float, width: float) -> Signals:
    steady = width * np.sqrt(weight / (2 - weight))
    return lambda z: np.abs(ewma(z, weight=weight, width=width).mean) > steady


def by_variability(z: np.ndarray) -> np.ndarray:
    return cusum(variability(z)).up_signals


def by_westgard(z: np.ndarray) -> np.ndarray:
    return np.any(list(westgard(z).values()), axis=0)


def compare(
    title: str, signals: Signals, shifts: list[float], expected: list[float]
) -> list[float]:
    """Prints a line per shift; how many standard errors each is away."""
    away = []
    for shift, about in zip(shifts, expected, strict=True):
        line = f"{title:28} shift {shift:<5g}"
        found = _away(signals, shift, about, line=line)
        if abs(found) > FAR:
            found = _away(signals, shift, about, line=line, times=MORE)
        away.append(found)
    return away


def _away(signals: Signals, shift: float, about: float, *, line: str, times: int = 1) -> float:
    found = run_lengths(signals, shift, about, line=line, times=times)
    error = found.std(ddof=1) / np.sqrt(len(found))
    away = float((found.mean() - about) / error)
    print(f"{line} {found.mean():8.2f} +- {error:5.2f}", end="")
    print(f"   table {about:8.2f}   {away:+5.1f} standard errors, {len(found)} series")
    return away


def compare_all() -> bool:
    table = json.loads(CASES.read_text())
    away = []
    part = table["run_lengths_3_sigma"]
    away += compare("3 sigma", levey_jennings, part["shift"], part["exact"])
    part = table["run_lengths_cusum"]
    for h, exact in part["exact"].items():
        away += compare(f"CUSUM k 0.5, h {h}", by_cusum(float(h)), part["shift"], exact)
    part = table["run_lengths_ewma"]
    for design in part["designs"]:
        weight, width = design["weight"], design["width"]
        title = f"EWMA {weight:g}, {width:g}"
        away += compare(title, by_ewma(weight, width), part["shift"], design["exact"])
    part = table["run_lengths_westgard"]
    compare("Westgard (table simulated)", by_westgard, part["shift"], part["simulated"])
    found = run_lengths(by_variability, 0, 500, line="variability")
    print(f"CUSUM of variability, upper side: in control a false alarm every {found.mean():.0f}")
    most = max(map(abs, away))
    print(f"{len(away)} lines, {most:.1f} standard errors at most")
    return most <= FAR


def evaluate(x: np.ndarray, guide: slice) -> int:
    """All charts over all runs; the number of signals."""
    found = [limits(x[guide, column]) for column in range(x.shape[1])]
    z = np.column_stack([item.standardised(x[:, column]) for column, item in enumerate(found)])
    mean, spread = cusum(z), cusum(variability(z))
    charts = (
        levey_jennings(z),
        mean.up_signals | mean.down_signals,
        spread.up_signals,
        ewma(z).signals,
        by_westgard(z),
    )
    return sum(int(chart.sum()) for chart in charts)


def show_speed() -> None:
    chance = np.random.default_rng(1)
    x = chance.standard_normal((RUNS, METRICS)) + 20
    x[chance.random(x.shape) < 0.01] = np.nan
    all_s = best_time(lambda: evaluate(x, slice(0, 50)))
    print(f"{RUNS} runs x {METRICS} metrics, all charts: {all_s:.2f} s")
    run, facts, qc = new_run(x[-501:])
    now = run.acquired_at
    new_s = best_time(lambda: judge(run, facts, qc, by="benchmark", now=now))
    print(f"the verdict of a new run, with the 500 before it: {1000 * new_s:.1f} ms")


def new_run(x: np.ndarray) -> tuple[QcRun, Facts, QualityControl]:
    """The last of these runs, with a guide set of the first 50."""
    series = Series(instrument_id="i", sample_class="hela", settings_name="s", settings_version=1)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    runs = [
        QcRun(
            raw_file=f"{number}.raw",
            series=series,
            acquired_at=began + number * timedelta(hours=4),
            gradient_min=21.0,
            metrics={f"m{place}": float(value) for place, value in enumerate(row) if value > 0},
        )
        for number, row in enumerate(x)
    ]
    made = by_hand(runs[:50], why="benchmark", by="benchmark", now=began)
    metrics = {f"m{place}": QcMetric() for place in range(METRICS)}
    qc = QualityControl(metrics=metrics, charts=list(Chart))
    return runs[-1], Facts(runs, guide_sets=[made]), qc


def best_time(work: Callable[[], object]) -> float:
    """Seconds, the best of five: other programs only ever make it longer."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    print(f"run lengths of {SERIES} series each; CUSUM k {CUSUM_K}, h {CUSUM_H} by default")
    fine = compare_all()
    show_speed()
    sys.exit(0 if fine else 1)
