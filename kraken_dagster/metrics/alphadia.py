"""Metrics type `alphadia`: figures of an AlphaDIA search.

From `stat.tsv`, `internal.tsv` and the precursor table, as AlphaDIA 2 writes them and as its late
versions 1.x did, which had other names for the same columns. The names of the figures are those
of version 2, without `search.` and `raw.` and with `:` for `.`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.metrics.columns import Series, Summary, column_names, summarise
from kraken_dagster.metrics.reading import Draft, Reading
from kraken_dagster.metrics.summaries import Spread, Total
from kraken_dagster.metrics.tables import Table, read_table, require_columns, stands

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
_ION_MEDIAN = "precursor_intensity_median"
_DURATIONS = ("duration_optimization", "duration_extraction")


def read(folder: Path) -> Reading:
    """The figures of a result folder; one whose column is not there is left out.

    Counts; `gradient_length` in minutes; widths, durations and `rt_error` in seconds; other errors
    and biases in ppm; mobilities and intensities as AlphaDIA has them. What is missing, and the
    mean or deviation of too few precursors, is None; the sum of none is 0. A problem is each of the
    three files that is not there or can't be read, and each column that every search has.
    """
    draft = Draft()
    with draft.keeping():
        _add_stat_figures(draft, read_table(folder / STAT_NAME))
    with draft.keeping():
        _add_precursor_figures(draft, _precursor_file(folder))
    with draft.keeping():
        internal = read_table(folder / INTERNAL_NAME)
        _add_means(draft, internal, {name: name for name in _DURATIONS if name in internal})
    return draft.reading()


def _precursor_file(folder: Path) -> Path:
    """The precursor table, which AlphaDIA 1.x wrote as text by default."""
    parquet, text = folder / PRECURSORS_NAME, folder / PRECURSORS_NAME_V1
    return text if stands(text) and not stands(parquet) else parquet


def _add_stat_figures(draft: Draft, stat: Table) -> None:
    names = {}
    for column in _STAT:
        with draft.keeping():
            if (name := column.find(stat.path, stat.columns)) is not None:
                names[column.figure] = name
    _add_means(draft, stat, names)
    with draft.keeping():
        if _GRADIENT_S in stat:
            seconds = stat.mean(_GRADIENT_S)
            minutes = None if seconds is None else seconds / _SECONDS_PER_MINUTE
            draft.figures["gradient_length"] = minutes
        elif _GRADIENT_MIN in stat:
            draft.figures["gradient_length"] = stat.mean(_GRADIENT_MIN)


def _add_means(draft: Draft, table: Table, columns: Mapping[str, str]) -> None:
    """Adds figures, by the columns in which they stand."""
    for figure, name in columns.items():
        with draft.keeping():
            draft.figures[figure] = table.mean(name)


def _add_precursor_figures(draft: Draft, path: Path) -> None:
    found = _precursor_summaries(draft, path)
    failed = summarise(path, dict(found.values()))
    draft.problems.extend(dict.fromkeys(failed.values()))
    for figure, (series, summary) in found.items():
        if series not in failed:
            draft.figures |= _summary_figures(figure, summary)


def _precursor_summaries(draft: Draft, path: Path) -> dict[str, tuple[Series, Summary]]:
    names = column_names(path)
    found: dict[str, tuple[Series, Summary]] = {}
    for column in (*_SUMS, _CHARGE, _PROBA, _SEQUENCE):
        with draft.keeping():
            if (name := column.find(path, names)) is not None:
                series = Series((name,), are_lengths=column is _SEQUENCE)
                found[column.figure] = series, Total() if column in _SUMS else Spread()
    if all(name in names for name in _ION_INTENSITIES):
        found[_ION_MEDIAN] = Series(_ION_INTENSITIES), Spread()
    return found


def _summary_figures(figure: str, summary: Summary) -> dict[str, float | None]:
    if isinstance(summary, Total):
        return {figure: summary.sum}
    assert isinstance(summary, Spread)
    if figure == _ION_MEDIAN:
        return {figure: summary.median}
    return {
        f"{figure}_mean": summary.mean,
        f"{figure}_std": summary.std,
        f"{figure}_median": summary.median,
    }
