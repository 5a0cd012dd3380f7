"""mzQC that is written is valid by its schema and its vocabulary; mzQC of others is read."""

import errno
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kraken_dagster.metrics.mzqc.document import (
    JudgedSet,
    RawInput,
    Result,
    run_document,
    set_document,
)
from kraken_dagster.metrics.mzqc.reader import OWN_NAME
from kraken_dagster.metrics.mzqc.terms import cv_terms, metrics_of, own_terms
from kraken_dagster.metrics.registry import read_metrics
from kraken_dagster.model.errors import OutputUnreadable
from kraken_dagster.raw_readers.limited import reading_of
from kraken_dagster.raw_readers.readers import read
from kraken_dagster_tests.file_systems.test_share_errors import erring
from kraken_dagster_tests.raw_readers.real_files import dia_pasef, small_raw

ROOT = Path(__file__).parents[2]
CASES = ROOT / "kraken_dagster_tests" / "cases"
SCHEMA = json.loads((CASES / "mzqc_schema.json").read_text())
VOCABULARY = CASES / "psi-ms-part.obo"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RAW = RawInput("äx%1 b.raw", "/data/backup/thermo1/2026_03", NOW, md5="0" * 32)
METRICS = {
    "ms1_scans": 14.0,
    "gradient_length": 21.5,
    "rt_first": 0.1,
    "rt_last": 21.6,
    "mz_low": 140.0,
    "mz_high": 2000.0,
    "max_tic": 22136832.0,
    "ms1_median_tic": 1.5e7,
    "proteins": 6000.0,
    "precursors": 60_000.0,
    "fwhm_rt": 0.1,
    "evosep_pump_hp_pressure_max": 450.0,
    "precursor:charge_mean": 2.5,
    "without_a_term": 3.0,
}


def result(**changes: Any) -> Result:
    standard = {
        "raw_input": RAW,
        "settings": "search:2",
        "metrics_type": "diann",
        "software": ("DIA-NN", "2.1"),
        "metrics": METRICS,
        "output": "/data/output/P123/out_x.raw/diann",
    }
    return Result(**{**standard, **changes})


def written(*results: Result) -> dict[str, Any]:
    found = run_document(results or [result()], kraken="0.1.0", now=NOW)
    assert found is not None
    return found


def valid(document: dict[str, Any]) -> None:
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft7Validator)
    assert datetime.fromisoformat(document["mzQC"]["creationDate"]).tzinfo is not None


def metrics(document: dict[str, Any], run: int = 0) -> dict[str, dict[str, Any]]:
    found = document["mzQC"]["runQualities"][run]["qualityMetrics"]
    return {item["accession"]: item for item in found}


def test_a_runs_document_keeps_to_the_schema_and_has_the_terms_units():
    document = json.loads(json.dumps(written()))
    valid(document)
    found = metrics(document)
    assert found["MS:4000059"]["value"] == 14
    assert found["MS:4000059"]["unit"] == {"accession": "UO:0000189", "name": "count unit"}
    assert found["MS:4000053"]["value"] == pytest.approx(1290)
    assert found["MS:4000053"]["unit"]["name"] == "second"
    assert found["MS:4000070"]["value"] == pytest.approx([6, 1296])
    assert found["KRAKEN:0000010"]["value"] == pytest.approx(6)
    assert found["KRAKEN:0000015"]["value"] == pytest.approx(45_000_000)
    assert "1 metrics have no term" in document["mzQC"]["description"]
    raw, search = document["mzQC"]["runQualities"][0]["metadata"]["inputFiles"]
    assert raw["location"] == "file:///data/backup/thermo1/2026_03/%C3%A4x%251%20b.raw"
    assert raw["fileFormat"]["accession"] == "MS:1000563"
    assert search["location"] == "file:///data/output/P123/out_x.raw/diann"


def test_what_is_wrong_is_told_by_the_schema():
    broken = written()
    broken["mzQC"]["runQualities"][0]["qualityMetrics"][0]["accession"] = "none"
    with pytest.raises(jsonschema.ValidationError, match="none"):
        valid(broken)


def test_peak_widths_of_other_programs_are_seconds_already():
    alphadia = written(result(metrics_type="alphadia", software=("alphadia", "1.10")))
    assert metrics(alphadia)["KRAKEN:0000010"]["value"] == 0.1
    tool = alphadia["mzQC"]["runQualities"][0]["metadata"]["analysisSoftware"][0]
    assert (tool["accession"], tool["value"]) == ("MS:1000799", "alphadia")


def test_a_file_without_a_backup_has_a_uri_too_and_nothing_to_tell_is_no_document():
    alone = RawInput("x.d", None, NOW)
    valid(written(result(raw_input=alone)))
    assert alone.location == "urn:kraken:raw-file:x.d"
    assert run_document([result(metrics={})], kraken="0", now=NOW) is None
    assert set_document([], kraken="0", now=NOW) is None


def judged_set() -> dict[str, Any]:
    limits = {
        "metric": ["proteins"],
        "centre": [6000.0],
        "lower": [5700.0],
        "upper": [None],
        "runs": [20],
    }
    verdicts = {"name": ["a.raw", "b.raw"], "verdict": ["in_control", "look"]}
    inputs = [RawInput(name, "/data", NOW) for name in verdicts["name"]]
    one = JudgedSet(label="hela", inputs=inputs, verdicts=verdicts, limits=limits)
    found = set_document([one], kraken="0.1.0", now=NOW)
    assert found is not None
    return json.loads(json.dumps(found))


def test_a_sets_document_keeps_to_the_schema():
    document = judged_set()
    valid(document)
    (quality,) = document["mzQC"]["setQualities"]
    assert [item["accession"] for item in quality["qualityMetrics"]] == [
        "KRAKEN:0000022",
        "KRAKEN:0000023",
    ]


def vocabulary() -> dict[str, str]:
    """The terms' stanzas by accession."""
    stanzas = VOCABULARY.read_text(encoding="utf-8").split("\n\n")
    found = ((re.search(r"^id: (\S+)$", it, re.M), it) for it in stanzas if "[Term]" in it)
    return {match[1]: stanza for match, stanza in found if match}


@pytest.mark.parametrize("kind", ["diann", "alphadia", "msqc"])
def test_a_metric_has_the_kind_and_unit_that_its_term_asks_for(kind):
    terms = vocabulary()
    metrics = {name: 1.0 for metric in metrics_of(kind) for name in metric.metrics}
    document = written(result(metrics_type=kind, metrics=metrics))
    (quality,) = document["mzQC"]["runQualities"]
    accessions = [item["accession"] for item in quality["qualityMetrics"]]
    assert len(accessions) == len(set(accessions))
    for item in quality["qualityMetrics"]:
        if item["accession"].startswith("KRAKEN"):
            continue
        stanza = terms[item["accession"]]
        kind_of_value = "n-tuple" if isinstance(item["value"], list) else "single value"
        assert f"! {kind_of_value}" in stanza
        units = re.findall(r"has_units (\S+) ! (.*)", stanza)
        unit = item.get("unit")
        assert units == ([(unit["accession"], unit["name"])] if unit else []), item["name"]
        if "has_value_type xsd:int" in stanza:
            assert isinstance(item["value"], int)


def test_what_a_search_has_counted_stands_beside_the_search_s_results():
    identified = [key for key, stanza in vocabulary().items() if "MS:4000008 ! ID based" in stanza]
    for kind in ("diann", "msqc"):
        document = written(result(metrics_type=kind, metrics={"proteins": 3.0, "ms1_scans": 1.0}))
        (quality,) = document["mzQC"]["runQualities"]
        formats = [it["fileFormat"]["name"] for it in quality["metadata"]["inputFiles"]]
        assert (kind == "diann") == ("identification file format" in formats)
    assert "MS:1003327" in identified


def test_every_term_is_one_of_the_vocabulary_by_its_name_and_definition():
    text = VOCABULARY.read_text(encoding="utf-8")
    for term in cv_terms().values():
        block = re.search(rf"id: {term.accession}\nname: (.*)\ndef: \"(.*)\" \[", text)
        assert block is not None, term.accession
        assert block[1] == term.name
        assert block[2].replace("\\", "") == term.definition.replace("\\", "")
    assert "is_obsolete" not in text


def test_every_term_of_ours_is_documented_and_given_once():
    text = (ROOT / "docs" / "mzqc.md").read_text(encoding="utf-8")
    for term in own_terms().values():
        assert f"| `{term.accession}` | {term.name} | {term.definition} |" in text
    used = {item.term.accession for kind in ("diann", "msqc") for item in metrics_of(kind)}
    assert {key for key in own_terms() if key not in used} == {
        "KRAKEN:0000021",
        "KRAKEN:0000022",
        "KRAKEN:0000023",
    }


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "x.mzQC").write_text(json.dumps(written()))
    reading = read_metrics("mzqc", tmp_path)
    assert reading.problems == ()
    assert reading.metrics["number of MS1 spectra"] == 14
    assert reading.metrics["retention time acquisition range 2"] == pytest.approx(1296)


def test_tables_and_texts_are_no_metrics(tmp_path):
    document = written()
    document["mzQC"]["runQualities"][0]["qualityMetrics"] += [
        {"accession": "MS:4000104", "name": "total ion currents", "value": {"a": [1, 2]}},
        {"accession": "MS:4000077", "name": "a text", "value": "QC1"},
        {"accession": "MS:4000078", "name": "x.y", "value": 7},
    ]
    (tmp_path / "x.mzqc").write_text(json.dumps(document))
    reading = read_metrics("mzqc", tmp_path)
    assert "total ion currents" not in reading.metrics
    assert reading.metrics["x:y"] == 7
    assert reading.notes == ("2 metrics of x.mzqc are tables or texts, left out",)


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("{", "can't be read"),
        ("[]", "has another structure than mzQC"),
        ('{"mzQC": {"runQualities": []}}', "describes several raw files, or none"),
        (json.dumps(written(result(), result(raw_input=RawInput("z.raw", None, NOW)))), "several"),
        (json.dumps(written()).replace(": 14", ': "x"')[:-5], "can't be read"),
        ("[" * 100_000, "can't be read"),
    ],
)
def test_a_file_that_is_no_mzqc_of_one_run_is_a_problem(tmp_path, content, reported):
    (tmp_path / "x.mzQC").write_text(content)
    reading = read_metrics("mzqc", tmp_path)
    assert reading.metrics == {}
    (problem,) = reading.problems
    assert reported in str(problem)


def test_none_or_two_files_are_a_problem(tmp_path):
    assert "no mzQC file" in str(read_metrics("mzqc", tmp_path).problems[0])
    for name in ("a.mzQC", "b.mzQC"):
        (tmp_path / name).write_text(json.dumps(written()))
    assert "several mzQC files" in str(read_metrics("mzqc", tmp_path).problems[0])


def test_what_kraken_has_left_and_debris_are_no_results(tmp_path):
    for name in ("a.mzQC", OWN_NAME, "._a.mzQC", "~$a.mzQC"):
        (tmp_path / name).write_text(json.dumps(written()))
    reading = read_metrics("mzqc", tmp_path)
    assert reading.metrics
    assert reading.problems == ()


@pytest.mark.fuse
@pytest.mark.parametrize("operation", ["readdir", "open", "read"])
def test_a_share_that_gives_errors_says_nothing_of_an_mzqc_file(tmp_path, operation):
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "a.mzQC").write_text(json.dumps(written()))
    with erring(folder) as share:
        share.answers(operation, "/", errno.ESTALE)
        with pytest.raises(OutputUnreadable):
            read_metrics("mzqc", folder)


@pytest.mark.parametrize("vendor", ["thermo", "bruker"])
def test_real_raw_files_of_either_vendor_give_valid_mzqc(tmp_path, vendor):
    if vendor == "thermo":
        raw = tmp_path / "small.RAW"
        raw.write_bytes(small_raw())
    else:
        raw = dia_pasef(tmp_path)
    found = reading_of(read(raw))
    measured = {
        name: value for name, value in found.metrics.items() if isinstance(value, float | int)
    }
    document = written(
        result(
            raw_input=RawInput(raw.name, str(tmp_path), NOW),
            metrics_type="raw",
            software=("kraken-rawqc", "0.1.0"),
            metrics=measured,
        )
    )
    valid(json.loads(json.dumps(document)))
    terms = metrics(document)
    assert terms["MS:4000059"]["value"] == measured["ms1_scans"] > 0
    assert len(terms["MS:4000070"]["value"]) == 2
    assert terms["MS:4000204"]["value"] == measured["max_tic"]
    formats = {"thermo": "Thermo RAW format", "bruker": "Bruker TDF format"}
    (run,) = document["mzQC"]["runQualities"]
    assert run["metadata"]["inputFiles"][0]["fileFormat"]["name"] == formats[vendor]
