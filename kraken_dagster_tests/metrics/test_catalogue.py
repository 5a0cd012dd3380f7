"""One catalogue of metrics: documents, mzQC and it say the same of each."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_dagster.metrics.catalogue import catalogue, described, title_of
from kraken_dagster.metrics.mzqc.terms import metrics_of

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
_TYPES = ("alphadia", "diann", "msqc", "raw", "skyline")
# A unit of the catalogue and the factor to mzQC's, and what that is then.
_OF_MZQC = {
    ("min", 60.0): {"s"},
    ("s", 1.0): {"s"},
    ("ms", 1.0): {"ms"},
    ("ppm", 1.0): {"ppm"},
    ("bar", 1e5): {"Pa"},
    ("m/z", 1.0): {"m/z"},
    ("a.u.", 1.0): {"intensity", None},
    ("", 1.0): {"count", None},
    ("scans", 1.0): {None},
    ("amino acids", 1.0): {None},
    ("1/K0", 1.0): {None},
}


def _documented() -> Iterator[tuple[str, str, str]]:
    """Type, metric and unit of every row of the tables of metrics."""
    of_type, in_table = "", False
    for line in _DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            of_type = line.removeprefix("## ").strip("`")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "metric":
            in_table = True
        elif not line.startswith("|"):
            in_table = False
        elif in_table and not set(cells[0]) <= {"-"}:
            for name in re.findall(r"`([^`]+)`", cells[0]):
                if name.startswith("_"):  # an ending of the name before it
                    continue
                yield of_type, name.replace("<peptide>", "LGG"), cells[1]


_ROWS = list(_documented())


def test_the_tables_are_read() -> None:
    assert {of_type for of_type, _, _ in _ROWS} == set(_TYPES)
    assert len(_ROWS) > 60


@pytest.mark.parametrize(("of_type", "name", "unit"), _ROWS)
def test_what_is_documented_is_in_the_catalogue_with_its_unit(
    of_type: str, name: str, unit: str
) -> None:
    known = described(name, of_type)
    assert known is not None, f"{name} is not in catalogue.json"
    assert known.unit == unit


def test_each_entry_is_of_use_to_people() -> None:
    for item in catalogue():
        assert item.title[0].isupper() or item.title.startswith("iRT"), item
        assert "_" not in item.title, item
        assert item.definition.endswith("."), item
        assert len(item.definition) < 120, item
    keys = [(item.name, item.types) for item in catalogue()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("of_type", _TYPES)
def test_mzqc_and_the_catalogue_have_the_same_units(of_type: str) -> None:
    for metric in metrics_of(of_type):
        for name in metric.metrics:
            known = described(name, of_type)
            assert known is not None, name
            if known.types or of_type not in ("msqc", "skyline", "raw"):
                assert metric.unit in _OF_MZQC[known.unit, metric.factor], name


def test_a_unit_that_differs_by_program_is_told_for_that_program_only() -> None:
    found = [described("fwhm_rt", item) for item in ("alphadia", "diann", None)]
    assert [item.unit for item in found if item is not None] == ["s", "min", ""]


def test_what_is_not_known_goes_by_its_own_name() -> None:
    assert described("our_own_metric") is None
    assert title_of("our_own_metric") == "our own metric"
    assert title_of("irt_LGG_delta_rt") == "irt LGG delta rt"
