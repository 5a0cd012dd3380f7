"""Metrics of Skyline's iRT reports, of any locale, and of peptides with odd names."""

import pytest

from kraken_dagster.metrics import skyline
from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.model.errors import FileFormatError, MissingOutputError
from kraken_dagster.model.metric_values import name_fault
from kraken_dagster_tests.support.whole_results import whole_metrics

HEADER = (
    "PeptideModifiedSequence,IsotopeLabelType,PredictedRetentionTime,AverageMeasuredRetentionTime,"
    "MeanTotalArea,CvTotalArea"
)
ROWS = (
    "LGGNEQVTR[+10.0],heavy,10.0,10.5,1000000.0,0.1",
    "GAGSSEPVTGLDAK[+8.0],heavy,20.0,19.0,3000000.0,0.3",
    "LGGNEQVTR,light,10.0,10.4,500000.0,0.9",
)
TOGETHER = {
    "irt_delta_rt_mean": 0.75,
    "irt_delta_rt_max": 1.0,
    "irt_mean_total_area_median": 2e6,
    "irt_cv_total_area_mean": 0.2,
    "irt_cv_total_area_max": 0.3,
    "irt_n_heavy_peptides": 2,
    "irt_n_light_peptides": 1,
}
FIRST = {
    "irt_LGGNEQVTR_+10:0_delta_rt": 0.5,
    "irt_LGGNEQVTR_+10:0_mean_total_area": 1e6,
    "irt_LGGNEQVTR_+10:0_cv_total_area": 0.1,
}
SECOND = {
    "irt_GAGSSEPVTGLDAK_+8:0_delta_rt": 1.0,
    "irt_GAGSSEPVTGLDAK_+8:0_mean_total_area": 3e6,
    "irt_GAGSSEPVTGLDAK_+8:0_cv_total_area": 0.3,
}
ALL = TOGETHER | FIRST | SECOND


@pytest.fixture
def write(tmp_path):
    def write(*rows, header=HEADER):
        text = "\r\n".join((header, *rows)) + "\r\n"
        (tmp_path / skyline.REPORT_NAME).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def the_problem(folder):
    """Metrics, and the text of the one problem."""
    reading = read_metrics("skyline", folder)
    (problem,) = reading.problems
    assert isinstance(problem, FileFormatError)
    assert str(folder / skyline.REPORT_NAME) in str(problem)
    return reading.metrics, str(problem)


def test_heavy_peptides_have_metrics_together_and_each(write):
    assert whole_metrics("skyline", write(*ROWS)) == pytest.approx(ALL)


def test_a_report_of_a_locale_with_commas_in_numbers_gives_the_same(write):
    rows = [row.replace(",", ";").replace("[+10.0]", "#").replace("[+8.0]", "%") for row in ROWS]
    rows = [row.replace(".", ",").replace("#", "[+10.0]").replace("%", "[+8.0]") for row in rows]
    assert "10,5" in rows[0]
    folder = write(*rows, header=HEADER.replace(",", ";"))
    assert whole_metrics("skyline", folder) == pytest.approx(ALL)


def test_a_point_in_a_number_of_such_a_report_stays_one(write):
    folder = write(*(row.replace(",", ";") for row in ROWS), header=HEADER.replace(",", ";"))
    assert whole_metrics("skyline", folder) == pytest.approx(ALL)


def test_captions_for_people_and_percents_are_read(write):
    header = (
        "Peptide Modified Sequence,Isotope Label Type,Predicted Retention Time,"
        "Average Measured Retention Time,Mean Total Area,Cv Total Area"
    )
    rows = (ROWS[0].replace("0.1", "10.0%"), ROWS[1].replace("0.3", "30 %"), ROWS[2])
    assert whole_metrics("skyline", write(*rows, header=header)) == pytest.approx(ALL)


@pytest.mark.parametrize("missing", ["#N/A", "", "NaN"])
def test_what_skyline_could_not_tell_is_left_out_and_not_counted(write, missing):
    row = f"GAGSSEPVTGLDAK[+8.0],heavy,20.0,{missing},{missing},{missing}"
    assert whole_metrics("skyline", write(ROWS[0], row)) == pytest.approx(
        FIRST
        | {
            "irt_delta_rt_mean": 0.5,
            "irt_delta_rt_max": 0.5,
            "irt_mean_total_area_median": 1e6,
            "irt_cv_total_area_mean": 0.1,
            "irt_cv_total_area_max": 0.1,
            "irt_n_heavy_peptides": 2,
            "irt_n_light_peptides": 0,
        }
    )


def test_without_heavy_peptides_the_metrics_are_none(write):
    counts = {"irt_n_heavy_peptides": 0, "irt_n_light_peptides": 1}
    assert whole_metrics("skyline", write(ROWS[2])) == dict.fromkeys(TOGETHER) | counts


def test_a_report_without_rows_has_no_metrics_and_says_so(write):
    metrics, problem = the_problem(write())
    assert ["no rows" in problem, metrics] == [True, {}]


def test_a_row_that_stands_there_twice_counts_once(write):
    assert whole_metrics("skyline", write(*ROWS, *ROWS)) == pytest.approx(ALL)


def test_two_areas_of_one_peptide_are_told_and_neither_is_taken_for_it(write):
    metrics, problem = the_problem(write(*ROWS, "LGGNEQVTR[+10.0],heavy,10.0,10.5,5000000.0,0.1"))
    expected = ALL | {"irt_mean_total_area_median": 3e6}
    del expected["irt_LGGNEQVTR_+10:0_mean_total_area"]
    assert metrics == pytest.approx(expected)
    assert ["MeanTotalArea" in problem, "'LGGNEQVTR[+10.0]'" in problem] == [True, True]


@pytest.mark.parametrize("column", HEADER.split(","))
def test_each_column_is_required_and_costs_its_own_metrics_only(write, column):
    metrics, problem = the_problem(write(*ROWS, header=HEADER.replace(column, "Other")))
    assert f"lacks a column: {column}" in problem
    if column in (skyline.PEPTIDE, skyline.LABEL):
        assert metrics == {}
        return
    lost = {skyline.AREA: "mean_total_area", skyline.CV: "cv_total_area"}.get(column, "delta_rt")
    assert metrics == pytest.approx({name: ALL[name] for name in ALL if lost not in name})


def test_text_in_a_column_costs_its_own_metrics_only(write):
    metrics, problem = the_problem(write(*ROWS, "PEP,heavy,1,1,much,0.2"))
    assert "MeanTotalArea" in problem
    assert "irt_PEP_cv_total_area" in metrics
    assert "irt_mean_total_area_median" not in metrics


def test_without_a_report_it_is_missing_output(tmp_path):
    with pytest.raises(MissingOutputError, match=skyline.REPORT_NAME):
        whole_metrics("skyline", tmp_path)


@pytest.mark.parametrize("name", ["$where", "a.b", "PEP[+1.0]", "$", "ÄÖ 日本", "x" * 200])
def test_odd_names_of_peptides_make_names_that_mongodb_takes(write, name):
    metrics = whole_metrics("skyline", write(f"{name},heavy,1,2,3,0.1"))
    assert len(metrics) == len(TOGETHER) + 3
    assert [name_fault(metric) for metric in metrics] == [None] * len(metrics)
    assert not [metric for metric in metrics if "." in metric or metric.startswith("$")]


@pytest.mark.parametrize(
    "name",
    ["", "a\0b", "a\x1b[31m", "x" * 201, pytest.param("x" * 100_000, id="100,000 characters")],
)
def test_names_that_are_none_are_told_and_the_other_metrics_are_kept(write, name):
    metrics, problem = the_problem(write(*ROWS, f"{name},heavy,10,10.75,2000000,0.2"))
    assert metrics == pytest.approx(ALL | {"irt_n_heavy_peptides": 3})
    assert "PeptideModifiedSequence" in problem
    assert len(problem) < 1_000


def test_thousands_of_peptides_have_metrics_of_their_own_up_to_a_bound(write):
    rows = (f"PEP{number},heavy,1,2,3,0.1" for number in range(skyline.MOST_PEPTIDES + 500))
    metrics, problem = the_problem(write(*rows))
    assert len(metrics) == len(TOGETHER) + 3 * skyline.MOST_PEPTIDES
    assert metrics["irt_n_heavy_peptides"] == skyline.MOST_PEPTIDES + 500
    assert "and 495 more" in problem


def test_two_peptides_that_would_have_one_name_have_no_metrics_of_their_own(write):
    rows = ("A[+1],heavy,1,2,3,0.1", "A_+1,heavy,1,3,4,0.2")
    reading = read_metrics("skyline", write(*rows))
    assert set(reading.metrics) == set(TOGETHER)
    assert len(reading.problems) == len({str(problem) for problem in reading.problems}) == 3
