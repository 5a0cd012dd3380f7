"""What is drawn of many files, of few, and of those that must not be overlooked."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from kraken_dagster.web.table.columns import Mask, Table
from kraken_dagster.web.views.plots import View, overlaid, series
from kraken_dagster.web.views.robust import median, robust_sd

COUNT = 20_000
PLOTS_KB = 60  # three plots; style sheets and scripts are 35 beside them, and 100 the goal


@pytest.fixture(scope="module")
def table() -> Table:
    table = Table()
    for number in range(COUNT):
        cells = {"at": float(number), "v": float(number % 10), "instrument_id": f"t{number % 2}"}
        if number == 777:
            cells |= {"v": 1000.0, "quality": "out_of_control"}
        table.put(f"f{number}", cells)
    return table


def _values(group: dict[str, Any], name: str) -> list[float]:
    """As the page's script unpacks them."""
    first, step = group["steps"]
    return [first + steps * step for steps in group[name]]


def _all(table: Table) -> Mask:
    return np.ones(len(table), dtype=bool)


def test_many_files_are_given_by_the_pixel_and_no_outlier_is_lost(table: Table) -> None:
    found = series(table, _all(table), "v", View(x="at", width=200))
    assert [group["label"] for group in found["groups"]] == ["t0", "t1"]
    for group in found["groups"]:
        pixels = list(np.cumsum(group["bins"]))
        assert pixels == sorted({*pixels} & {*range(200)})
        assert len(group["bins"]) == len(group["low"]) == len(group["high"]) == len(group["mean"])
    assert max(_values(found["groups"][1], "high")) == pytest.approx(1000)
    assert found["flagged"] == [{"id": "f777", "x": 777.0, "y": 1000.0}]


def test_a_range_with_few_files_is_given_as_it_is(table: Table) -> None:
    found = series(table, _all(table), "v", View(x="at", low=770, high=780, width=200))
    ids = sorted(name for group in found["groups"] for name in group["ids"])
    assert ids == [f"f{number}" for number in range(770, 781)]
    assert found["range"] == [770, 780]


def test_every_file_is_in_the_lowest_the_highest_or_the_mean(table: Table) -> None:
    group = series(table, _all(table), "v", View(x="at", width=100, color="none"))["groups"][0]
    assert min(_values(group, "low")) == 0
    assert max(_values(group, "high")) == pytest.approx(1000)
    step = group["steps"][1]
    assert np.mean(_values(group, "mean")) == pytest.approx(4.5 + 993 / COUNT, abs=step / 2)


def _noise(count: int, **metrics: Any) -> Table:
    table = Table()
    for number in range(count):
        of_file = {name: float(values[number]) for name, values in metrics.items()}
        cells = {"at": float(number), "instrument_id": f"t{number % 6}", **of_file}
        table.put(f"f{number}", cells)
    return table


def test_no_value_is_further_from_the_true_one_than_the_eye_sees() -> None:
    values = np.random.default_rng(1).normal(1e6, 10, COUNT)
    table = _noise(COUNT, v=values)
    found = series(table, _all(table), "v", View(x="at", width=100, color="none"))["groups"][0]
    pixel = np.arange(COUNT) * 100 // (COUNT - 1)
    height = values.max() - values.min()
    for name, of in (("low", np.min), ("high", np.max), ("mean", np.mean)):
        true = [of(values[np.minimum(pixel, 99) == number]) for number in range(100)]
        assert np.allclose(_values(found, name), true, rtol=0, atol=height / 900), name


def test_a_logarithmic_axis_shows_the_lowest_values_as_they_are() -> None:
    values = 10 ** np.random.default_rng(1).uniform(0, 8, COUNT)
    table = _noise(COUNT, v=values)
    found = series(table, _all(table), "v", View(x="at", width=100, color="none"))["groups"][0]
    assert "steps" not in found
    assert min(found["low"]) == pytest.approx(values.min(), rel=1e-3)
    assert max(found["high"]) == pytest.approx(values.max(), rel=1e-3)


def test_numbers_without_a_spread_or_with_too_large_a_one_are_given() -> None:
    for values in (np.full(COUNT, 7.0), np.resize([1.7e308, -1.7e308], COUNT)):
        table = _noise(COUNT, v=values)
        found = series(table, _all(table), "v", View(x="at", width=100, color="none"))
        json.dumps(found, allow_nan=False)
        group = found["groups"][0]
        high = _values(group, "high") if "steps" in group else group["high"]
        assert max(high) == pytest.approx(values.max(), rel=1e-3)


def test_three_plots_of_six_instruments_are_few_bytes() -> None:
    random = np.random.default_rng(1)
    table = _noise(COUNT, **{name: random.normal(100, 10, COUNT) for name in "uvw"})
    found = [series(table, _all(table), name, View(x="at", width=600)) for name in "uvw"]
    assert sum(len(group["bins"]) for plot in found for group in plot["groups"]) > 10_000
    content = json.dumps(found, separators=(",", ":")).encode()
    assert len(gzip.compress(content, 4)) < PLOTS_KB * 1000


def test_median_and_band_are_those_of_the_baseline_whenever_it_was_made(table: Table) -> None:
    baseline = np.zeros(COUNT, dtype=bool)
    baseline[[3, 13, 14, 5]] = True  # 3, 3, 4 and 5
    seen = View(x="at", low=770, high=780, width=200)
    found = series(table, _all(table), "v", seen, baseline)
    assert found["median"] == 3.5
    assert found["median"] != series(table, _all(table), "v", seen)["median"]
    assert [group["label"] for group in found["groups"]] == ["t0", "t1"]


def test_a_metric_colours_from_its_lowest_to_its_highest_values(table: Table) -> None:
    found = series(table, _all(table), "v", View(x="at", low=0, high=9, width=200, color="v"))
    assert found["is_gradient"]
    labels = [group["label"] for group in found["groups"]]
    assert len(labels) == 5
    assert labels[0].startswith("0 to ")
    assert labels[-1].endswith(" to 9")
    assert [group["shade"] for group in found["groups"]] == [0, 1, 2, 3, 4]
    assert [group["y"] for group in found["groups"]] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_star_stands_for_columns_with_numbers_only(table: Table) -> None:
    assert overlaid(table, "*") == ["at", "v"]
    assert overlaid(table, "[v]") == []
    assert overlaid(table, "instrument_id") == []


def test_nothing_to_draw_is_no_fault() -> None:
    found = series(Table(), np.zeros(0, dtype=bool), "v", View())
    assert (found["groups"], found["median"]) == ([], None)


def test_no_number_overflows_a_median() -> None:
    assert median(np.array([1e308, 1e308])) == 1e308
    assert robust_sd(np.array([1.7e308, -1.7e308]), 1.7e308) is None
    assert robust_sd(np.array([1.0, 1.0, 1.0]), 1.0) is None
