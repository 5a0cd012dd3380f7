"""Metrics type `alphadia`: figures of an AlphaDIA search.

From `stat.tsv`, `internal.tsv` and the precursor table, as AlphaDIA 2 writes them and as its late
versions 1.x did, which had other names for the same columns. The names of the figures are those
of version 2, without `search.` and `raw.` and with `:` for `.`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kraken_dagster.metrics import columns as big
from kraken_dagster.metrics.tables import Table, read_table, require_columns, require_file

if TYPE_CHECKING:
    import pyarrow as pa

STAT_NAME = "stat.tsv"
INTERNAL_NAME = "internal.tsv"
PRECURSORS_NAME = "precursors.parquet"
PRECURSORS_NAME_V1 = "precursors.tsv"

_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True)
class _Column:
    """`figure` stands in column `v2`, or `v1` of AlphaDIA 1.x; None where the name is the same."""

    figure: str
    v2: str
    v1: str | None = None
    required: bool = False

    def find(self, path: Path, names: Collection[str]) -> str | None:
        """The column's name in the table at `path`, FileFormatError if it must be there."""
        for name in (self.v2, self.v1):
            if name is not None and name in names:
                return name
        if self.required:
            require_columns(path, names, (self.v2,))
        return None


# What depends on the instrument (mobility) or the options (quantification) is not required.
_STAT = (
    _Column("proteins", "search.proteins", "proteins", required=True),
    _Column("precursors", "search.precursors", "precursors", required=True),
    _Column("fwhm_rt", "search.fwhm_rt", "fwhm_rt"),
    _Column("fwhm_mobility", "search.fwhm_mobility", "fwhm_mobility"),
    _Column("optimization:ms1_error", "optimization.ms1_error"),
    _Column("optimization:ms2_error", "optimization.ms2_error"),
    _Column("optimization:rt_error", "optimization.rt_error"),
    _Column("optimization:mobility_error", "optimization.mobility_error"),
    _Column("calibration:ms1_bias", "calibration.ms1_bias", "calibration.ms1_median_accuracy"),
    _Column("calibration:ms2_bias", "calibration.ms2_bias", "calibration.ms2_median_accuracy"),
)
_GRADIENT_S, _GRADIENT_MIN = "raw.gradient_length", "raw.gradient_length_m"
_SUMS = (
    _Column("weighted_ms1_intensity_sum", "weighted_ms1_intensity"),
    _Column("pg:intensity_sum", "pg.intensity", "intensity"),
)
_CHARGE = _Column("precursor:charge", "precursor.charge", "charge", required=True)
_PROBA = _Column("precursor:proba", "precursor.proba", "proba")
_SEQUENCE = _Column("precursor:sequence_len", "precursor.sequence", "sequence", required=True)
_ION_INTENSITIES = ("sum_b_ion_intensity", "sum_y_ion_intensity")
_DURATIONS = ("duration_optimization", "duration_extraction")


def read(folder: Path) -> dict[str, float | None]:
    """The figures of a result folder; one whose column is not there is left out.

    Counts; `gradient_length` in minutes; widths, durations and `rt_error` in seconds; other errors
    and biases in ppm; mobilities and intensities as AlphaDIA has them. What is missing, and the
    mean or deviation of too few precursors, is None; the sum of none is 0.

    Raises:
        MissingOutputError: one of the three files is not there.
        FileFormatError: one can't be read, or lacks a column that every search has.
    """
    stat = read_table(folder / STAT_NAME)
    internal = read_table(folder / INTERNAL_NAME)
    precursors = _precursor_file(folder)
    figures = dict(_stat_figures(stat))
    with big.readable(precursors):
        figures |= _precursor_figures(precursors)
    return figures | {name: internal.mean(name) for name in _DURATIONS if name in internal}


def _precursor_file(folder: Path) -> Path:
    """The precursor table, which AlphaDIA 1.x wrote as text by default."""
    parquet, text = folder / PRECURSORS_NAME, folder / PRECURSORS_NAME_V1
    if text.exists() and not parquet.exists():
        return text
    require_file(parquet)
    return parquet


def _stat_figures(stat: Table) -> Iterator[tuple[str, float | None]]:
    for column in _STAT:
        if (name := column.find(stat.path, stat.columns)) is not None:
            yield column.figure, stat.mean(name)
    if _GRADIENT_S in stat:
        seconds = stat.mean(_GRADIENT_S)
        yield "gradient_length", None if seconds is None else seconds / _SECONDS_PER_MINUTE
    elif _GRADIENT_MIN in stat:
        yield "gradient_length", stat.mean(_GRADIENT_MIN)


def _precursor_figures(path: Path) -> dict[str, float | None]:
    names = big.column_names(path)
    found = {column: column.find(path, names) for column in (*_SUMS, _CHARGE, _PROBA, _SEQUENCE)}
    figures: dict[str, float | None] = {}
    for column in _SUMS:
        if (name := found[column]) is not None:
            figures[column.figure] = big.total(_numbers(path, name))
    for column in (_CHARGE, _PROBA):
        if (name := found[column]) is not None:
            figures |= _spread_figures(column.figure, big.spread(_numbers(path, name)))
    if all(name in names for name in _ION_INTENSITIES):
        figures["precursor_intensity_median"] = big.spread(_ion_sums(path)).median
    if (name := found[_SEQUENCE]) is not None:
        lengths = big.length_batches(path, name)
        figures |= _spread_figures(_SEQUENCE.figure, big.spread(lengths))
    return figures


def _numbers(path: Path, name: str) -> "Iterator[pa.Array]":
    return (array for (array,) in big.number_batches(path, (name,)))


def _ion_sums(path: Path) -> "Iterator[pa.Array]":
    """b and y ions of each precursor together; missing where one of the two is."""
    import pyarrow.compute as pc  # noqa: PLC0415

    return (pc.add(b, y) for b, y in big.number_batches(path, _ION_INTENSITIES))


def _spread_figures(figure: str, spread: big.Spread) -> dict[str, float | None]:
    return {
        f"{figure}_mean": spread.mean,
        f"{figure}_std": spread.std,
        f"{figure}_median": spread.median,
    }
