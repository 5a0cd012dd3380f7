"""Control charts give what their books and NIST print, and missing values break none of them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_dagster.quality.statistics.change_point import change_point
from kraken_dagster.quality.statistics.charts import (
    CUSUM_H,
    cusum,
    ewma,
    levey_jennings,
    moving_range,
    trailing,
    variability,
)
from kraken_dagster.quality.statistics.limits import (
    ENOUGH,
    FALSE_ALARM,
    expected_false_alarms,
    false_alarm_rate,
    find_outliers,
    limits,
    width_of,
)
from kraken_dagster.quality.statistics.westgard import westgard

REFERENCE = json.loads((Path(__file__).parents[1] / "cases" / "control_charts.json").read_text())
NAN = float("nan")


def case(name: str) -> tuple[np.ndarray, dict[str, Any]]:
    found = REFERENCE[name]
    data = found.get("data") or REFERENCE["montgomery_cusum"]["data"]
    return np.array(data), found


def test_individuals_and_moving_range_are_those_of_nist():
    data, found = case("nist_individuals")
    chart = moving_range(data)
    published = found["published"]
    assert data.mean() == pytest.approx(published["mean"], abs=5e-3)
    assert chart.mean_range == pytest.approx(published["mean_mr"], abs=5e-5)
    assert chart.upper == pytest.approx(published["ucl"], abs=5e-5)
    assert chart.lower == pytest.approx(published["lcl"], abs=5e-5)
    assert not chart.signals.any()
    assert not chart.range_signals.any()
    assert np.isnan(chart.ranges[0])


def test_ewma_is_that_of_nist():
    data, found = case("nist_ewma")
    target, sigma = found["target"], found["sigma"]
    chart = ewma((data - target) / sigma, weight=found["weight"], width=found["width"])
    means = target + sigma * chart.mean
    assert means == pytest.approx(found["published"]["ewma"][1:], abs=5.1e-3)
    # the page has the limits of the steady state, and a truncated factor
    steady = found["width"] * np.sqrt(found["weight"] / (2 - found["weight"]))
    assert target + sigma * steady == pytest.approx(found["published"]["ucl"], abs=1e-3)
    assert target - sigma * steady == pytest.approx(found["published"]["lcl"], abs=1e-3)
    assert chart.limit[-1] == pytest.approx(steady, abs=1e-3)
    assert not chart.signals.any()


def test_cusum_is_that_of_montgomery():
    data, found = case("montgomery_cusum")
    chart = cusum((data - found["target"]) / found["sigma"], k=found["k"], h=found["h"])
    published = found["published"]
    assert chart.up[:29] == pytest.approx(published["up_1_to_29"], abs=5.1e-3)
    assert np.flatnonzero(chart.up_signals)[0] + 1 == published["first_signal"]
    assert chart.up_length[28] == published["length_at_signal"]
    assert not chart.down_signals.any()


def test_cusum_is_that_of_nist_on_both_sides():
    data, found = case("nist_cusum")
    chart = cusum(data - found["target"], k=found["k"], h=found["h"])
    published = found["published"]
    assert chart.up == pytest.approx(published["up"], abs=5.1e-3)
    assert chart.down == pytest.approx(published["down"], abs=5.1e-3)
    assert list(np.flatnonzero(chart.up_signals) + 1) == list(range(published["first_signal"], 21))
    assert not chart.down_signals.any()


def test_the_run_lengths_that_charts_are_simulated_against_are_those_of_the_books():
    ewma_designs = REFERENCE["run_lengths_ewma"]["designs"]
    cusums = REFERENCE["run_lengths_cusum"]
    pairs = [(item["published"], item["exact"]) for item in ewma_designs]
    pairs += [(cusums["published"][h], cusums["exact"][h]) for h in cusums["published"]]
    for published, exact in pairs:
        for printed, value in zip(published, exact, strict=True):
            # the books' are approximations themselves: 15.9 stands there for 15.848
            last_digit = 10 ** -len(str(printed).partition(".")[2])
            assert value == pytest.approx(printed, abs=last_digit)


def test_ewma_is_that_of_montgomery():
    data, found = case("montgomery_ewma")
    target, published = found["target"], found["published"]
    chart = ewma((data - target) / found["sigma"], weight=found["weight"], width=found["width"])
    assert target + chart.mean[:2] == pytest.approx([published["z1"], published["z2"]], abs=5e-5)
    first = [target - chart.limit[0], target + chart.limit[0]]
    assert first == pytest.approx(published["limits_at_1"], abs=5e-3)
    last = [target - chart.limit[-1], target + chart.limit[-1]]
    assert last == pytest.approx(published["steady_state"], abs=5e-3)
    assert list(np.flatnonzero(chart.signals) + 1) == published["signals"]


def test_cusum_is_that_of_montgomery_and_runger_on_both_sides():
    data, found = case("montgomery_runger_cusum")
    chart = cusum(data - found["target"], k=found["k"], h=found["h"])
    assert chart.up == pytest.approx(found["published"]["upper"], abs=5e-3)
    assert chart.down == pytest.approx(found["published"]["lower"], abs=5e-3)
    assert (chart.up_signals | chart.down_signals).any() == found["published"]["out_of_control"]


def test_a_change_is_found_where_it_is_likeliest():
    data, given = case("montgomery_cusum")
    found = change_point(data)
    assert found is not None
    # where the CUSUM has it too: it signals in period 29, after 7 with a sum above 0
    published = given["published"]
    assert found.index == published["first_signal"] - published["length_at_signal"]
    assert found.before == pytest.approx(data[:22].mean())
    assert found.after == pytest.approx(data[22:].mean())
    with_gaps = np.insert(data, [3, 25], NAN)
    assert change_point(with_gaps).index == 23


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=40))
def test_no_other_split_fits_better(values):
    x = np.array(values)
    found = change_point(x)

    def misfit(index: int) -> float:
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (x[:index], x[index:]))

    assert misfit(found.index) <= min(map(misfit, range(2, len(x) - 1))) + 1e-9


def test_a_change_needs_two_values_on_either_side():
    data, _ = case("montgomery_cusum")
    assert change_point(data[:3]) is None


def slow_cusum(z: list[float], k: float, start: float) -> list[float]:
    """The recursion as it is printed, one value after the other."""
    state, sums = start, []
    for value in z:
        missing = math.isnan(value)
        state = state if missing else max(0.0, state + value - k)
        sums.append(NAN if missing else state)
    return sums


SERIES = st.lists(st.one_of(st.just(NAN), st.floats(-8, 8)), min_size=1, max_size=60)


@given(SERIES, st.sampled_from([0.0, CUSUM_H / 2]))
def test_the_sums_are_those_of_the_recursion(z, start):
    chart = cusum(np.array(z), start=start)
    assert chart.up == pytest.approx(slow_cusum(z, 0.5, start), abs=1e-9, nan_ok=True)
    down = slow_cusum([-value for value in z], 0.5, start)
    assert chart.down == pytest.approx(down, abs=1e-9, nan_ok=True)


@given(SERIES)
def test_what_is_missing_changes_nothing_of_what_is_there(z):
    """Each chart gives for a series with gaps what it gives for the series without them."""
    values = np.array(z)
    there = ~np.isnan(values)
    kept = values[there]
    for chart in (cusum, ewma):
        with_gaps, without = chart(values), chart(kept)
        for name in vars(without):
            assert np.array_equal(getattr(with_gaps, name)[there], getattr(without, name))
        assert not any(
            part[~there].any() for key, part in vars(with_gaps).items() if "signals" in key
        )
    for name, broken in westgard(values).items():
        assert np.array_equal(broken[there], westgard(kept)[name])
        assert not broken[~there].any()
    assert np.array_equal(
        moving_range(values).ranges[there], moving_range(kept).ranges, equal_nan=True
    )
    for with_gaps, without in zip(trailing(values), trailing(kept), strict=True):
        assert np.array_equal(with_gaps[there], without, equal_nan=True)


def test_many_metrics_at_once_are_each_metric_alone():
    z = np.random.default_rng(3).standard_normal((80, 4))
    z[5, 1] = z[20:25, 2] = NAN
    for column in range(4):
        for chart in (cusum, ewma, moving_range):
            together, alone = chart(z), chart(z[:, column])
            for name, value in vars(alone).items():
                expected = getattr(together, name)[..., column]
                assert expected == pytest.approx(value, rel=1e-12, nan_ok=True), name


def test_levey_jennings_is_strict_and_takes_no_missing_value_for_one():
    assert list(levey_jennings(np.array([2.9, 3.0, 3.1, -3.1, NAN]))) == [False] * 2 + [
        True
    ] * 2 + [False]


@pytest.mark.parametrize(
    ("rule", "z", "broken"),
    [
        ("1_3s", [0, 3.1, -3.1, 3.0], [1, 2]),
        ("2_2s", [2.1, 2.1, -2.1, -2.1, 2.1], [1, 3]),
        ("R_4s", [2.1, -2.1, 0, 2.1, -1.9], [1]),
        ("4_1s", [1.1, 1.1, 1.1, 1.1, 1.1, -1.1], [3, 4]),
        ("10_x", [0.1] * 10 + [-0.1], [9]),
    ],
)
def test_each_of_westgards_rules(rule, z, broken):
    assert list(np.flatnonzero(westgard(np.array(z))[rule])) == broken


def test_the_variability_of_a_process_in_control_is_about_standard_normal():
    v = variability(np.random.default_rng(1).standard_normal(200_000))
    assert v.mean() == pytest.approx(0, abs=0.02)
    assert v.std() == pytest.approx(1, abs=0.02)


def test_the_trailing_mean_and_cv_wait_for_enough_values():
    mean, cv = trailing(np.array([1.0, 2.0, NAN, 3.0, 5.0]), window=3)
    assert mean == pytest.approx([NAN, NAN, NAN, 2.0, 10 / 3], nan_ok=True)
    assert cv[3] == pytest.approx(0.5)


def tail_of_t(t: float, degrees: int) -> float:
    """By the density, numerically."""
    x = np.linspace(0, t, 400_001)
    density = (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    whole = np.linspace(-1, 1, 2_000_001)[1:-1]  # t = w / (1 - w^2)
    all_x = whole / (1 - whole**2)
    total = (1 + all_x**2 / degrees) ** (-(degrees + 1) / 2)
    weight = (1 + whole**2) / (1 - whole**2) ** 2
    return 0.5 - np.trapezoid(density, x) / np.trapezoid(total * weight, whole)


@pytest.mark.parametrize("n", [5, 6, 10, 20, 29])
def test_few_runs_have_the_limits_of_a_prediction_interval(n):
    t = width_of(n) / np.sqrt(1 + 1 / n)
    assert 2 * tail_of_t(t, n - 1) == pytest.approx(FALSE_ALARM, rel=1e-3)
    assert false_alarm_rate(n, width_of(n)) == pytest.approx(FALSE_ALARM, rel=1e-9)


def test_the_widths_are_those_that_were_published():
    assert [round(width_of(n), 1) for n in (5, 10, 20)] == [7.3, 4.3, 3.5]
    assert width_of(ENOUGH) == 3
    with pytest.raises(ValueError, match="at least 5"):
        width_of(4)


@pytest.mark.parametrize(("n", "rate"), [(5, 0.052), (10, 0.019), (20, 0.0087), (50, 0.0046)])
def test_what_3_sigma_from_few_runs_would_cost_is_what_a_simulation_found(n, rate):
    assert false_alarm_rate(n, 3) == pytest.approx(rate, rel=0.03)


def test_limits_are_refused_below_five_runs_and_of_what_never_differs():
    assert limits(np.array([1.0, 2, 3, 4, NAN])) is None
    assert limits(np.full(30, 7.0)) is None
    assert limits(np.full(30, 0.1 + 0.2)) is None
    found = limits(np.arange(30.0))
    assert found is not None
    assert (found.n, found.sigmas) == (30, 3)
    assert list(found.standardised(np.array([found.upper, found.centre]))) == pytest.approx([3, 0])


def test_an_outlier_is_left_out_of_the_limits_and_marked():
    x = np.random.default_rng(5).standard_normal(20)
    x[7] = 8.0
    found = limits(x, without_outliers=True)
    assert found is not None
    assert list(np.flatnonzero(found.outliers)) == [7]
    assert found.n == 19
    assert found.half_width < limits(x).half_width / 1.5
    assert not find_outliers(np.full(5, NAN)).any()


def test_false_alarms_add_up_over_the_metrics_of_a_run():
    assert expected_false_alarms([FALSE_ALARM], runs=1000) == pytest.approx(2.7, abs=0.01)
    assert expected_false_alarms([FALSE_ALARM] * 8, runs=100) == pytest.approx(2.14, abs=0.01)
