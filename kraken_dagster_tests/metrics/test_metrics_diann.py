"""Metrics of DIA-NN's reports."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.metrics import diann
from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.model.errors import FileFormatError, MissingOutputError
from kraken_dagster_tests.metrics.test_metrics import write_tsv
from kraken_dagster_tests.support.whole_results import whole_metrics

STATS = {"File.Name": "x.raw"} | {
    column: str(number) for number, column in enumerate(diann.METRICS.values(), start=1)
}
METRICS = {name: number for number, name in enumerate(diann.METRICS, start=1)}


def write_report(folder, rt=(1.0, 2.0, 9.0), **columns):
    pq.write_table(pa.table({"RT": rt, **columns}), folder / "report.parquet")


@pytest.fixture
def folder(tmp_path):
    write_tsv(tmp_path / "report.stats.tsv", STATS)
    write_report(tmp_path)
    return tmp_path


def test_every_metric_is_read_from_its_column(folder):
    assert whole_metrics("diann", folder) == METRICS | {"median_precursor_rt": 2}


def test_without_a_report_there_is_no_retention_time_and_no_error(folder):
    (folder / "report.parquet").unlink()
    assert whole_metrics("diann", folder) == METRICS


def test_the_text_report_of_version_1_is_read(folder):
    (folder / "report.parquet").unlink()
    write_tsv(folder / "report.tsv", *({"Run": "x", "RT": cell} for cell in ("4", "", "5")))
    assert whole_metrics("diann", folder)["median_precursor_rt"] == 4.5


def test_parquet_wins_over_a_text_report(folder):
    write_tsv(folder / "report.tsv", {"RT": "70"})
    assert whole_metrics("diann", folder)["median_precursor_rt"] == 2


def test_a_report_without_precursors_has_no_median(folder):
    write_report(folder, pa.array([], pa.float32()))
    assert whole_metrics("diann", folder)["median_precursor_rt"] is None


@pytest.mark.parametrize(
    ("damage", "reported"),
    [
        (lambda path: path.write_bytes(b"PAR1 torn"), "can't be read"),
        (lambda path: pq.write_table(pa.table({"X": [1]}), path), "lacks a column: RT"),
        (lambda path: pq.write_table(pa.table({"RT": ["a"]}), path), "Column RT"),
    ],
    ids=["torn", "without RT", "text"],
)
def test_a_report_that_can_not_be_read_keeps_the_statistics(folder, damage, reported):
    damage(folder / "report.parquet")
    reading = read_metrics("diann", folder)
    assert reading.metrics == METRICS
    (problem,) = reading.problems
    assert isinstance(problem, FileFormatError)
    assert [reported in str(problem), "report.parquet" in str(problem)] == [True, True]


def test_without_statistics_the_retention_time_is_kept(folder):
    (folder / "report.stats.tsv").unlink()
    reading = read_metrics("diann", folder)
    assert reading.metrics == {"median_precursor_rt": 2}
    assert [type(problem) for problem in reading.problems] == [MissingOutputError]


@pytest.mark.parametrize(("metric", "column"), diann.METRICS.items())
def test_only_the_two_counts_are_required(folder, metric, column):
    write_tsv(folder / "report.stats.tsv", {k: v for k, v in STATS.items() if k != column})
    reading = read_metrics("diann", folder)
    assert set(METRICS) - set(reading.metrics) == {metric}
    reported = [column in str(problem) for problem in reading.problems]
    assert reported == ([True] if metric in ("precursors", "proteins") else [])


def test_several_runs_of_one_report_are_averaged(folder):
    runs = (STATS | {"Precursors.Identified": cell} for cell in ("100", "300"))
    write_tsv(folder / "report.stats.tsv", *runs)
    assert whole_metrics("diann", folder)["precursors"] == 200
