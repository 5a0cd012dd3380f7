"""Results that were cut off, are empty, or were left by a crash are not taken for whole ones."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.model.errors import FileFormatError, NoRowCounts
from kraken_dagster_tests.metrics.test_metrics import (
    ALPHADIA,
    MSQC,
    PRECURSORS_V2,
    write_alphadia,
    write_columns,
    write_msqc,
)
from kraken_dagster_tests.metrics.test_metrics_skyline import HEADER, ROWS
from kraken_dagster_tests.support.whole_results import whole_metrics

STATS = "File.Name\tPrecursors.Identified\tProteins.Identified\nx.d\t1234\t567\n"
REPORT = "Run\tRT\tQ.Value\n" + "x\t10.25\t0.001\n" * 3


def write_precursors_as_text(folder):
    (write_alphadia(folder) / "precursors.parquet").unlink()
    return write_columns(folder / "precursors.tsv", PRECURSORS_V2)


def write_diann(folder):
    (folder / "report.stats.tsv").write_text(STATS)
    (folder / "report.tsv").write_text(REPORT)
    return folder


def write_skyline(folder):
    path = folder / "custom_iRT_report.csv"
    path.write_text("\n".join((HEADER, *ROWS)) + "\n")
    return path


def everything(folder):
    """A result folder with what all types read."""
    write_precursors_as_text(folder)
    write_diann(folder)
    write_skyline(folder)
    write_msqc(folder, MSQC)
    return folder


TEXT_TABLES = [
    ("alphadia", "stat.tsv"),
    ("alphadia", "internal.tsv"),
    ("alphadia", "precursors.tsv"),
    ("diann", "report.stats.tsv"),
    ("diann", "report.tsv"),
    ("msqc", "msqc_results.tsv"),
    ("skyline", "custom_iRT_report.csv"),
]


def without_last_line_end(content):
    return content.rstrip(b"\r\n")


def within_a_number(content):
    return content.rstrip(b"\r\n")[:-1]


def with_fewer_cells(content):
    content = content.rstrip(b"\r\n")
    return content[: max(content.rfind(b"\t"), content.rfind(b","))]


def with_fewer_cells_and_a_line_end(content):
    return with_fewer_cells(content) + b"\n"


def of_no_bytes(content):
    return b""


def header_only(content):
    return content[: content.index(b"\n") + 1]


def within_the_header(content):
    return content[: content.index(b"\n") - 2]


def of_zeros(content):
    return b"\0" * len(content)


def with_a_tail_of_zeros(content):
    return content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2)


@pytest.mark.parametrize(("kind", "name"), TEXT_TABLES)
@pytest.mark.parametrize(
    "cut",
    [
        without_last_line_end,
        within_a_number,
        with_fewer_cells,
        with_fewer_cells_and_a_line_end,
        of_no_bytes,
        header_only,
        within_the_header,
        of_zeros,
        with_a_tail_of_zeros,
    ],
)
def test_a_table_that_was_cut_gives_no_metrics_and_says_so(tmp_path, kind, name, cut):
    path = everything(tmp_path) / name
    whole = read_metrics(kind, tmp_path)
    assert whole.problems == ()
    path.write_bytes(cut(path.read_bytes()))
    reading = read_metrics(kind, tmp_path)
    (problem,) = reading.problems
    assert isinstance(problem, FileFormatError)
    assert problem.file == str(path)
    # what other tables tell is kept as it was, and nothing else is told
    assert set(reading.metrics) < set(whole.metrics)
    assert reading.metrics.items() <= whole.metrics.items()


def test_a_table_whose_lines_end_as_on_windows_is_whole(tmp_path):
    for kind, name in TEXT_TABLES:
        path = everything(tmp_path) / name
        whole = read_metrics(kind, tmp_path)
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        assert read_metrics(kind, tmp_path) == whole


def test_a_big_text_table_is_refused_though_its_columns_could_be_read(tmp_path):
    path = write_precursors_as_text(tmp_path)
    line = path.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(path.read_bytes() + line * 100_000 + line[:-1])
    reading = read_metrics("alphadia", tmp_path)
    assert "cut off" in str(reading.problems[0])
    assert not [name for name in reading.metrics if name.startswith("precursor:")]


# --- parquet


@pytest.mark.parametrize("left", [0, 3, 4, 100, -1, -4, -8, -200])
@pytest.mark.parametrize(
    ("kind", "name"), [("diann", "report.parquet"), ("alphadia", "precursors.parquet")]
)
def test_a_truncated_parquet_file_gives_no_metrics(tmp_path, kind, name, left):
    write_alphadia(tmp_path)
    (tmp_path / "report.stats.tsv").write_text(STATS)
    times = [float(n) for n in range(1, 5000)]
    pq.write_table(pa.table({"RT": times}), tmp_path / "report.parquet")
    content = (tmp_path / name).read_bytes()
    whole = read_metrics(kind, tmp_path)
    (tmp_path / name).write_bytes(content[:left])
    reading = read_metrics(kind, tmp_path)
    (problem,) = reading.problems
    assert problem.file == str(tmp_path / name)
    assert set(reading.metrics) < set(whole.metrics)


def test_a_parquet_file_without_rows_is_told_where_precursors_were_counted(tmp_path):
    (tmp_path / "report.stats.tsv").write_text(STATS)
    pq.write_table(pa.table({"RT": pa.array([], pa.float32())}), tmp_path / "report.parquet")
    reading = read_metrics("diann", tmp_path)
    assert reading.metrics["median_precursor_rt"] is None
    assert "No row of a result table qualifies" in str(*reading.problems)


def test_a_run_in_which_nothing_was_found_has_no_problem(tmp_path):
    (tmp_path / "report.stats.tsv").write_text(STATS.replace("1234\t567", "0\t0"))
    pq.write_table(pa.table({"RT": pa.array([], pa.float32())}), tmp_path / "report.parquet")
    reading = read_metrics("diann", tmp_path)
    assert reading.problems == ()
    assert reading.metrics == {"precursors": 0, "proteins": 0, "median_precursor_rt": None}


def test_alphadias_precursors_without_rows_are_told(tmp_path):
    write_alphadia(tmp_path, precursors=pa.table(PRECURSORS_V2).slice(0, 0))
    (problem,) = read_metrics("alphadia", tmp_path).problems
    assert isinstance(problem, NoRowCounts)
    assert "precursors.parquet" in str(problem)
    # the file itself is whole
    assert whole_metrics("alphadia", tmp_path)["proteins"] == ALPHADIA["proteins"]
