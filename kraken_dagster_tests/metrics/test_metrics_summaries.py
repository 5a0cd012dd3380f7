"""Summaries of series that are never held as a whole, against those of Python's own modules."""

import random
import statistics
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_dagster.metrics.values import median
from kraken_dagster.metrics.values.rows import EVERY_RUN, Rows
from kraken_dagster.metrics.values.summaries import Spread, Total

finite_numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


def add(summary, numbers):
    summary.add(pa.array(numbers, pa.float64()), counting=len(numbers), of=len(numbers))


def summed_up(summary, numbers, batch_rows):
    """The summary of the numbers, and how many passes it took."""
    for passes in range(1, 20):
        summary.begin_pass()
        for first in range(0, len(numbers), batch_rows):
            add(summary, numbers[first : first + batch_rows])
        if summary.end_pass():
            return summary, passes
    raise AssertionError("no end")


@settings(deadline=None)
@given(st.lists(finite_numbers), st.integers(1, 7))
def test_the_median_of_any_numbers_is_exact(numbers, batch_rows):
    found, _ = summed_up(Spread(EVERY_RUN), numbers, batch_rows)
    if not numbers:
        assert found.median is None
        return
    ordered = sorted(numbers)
    middle = ordered[(len(numbers) - 1) // 2], ordered[len(numbers) // 2]
    expected = middle[0] if len(numbers) % 2 else sum(middle) / 2
    assert found.median == expected or abs(expected) == float("inf")


@pytest.mark.parametrize("rows", [49_999, 50_000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda chance: chance.lognormvariate(12, 2),
        lambda chance: chance.gauss(0, 1e-300),
        lambda chance: -chance.random(),
        lambda chance: float(chance.randint(-3, 3)),
        lambda chance: chance.choice([1.0, 1.0 + 2**-52]),
        lambda chance: struct.unpack("=d", struct.pack("=Q", chance.getrandbits(62)))[0],
    ],
    ids=["intensities", "tiny", "negative", "few", "neighbours", "bits"],
)
@pytest.mark.parametrize("kept", [10, median.MOST_KEPT])
def test_the_median_is_exact_however_little_is_kept(draw, rows, kept):
    chance = random.Random(rows)
    numbers = [draw(chance) for _ in range(rows)]
    found, passes = summed_up(Spread(EVERY_RUN, most_kept=kept), numbers, 4_096)
    assert found.median == statistics.median(numbers)
    assert passes <= (2 if kept > rows else 9)


def test_a_series_of_few_different_numbers_takes_one_pass():
    _, passes = summed_up(Spread(EVERY_RUN), [2.0, 3.0, 3.0, 4.0] * 10_000, 999)
    assert passes == 1


def test_sorted_numbers_are_no_worse_than_others():
    numbers = [float(number) for number in range(30_000)]
    found, passes = summed_up(Spread(EVERY_RUN), numbers, 1_000)
    assert (found.median, passes) == (14_999.5, 2)


def test_mean_and_deviation_hold_far_from_zero():
    """Where a sum of squares would have no digit left."""
    chance = random.Random(1)
    numbers = [1e9 + chance.random() for _ in range(20_000)]
    found, _ = summed_up(Spread(EVERY_RUN), numbers, 700)
    assert found.mean == pytest.approx(statistics.fmean(numbers), rel=1e-12)
    assert found.std == pytest.approx(statistics.stdev(numbers), rel=1e-8)


def test_mean_and_deviation_of_numbers_as_they_are_hold_to_the_last_digits():
    chance = random.Random(1)
    numbers = [chance.lognormvariate(12, 2) for _ in range(20_000)]
    found, _ = summed_up(Spread(EVERY_RUN), numbers, 700)
    assert found.mean == pytest.approx(statistics.fmean(numbers), rel=1e-13)
    assert found.std == pytest.approx(statistics.stdev(numbers), rel=1e-13)


def test_infinity_is_told_as_nothing():
    found, _ = summed_up(Spread(EVERY_RUN), [1.0, float("inf"), float("inf")], 2)
    assert (found.mean, found.std, found.median) == (None, None, None)
    total, _ = summed_up(Total(EVERY_RUN), [1.0, float("inf")], 2)
    assert total.sum is None


def test_a_series_that_is_another_in_the_second_pass_is_an_error():
    search = median.MedianSearch()
    chance = random.Random(1)
    search.add(pa.array([chance.random() for _ in range(10_000)]))
    assert not search.end_pass()
    search.begin_pass()
    search.add(pa.array([chance.random() for _ in range(10_000)]))
    with pytest.raises(OSError, match="changed while it was read"):
        search.end_pass()


def test_a_pass_that_came_to_no_end_leaves_nothing_behind():
    spread = Spread(EVERY_RUN)
    spread.begin_pass()
    add(spread, [1.0, 2.0])
    found, _ = summed_up(spread, [5.0, 6.0, 7.0], 2)
    assert (found.mean, found.std, found.median) == (6, 1, 6)


def test_no_summary_is_made_without_a_word_of_which_rows_count():
    for summary in (Total, Spread):
        with pytest.raises(TypeError, match="rows"):
            summary()


def test_the_sum_of_a_table_without_rows_is_0_and_of_rows_that_were_not_measured_none():
    for offered, expected in ((0, 0), (5, None)):
        total = Total(Rows())
        total.add(pa.array([], pa.float64()), counting=0, of=offered)
        assert total.sum == expected
