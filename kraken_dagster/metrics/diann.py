"""Metrics type `diann`: metrics of a DIA-NN search.

From `report.stats.tsv`, which has a row for each run, and the retention times of the main report:
`report.parquet`, or `report.tsv` of versions before 2.
"""

from pathlib import Path

from kraken_dagster.metrics.columns import column_names, no_row_counts, summarise
from kraken_dagster.metrics.partial import Draft, Reading
from kraken_dagster.metrics.tables import Table, read_table, require_columns, stands
from kraken_dagster.metrics.values.rows import EVERY_RUN, Q_LIMIT, Qualifier, rows_that_count
from kraken_dagster.metrics.values.sentinels import DIANN
from kraken_dagster.metrics.values.series import Series
from kraken_dagster.metrics.values.summaries import Spread
from kraken_dagster.model.errors import NoRowCounts

STATS_NAME = "report.stats.tsv"
REPORT_NAME = "report.parquet"
REPORT_NAME_V1 = "report.tsv"
RT = "RT"
MEDIAN_RT = "median_precursor_rt"

# Decoys are in the report with `--report-decoys`, since 2.0; rows over 1 % with `--qvalue`.
QUALIFIERS = (
    Qualifier(("Decoy",), 0),
    Qualifier(("Q.Value",), Q_LIMIT),
    Qualifier(("Global.Q.Value",), Q_LIMIT),
)

# What a search is for, and what every version has written.
_REQUIRED = {"precursors": "Precursors.Identified", "proteins": "Proteins.Identified"}
# What depends on version, options and instrument.
_OPTIONAL = {
    "total_quantity": "Total.Quantity",
    "ms1_signal": "MS1.Signal",
    "ms2_signal": "MS2.Signal",
    "fwhm_scans": "FWHM.Scans",
    "fwhm_rt": "FWHM.RT",
    "median_mass_acc_ms1": "Median.Mass.Acc.MS1",
    "median_mass_acc_ms1_corrected": "Median.Mass.Acc.MS1.Corrected",
    "median_mass_acc_ms2": "Median.Mass.Acc.MS2",
    "median_mass_acc_ms2_corrected": "Median.Mass.Acc.MS2.Corrected",
    "normalisation_instability": "Normalisation.Instability",
    "median_rt_prediction_acc": "Median.RT.Prediction.Acc",
    "average_peptide_length": "Average.Peptide.Length",
    "average_peptide_charge": "Average.Peptide.Charge",
    "average_missed_tryptic_cleavages": "Average.Missed.Tryptic.Cleavages",
}
METRICS = {**_REQUIRED, **_OPTIONAL}


def read(folder: Path) -> Reading:
    """The metrics of a result folder; one whose column is not there is left out.

    Counts; signals and quantities as DIA-NN has them; mass accuracies in ppm; retention times,
    `fwhm_rt` and `median_rt_prediction_acc` in minutes. Several runs in one report are averaged,
    each once; `median_precursor_rt` is the median of all their precursors that count. What stands
    for no measurement is None. Problems are the statistics' file if it is not there, any of the
    files that can't be read or was cut off, a column that is required (the two counts, and `RT`
    where there is a report), and a report of which no row counts although precursors were found.
    """
    draft = Draft(folder)
    with draft.keeping():
        _add_statistics(draft, read_table(folder / STATS_NAME, quotes=False))
    with draft.keeping():
        _add_median_rt(draft, folder)
    return draft.reading()


def _add_statistics(draft: Draft, stats: Table) -> None:
    for metric, column in METRICS.items():
        if metric in _REQUIRED or column in stats:
            with draft.keeping():
                least = DIANN[metric]
                draft.metrics[metric] = stats.mean(column, EVERY_RUN, least=least)


def _add_median_rt(draft: Draft, folder: Path) -> None:
    reports = (folder / REPORT_NAME, folder / REPORT_NAME_V1)
    path = next((path for path in reports if stands(path)), None)
    if path is None:
        return
    columns = column_names(path, quotes=False)
    require_columns(path, columns, (RT,))
    rows = rows_that_count(QUALIFIERS, columns)
    draft.notes.append(f"{MEDIAN_RT}, from {path.name}: {rows.words}")
    rt = Spread(rows)
    series = Series((RT,), least=DIANN[MEDIAN_RT])
    for problem in summarise(path, {series: rt}, quotes=False).values():
        raise problem
    if not rt.counting and draft.metrics.get("precursors") != 0:
        draft.problems.append(problem := no_row_counts(path, rt))
        if not isinstance(problem, NoRowCounts):
            return
    draft.metrics[MEDIAN_RT] = rt.median
