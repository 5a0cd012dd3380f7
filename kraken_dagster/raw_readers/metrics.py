"""The metrics of one raw file, of what a reader took from it. docs/metrics.md defines each.

The names are AlphaKraken's as far as it has them.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from statistics import quantiles

from kraken_dagster.model.metric_values import Value
from kraken_dagster.raw_readers.contents import RawContents, Scans

# As they stand in `kraken-rawqc`'s table, in this order, before all others.
LEADING = (
    "ms1_scans",
    "ms1_median_tic",
    "ms1_median_injection_time",
    "ms2_scans",
    "ms2_median_tic",
    "ms2_median_injection_time",
    "gradient_length",
)
_TENFOLD = 10
# Name and place among the 19 cuts of `quantiles(n=20)`.
_QUANTILES = (("q05", 0), ("q25", 4), ("q75", 14), ("q95", 18))
_MEDIAN = 9


def metrics_of(contents: RawContents) -> dict[str, Value]:
    """All metrics; without scans only those that don't need any."""
    found: dict[str, Value] = {}
    scans = contents.scans
    if len(scans):
        found |= _of_levels(scans)
        found["gradient_length"] = scans.rt_min[-1] - contents.gradient_start_min
        found |= _of_range(scans)
        found |= _of_ms1(scans)
        found |= _of_ms2(scans)
    found |= contents.extra
    found["complete"] = None if contents.complete is None else int(contents.complete)
    return {name: found[name] for name in (*(n for n in LEADING if n in found), *found)}


def ms1_positions(scans: Scans) -> list[int]:
    return _positions(scans, 1)


def _positions(scans: Scans, level: int) -> list[int]:
    return [at for at, found in enumerate(scans.ms_level) if found == level]


def _of_levels(scans: Scans) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for level in sorted({1, 2, *scans.ms_level}):
        at = _positions(scans, level)
        found[f"ms{level}_scans"] = len(at)
        if level > 2:
            continue
        found |= _spread(f"ms{level}", "tic", _taken(scans.tic, at))
        times = [time for time in _taken(scans.injection_ms, at) if time > 0]
        found |= _spread(f"ms{level}", "injection_time", times)
    return found


def _spread(level: str, what: str, values: Sequence[float]) -> dict[str, Value]:
    cuts = _cuts(values)
    found: dict[str, Value] = {f"{level}_median_{what}": cuts[_MEDIAN] if cuts else None}
    return found | {f"{level}_{what}_{name}": cuts[at] if cuts else None for name, at in _QUANTILES}


def _cuts(values: Sequence[float]) -> list[float]:
    """At 5, 10, ... 95 %, with what lies between two values taken in a straight line."""
    if not values:
        return []
    return quantiles(values if len(values) > 1 else [*values, *values], n=20, method="inclusive")


def _of_range(scans: Scans) -> dict[str, Value]:
    return {
        "rt_first": scans.rt_min[0],
        "rt_last": scans.rt_min[-1],
        "mz_low": min(scans.low_mz, default=None),
        "mz_high": max(scans.high_mz, default=None),
        "max_tic": max(scans.tic),
        "max_base_peak": max(scans.base_peak, default=None),
    }


def _of_ms1(scans: Scans) -> dict[str, Value]:
    at = ms1_positions(scans)
    tic, rt = _taken(scans.tic, at), _taken(scans.rt_min, at)
    cycles = _cuts([(after - before) * 60 for before, after in pairwise(rt)])
    quartiles = _rt_of_quartiles(rt, tic)
    return {
        "ms1_median_cycle_time": cycles[_MEDIAN] if cycles else None,
        "tic_drops": sum(before > _TENFOLD * after for before, after in pairwise(tic)),
        "tic_jumps": sum(after > _TENFOLD * before for before, after in pairwise(tic)),
        **{f"rt_of_tic_quartile_{part}": rt for part, rt in enumerate(quartiles, start=1)},
    }


def _rt_of_quartiles(rt: Sequence[float], tic: Sequence[float]) -> list[float | None]:
    sums = list(accumulate(tic))
    if not sums or not 0 < sums[-1] < math.inf:
        return [None, None, None]
    return [rt[bisect_left(sums, sums[-1] * part / 4)] for part in (1, 2, 3)]


def _of_ms2(scans: Scans) -> dict[str, Value]:
    """How many isolations differ, to 0.01 m/z, and how many MS2 scans follow an MS1 scan."""
    if not scans.precursor_mz:
        return {}
    isolated = {
        round(mz * 100)
        for level, mz in zip(scans.ms_level, scans.precursor_mz, strict=True)
        if level == 2 and not math.isnan(mz)
    }
    per_cycle = _cuts(list(_ms2_per_cycle(scans.ms_level)))
    return {
        "ms2_precursors": len(isolated),
        "ms2_median_per_cycle": per_cycle[_MEDIAN] if per_cycle else None,
    }


def _ms2_per_cycle(ms_level: "array[int]") -> Iterator[int]:
    """Between one MS1 scan and the next."""
    count: int | None = None
    for level in ms_level:
        if level == 1:
            if count is not None:
                yield count
            count = 0
        elif level == 2 and count is not None:
            count += 1


def _taken(column: "array[float]", at: Sequence[int]) -> list[float]:
    return [column[one] for one in at] if column else []
