"""Part sizes, hours and names of the second copy: what no case of AlphaKraken's tells."""

from datetime import UTC, datetime, time

import pytest

from kraken_dagster.model.errors import FileSystemLimit
from kraken_dagster.model.offsite import (
    MIB,
    MOST_BYTES,
    MOST_PARTS,
    bucket_name,
    is_within,
    next_begin,
    part_size,
)

DAY = datetime(2026, 3, 1, tzinfo=UTC)
NIGHT = (time(20, 0), time(6, 0))
NOON = (time(11, 0), time(13, 0))


@pytest.mark.parametrize("size", [0, 1, 64 * MIB, 64 * MIB * MOST_PARTS])
def test_a_part_has_the_configured_size_as_long_as_the_parts_are_few_enough(size):
    assert part_size(size, least_mb=64) == 64 * MIB


@pytest.mark.parametrize("size", [64 * MIB * MOST_PARTS + 1, 10**12, MOST_BYTES])
def test_a_large_file_gets_larger_parts_of_whole_mebibytes(size):
    part = part_size(size, least_mb=64)
    assert part % MIB == 0
    assert -(-size // part) <= MOST_PARTS
    assert -(-size // (part - MIB)) > MOST_PARTS


def test_what_no_object_can_hold_is_refused():
    with pytest.raises(FileSystemLimit):
        part_size(MOST_BYTES + 1, least_mb=64)


@pytest.mark.parametrize(
    ("hours", "at", "allowed"),
    [
        (None, time(12), True),
        (NIGHT, time(20), True),
        (NIGHT, time(23, 59), True),
        (NIGHT, time(5, 59), True),
        (NIGHT, time(6), False),
        (NIGHT, time(12), False),
        (NOON, time(11), True),
        (NOON, time(13), False),
    ],
)
def test_hours_may_go_past_midnight(hours, at, allowed):
    assert is_within(hours, datetime.combine(DAY, at, tzinfo=UTC)) is allowed


def test_the_hours_begin_again_today_or_tomorrow():
    before, after = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 21, tzinfo=UTC)
    assert next_begin(NIGHT, before) == datetime(2026, 3, 1, 20, tzinfo=UTC)
    assert next_begin(NIGHT, after) == datetime(2026, 3, 2, 20, tzinfo=UTC)


def test_a_bucket_has_the_longest_name_that_is_allowed():
    assert len(bucket_name("kraken", "p" * 56)) == 63
