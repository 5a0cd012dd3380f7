"""What is drawn of many files, of few, and of those that must not be overlooked."""

import numpy as np
import pytest

from kraken_dagster.web.table.columns import Mask, Table
from kraken_dagster.web.views.plots import View, overlaid, series
from kraken_dagster.web.views.robust import median, robust_sd

COUNT = 20_000


@pytest.fixture(scope="module")
def table() -> Table:
    table = Table()
    for number in range(COUNT):
        cells = {"at": float(number), "v": float(number % 10), "instrument_id": f"t{number % 2}"}
        if number == 777:
            cells |= {"v": 1000.0, "quality": "out_of_control"}
        table.put(f"f{number}", cells)
    return table


def _all(table: Table) -> Mask:
    return np.ones(len(table), dtype=bool)


def test_many_files_are_given_by_the_pixel_and_no_outlier_is_lost(table: Table) -> None:
    found = series(table, _all(table), "v", View(x="at", width=200))
    assert [group["label"] for group in found["groups"]] == ["t0", "t1"]
    for group in found["groups"]:
        assert group["bins"] == sorted({*group["bins"]} & {*range(200)})
        assert len(group["bins"]) == len(group["low"]) == len(group["high"]) == len(group["mean"])
    assert max(found["groups"][1]["high"]) == 1000
    assert found["flagged"] == [{"id": "f777", "x": 777.0, "y": 1000.0}]


def test_a_range_with_few_files_is_given_as_it_is(table: Table) -> None:
    found = series(table, _all(table), "v", View(x="at", low=770, high=780, width=200))
    ids = sorted(name for group in found["groups"] for name in group["ids"])
    assert ids == [f"f{number}" for number in range(770, 781)]
    assert found["range"] == [770, 780]


def test_every_file_is_in_the_lowest_the_highest_or_the_mean(table: Table) -> None:
    group = series(table, _all(table), "v", View(x="at", width=100, color="none"))["groups"][0]
    assert min(group["low"]) == 0
    assert np.mean(group["mean"]) == pytest.approx(4.5 + 993 / COUNT, rel=1e-3)


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
