"""Metrics type `msqc`: quality metrics of the raw data itself, from `msqc_results.tsv`.

`rawqc` writes such a table, and so does any other program that keeps to its columns.
"""

from pathlib import Path

from kraken_dagster.metrics.partial import Draft, Reading
from kraken_dagster.metrics.tables import Table, read_table
from kraken_dagster.metrics.values.rows import EVERY_RUN
from kraken_dagster.metrics.values.sentinels import MSQC, Least
from kraken_dagster.model.errors import FileFormatError

RESULTS_NAME = "msqc_results.tsv"

METRICS = (
    "ms1_scans",
    "ms1_median_tic",
    "ms1_median_injection_time",
    "ms2_scans",
    "ms2_median_tic",
    "ms2_median_injection_time",
    "gradient_length",
    "evosep_pump_hp_pressure_max",
)
EVOSEP_PREFIX = "evosep_"


def read(folder: Path) -> Reading:
    """The metrics of `folder`/msqc_results.tsv.

    Numbers of scans, median TIC (arbitrary units), median injection time (ms), gradient length
    (minutes), and what an Evosep pump logged, in its own units. An `evosep_*` column that holds
    text is left out, as is any other column. A cell without a number, or with one that stands for
    none, is None; several rows are averaged. Programs differ in what they can tell of a vendor's
    files, so that no single column is required. Problems are a table that is not there, can't be
    read, was cut off, or has no rows or no column of `FIGURES`, and text in one of them.
    """
    draft = Draft(folder)
    with draft.keeping():
        table = read_table(folder / RESULTS_NAME)
        for name in _metrics_in(table):
            with draft.keeping():
                least = MSQC.get(name, Least.ANY)
                draft.metrics[name] = table.mean(name, EVERY_RUN, least=least)
    return draft.reading()


def _metrics_in(table: Table) -> list[str]:
    names = [name for name in METRICS if name in table]
    if not names:
        raise FileFormatError(
            "A table of quality metrics has none of them",
            file=table.path,
            expected=f"some of the columns {', '.join(METRICS)}",
            found=", ".join(table.columns) or "no column",
        )
    pump = [name for name in table.columns if name.startswith(EVOSEP_PREFIX)]
    names += [name for name in pump if name not in names]
    return [n for n in names if not n.startswith(EVOSEP_PREFIX) or table.is_numeric(n)]
