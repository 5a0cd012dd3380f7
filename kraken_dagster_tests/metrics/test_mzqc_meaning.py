"""What is written as mzQC means what its terms say, by the check of `pymzqc`.

That is installed for these tests only, with what it imports: of what it names as needed, one
package is under the GPL, and is imported by none of it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.metrics.mzqc.document import RawInput
from kraken_dagster.metrics.mzqc.terms import metrics_of, own_terms
from kraken_dagster_tests.metrics.test_mzqc import NOW, VOCABULARY, judged_set, result, written

PACKAGES = (
    "pymzqc==1.0.3",
    "pronto==2.7.4",
    "fastobo==0.14.2",
    "networkx==3.6.1",
    "chardet==7.7.0",
)
OF_RAW_FILES = (
    *("ms1_scans", "ms2_scans", "gradient_length", "ms1_median_tic", "ms1_median_injection_time"),
    *("rt_first", "rt_last", "mz_low", "mz_high", "max_tic", "max_base_peak"),
)
CHECK = Path(__file__).with_name("check_mzqc.py")
Check = Callable[[dict[str, Any]], set[tuple[str, str]]]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What the check finds in a document: how bad, and what."""
    folder = tmp_path_factory.mktemp("pymzqc")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, *PACKAGES], check=True, timeout=300)
    vocabulary = _with_our_terms(folder / "vocabulary.obo")
    empty = folder / "empty.obo"
    empty.write_text("format-version: 1.2\nontology: empty\n\n[Typedef]\nid: has_units\n")
    environment = {**os.environ, "PYTHONPATH": str(folder)}

    def of(document: dict[str, Any]) -> set[tuple[str, str]]:
        document = json.loads(json.dumps(document))
        for number, named in enumerate(document["mzQC"]["controlledVocabularies"]):
            named["uri"] = str(vocabulary if number == 0 else empty)
        path = folder / "x.mzQC"
        path.write_text(json.dumps(document))
        done = subprocess.run(
            [sys.executable, CHECK, path], env=environment, stdout=subprocess.PIPE, check=True
        )
        return {(severity, message) for severity, message in json.loads(done.stdout)}

    return of


def _with_our_terms(path: Path) -> Path:
    """The part of PSI-MS that Kraken uses, and Kraken's own terms as metrics of one value."""
    stanzas = [
        f"[Term]\nid: {term.accession}\nname: {term.name}\n"
        f'def: "{term.definition}" []\nis_a: MS:4000003\n'
        for term in own_terms().values()
    ]
    path.write_text("\n".join([VOCABULARY.read_text(encoding="utf-8"), *stanzas]))
    return path


@pytest.mark.parametrize("kind", ["diann", "alphadia", "msqc", "raw"])
def test_the_check_finds_nothing_wrong(check: Check, kind: str) -> None:
    # The check doesn't decode URIs, so the name is one that looks the same in one.
    raw_input = RawInput("x.raw", "/data/backup/thermo1/2026_03", NOW, md5="0" * 32)
    names = [name for metric in metrics_of(kind) for name in metric.metrics]
    metrics = dict.fromkeys(OF_RAW_FILES if kind in ("msqc", "raw") else names, 1.0)
    document = written(result(raw_input=raw_input, metrics_type=kind, metrics=metrics))
    assert wrong(check(document)) == []


def test_nor_in_a_sets_document(check: Check) -> None:
    assert wrong(check(judged_set())) == []


def wrong(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what it would only like to know: the unit of a term that no vocabulary gives one."""
    return sorted(item for item in found if not (item[0] == "INFO" and "KRAKEN:" in item[1]))


def test_a_term_in_another_s_place_is_found(check: Check) -> None:
    document = written()
    (quality,) = document["mzQC"]["runQualities"]
    quality["qualityMetrics"][0]["accession"] = "MS:1000563"  # a file format
    assert any("MS:1000563" in message for _, message in wrong(check(document)))
