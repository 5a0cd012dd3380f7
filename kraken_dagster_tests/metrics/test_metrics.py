"""Result tables to metrics: msqc, alphadia, the registry, and the stand-in program's tables."""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.metrics import columns
from kraken_dagster.metrics.registry import READERS
from kraken_dagster.metrics.tables import read_table
from kraken_dagster.metrics.values.numbers import parse_number
from kraken_dagster.metrics.values.rows import EVERY_RUN
from kraken_dagster.model import errors
from kraken_dagster.model.errors import FileFormatError, MetricsError, MissingOutputError
from kraken_dagster.simulation import search_program
from kraken_dagster_tests.conformance import same
from kraken_dagster_tests.support.whole_results import whole_metrics

SHARED = Path(__file__).resolve().parents[3] / "shared"

MSQC = {
    "ms1_median_injection_time": "0.91",
    "ms1_scans": "1",
    "ms1_median_tic": "2688350700.0",
    "ms2_median_injection_time": "6.014",
    "ms2_scans": "200",
    "ms2_median_tic": "1029877.25",
}
STAT_V2 = {
    "run": "r",
    "search.proteins": "5967",
    "search.precursors": "76334",
    "search.fwhm_rt": "3.2",
    "search.fwhm_mobility": "0.02",
    "optimization.ms1_error": "30.0",
    "calibration.ms1_bias": "",
    "calibration.ms2_bias": "0.3157",
    "raw.gradient_length": "1253.26",
}
STAT_V1 = {
    "run": "r",
    "proteins": "5967",
    "precursors": "76334",
    "fwhm_rt": "3.2",
    "fwhm_mobility": "0.02",
    "optimization.ms1_error": "30.0",
    "calibration.ms1_median_accuracy": "",
    "calibration.ms2_median_accuracy": "0.3157",
    "raw.gradient_length_m": "20.887666666666668",
}
INTERNAL = {"run": "r", "duration_optimization": "0.31627", "duration_extraction": "0.058612"}
PRECURSORS_V2 = {
    "weighted_ms1_intensity": [1e6, 2e6, None],
    "pg.intensity": [10.0, 20.0, 30.0],
    "precursor.charge": [2, 3, 2],
    "precursor.proba": [0.1, 0.2, 0.6],
    "precursor.sequence": ["AAK", "PEPTIDEK", "LLR"],
    "sum_b_ion_intensity": [1.0, 2.0, 3.0],
    "sum_y_ion_intensity": [10.0, 20.0, 30.0],
    "unused": [0, 0, 0],
}
V1_NAMES = {
    "pg.intensity": "intensity",
    "precursor.charge": "charge",
    "precursor.proba": "proba",
    "precursor.sequence": "sequence",
}
PRECURSORS_V1 = {V1_NAMES.get(name, name): cells for name, cells in PRECURSORS_V2.items()}
ALPHADIA = {
    "proteins": 5967.0,
    "precursors": 76334.0,
    "fwhm_rt": 3.2,
    "fwhm_mobility": 0.02,
    "optimization:ms1_error": 30.0,
    "calibration:ms1_bias": None,
    "calibration:ms2_bias": 0.3157,
    "gradient_length": 20.887666666666668,
    "weighted_ms1_intensity_sum": 3000000.0,
    "pg:intensity_sum": 60.0,
    "precursor:charge_mean": 7 / 3,
    "precursor:charge_std": 0.5773502691896258,
    "precursor:charge_median": 2.0,
    "precursor:proba_mean": 0.3,
    "precursor:proba_std": 0.264575131106459,
    "precursor:proba_median": 0.2,
    "precursor:sequence_len_mean": 14 / 3,
    "precursor:sequence_len_std": 2.8867513459481287,
    "precursor:sequence_len_median": 3.0,
    "precursor_intensity_median": 22.0,
    "duration_optimization": 0.31627,
    "duration_extraction": 0.058612,
}


def shared_cases() -> list[object]:
    path = SHARED / "cases" / "cases.json"
    if not path.exists():
        reason = pytest.mark.skip(reason="shared/cases is not here")
        return [pytest.param({}, id="shared cases", marks=reason)]
    cases = [case for case in json.loads(path.read_text()) if case["group"] == "metrics"]
    return [pytest.param(case, id=case["name"]) for case in cases]


def write_tsv(path: Path, *rows: dict[str, str]) -> Path:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_columns(path: Path, columns: dict[str, list[object]]) -> Path:
    """As text, with nothing in a cell that is None."""
    rows = zip(*columns.values(), strict=True)
    cells = (["" if cell is None else str(cell) for cell in row] for row in rows)
    return write_tsv(path, *(dict(zip(columns, row, strict=True)) for row in cells))


def write_msqc(folder: Path, *rows: dict[str, str]) -> Path:
    write_tsv(folder / "msqc_results.tsv", *rows)
    return folder


def write_alphadia(
    folder: Path,
    stat: dict[str, str] | None = None,
    precursors: dict[str, list[object]] | pa.Table | None = None,
) -> Path:
    write_tsv(folder / "stat.tsv", STAT_V2 if stat is None else stat)
    write_tsv(folder / "internal.tsv", INTERNAL)
    table = PRECURSORS_V2 if precursors is None else precursors
    table = table if isinstance(table, pa.Table) else pa.table(table)
    pq.write_table(table, folder / "precursors.parquet", row_group_size=2)
    return folder


@pytest.mark.parametrize("case", shared_cases())
def test_metrics_are_those_of_the_shared_cases(case):
    folder = SHARED / "cases" / case["input"]["folder"]
    expected = case["expected"]
    if "raises" in expected:
        with pytest.raises(getattr(errors, expected["raises"])):
            whole_metrics(case["input"]["metrics_type"], folder)
    else:
        assert same(expected, whole_metrics(case["input"]["metrics_type"], folder))


# --- msqc


def test_msqc_reads_its_columns_in_a_fixed_order(tmp_path):
    write_msqc(
        tmp_path,
        {"": "0", "evosep_pump_hp_pressure_max": "417.0", "gradient_length": "21.5"} | MSQC,
    )
    metrics = whole_metrics("msqc", tmp_path)
    assert list(metrics.items()) == [
        ("ms1_scans", 1),
        ("ms1_median_tic", 2688350700.0),
        ("ms1_median_injection_time", 0.91),
        ("ms2_scans", 200),
        ("ms2_median_tic", 1029877.25),
        ("ms2_median_injection_time", 6.014),
        ("gradient_length", 21.5),
        ("evosep_pump_hp_pressure_max", 417.0),
    ]


def test_msqc_does_without_gradient_and_pump(tmp_path):
    assert set(whole_metrics("msqc", write_msqc(tmp_path, MSQC))) == set(MSQC)


def test_msqc_takes_further_numbers_of_the_pump_only(tmp_path):
    more = {
        "raw_file": "x.d",
        "evosep_flow": "0.5",
        "evosep_unread": "",
        "evosep_pump_hp_pressure_max": "off",
        "evosep_method": "60SPD",
        "temperature": "21",
    }
    metrics = whole_metrics("msqc", write_msqc(tmp_path, more | MSQC))
    assert set(metrics) - set(MSQC) == {"evosep_flow", "evosep_unread"}
    assert metrics["evosep_flow"] == 0.5
    assert metrics["evosep_unread"] is None


@pytest.mark.parametrize("column", MSQC)
def test_msqc_metrics_that_a_program_does_not_give_are_left_out(tmp_path, column):
    write_msqc(tmp_path, {name: cell for name, cell in MSQC.items() if name != column})
    assert set(whole_metrics("msqc", tmp_path)) == set(MSQC) - {column}


def test_msqc_without_any_known_metric_is_a_format_error(tmp_path):
    write_msqc(tmp_path, {"temperature": "21"})
    with pytest.raises(FileFormatError, match="temperature") as error:
        whole_metrics("msqc", tmp_path)
    assert str(tmp_path / "msqc_results.tsv") in str(error.value)


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "NA", "inf", "-inf"])
def test_msqc_a_missing_number_is_none(tmp_path, missing):
    metrics = whole_metrics("msqc", write_msqc(tmp_path, MSQC | {"ms1_median_tic": missing}))
    assert metrics["ms1_median_tic"] is None
    assert metrics["ms2_median_tic"] == 1029877.25


def test_msqc_of_a_table_without_rows_is_a_format_error(tmp_path):
    (tmp_path / "msqc_results.tsv").write_text("\t".join(MSQC) + "\n")
    with pytest.raises(FileFormatError, match="no rows"):
        whole_metrics("msqc", tmp_path)


def test_msqc_averages_rows_over_those_that_have_a_number(tmp_path):
    rows = [MSQC | {"ms1_scans": cell} for cell in ("1", "", "4")]
    assert whole_metrics("msqc", write_msqc(tmp_path, *rows))["ms1_scans"] == 2.5


@pytest.mark.parametrize("cell", ["many", "1,5", "1_000"])
def test_msqc_text_in_a_metrics_column_is_a_format_error(tmp_path, cell):
    write_msqc(tmp_path, MSQC | {"ms2_scans": cell})
    with pytest.raises(FileFormatError, match="ms2_scans") as error:
        whole_metrics("msqc", tmp_path)
    assert cell in str(error.value)


def test_msqc_without_its_table_is_missing_output(tmp_path):
    with pytest.raises(MissingOutputError) as error:
        whole_metrics("msqc", tmp_path)
    assert str(tmp_path / "msqc_results.tsv") in str(error.value)


# --- small tables


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"a\tb\n1\n",
        b"a\tb\n1\t2\t3\n",
        b"a\ta\n1\t2\n",
        b"\xff\xfea\n1\n",
        b"a\n" + b"1" * 200_000,
    ],
    ids=["empty", "blank", "torn row", "long row", "one name twice", "no UTF-8", "endless cell"],
)
def test_a_table_that_can_not_be_read_is_a_format_error(tmp_path, content):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"t\.tsv"):
        read_table(tmp_path / "t.tsv", required=["a"])


def test_a_folder_in_a_tables_place_is_a_format_error(tmp_path):
    (tmp_path / "t.tsv").mkdir()
    with pytest.raises(FileFormatError, match=r"t\.tsv"):
        read_table(tmp_path / "t.tsv")


def test_a_file_in_the_folders_place_is_missing_output(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(MissingOutputError):
        read_table(tmp_path / "out" / "t.tsv")


def test_columns_without_a_name_are_left_out(tmp_path):
    (tmp_path / "t.tsv").write_text("\ta\t\n0\t1\tx\n")
    assert dict(read_table(tmp_path / "t.tsv").columns) == {"a": ("1",)}


def test_a_comma_separated_table_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa,"b, c"\r\n1,2.5\r\n')
    table = read_table(tmp_path / "t.csv", required=["a", "b, c"])
    assert [table.mean(name, EVERY_RUN) for name in ("a", "b, c")] == [1, 2.5]


def test_numbers_are_parsed_as_programs_write_them():
    assert [parse_number(cell) for cell in ("1e3", " 2 ", "-0.5", "")] == [1000, 2, -0.5, None]


# --- alphadia


@pytest.mark.parametrize(
    ("stat", "precursors"), [(STAT_V2, PRECURSORS_V2), (STAT_V1, PRECURSORS_V1)], ids=["v2", "v1"]
)
def test_alphadia_gives_the_same_metrics_from_either_versions_columns(tmp_path, stat, precursors):
    metrics = whole_metrics("alphadia", write_alphadia(tmp_path, stat, precursors))
    assert list(metrics) == list(ALPHADIA)
    assert same(ALPHADIA, metrics)


def test_alphadia_reads_the_text_table_of_version_1(tmp_path):
    write_alphadia(tmp_path, STAT_V1)
    (tmp_path / "precursors.parquet").unlink()
    rows = zip(*PRECURSORS_V1.values(), strict=True)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    write_tsv(
        tmp_path / "precursors.tsv", *(dict(zip(PRECURSORS_V1, row, strict=True)) for row in cells)
    )
    assert whole_metrics("alphadia", tmp_path) == ALPHADIA


def test_alphadia_prefers_parquet_to_an_older_text_table(tmp_path):
    write_alphadia(tmp_path)
    (tmp_path / "precursors.tsv").write_text("charge\tsequence\n9\tA\n")
    assert whole_metrics("alphadia", tmp_path) == ALPHADIA


def test_alphadia_without_precursors_has_sums_of_0_and_no_statistics(tmp_path):
    empty = pa.table(PRECURSORS_V2).slice(0, 0)
    metrics = whole_metrics("alphadia", write_alphadia(tmp_path, precursors=empty))
    sums = {"weighted_ms1_intensity_sum", "pg:intensity_sum"}
    assert {name: metrics[name] for name in sums} == dict.fromkeys(sums, 0)
    statistics_ = {name for name in ALPHADIA if name.startswith("precursor")} - {"precursors"}
    assert {name: metrics[name] for name in statistics_} == dict.fromkeys(statistics_)
    assert metrics["proteins"] == 5967


def test_alphadia_of_one_precursor_has_no_deviation(tmp_path):
    metrics = whole_metrics(
        "alphadia", write_alphadia(tmp_path, precursors=pa.table(PRECURSORS_V2).slice(0, 1))
    )
    assert metrics["precursor:charge_mean"] == 2
    assert metrics["precursor:charge_std"] is None
    assert metrics["precursor:sequence_len_std"] is None


def test_alphadia_nan_and_null_are_both_left_out(tmp_path):
    changed = {
        "precursor.proba": [0.1, float("nan"), 0.5],
        "pg.intensity": [float("nan"), None, 30.0],
        "sum_b_ion_intensity": [1.0, None, 3.0],
        "sum_y_ion_intensity": [10.0, 20.0, float("nan")],
    }
    metrics = whole_metrics(
        "alphadia", write_alphadia(tmp_path, precursors=PRECURSORS_V2 | changed)
    )
    assert metrics["precursor:proba_mean"] == pytest.approx(0.3)
    assert metrics["pg:intensity_sum"] == 30
    assert metrics["precursor_intensity_median"] == 11


def test_alphadia_columns_of_other_types_give_the_same_metrics(tmp_path):
    table = pa.table(
        {
            **PRECURSORS_V2,
            "precursor.charge": pa.array([2, 3, 2], pa.uint8()),
            "precursor.sequence": pa.array(["AAK", "PEPTIDEK", "LLR"]).dictionary_encode(),
        }
    )
    # in batches of their own, whence another rounding
    assert whole_metrics("alphadia", write_alphadia(tmp_path, precursors=table)) == pytest.approx(
        ALPHADIA
    )


@pytest.mark.parametrize(
    "column",
    ["weighted_ms1_intensity", "pg.intensity", "precursor.proba", "sum_b_ion_intensity"],
)
def test_alphadia_leaves_out_metrics_that_the_options_did_not_ask_for(tmp_path, column):
    precursors = {name: cells for name, cells in PRECURSORS_V2.items() if name != column}
    metrics = whole_metrics("alphadia", write_alphadia(tmp_path, precursors=precursors))
    assert set(metrics) < set(ALPHADIA)
    assert metrics == {name: ALPHADIA[name] for name in metrics}


def test_alphadia_of_an_instrument_without_mobility_has_no_mobility(tmp_path):
    stat = {name: cell for name, cell in STAT_V2.items() if "mobility" not in name}
    metrics = whole_metrics("alphadia", write_alphadia(tmp_path, stat))
    assert set(ALPHADIA) - set(metrics) == {"fwhm_mobility"}


@pytest.mark.parametrize("column", ["search.proteins", "search.precursors"])
def test_alphadia_without_its_counts_is_a_format_error(tmp_path, column):
    write_alphadia(tmp_path, {name: cell for name, cell in STAT_V2.items() if name != column})
    with pytest.raises(FileFormatError, match=rf"{column}.*stat\.tsv"):
        whole_metrics("alphadia", tmp_path)


@pytest.mark.parametrize("column", ["precursor.charge", "precursor.sequence"])
def test_alphadia_without_what_makes_a_precursor_is_a_format_error(tmp_path, column):
    precursors = {name: cells for name, cells in PRECURSORS_V2.items() if name != column}
    write_alphadia(tmp_path, precursors=precursors)
    with pytest.raises(FileFormatError, match=rf"{column}.*precursors\.parquet"):
        whole_metrics("alphadia", tmp_path)


@pytest.mark.parametrize("name", ["stat.tsv", "internal.tsv", "precursors.parquet"])
def test_alphadia_without_one_of_its_files_is_missing_output(tmp_path, name):
    write_alphadia(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(MissingOutputError) as error:
        whole_metrics("alphadia", tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_alphadia_a_truncated_parquet_file_is_a_format_error(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    for length in (0, 4, len(path.read_bytes()) // 2, len(path.read_bytes()) - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(FileFormatError, match=r"precursors\.parquet"):
            whole_metrics("alphadia", tmp_path)
        write_alphadia(tmp_path)


def test_alphadia_a_parquet_file_with_torn_pages_is_a_format_error(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    with pytest.raises(FileFormatError, match=r"precursors\.parquet"):
        whole_metrics("alphadia", tmp_path)


def test_alphadia_text_in_a_column_of_numbers_is_a_format_error(tmp_path):
    write_alphadia(tmp_path, precursors=PRECURSORS_V2 | {"precursor.charge": ["a", "b", "c"]})
    with pytest.raises(FileFormatError, match=r"precursors\.parquet"):
        whole_metrics("alphadia", tmp_path)


def test_alphadia_statistics_hold_over_batches_and_row_groups(tmp_path):
    chance = random.Random(1)
    rows = 2 * columns.BATCH_ROWS + 1_001
    charges = [chance.randint(1, 6) for _ in range(rows)]
    lengths = [chance.randint(7, 30) for _ in range(rows)]
    table = pa.table(
        {"precursor.charge": charges, "precursor.sequence": ["A" * length for length in lengths]}
    )
    write_alphadia(tmp_path)
    pq.write_table(table, tmp_path / "precursors.parquet", row_group_size=rows // 3)
    metrics = whole_metrics("alphadia", tmp_path)
    for name, values in (("charge", charges), ("sequence_len", lengths)):
        assert metrics[f"precursor:{name}_mean"] == pytest.approx(statistics.fmean(values))
        assert metrics[f"precursor:{name}_std"] == pytest.approx(statistics.stdev(values))
        assert metrics[f"precursor:{name}_median"] == statistics.median(values)


# --- registry


def test_an_unknown_type_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(MetricsError, match=r"alphadia, custom.*msqc.*'nonesuch'") as error:
        whole_metrics("nonesuch", tmp_path)
    assert not isinstance(error.value, KeyError)


def test_a_custom_program_without_a_function_has_no_metrics(tmp_path):
    assert whole_metrics("custom", tmp_path) == {}


def test_no_name_of_a_metric_has_a_dot(tmp_path):
    write_msqc(write_alphadia(tmp_path), MSQC | {"evosep_a.b": "1"})
    names = [name for kind in ("alphadia", "msqc") for name in whole_metrics(kind, tmp_path)]
    assert len(names) == len(ALPHADIA) + len(MSQC) + 1
    assert not [name for name in names if "." in name]
    assert set(READERS) >= {"alphadia", "custom", "msqc"}


def test_importing_the_readers_does_not_import_pyarrow():
    code = (
        "import sys, kraken_dagster.metrics.registry, kraken_dagster.metrics.rawqc\n"
        "import kraken_dagster.simulation.search_program\n"
        "sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the stand-in program


def _simulate(tmp_path: Path, name: str, content: bytes) -> Path:
    raw, output = tmp_path / name, tmp_path / f"out_{name}"
    raw.write_bytes(content)
    assert search_program.main([str(raw), str(output)]) == 0
    return output


def test_the_stand_in_writes_tables_that_are_read_as_alphadias(tmp_path):
    metrics = whole_metrics("alphadia", _simulate(tmp_path, "x.raw", b"spectra" * 1000))
    mobility = {"fwhm_mobility", "optimization:mobility_error"}
    assert set(ALPHADIA) - mobility <= set(metrics)
    assert None not in metrics.values()
    assert 1000 < metrics["proteins"] < metrics["precursors"]
    assert 15 < metrics["gradient_length"] < 30
    assert 2 <= metrics["precursor:charge_mean"] <= 4


def test_the_stand_ins_metrics_follow_from_the_files_bytes(tmp_path):
    one, same, other = (
        whole_metrics("alphadia", _simulate(tmp_path, name, content))
        for name, content in (("a.raw", b"1" * 99), ("b.wiff", b"1" * 99), ("c.raw", b"2" * 99))
    )
    assert one == same
    assert one["proteins"] != other["proteins"]
    assert one["weighted_ms1_intensity_sum"] != other["weighted_ms1_intensity_sum"]


def test_the_stand_in_says_in_log_and_output_that_it_is_a_simulation(tmp_path, capsys):
    output = _simulate(tmp_path, "x.raw", b"")
    assert "SIMULATION: no search was made" in (output / "log.txt").read_text()
    assert "SIMULATION: no search was made" in capsys.readouterr().out
    assert "SIMULATION" in (search_program.__doc__ or "")


def test_the_stand_in_keeps_what_the_job_wrote_to_the_log_before(tmp_path):
    (tmp_path / "out_x.raw").mkdir()
    (tmp_path / "out_x.raw" / "log.txt").write_text("slurm_job_id: 5\n")
    output = _simulate(tmp_path, "x.raw", b"")
    assert (output / "log.txt").read_text().startswith("slurm_job_id: 5\nINFO: ")


def test_the_stand_in_fails_on_a_name_that_says_so(tmp_path, capsys):
    raw = tmp_path / "a_FAIL_b.raw"
    raw.write_bytes(b"spectra")
    assert search_program.main([str(raw), str(tmp_path / "out")]) == 7
    assert capsys.readouterr().err.startswith("ERROR: 'a_FAIL_b.raw'")
    assert "\nERROR: " in (tmp_path / "out" / "log.txt").read_text()
    with pytest.raises(MissingOutputError):
        whole_metrics("alphadia", tmp_path / "out")


def test_the_stand_in_without_a_raw_file_fails_plainly(tmp_path, capsys):
    assert search_program.main([str(tmp_path / "gone.raw"), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "gone.raw" in line
