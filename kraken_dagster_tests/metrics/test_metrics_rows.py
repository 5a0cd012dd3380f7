"""Metrics are made over rows that count, and what stands for no measurement is none."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.metrics import alphadia, diann, msqc
from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.metrics.values.sentinels import ALPHADIA as ALPHADIA_LEAST
from kraken_dagster.metrics.values.sentinels import DIANN, MSQC
from kraken_dagster_tests.metrics.test_metrics import (
    ALPHADIA,
    PRECURSORS_V1,
    PRECURSORS_V2,
    STAT_V1,
    STAT_V2,
    write_alphadia,
    write_tsv,
)
from kraken_dagster_tests.metrics.test_metrics import MSQC as MSQC_ROW
from kraken_dagster_tests.metrics.test_metrics_skyline import ALL, HEADER, ROWS
from kraken_dagster_tests.support.whole_results import whole_metrics

STATS = {"File.Name": "x.d", "Precursors.Identified": "3", "Proteins.Identified": "3"}


def report(folder, rows, *, text=False, **stats):
    """A DIA-NN result with these columns in its report."""
    write_tsv(folder / "report.stats.tsv", STATS | stats)
    if not text:
        pq.write_table(pa.table(rows), folder / "report.parquet")
        return folder
    cells = [
        ["" if cell is None else str(cell) for cell in row]
        for row in zip(*rows.values(), strict=True)
    ]
    write_tsv(folder / "report.tsv", *(dict(zip(rows, row, strict=True)) for row in cells))
    return folder


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("Decoy", [0, 0, 0, 1, 1, 1, 1]),
        ("Decoy", [0.0, 0.0, 0.0, 1.0, None, 1.0, 1.0]),
        ("Decoy", [False, False, False, True, True, True, True]),
        ("Decoy", ["False", "false", "0", "True", "TRUE", "1", ""]),
        ("Q.Value", [0.0, 0.001, 0.01, 0.0100001, 0.05, 1.0, None]),
        ("Global.Q.Value", [0.0, 0.001, 0.01, 0.05, float("nan"), -1.0, 1.0]),
    ],
)
def test_a_row_that_does_not_qualify_is_not_in_diann_s_median(tmp_path, text, column, values):
    rows = {"RT": [10.0, 20.0, 30.0, 90.0, 90.0, 90.0, 90.0], column: values}
    reading = read_metrics("diann", report(tmp_path, rows, text=text))
    assert reading.metrics["median_precursor_rt"] == 20
    assert reading.problems == ()
    assert column in reading.notes[0]


def test_all_of_the_qualifying_columns_hold_together(tmp_path):
    rows = {
        "RT": [10.0, 20.0, 30.0, 91.0, 92.0, 93.0],
        "Decoy": [0, 0, 0, 1, 0, 0],
        "Q.Value": [0.001] * 4 + [0.02, 0.001],
        "Global.Q.Value": [0.001] * 5 + [0.02],
    }
    reading = read_metrics("diann", report(tmp_path, rows))
    assert reading.metrics["median_precursor_rt"] == 20
    assert "rows with Decoy = 0 and Q.Value <= 0.01 and Global.Q.Value <= 0.01" in reading.notes[0]


def test_columns_that_could_tell_and_are_not_there_are_named(tmp_path):
    (note,) = read_metrics("diann", report(tmp_path, {"RT": [1.0]})).notes
    assert "all rows (it has no column Decoy, Q.Value, Global.Q.Value)" in note


def test_a_qualifying_column_that_can_not_be_read_costs_the_metric(tmp_path):
    reading = read_metrics("diann", report(tmp_path, {"RT": [1.0], "Decoy": ["perhaps"]}))
    assert "median_precursor_rt" not in reading.metrics
    assert "report.parquet" in str(*reading.problems)


def test_a_table_of_decoys_only_has_no_metric_and_says_so(tmp_path):
    reading = read_metrics("diann", report(tmp_path, {"RT": [1.0, 2.0], "Decoy": [1, 1]}))
    assert reading.metrics["median_precursor_rt"] is None
    assert "none among 2 rows" in str(*reading.problems)


@pytest.mark.parametrize("missing", [0.0, -1.0, float("nan"), float("inf"), None])
@pytest.mark.parametrize("text", [False, True])
def test_a_time_that_was_not_measured_is_in_no_median(tmp_path, missing, text):
    rows = {"RT": [10.0, 20.0, 30.0, missing, missing, missing, missing]}
    assert whole_metrics("diann", report(tmp_path, rows, text=text))["median_precursor_rt"] == 20


@pytest.mark.parametrize(("metric", "column"), diann.METRICS.items())
def test_what_diann_writes_for_no_measurement_is_none(tmp_path, metric, column):
    report(tmp_path, {"RT": [1.0]}, **{column: "-1"})
    assert read_metrics("diann", tmp_path).metrics[metric] is None
    report(tmp_path, {"RT": [1.0]}, **{column: "0"})
    found = read_metrics("diann", tmp_path).metrics[metric]
    assert found == (0 if DIANN[metric].allows(0) else None)


# --- alphadia

DECOYS = {
    "weighted_ms1_intensity": [9e9] * 4,
    "pg.intensity": [9e9] * 4,
    "precursor.charge": [9] * 4,
    "precursor.proba": [0.9] * 4,
    "precursor.sequence": ["A" * 90] * 4,
    "sum_b_ion_intensity": [9e9] * 4,
    "sum_y_ion_intensity": [9e9] * 4,
    "unused": [0] * 4,
}
QUALIFIED = {
    "decoys": {"decoy": [0, 0, 0, 1, 1, 1, 1]},
    "q-values": {"qval": [0.0, 0.001, 0.01, 0.02, 0.05, 1.0, None]},
    "both": {"decoy": [0, 0, 0, 1, 1, 0, 0], "qval": [0.001] * 4 + [0.02, 0.02, 0.02]},
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("columns", QUALIFIED.values(), ids=QUALIFIED)
def test_rows_that_do_not_qualify_are_in_no_metric_of_alphadia(tmp_path, version, text, columns):
    names = dict(zip(PRECURSORS_V2, PRECURSORS_V1, strict=True)) if version == 1 else {}
    table = {names.get(name, name): cells + DECOYS[name] for name, cells in PRECURSORS_V2.items()}
    prefix = "" if version == 1 else "precursor."
    table |= {f"{prefix}{name}": cells for name, cells in columns.items()}
    write_alphadia(tmp_path, STAT_V1 if version == 1 else STAT_V2, table)
    if text:
        (tmp_path / "precursors.parquet").unlink()
        rows = [
            ["" if cell is None else str(cell) for cell in row]
            for row in zip(*table.values(), strict=True)
        ]
        write_tsv(
            tmp_path / "precursors.tsv", *(dict(zip(table, row, strict=True)) for row in rows)
        )
    reading = read_metrics("alphadia", tmp_path)
    assert reading.metrics == pytest.approx(ALPHADIA)
    assert reading.problems == ()
    assert all(f"{prefix}{name}" in reading.notes[0] for name in columns)


@pytest.mark.parametrize("cell", ["-1.0", "-1", "0.0", "0.000000"])
def test_alphadia_without_mobility_has_no_peak_width_in_it(tmp_path, cell):
    for stat, name in ((STAT_V1, "fwhm_mobility"), (STAT_V2, "search.fwhm_mobility")):
        metrics = whole_metrics("alphadia", write_alphadia(tmp_path, stat | {name: cell}))
        assert metrics["fwhm_mobility"] is None
        assert metrics["fwhm_rt"] == 3.2


@pytest.mark.parametrize("column", alphadia._STAT, ids=lambda column: column.metric)
def test_what_alphadia_writes_for_no_measurement_is_none(tmp_path, column):
    write_alphadia(tmp_path, STAT_V2 | {column.names[0]: "-1"})
    found = whole_metrics("alphadia", tmp_path)[column.metric]
    assert found == (None if column.metric in ALPHADIA_LEAST else -1)


def test_numbers_of_precursors_that_were_not_measured_are_none(tmp_path):
    changed = {
        "weighted_ms1_intensity": [-1.0, 0.0, -1.0],
        "pg.intensity": [0.0, 20.0, -1.0],
        "precursor.charge": [2, 0, -1],
        "precursor.proba": [-1.0, 0.2, 0.0],
        "precursor.sequence": ["AAK", "", ""],
        "sum_b_ion_intensity": [0.0, 0.0, -1.0],
        "sum_y_ion_intensity": [0.0, 20.0, 30.0],
    }
    metrics = whole_metrics(
        "alphadia", write_alphadia(tmp_path, precursors=PRECURSORS_V2 | changed)
    )
    assert metrics["weighted_ms1_intensity_sum"] is None
    assert metrics["pg:intensity_sum"] == 20
    assert (metrics["precursor:charge_mean"], metrics["precursor:charge_std"]) == (2, None)
    assert metrics["precursor:proba_mean"] == 0.1
    assert metrics["precursor:sequence_len_mean"] == 3
    assert metrics["precursor_intensity_median"] == 20


# --- msqc and Skyline


@pytest.mark.parametrize("metric", msqc.METRICS)
def test_what_programs_write_for_no_measurement_is_none_in_msqc(tmp_path, metric):
    write_tsv(tmp_path / "msqc_results.tsv", MSQC_ROW | {metric: "-1"})
    assert whole_metrics("msqc", tmp_path)[metric] is None
    write_tsv(tmp_path / "msqc_results.tsv", MSQC_ROW | {metric: "0"})
    assert whole_metrics("msqc", tmp_path)[metric] == (0 if MSQC[metric].allows(0) else None)


def write_skyline(folder, more, *rows):
    text = "\n".join((f"{HEADER},{more}", *rows)) + "\n"
    (folder / "custom_iRT_report.csv").write_text(text)
    return folder


def test_skylines_decoys_are_no_peptides(tmp_path):
    decoy = "DECOYR[+10.0],heavy,10.0,99,9,9,True"
    light = "DECOYR,light,10.0,99,9,9,TRUE"
    folder = write_skyline(tmp_path, "IsDecoy", *(f"{row},False" for row in ROWS), decoy, light)
    reading = read_metrics("skyline", folder)
    assert reading.metrics == pytest.approx(ALL)
    assert "rows with IsDecoy = 0" in reading.notes[0]


@pytest.mark.parametrize("caption", ["ProteinName", "Protein Name", "Protein"])
def test_the_list_that_skyline_calls_decoys_has_no_peptides(tmp_path, caption):
    decoy = "DECOYR[+10.0],heavy,10.0,99,9,9,Decoys"
    folder = write_skyline(tmp_path, caption, *(f"{row},iRT" for row in ROWS), decoy)
    reading = read_metrics("skyline", folder)
    assert reading.metrics == pytest.approx(ALL)
    assert "it has no column IsDecoy" in reading.notes[0]


def test_a_time_of_0_was_not_measured_and_an_area_of_0_was(tmp_path):
    folder = write_skyline(tmp_path, "Note", *(f"{row}," for row in ROWS), "PEP,heavy,10,0,0,-1,")
    metrics = whole_metrics("skyline", folder)
    assert metrics["irt_delta_rt_max"] == ALL["irt_delta_rt_max"]
    assert metrics["irt_mean_total_area_median"] == 1e6
    assert metrics["irt_PEP_mean_total_area"] == 0
    assert "irt_PEP_cv_total_area" not in metrics
