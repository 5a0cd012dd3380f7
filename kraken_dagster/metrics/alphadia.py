"""Metrics type `alphadia`: metrics of an AlphaDIA search.

From `stat.tsv`, `internal.tsv` and the precursor table, as AlphaDIA 1.7 to 2.3 write them: versions
1.x have other names for the same columns, 1.8 again others, and 1.7 writes less. The names of the
metrics are those of version 2, without `search.` and `raw.` and with `:` for `.`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.metrics.columns import Summary, column_names, no_row_counts, summarise
from kraken_dagster.metrics.partial import Draft, Reading
from kraken_dagster.metrics.tables import Table, read_table, require_columns, stands
from kraken_dagster.metrics.values.rows import EVERY_RUN, Q_LIMIT, Qualifier, Rows, rows_that_count
from kraken_dagster.metrics.values.sentinels import ALPHADIA, Least
from kraken_dagster.metrics.values.series import Series
from kraken_dagster.metrics.values.summaries import Spread, Total
from kraken_dagster.model.errors import NoRowCounts

STAT_NAME = "stat.tsv"
INTERNAL_NAME = "internal.tsv"
PRECURSORS_NAME = "precursors.parquet"
PRECURSORS_NAME_V1 = "precursors.tsv"

# Decoys are in the table with `keep_decoys`; rows over 1 % with an `fdr` of more.
QUALIFIERS = (
    Qualifier(("precursor.decoy", "decoy"), 0),
    Qualifier(("precursor.qval", "qval"), Q_LIMIT),
)
_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True)
class _Column:
    """`metric` stands in the column that is called by one of the names, version 2's first."""

    metric: str
    names: tuple[str, ...]
    required: bool = False

    def find(self, path: Path, names: Collection[str]) -> str | None:
        """The column's name in the table at `path`, FileFormatError if it must be there."""
        for name in self.names:
            if name in names:
                return name
        if self.required:
            require_columns(path, names, self.names[:1])
        return None


# What depends on the instrument (mobility) or the options (quantification) is not required.
_STAT = (
    _Column("proteins", ("search.proteins", "proteins"), required=True),
    _Column("precursors", ("search.precursors", "precursors"), required=True),
    _Column("fwhm_rt", ("search.fwhm_rt", "fwhm_rt")),
    _Column("fwhm_mobility", ("search.fwhm_mobility", "fwhm_mobility")),
    # without a prefix in 1.8
    _Column("optimization:ms1_error", ("optimization.ms1_error", "ms1_error")),
    _Column("optimization:ms2_error", ("optimization.ms2_error", "ms2_error")),
    _Column("optimization:rt_error", ("optimization.rt_error", "rt_error")),
    _Column("optimization:mobility_error", ("optimization.mobility_error", "mobility_error")),
    # since 1.9
    _Column("calibration:ms1_bias", ("calibration.ms1_bias", "calibration.ms1_median_accuracy")),
    _Column("calibration:ms2_bias", ("calibration.ms2_bias", "calibration.ms2_median_accuracy")),
)
_GRADIENT_S, _GRADIENT_MIN = "raw.gradient_length", "raw.gradient_length_m"  # since 1.9
_OF_1_8 = ("optimization.ms1_error", "ms1_error")  # and of all later versions
_SUMS = (
    _Column("weighted_ms1_intensity_sum", ("weighted_ms1_intensity",)),
    _Column("pg:intensity_sum", ("pg.intensity", "intensity")),
)
_CHARGE = _Column("precursor:charge", ("precursor.charge", "charge"), required=True)
_PROBA = _Column("precursor:proba", ("precursor.proba", "proba"))
_SEQUENCE = _Column("precursor:sequence_len", ("precursor.sequence", "sequence"), required=True)
_ION_INTENSITIES = ("sum_b_ion_intensity", "sum_y_ion_intensity")
_ION_MEDIAN = "precursor_intensity_median"
_DURATIONS = ("duration_optimization", "duration_extraction")


def read(folder: Path) -> Reading:
    """The metrics of a result folder; one whose column is not there is left out.

    Counts; `gradient_length` in minutes; widths, durations and `rt_error` in seconds; other errors
    and biases in ppm; mobilities and intensities as AlphaDIA has them. What is missing or was not
    measured, and the mean or deviation of too few precursors, is None. A problem is each of the
    three files that is not there, can't be read or was cut off, each column that every search has,
    and a table of precursors of which none counts although `stat.tsv` knows of some.
    """
    draft = Draft(folder)
    has_internal = True
    with draft.keeping():
        stat = read_table(folder / STAT_NAME)
        _add_stat_metrics(draft, stat)
        has_internal = _writes_internal(stat) or stands(folder / INTERNAL_NAME)
    with draft.keeping():
        _add_precursor_metrics(draft, _precursor_file(folder))
    if not has_internal:
        draft.notes.append(f"AlphaDIA 1.7 or older, which writes no {INTERNAL_NAME}")
        return draft.reading()
    with draft.keeping():
        internal = read_table(folder / INTERNAL_NAME)
        _add_means(draft, internal, {name: name for name in _DURATIONS if name in internal})
    return draft.reading()


def _writes_internal(stat: Table) -> bool:
    """Whether the version does: all since 1.8, whose statistics tell of the optimization, too."""
    return "search.precursors" in stat or any(name in stat for name in _OF_1_8)


def _precursor_file(folder: Path) -> Path:
    """The precursor table, which AlphaDIA 1.x wrote as text by default."""
    parquet, text = folder / PRECURSORS_NAME, folder / PRECURSORS_NAME_V1
    return text if stands(text) and not stands(parquet) else parquet


def _add_stat_metrics(draft: Draft, stat: Table) -> None:
    names = {}
    for column in _STAT:
        with draft.keeping():
            if (name := column.find(stat.path, stat.columns)) is not None:
                names[column.metric] = name
    _add_means(draft, stat, names)
    with draft.keeping():
        if _GRADIENT_S in stat:
            seconds = stat.mean(_GRADIENT_S, EVERY_RUN, least=Least.ABOVE_0)
            minutes = None if seconds is None else seconds / _SECONDS_PER_MINUTE
            draft.metrics["gradient_length"] = minutes
        elif _GRADIENT_MIN in stat:
            minutes = stat.mean(_GRADIENT_MIN, EVERY_RUN, least=Least.ABOVE_0)
            draft.metrics["gradient_length"] = minutes


def _add_means(draft: Draft, table: Table, columns: Mapping[str, str]) -> None:
    """Adds metrics, by the columns in which they stand."""
    for metric, name in columns.items():
        with draft.keeping():
            least = ALPHADIA.get(metric, Least.ANY)
            draft.metrics[metric] = table.mean(name, EVERY_RUN, least=least)


def _add_precursor_metrics(draft: Draft, path: Path) -> None:
    names = column_names(path)
    rows = rows_that_count(QUALIFIERS, names)
    draft.notes.append(f"precursors, from {path.name}: {rows.words}")
    found = _precursor_summaries(draft, path, names, rows)
    failed = summarise(path, dict(found.values()))
    draft.problems.extend(dict.fromkeys(failed.values()))
    read = {metric: pair for metric, pair in found.items() if pair[0] not in failed}
    summary = next((summary for _, summary in read.values()), None)
    if summary and not summary.counting and draft.metrics.get("precursors") != 0:
        draft.problems.append(problem := no_row_counts(path, summary))
        if not isinstance(problem, NoRowCounts):
            return
    for metric, (_, summary) in read.items():
        draft.metrics |= _summary_metrics(metric, summary)


def _precursor_summaries(
    draft: Draft, path: Path, names: Collection[str], rows: Rows
) -> dict[str, tuple[Series, Summary]]:
    found: dict[str, tuple[Series, Summary]] = {}
    for column in (*_SUMS, _CHARGE, _PROBA, _SEQUENCE):
        with draft.keeping():
            if (name := column.find(path, names)) is not None:
                least = ALPHADIA[column.metric]
                series = Series((name,), are_lengths=column is _SEQUENCE, least=least)
                found[column.metric] = series, Total(rows) if column in _SUMS else Spread(rows)
    if all(name in names for name in _ION_INTENSITIES):
        found[_ION_MEDIAN] = Series(_ION_INTENSITIES, least=ALPHADIA[_ION_MEDIAN]), Spread(rows)
    return found


def _summary_metrics(metric: str, summary: Summary) -> dict[str, float | None]:
    if isinstance(summary, Total):
        return {metric: summary.sum}
    assert isinstance(summary, Spread)
    if metric == _ION_MEDIAN:
        return {metric: summary.median}
    return {
        f"{metric}_mean": summary.mean,
        f"{metric}_std": summary.std,
        f"{metric}_median": summary.median,
    }
