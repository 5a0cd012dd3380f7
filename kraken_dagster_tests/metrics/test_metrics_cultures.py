"""Tables of any culture, encoding and version: numbers, missing ones, names and captions."""

import pytest

from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.metrics.values.numbers import (
    Ambiguous,
    Decimal,
    is_missing,
    parse_number,
    parse_numbers,
)
from kraken_dagster_tests.metrics.test_metrics import (
    ALPHADIA,
    INTERNAL,
    MSQC,
    PRECURSORS_V1,
    STAT_V1,
    write_alphadia,
    write_columns,
    write_msqc,
    write_tsv,
)
from kraken_dagster_tests.metrics.test_metrics_skyline import ALL, HEADER, ROWS, the_problem
from kraken_dagster_tests.support.whole_results import whole_metrics

MISSING = [
    *("", " ", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "-nan", "NAN", "null", "NULL", "None"),
    *("-nan(ind)", "nan(ind)", "-NaN(IND)", "nan(snan)", "1.#IND", "-1.#IND", "1.#QNAN", "1.#INF"),
    *("-1.#INF", "-1.#J", "1.#R", "1,#QNAN", "1.#INF00", "-1.#IND00", "inf", "-inf", "+Inf"),
    *("Infinity", "-Infinity", "\u221e", "#NV", "#N/D", "#DIV/0!", "#ZAHL!", "n. def.", "NeuN"),
    *("Non Num\u00e9rique", "\u975e\u6570\u5b57", "-unendlich", "+Infini", "NV", "-", "\u2013"),
]


@pytest.mark.parametrize("cell", MISSING)
def test_a_missing_number_is_one_however_it_is_written(cell):
    assert is_missing(cell)
    assert parse_number(cell) is None
    assert parse_numbers([cell, "1"]) == [None, 1]


@pytest.mark.parametrize("cell", ["0", "-1", "1", "1e3", "NaNny", "naan", "#", "1#IND", "text"])
def test_what_is_not_missing_is_none_of_these(cell):
    assert not is_missing(cell)


@pytest.mark.parametrize("cell", MISSING)
def test_every_reader_knows_each_of_them(tmp_path, cell):
    write_msqc(tmp_path, MSQC | {"ms1_median_tic": cell})
    assert whole_metrics("msqc", tmp_path)["ms1_median_tic"] is None
    write_tsv(
        tmp_path / "report.stats.tsv", {"Precursors.Identified": cell, "Proteins.Identified": "2"}
    )
    rows = {"RT": ["10", cell, "20"], "Decoy": ["0", "0", cell]}
    write_columns(tmp_path / "report.tsv", rows)
    metrics = whole_metrics("diann", tmp_path)
    assert (metrics["precursors"], metrics["median_precursor_rt"]) == (None, 10)
    rows = (ROWS[0], f'PEP,heavy,"{cell}",1.5,"{cell}","{cell}"')
    metrics = whole_metrics("skyline", write(tmp_path, HEADER, rows))
    assert metrics["irt_delta_rt_max"] == 0.5
    assert "irt_PEP_delta_rt" not in metrics


POINT = [
    ("1234.5", 1234.5),
    ("1,234.5", 1234.5),
    ("1,234,567.5", 1234567.5),
    ("12,34,567.8", 1234567.8),
    ("1 234.5", 1234.5),
    ("1\u00a0234.5", 1234.5),
    ("1'234.5", 1234.5),
    ("1\u2019234\u2019567.5", 1234567.5),
    ("1.5E+06", 1.5e6),
    ("1.5e-06", 1.5e-6),
    (".5", 0.5),
    ("-0.5", -0.5),
    ("\u22120.5", -0.5),
    ("12.5%", 0.125),
    ("12.5 %", 0.125),
    ("%12.5", 0.125),
    ("0.125", 0.125),
]
COMMA = [
    ("1234,5", 1234.5),
    ("1.234,5", 1234.5),
    ("1.234.567,5", 1234567.5),
    ("1.234.567", 1234567),
    ("1 234,5", 1234.5),
    ("1\u00a0234,5", 1234.5),
    ("1\u202f234\u202f567,5", 1234567.5),
    ("1'234,5", 1234.5),
    ("1,5E+06", 1.5e6),
    ("1,5e-06", 1.5e-6),
    (",5", 0.5),
    ("-0,5", -0.5),
    ("12,5\u00a0%", 0.125),
    ("0,125", 0.125),
    ("1234,567", 1234.567),
]


@pytest.mark.parametrize(("cell", "number"), [*POINT, *COMMA])
def test_a_number_that_can_be_read_in_one_way_is_read(cell, number):
    assert parse_numbers([cell]) == [pytest.approx(number, rel=1e-15)]


@pytest.mark.parametrize("cell", ["1,234", "-1,234", "1.234", "12.345%", "1,234e3", "123,456"])
def test_a_number_that_can_be_read_in_two_ways_is_read_as_others_tell_or_refused(cell):
    with pytest.raises(Ambiguous, match=cell):
        parse_numbers([cell])
    point, comma = (parse_numbers([cell], decimal=sign)[0] for sign in Decimal)
    assert {point, comma} == {parse_numbers([cell, "0.5"])[0], parse_numbers([cell, "0,5"])[0]}
    assert parse_numbers([cell, "0.5"])[0] == point


FAULTS = ["1.2.3", "1,2,3", "1 23", "12 3456", "1.234,567.8", "1_000", "ten"]


@pytest.mark.parametrize("cells", [["0.5", "0,5"], *([fault] for fault in FAULTS)])
def test_what_is_no_number_in_any_culture_is_refused(cells):
    with pytest.raises(ValueError, match=r"."):
        parse_numbers(cells)


def test_whole_numbers_are_the_same_in_every_culture():
    assert parse_numbers(["1", "20", "3e5", "", "1 000"]) == [1, 20, 3e5, None, 1000]


# --- Skyline


def write(folder, header, rows, *, encoding="utf-8", end="\r\n"):
    text = end.join((header, *rows)) + end
    (folder / "custom_iRT_report.csv").write_bytes(text.encode(encoding))
    return folder


def of_culture(thousands, *, decimal=","):
    """The usual report as Skyline writes it in a culture whose decimal sign is a comma."""
    rows = []
    for row in ROWS:
        peptide, label, *numbers = row.split(",")
        cells = [f"{float(number):,}".replace(",", "|").replace(".", decimal) for number in numbers]
        rows.append(";".join((peptide, label, *cells)).replace("|", thousands))
    return rows


@pytest.mark.parametrize("thousands", ["", ".", " ", "\u00a0", "\u202f", "'", "\u2019"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_reports_of_other_cultures_give_the_same_metrics(tmp_path, thousands, encoding):
    write(tmp_path, HEADER.replace(",", ";"), of_culture(thousands), encoding=encoding)
    assert whole_metrics("skyline", tmp_path) == pytest.approx(ALL)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_report_in_utf_16_is_known_by_its_mark(tmp_path, encoding):
    write(tmp_path, "\ufeff" + HEADER, ROWS, encoding=encoding)
    assert whole_metrics("skyline", tmp_path) == pytest.approx(ALL)


def test_a_report_in_utf_16_that_was_cut_within_a_character_is_refused(tmp_path):
    path = write(tmp_path, HEADER, ROWS, encoding="utf-16") / "custom_iRT_report.csv"
    path.write_bytes(path.read_bytes()[:-1])
    metrics, _ = the_problem(tmp_path)
    assert metrics == {}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_report_may_be_separated_by_any_of_skylines_separators(tmp_path, delimiter):
    rows = [row.replace(",", delimiter) for row in ROWS]
    write(tmp_path, HEADER.replace(",", delimiter), rows)
    assert whole_metrics("skyline", tmp_path) == pytest.approx(ALL)


def test_thousands_are_told_from_decimals_by_the_other_columns(tmp_path):
    rows = ('PEP,heavy,10.0,10.5,"1,234",0.1',)
    assert (
        whole_metrics("skyline", write(tmp_path, HEADER, rows))["irt_PEP_mean_total_area"] == 1234
    )
    rows = ("PEP;heavy;10,0;10,5;1.234;0,1",)
    metrics = whole_metrics("skyline", write(tmp_path, HEADER.replace(",", ";"), rows))
    assert metrics["irt_PEP_mean_total_area"] == 1234
    rows = ("PEP;heavy;10,0;10,5;1,234;0,1",)
    metrics = whole_metrics("skyline", write(tmp_path, HEADER.replace(",", ";"), rows))
    assert metrics["irt_PEP_mean_total_area"] == 1.234


def test_between_semicolons_a_comma_alone_is_a_decimal_one(tmp_path):
    rows = ("PEP;heavy;10;11;1,234;0",)
    metrics = whole_metrics("skyline", write(tmp_path, HEADER.replace(",", ";"), rows))
    assert metrics["irt_PEP_mean_total_area"] == 1.234


def test_between_commas_and_tabs_a_point_alone_is_a_decimal_one(tmp_path):
    for delimiter in (",", "\t"):
        rows = ("PEP,heavy,10,11,1.234,0".replace(",", delimiter),)
        write(tmp_path, HEADER.replace(",", delimiter), rows)
        assert whole_metrics("skyline", tmp_path)["irt_PEP_mean_total_area"] == 1.234


@pytest.mark.parametrize(("delimiter", "cell"), [(",", '"1,234"'), ("\t", "1,234"), (";", "1.234")])
def test_what_can_be_read_in_two_ways_is_refused_in_words(tmp_path, delimiter, cell):
    row = delimiter.join(("PEP", "heavy", "10", "11", cell, "0"))
    metrics, problem = the_problem(write(tmp_path, HEADER.replace(",", delimiter), (row,)))
    assert "irt_mean_total_area_median" not in metrics
    assert metrics["irt_delta_rt_mean"] == 1
    assert "MeanTotalArea can be read with a decimal point or a comma" in problem
    assert "Language: Invariant" in problem
    assert cell.strip('"') in problem


def test_a_column_of_two_cultures_is_refused(tmp_path):
    rows = ("A;heavy;10,0;10,5;1,5;0,1", "B;heavy;10,0;10,5;1.55;0,1")
    metrics, problem = the_problem(write(tmp_path, HEADER.replace(",", ";"), rows))
    assert ["1,5" in problem, "1.55" in problem] == [True, True]
    assert "irt_mean_total_area_median" not in metrics
    assert metrics["irt_A_delta_rt"] == 0.5


NOTES = [
    "much text",
    '"1,5 and 2.5"',
    '"quoted, with ""quotes"" in it"',
    '"two\r\nlines"',
    "5\u2033 column",
    "Jos\u00e9",
    "x" * 200_000,
]


@pytest.mark.parametrize("note", NOTES, ids=range(len(NOTES)))
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_text_that_nobody_asked_for_costs_no_number(tmp_path, note, encoding):
    note = note.replace("\u2033", '"') if encoding == "cp1252" else note
    rows = [f"{note},{row},{note}" for row in ROWS]
    write(tmp_path, f"Note,{HEADER},Note", rows, encoding=encoding)  # twice, too
    assert whole_metrics("skyline", tmp_path) == pytest.approx(ALL)


def test_a_text_that_begins_with_a_quote_costs_no_number(tmp_path):
    rows = [f'"5" column,{row}' for row in ROWS]
    assert whole_metrics("skyline", write(tmp_path, f"Note,{HEADER}", rows)) == pytest.approx(ALL)


def test_a_column_that_is_asked_for_and_stands_there_twice_costs_its_own_metrics(tmp_path):
    rows = [f"{row},1" for row in ROWS]
    metrics, problem = the_problem(write(tmp_path, f"{HEADER},Mean Total Area", rows))
    assert metrics == pytest.approx(
        {n: v for n, v in ALL.items() if "total_area" not in n or "cv" in n}
    )
    assert "Two columns of a result table are MeanTotalArea" in problem


@pytest.mark.parametrize("name", ["M\u00fcllerase", "\u20acPEP", "na\u00efve"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_name_is_read_in_the_encoding_of_its_table(tmp_path, name, encoding):
    folder = write(tmp_path, HEADER, (f"{name},heavy,1,2,3,0.1",), encoding=encoding)
    assert f"irt_{name}_delta_rt" in whole_metrics("skyline", folder)


def test_a_name_with_quotes_and_lines_is_read(tmp_path):
    rows = ('"PEP ""A"", [+1]",heavy,1,2,3,0.1', *ROWS)
    assert 'irt_PEP "A", _+1_delta_rt' in whole_metrics("skyline", write(tmp_path, HEADER, rows))


CAPTIONS = {
    "Japanese": "\u30da\u30d7\u30c1\u30c9,\u6a19\u8b58\u30bf\u30a4\u30d7,A,B,C,D",
    "Chinese": "\u80bd\u4fee\u9970\u5e8f\u5217,\u6807\u8bb0\u7c7b\u578b,A,B,C,D",
}


@pytest.mark.parametrize("header", CAPTIONS.values(), ids=CAPTIONS)
def test_captions_in_another_language_say_what_to_set_in_skyline(tmp_path, header):
    metrics, problem = the_problem(write(tmp_path, header, ROWS))
    assert metrics == {}
    assert "lacks a column: PeptideModifiedSequence" in problem
    assert ["Language: Invariant" in problem, "--report-invariant" in problem] == [True, True]


def test_labels_in_another_language_are_told(tmp_path):
    rows = [row.replace("heavy", "schwer").replace("light", "leicht") for row in ROWS]
    metrics, problem = the_problem(write(tmp_path, HEADER, rows))
    assert metrics == {}
    assert ["'schwer'" in problem, "heavy or light" in problem] == [True, True]


def test_labels_of_further_kinds_are_no_peptides_of_either(tmp_path):
    folder = write(tmp_path, HEADER, (*ROWS, "PEP,15N,1,2,3,0.1"))
    assert whole_metrics("skyline", folder) == pytest.approx(ALL)


# --- other programs


def test_a_comma_is_no_decimal_sign_where_programs_write_none(tmp_path):
    reading = read_metrics("msqc", write_msqc(tmp_path, MSQC | {"ms2_scans": "1,5"}))
    assert "ms2_scans" not in reading.metrics
    assert "'1,5'" in str(*reading.problems)


@pytest.mark.parametrize("run", ['"5 column', 'a "b" c', '"', "\xb5", "it's"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_of_runs_cost_no_number_of_diann(tmp_path, run, encoding):
    stats = f"File.Name\tPrecursors.Identified\tProteins.Identified\n{run}\t5\t4\n"
    (tmp_path / "report.stats.tsv").write_bytes(stats.encode(encoding))
    rows = f"Run\tFirst.Protein.Description\tRT\n{run}\t{run} like\t10\n"
    rows += f"{run}\t{run}\t20\n" * 3
    (tmp_path / "report.tsv").write_bytes(rows.encode(encoding))
    metrics = {"precursors": 5, "proteins": 4, "median_precursor_rt": 20}
    assert whole_metrics("diann", tmp_path) == metrics


@pytest.mark.parametrize("left", [-1, -2, -3, -8])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_big_table_is_read_in_its_encoding_and_refused_when_it_was_cut(tmp_path, encoding, left):
    stats = "Precursors.Identified\tProteins.Identified\n5\t4\n"
    (tmp_path / "report.stats.tsv").write_bytes(stats.encode(encoding))
    content = ("Run\tRT\n" + "J\xf6rg\t10.25\n" * 3).encode(encoding)
    (tmp_path / "report.tsv").write_bytes(content)
    assert whole_metrics("diann", tmp_path)["median_precursor_rt"] == 10.25
    (tmp_path / "report.tsv").write_bytes(content[:left])
    reading = read_metrics("diann", tmp_path)
    assert set(reading.metrics) == {"precursors", "proteins"}
    assert "report.tsv" in str(*reading.problems)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_with_quotes_and_lines_cost_no_number_of_alphadia(tmp_path, encoding):
    (write_alphadia(tmp_path, STAT_V1) / "precursors.parquet").unlink()
    names = {"run": ['"a ""b"""', '"two\nlines"', "J\xf6rg"], "genes": ['"x\ty"', "", "NA"]}
    path = write_columns(tmp_path / "precursors.tsv", names | PRECURSORS_V1)
    path.write_bytes(path.read_text().encode(encoding))
    assert whole_metrics("alphadia", tmp_path) == pytest.approx(ALPHADIA)


# --- versions of AlphaDIA, by the columns that each writes

STAT_V1_7 = {
    "run": "r",
    "channel": "0",
    "precursors": "76334",
    "proteins": "5967",
    "ms1_accuracy": "0.5",
    "fwhm_rt": "3.2",
    "fwhm_mobility": "0.02",
}
STAT_V1_8 = STAT_V1_7 | {
    "ms2_error": "7.0",
    "ms1_error": "30.0",
    "rt_error": "100.0",
    "mobility_error": "0.1",
}
OF_1_8 = {
    "optimization:ms1_error": 30,
    "optimization:ms2_error": 7,
    "optimization:rt_error": 100,
    "optimization:mobility_error": 0.1,
}
LATER = {*OF_1_8, "calibration:ms1_bias", "calibration:ms2_bias", "gradient_length"}
OF_1_7 = {name: value for name, value in ALPHADIA.items() if name not in LATER}


def write_version(folder, stat):
    (write_alphadia(folder, stat) / "precursors.parquet").unlink()
    write_columns(folder / "precursors.tsv", PRECURSORS_V1)
    return folder


def test_alphadia_1_7_writes_no_internal_table_and_lacks_nothing(tmp_path):
    (write_version(tmp_path, STAT_V1_7) / "internal.tsv").unlink()
    reading = read_metrics("alphadia", tmp_path)
    expected = {name: value for name, value in OF_1_7.items() if name not in INTERNAL}
    assert reading.metrics == pytest.approx(expected)
    assert reading.problems == ()
    assert "AlphaDIA 1.7 or older, which writes no internal.tsv" in reading.notes[-1]


def test_alphadia_1_8_has_names_of_its_own(tmp_path):
    reading = read_metrics("alphadia", write_version(tmp_path, STAT_V1_8))
    assert reading.metrics == pytest.approx(OF_1_7 | OF_1_8)
    assert reading.problems == ()


@pytest.mark.parametrize("stat", [STAT_V1_8, STAT_V1], ids=["1.8", "1.9 and 1.10"])
def test_later_versions_write_an_internal_table(tmp_path, stat):
    (write_version(tmp_path, stat) / "internal.tsv").unlink()
    (problem,) = read_metrics("alphadia", tmp_path).problems
    assert "internal.tsv" in str(problem)
