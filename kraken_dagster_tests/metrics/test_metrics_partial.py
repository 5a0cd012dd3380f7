"""What is wrong with results is told, each thing once, and costs only the metrics that it must."""

import os
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kraken_dagster.metrics import columns, tables
from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.metrics.tables import read_table
from kraken_dagster.metrics.values.rows import EVERY_RUN
from kraken_dagster.model.errors import FileFormatError, MetricsError, MissingOutputError
from kraken_dagster_tests.metrics.test_metrics import (
    ALPHADIA,
    MSQC,
    PRECURSORS_V2,
    STAT_V2,
    write_alphadia,
    write_msqc,
    write_tsv,
)
from kraken_dagster_tests.support.whole_results import whole_metrics

OF_STAT = frozenset(list(ALPHADIA)[:8])
OF_INTERNAL = frozenset(list(ALPHADIA)[-2:])
OF_PRECURSORS = frozenset(ALPHADIA) - OF_STAT - OF_INTERNAL


def parts(folder):
    """The names of AlphaDIA's metrics, and the texts of the problems."""
    reading = read_metrics("alphadia", folder)
    assert {name: ALPHADIA[name] for name in reading.metrics} == pytest.approx(reading.metrics)
    return set(reading.metrics), [str(problem) for problem in reading.problems]


def test_results_with_nothing_wrong_have_no_problems(tmp_path):
    assert parts(write_alphadia(tmp_path)) == (set(ALPHADIA), [])


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("stat.tsv", OF_STAT),
        ("internal.tsv", OF_INTERNAL),
        ("precursors.parquet", OF_PRECURSORS),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_damaged_file_costs_its_own_metrics_only(tmp_path, name, metrics, damage):
    path = write_alphadia(tmp_path) / name
    path.unlink()
    if damage == "torn":
        path.write_bytes(b"run\ta\n1")
    found, problems = parts(tmp_path)
    assert found == set(ALPHADIA) - metrics
    (problem,) = problems
    assert str(path) in problem


def test_an_empty_folder_has_a_problem_for_each_file(tmp_path):
    reading = read_metrics("alphadia", tmp_path)
    assert reading.metrics == {}
    assert [type(problem) for problem in reading.problems] == [MissingOutputError] * 3
    assert len({problem.file for problem in reading.problems}) == 3


def test_missing_columns_keep_the_other_metrics_and_are_each_told_with_their_file(tmp_path):
    stat = {name: cell for name, cell in STAT_V2.items() if name != "search.proteins"}
    missing = {"precursor.charge", "precursor.sequence"}
    precursors = {name: cells for name, cells in PRECURSORS_V2.items() if name not in missing}
    found, problems = parts(write_alphadia(tmp_path, stat, precursors))
    assert set(ALPHADIA) - found == {
        "proteins",
        *(f"precursor:charge_{what}" for what in ("mean", "std", "median")),
        *(f"precursor:sequence_len_{what}" for what in ("mean", "std", "median")),
    }
    for problem, (file, column) in zip(
        problems,
        [
            ("stat.tsv", "search.proteins"),
            ("precursors.parquet", "precursor.charge"),
            ("precursors.parquet", "precursor.sequence"),
        ],
        strict=True,
    ):
        assert f"lacks a column: {column}: '{tmp_path / file}'" in problem


def test_text_in_a_column_of_numbers_costs_that_metric_only(tmp_path):
    precursors = PRECURSORS_V2 | {"precursor.charge": ["a", "b", "c"]}
    write_alphadia(tmp_path, STAT_V2 | {"search.fwhm_rt": "wide"}, precursors)
    found, problems = parts(tmp_path)
    assert {name.rsplit("_", 1)[0] for name in set(ALPHADIA) - found} == {
        "fwhm",
        "precursor:charge",
    }
    assert ["search.fwhm_rt" in problems[0], "stat.tsv" in problems[0]] == [True, True]
    assert ["precursor.charge" in problems[1], "precursors.parquet" in problems[1]] == [True, True]
    assert len(problems) == 2


def test_a_torn_page_of_one_column_keeps_the_other_columns(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    # without a dictionary, so that a column's bytes are one page
    pq.write_table(pa.table(PRECURSORS_V2), path, use_dictionary=False, compression="none")
    names = pq.ParquetFile(path).schema_arrow.names
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(names.index("precursor.proba"))
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    found, problems = parts(tmp_path)
    assert set(ALPHADIA) - found == {f"precursor:proba_{w}" for w in ("mean", "std", "median")}
    (problem,) = problems
    assert "Column precursor.proba" in problem
    assert str(path) in problem


def test_a_cell_of_a_text_table_costs_its_column_only(tmp_path):
    (write_alphadia(tmp_path) / "precursors.parquet").unlink()
    rows = [
        dict(zip(PRECURSORS_V2, row, strict=True))
        for row in zip(*PRECURSORS_V2.values(), strict=True)
    ]
    cells = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    cells[1]["precursor.proba"] = "likely"
    write_tsv(tmp_path / "precursors.tsv", *cells)
    found, problems = parts(tmp_path)
    assert set(ALPHADIA) - found == {f"precursor:proba_{w}" for w in ("mean", "std", "median")}
    (problem,) = problems
    assert ["precursor.proba" in problem, "precursors.tsv" in problem] == [True, True]


def test_a_torn_row_of_a_text_table_is_one_problem(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    path.unlink()
    # far down, so that it is met by who reads the columns, and not by who looks for their names
    text = "charge\tsequence\tproba\n" + "2\tAAK\t0.5\n" * 200_000 + "3\tPEP\n"
    path.with_suffix(".tsv").write_text(text)
    found, problems = parts(tmp_path)
    assert found == OF_STAT | OF_INTERNAL
    (problem,) = problems
    assert "charge, proba, sequence" in problem
    assert "precursors.tsv" in problem


def test_two_columns_of_one_name_are_told_with_their_table(tmp_path):
    table = pa.table(PRECURSORS_V2)
    twice = table.append_column("precursor.proba", table.column("precursor.proba"))
    found, problems = parts(write_alphadia(tmp_path, precursors=twice))
    assert set(ALPHADIA) - found == {f"precursor:proba_{w}" for w in ("mean", "std", "median")}
    (problem,) = problems
    assert ["precursor.proba" in problem, "precursors.parquet" in problem] == [True, True]


def test_msqc_text_in_one_column_keeps_the_other_metrics(tmp_path):
    reading = read_metrics("msqc", write_msqc(tmp_path, MSQC | {"ms2_scans": "many"}))
    assert set(reading.metrics) == set(MSQC) - {"ms2_scans"}
    (problem,) = reading.problems
    assert isinstance(problem, FileFormatError)
    assert "ms2_scans" in str(problem)


def test_the_first_problem_is_raised_where_metrics_are_wanted_without_any(tmp_path):
    write_alphadia(tmp_path)
    (tmp_path / "stat.tsv").unlink()
    (tmp_path / "internal.tsv").unlink()
    with pytest.raises(MissingOutputError, match=r"stat\.tsv"):
        whole_metrics("alphadia", tmp_path)


def test_an_unknown_type_is_a_problem(tmp_path):
    reading = read_metrics("nonesuch", tmp_path, own={"ours": "a:b"})
    assert reading.metrics == {}
    (problem,) = reading.problems
    assert "alphadia, custom, diann, msqc, mzqc, ours, skyline" in str(problem)


# --- hostile folders


def outside_link(path):
    target = path.parent.parent / "secret"
    path.rename(target)
    path.symlink_to(target)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


def circle(path):
    path.unlink()
    path.symlink_to(path.name)


def a_socket(path):
    path.unlink()
    where = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(where)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["stat.tsv", "internal.tsv", "precursors.parquet"])
@pytest.mark.parametrize("replaced", [outside_link, pipe, folder, circle, a_socket])
def test_what_is_no_file_of_the_result_folder_is_a_format_error(tmp_path, name, replaced):
    output = tmp_path / "out"
    output.mkdir()
    replaced(write_alphadia(output) / name)
    reading = read_metrics("alphadia", output)
    (problem,) = reading.problems
    assert type(problem) is FileFormatError
    assert problem.file == str(output / name)
    assert reading.metrics


def test_a_link_within_the_result_folder_is_followed(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    path.rename(tmp_path / "run_1.parquet")
    path.symlink_to("run_1.parquet")
    assert parts(tmp_path) == (set(ALPHADIA), [])


def test_a_result_folder_that_is_a_link_itself_is_read(tmp_path):
    (tmp_path / "there").mkdir()
    write_alphadia(tmp_path / "there")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    assert parts(tmp_path / "here") == (set(ALPHADIA), [])


def test_a_small_table_of_unbounded_size_is_not_read(tmp_path):
    with (tmp_path / "t.tsv").open("wb") as file:
        file.write(b"a\n1\n")
        file.truncate(tables.LARGEST_BYTES + 1)
    with pytest.raises(FileFormatError, match="too big"):
        read_table(tmp_path / "t.tsv")


def test_names_of_columns_that_nothing_can_be_stored_under_are_told(tmp_path):
    hostile = {"evosep_" + "x" * 300: "1", "evosep_\x07": "2", "evosep_a.b": "3", "evosep_a:b": "4"}
    reading = read_metrics("msqc", write_msqc(tmp_path, MSQC | hostile))
    assert set(reading.metrics) == {*MSQC, "evosep_a:b"}
    (problem,) = reading.problems
    assert isinstance(problem, MetricsError)
    assert str(problem).count("evosep_") == 3


def test_a_giant_row_group_is_read_in_batches(tmp_path):
    path = write_alphadia(tmp_path) / "precursors.parquet"
    rows = 3 * columns.BATCH_ROWS + 7
    table = pa.table({"precursor.charge": [2] * rows, "precursor.sequence": ["AÄ"] * rows})
    pq.write_table(table, path, row_group_size=rows)
    seen = []

    class Batches:
        rows = EVERY_RUN

        def begin_pass(self):
            seen.clear()

        def add(self, numbers, *, counting, of):
            seen.append(len(numbers))

        def end_pass(self):
            return True

    series = columns.Series(("precursor.sequence",), are_lengths=True)
    assert columns.summarise(path, {series: Batches()}) == {}
    assert sum(seen) == rows
    assert max(seen) <= columns.BATCH_ROWS
    assert read_metrics("alphadia", tmp_path).metrics["precursor:sequence_len_mean"] == 2
