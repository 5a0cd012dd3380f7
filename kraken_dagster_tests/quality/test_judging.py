"""Verdicts of runs: what is signalled when, by which chart, and how often for nothing."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from kraken_dagster.config.quality_rules import Bounds, Chart, QcMetric, QualityControl, Side
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.quality import AnnotationKind, Exclusion, Outcome, Verdict
from kraken_dagster.quality.guide_sets import by_hand
from kraken_dagster.quality.judge import judge
from kraken_dagster_tests.quality.laboratory import (
    BEGAN,
    EVERY,
    QC,
    Bench,
    event,
    first,
    good_metrics,
    run_of,
    series,
)


def signals(verdict: Verdict) -> set[tuple[str, str]]:
    return {(item.name, signal.chart) for item in verdict.metrics for signal in item.signals}


def metric(verdict: Verdict, name: str):
    return next(item for item in verdict.metrics if item.name == name)


def good_bench(count: int = 40, *, seed: int = 1, **changes: object) -> Bench:
    """A bench that has judged good runs, with a guide set of the first 20."""
    chance = np.random.default_rng(seed)
    bench = Bench(event(), **changes)
    bench.take_all(lambda number: run_of(number, good_metrics(chance)), count)
    return bench


def middling(**changes: float) -> dict[str, float]:
    return {
        "proteins": 6_000.0,
        "precursors": 60_000.0,
        "ms1_signal": 1e9,
        "ms2_signal": 10**8.5,
        "fwhm_rt": 5.0,
        "median_mass_acc_ms1": 1.0,
        **changes,
    }


@pytest.fixture(scope="module")
def laboratory() -> list[Verdict]:
    """200 runs: a column dies from 60 on, is changed at 100; the spray fails at 130 for three runs;
    the settings' second version, from 150 on, counts proteins on another scale."""
    chance = np.random.default_rng(11)
    bench = Bench(event(), event(100))

    def run(number: int):
        metrics = good_metrics(chance)
        if 60 <= number < 100:
            metrics["fwhm_rt"] += 0.01 * (number - 60)
        if 130 <= number < 133:
            metrics["ms1_signal"] /= 20
            metrics["proteins"] *= 0.3
        if number >= 150:
            metrics["proteins"] *= 1.4
            return run_of(number, metrics, series=series(2))
        return run_of(number, metrics)

    return bench.take_all(run, 200)


def test_a_column_that_dies_slowly_is_drifting_before_it_is_out_of_control(laboratory):
    drifting = [
        number
        for number in range(60, 100)
        if ("fwhm_rt", Chart.CUSUM_MEAN) in signals(laboratory[number])
    ]
    out = [
        number
        for number in range(60, 100)
        if ("fwhm_rt", "levey_jennings") in signals(laboratory[number])
    ]
    assert drifting[0] < 60 + 35
    assert not out or drifting[0] < out[0]
    (signal,) = [
        signal
        for signal in metric(laboratory[99], "fwhm_rt").signals
        if signal.chart == Chart.CUSUM_MEAN
    ]
    assert signal.since is not None
    assert 60 <= (signal.since - BEGAN) / EVERY < 95
    assert "it drifts up since" in metric(laboratory[99], "fwhm_rt").reason


def test_after_the_new_column_nothing_drifts_and_few_runs_are_not_judged(laboratory):
    outcomes = [item.outcome for item in laboratory[100:105]]
    assert outcomes == [Outcome.NOT_JUDGED] * 5
    assert "only 4 good runs before it" in laboratory[104].reason
    assert laboratory[105].outcome is Outcome.IN_CONTROL
    assert not any(("fwhm_rt", Chart.CUSUM_MEAN) in signals(item) for item in laboratory[100:130])


def test_a_spray_that_fails_is_out_of_control_at_once(laboratory):
    assert first(laboratory, Outcome.OUT_OF_CONTROL, start=105) == 130
    for verdict in laboratory[130:133]:
        assert verdict.outcome is Outcome.OUT_OF_CONTROL
        assert {("ms1_signal", "levey_jennings"), ("proteins", "levey_jennings")} <= signals(
            verdict
        )
    assert laboratory[130].last_good == "hela_0129.raw"
    assert "ms1_signal" in laboratory[130].reason
    assert "95 % below the mean" in laboratory[130].reason
    assert laboratory[136].outcome is not Outcome.OUT_OF_CONTROL


def test_another_scale_with_a_version_of_settings_is_no_signal(laboratory):
    assert [item.outcome for item in laboratory[150:155]] == [Outcome.NOT_JUDGED] * 5
    assert not any(name == "proteins" for item in laboratory[150:] for name, _ in signals(item))
    assert laboratory[-1].guide_set not in (None, laboratory[140].guide_set)
    assert laboratory[-1].metrics[0].centre == pytest.approx(1.4 * 6_000, rel=0.02)


def test_false_alarms_on_good_runs_are_as_many_as_are_told():
    """2,020 judged runs after 20 guide sets: how good one is by chance decides for all its runs."""
    found, expected = [], []
    for seed in range(20):
        verdicts = list(good_bench(121, seed=seed).verdicts.values())[20:]
        found.append(sum(item.outcome is Outcome.OUT_OF_CONTROL for item in verdicts))
        rates = [[part.false_alarm for part in item.metrics] for item in verdicts]
        expected.append(sum(1 - np.prod(1 - np.array(item)) for item in rates))
    error = np.std(found, ddof=1) * np.sqrt(20)
    assert 10 < sum(expected) < 40
    assert abs(sum(found) - sum(expected)) < 3 * error
    # in a month there are 180 runs, one every 4 hours
    last = verdicts[-1]
    assert last.false_alarms_a_month == pytest.approx(
        180 * expected[-1] / 101 * 121 / 180, rel=0.05
    )


def test_an_automatic_guide_set_marks_its_outliers_and_is_made_once():
    chance = np.random.default_rng(3)
    bench = Bench(event())
    for number in range(30):
        metrics = good_metrics(chance)
        if number == 7:
            metrics["proteins"] = 1_000
        bench.take(run_of(number, metrics))
    (guide_set,) = bench.guide_sets
    assert guide_set.runs == tuple(f"hela_{number:04}.raw" for number in range(20))
    assert [(it.raw_file, it.metric) for it in guide_set.left_out] == [
        ("hela_0007.raw", "proteins")
    ]
    assert (guide_set.by, guide_set.gradient_min) == ("automatic", 21.0)
    last = bench.verdicts["hela_0029.raw"]
    assert (metric(last, "proteins").n, metric(last, "precursors").n) == (19, 20)
    withdrawn = guide_set.model_copy(update={"withdrawn_at": BEGAN})
    bench.guide_sets = [withdrawn]
    assert bench.take(run_of(30, middling())).guide_set is None
    assert bench.guide_sets == [withdrawn]


def test_without_a_guide_set_the_last_good_runs_before_are_compared_with():
    chance = np.random.default_rng(4)
    bench = Bench()
    verdicts = bench.take_all(lambda number: run_of(number, good_metrics(chance)), 40)
    assert [item.outcome for item in verdicts[:6]] == [Outcome.NOT_JUDGED] * 5 + [
        Outcome.IN_CONTROL
    ]
    assert len(verdicts[-1].compared) == 29
    bad = bench.take(run_of(40, middling(proteins=4_000)))
    assert signals(bad) == {("proteins", "levey_jennings")}
    after = bench.take(run_of(41, middling()))
    assert "hela_0040.raw" not in after.compared
    assert after.last_good == "hela_0039.raw"


def test_better_is_no_alarm_where_one_side_is():
    bench = good_bench()
    best = bench.take(run_of(40, middling(proteins=9_000, fwhm_rt=3.0)))
    assert best.outcome is Outcome.IN_CONTROL
    assert metric(best, "proteins").upper is None
    assert metric(best, "fwhm_rt").lower is None
    assert bench.take(run_of(41, middling(fwhm_rt=7.0))).outcome is Outcome.OUT_OF_CONTROL


def test_a_missing_metric_is_missing_and_nothing_else_changes():
    metrics = middling()
    del metrics["ms1_signal"]
    verdict = good_bench().take(run_of(40, metrics))
    assert verdict.outcome is Outcome.IN_CONTROL
    assert verdict.reason.endswith("; ms1_signal is missing")
    missing = metric(verdict, "ms1_signal")
    assert (missing.outcome, missing.value, missing.reason) == (
        Outcome.NOT_JUDGED,
        None,
        "ms1_signal is missing",
    )
    bench = good_bench()
    zero = bench.take(run_of(40, middling(ms1_signal=0.0)))
    assert metric(zero, "ms1_signal").outcome is Outcome.NOT_JUDGED
    nothing = bench.take(run_of(41, {"other": 3.0}))
    assert nothing.outcome is Outcome.NOT_JUDGED


def test_another_gradient_is_another_guide_set():
    bench = good_bench()
    longer = bench.take(run_of(40, middling(proteins=9_000), gradient_min=44.0))
    assert (longer.outcome, longer.guide_set) == (Outcome.NOT_JUDGED, None)
    within = bench.take(run_of(41, middling(), gradient_min=22.9))
    assert within.guide_set == bench.guide_sets[0].id
    unknown = bench.take(run_of(42, middling(), gradient_min=None))
    assert unknown.outcome is Outcome.NOT_JUDGED


def test_a_cusum_starts_anew_after_an_acknowledgement():
    bench = good_bench()
    drifted = middling(median_mass_acc_ms1=1.6)
    verdicts = [bench.take(run_of(40 + number, drifted)) for number in range(12)]
    assert ("median_mass_acc_ms1", Chart.CUSUM_MEAN) in signals(verdicts[-1])
    seen = event(52, kind=AnnotationKind.ACKNOWLEDGED, new_guide_set=False)
    bench.annotations.append(seen)
    after = bench.take(run_of(52, drifted))
    assert (after.outcome, after.guide_set) == (Outcome.IN_CONTROL, verdicts[-1].guide_set)


def test_a_run_during_maintenance_is_not_judged_and_counts_nowhere():
    bench = good_bench()
    work = event(41, kind=AnnotationKind.MAINTENANCE, new_guide_set=False, text="pump")
    bench.annotations.append(work.model_copy(update={"ends_at": work.begins_at + 2 * EVERY}))
    bench.take(run_of(40, middling()))
    during = bench.take(run_of(41, middling(proteins=10)))
    assert (during.outcome, during.reason) == (
        Outcome.NOT_JUDGED,
        "acquired during: maintenance, pump",
    )
    assert bench.take(run_of(45, middling())).outcome is Outcome.IN_CONTROL


def excluded(number: int, name: str | None = None) -> Exclusion:
    return Exclusion(
        id="1", raw_file=f"hela_{number:04}.raw", metric=name, why="vial", by="anna", at=BEGAN
    )


def test_an_excluded_run_or_metric_is_not_judged_and_makes_no_limits():
    bench = good_bench()
    run = run_of(40, middling(proteins=100))
    bench.runs[1].append(run)
    facts = bench.facts(run)
    plain = judge(run, facts, QC, by="t", now=BEGAN)
    assert plain.outcome is Outcome.OUT_OF_CONTROL
    for name, outcome in ((None, Outcome.NOT_JUDGED), ("proteins", Outcome.IN_CONTROL)):
        without = replace(facts, exclusions=[excluded(40, name)])
        assert judge(run, without, QC, by="t", now=BEGAN).outcome is outcome
    fewer = judge(run, replace(facts, exclusions=[excluded(3, "proteins")]), QC, by="t", now=BEGAN)
    assert metric(fewer, "proteins").n == metric(plain, "proteins").n - 1


def test_fixed_bounds_need_no_runs_and_hold_for_their_instrument():
    pressure = QcMetric(
        side=Side.HIGH, upper=480, bounds={"astral1": Bounds(upper=450), "other": Bounds(upper=1)}
    )
    qc = QualityControl(classes=QC.classes, metrics={"pressure": pressure})
    bench = Bench(qc=qc)
    assert bench.take(run_of(0, {"pressure": 440.0})).outcome is Outcome.IN_CONTROL
    high = bench.take(run_of(1, {"pressure": 451.0}))
    assert high.outcome is Outcome.OUT_OF_CONTROL
    assert "above the fixed bound 450" in high.reason


@pytest.mark.parametrize(
    ("chart", "values", "outcome"),
    [
        (Chart.EWMA, [1.5] * 8, Outcome.LOOK),
        (Chart.MOVING_RANGE, [1.7, 0.2], Outcome.LOOK),
        (Chart.WESTGARD, [1.75, 1.75], Outcome.OUT_OF_CONTROL),
    ],
)
def test_further_charts_signal_where_they_are_chosen(chart, values, outcome):
    for charts, expected in (([], Outcome.IN_CONTROL), ([chart], outcome)):
        qc = QC.model_copy(update={"charts": charts})
        bench = good_bench(qc=qc)
        for number, value in enumerate(values, start=40):
            verdict = bench.take(run_of(number, middling(median_mass_acc_ms1=value)))
        assert verdict.outcome is expected
    assert any(name.startswith(chart) for _, name in signals(verdict))


def test_a_guide_set_by_hand_is_of_one_series_and_of_five_runs_at_least():
    runs = [run_of(number, middling()) for number in range(6)]
    facts = {"why": "good", "by": "anna", "now": BEGAN}
    made = by_hand(runs[::-1], **facts)
    assert made.runs == tuple(item.raw_file for item in runs)
    assert made.valid_from == runs[0].acquired_at
    with pytest.raises(InputRefused, match="at least 5"):
        by_hand(runs[:4], **facts)
    with pytest.raises(InputRefused, match="diann:2"):
        by_hand([*runs, run_of(7, middling(), series=series(2))], **facts)
    with pytest.raises(InputRefused, match="44 min"):
        by_hand([*runs, run_of(7, middling(), gradient_min=44.0)], **facts)


def test_a_later_guide_set_is_valid_from_its_first_run_on():
    bench = good_bench()
    old = bench.guide_sets[0]
    chosen = bench.runs[1][20:30]
    made = by_hand(chosen, why="better", by="anna", now=BEGAN + timedelta(days=30))
    bench.guide_sets.append(made)
    assert bench.take(run_of(40, middling())).guide_set == made.id
    facts = bench.facts(bench.runs[1][10])
    assert facts.guide_set_for(bench.runs[1][10]).id == old.id


def test_which_runs_are_quality_control_is_told_by_name_project_and_instrument():
    qc = QualityControl.model_validate(
        {
            "classes": {
                "hela_qc": {"pattern": "hela", "projects": ["QCPROJ"], "instruments": ["a1"]},
                "k562": {"pattern": r"_K562\b"},
            }
        }
    )
    where = {"project_id": "QCPROJ", "instrument_id": "a1"}
    assert qc.class_of("20260101_HeLa_01.raw", **where) == "hela_qc"
    assert qc.class_of("20260101_HeLa_01.raw", project_id=None, instrument_id="a1") is None
    assert qc.class_of("20260101_HeLa.raw", project_id="QCPROJ", instrument_id="b") is None
    assert qc.class_of("x_k562.raw", project_id=None, instrument_id="b") == "k562"
    with pytest.raises(ValueError, match="regular expression"):
        QualityControl.model_validate({"classes": {"x": {"pattern": "("}}})
    with pytest.raises(ValueError, match="lower < upper"):
        QualityControl.model_validate({"metrics": {"x": {"lower": 2, "upper": 1}}})


def test_what_never_differed_makes_no_limits_and_is_told():
    bench = Bench()
    for number in range(8):
        bench.take(run_of(number, {"proteins": 6_000.0}))
    verdict = bench.take(run_of(8, {"proteins": 10.0}))
    assert verdict.outcome is Outcome.NOT_JUDGED
    assert verdict.reason == "proteins 10, and 8 runs to compare with, which never differ"
