"""The metrics of one raw file are what docs/metrics.md says."""

import math
from array import array

import pytest

from kraken_dagster.raw_readers.contents import RawContents, Scans
from kraken_dagster.raw_readers.metrics import metrics_of


def contents(
    tic: list[float], *, level: list[int] | None = None, injection: list[float] | None = None
) -> RawContents:
    """A scan each 6 s, from 0.1 min on; MS1 only unless told otherwise."""
    return RawContents(
        "test",
        "1",
        Scans(
            ms_level=array("B", level or [1] * len(tic)),
            rt_min=array("d", (0.1 * (at + 1) for at in range(len(tic)))),
            tic=array("d", tic),
            injection_ms=array("d", injection or []),
        ),
    )


def test_a_spray_that_dies_and_comes_back_is_a_drop_and_a_jump() -> None:
    metrics = metrics_of(contents([100, 100, 9, 9, 100, 100]))
    assert (metrics["tic_drops"], metrics["tic_jumps"]) == (1, 1)


@pytest.mark.parametrize(
    ("tic", "drops", "jumps"),
    [
        ([100, 10, 100], 0, 0),  # tenfold is not yet more than tenfold
        ([100, 0, 0, 0], 1, 0),
        ([0, 0, 1], 0, 1),
        ([0, 0], 0, 0),
    ],
)
def test_only_more_than_tenfold_counts(tic: list[float], drops: int, jumps: int) -> None:
    metrics = metrics_of(contents(tic))
    assert (metrics["tic_drops"], metrics["tic_jumps"]) == (drops, jumps)


def test_ms2_scans_between_are_no_drops() -> None:
    assert metrics_of(contents([100, 1, 100, 1], level=[1, 2, 1, 2]))["tic_drops"] == 0


def test_quantiles_lie_on_a_straight_line_between_values() -> None:
    metrics = metrics_of(contents([0, 10, 20, 30, 40]))
    names = ("ms1_tic_q05", "ms1_tic_q25", "ms1_median_tic", "ms1_tic_q75", "ms1_tic_q95")
    assert [metrics[name] for name in names] == [2, 10, 20, 30, 38]


def test_times_in_which_nothing_was_trapped_are_no_injection_times() -> None:
    metrics = metrics_of(contents([1, 1, 1, 1], injection=[0, -1, math.nan, 50]))
    assert metrics["ms1_median_injection_time"] == 50
    assert metrics["ms2_median_injection_time"] is None


def test_the_cycle_is_the_time_between_ms1_scans() -> None:
    assert metrics_of(contents([1] * 6, level=[1, 2, 2, 1, 2, 2]))[
        "ms1_median_cycle_time"
    ] == pytest.approx(18)


def test_quartiles_of_the_tic_are_times() -> None:
    metrics = metrics_of(contents([1, 1, 1, 1]))
    found = [metrics[f"rt_of_tic_quartile_{part}"] for part in (1, 2, 3)]
    assert found == pytest.approx([0.1, 0.2, 0.3])


def test_without_signal_there_are_no_quartiles() -> None:
    assert metrics_of(contents([0, 0]))["rt_of_tic_quartile_2"] is None


def test_without_scans_there_is_only_what_needs_none() -> None:
    assert metrics_of(RawContents("test", "1", complete=None)) == {"complete": None}


def test_higher_levels_are_counted() -> None:
    metrics = metrics_of(contents([1, 1, 1], level=[1, 2, 3]))
    assert (metrics["ms1_scans"], metrics["ms2_scans"], metrics["ms3_scans"]) == (1, 1, 1)
