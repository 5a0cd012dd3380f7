"""Ten questions of a mass spectrometrist: the calls of docs/mcp.md, and what answers them."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.web.mcp.marking import UNTRUSTED
from kraken_dagster_tests.mcp.conftest import Laboratory

DOCUMENT = Path(__file__).parents[2] / "docs" / "mcp.md"
ANSWERS: Sequence[Callable[[Any], bool]] = (
    # What is wrong right now?
    lambda it: any("files in error" in line[UNTRUSTED] for line in it["wrong"]),
    # Why did this file fail, and what am I to do?
    lambda it: it["status"] == "error" and it["next_step"] == {UNTRUSTED: "free some space."},
    # Is my file backed up, and where?
    lambda it: (it["backup"], it["backup_base_path"]) == ("copying_done", "/pool/thermo1/2026_03"),
    # Which HeLa runs did the instrument make since yesterday noon?
    lambda it: it["data"][0]["id"] == "thermo1_hela_0010.raw" and it["next"] is None,
    # How have the identified proteins developed?
    lambda it: it["data"][0]["proteins"] == 7010 and it["data"][0]["measured_at"] is not None,
    # Which runs of my project have few proteins?
    lambda it: sorted(row["proteins"] for row in it["data"]) == [7000, 7001, 7002, 7003],
    # Is the instrument in good shape?
    lambda it: (
        "column that dies" in str(it["series"][0]["runs"][1]["points_to"])
        and {item["metric"] for item in it["series"][0]["most_often_out"]}
        == {"ms1_signal", "fwhm_rt"}
    ),
    # When was the column changed?
    lambda it: [note["kind"] for note in it["annotations"]] == ["column"],
    # What differs between the good run and the bad one?
    lambda it: {row["metric"] for row in it["rows"][:4]} >= {"ms1_signal", "fwhm_rt"},
    # Was the spray stable?
    lambda it: it["name"] == "tic" and len(it["values"]) == 60,
)
_CALL = re.compile(r"^\d+\. .*\n +`(\w+) (\{.*\})`", re.MULTILINE)


def _calls() -> list[tuple[str, dict[str, Any]]]:
    return [(tool, json.loads(text)) for tool, text in _CALL.findall(DOCUMENT.read_text("utf-8"))]


def test_there_are_ten() -> None:
    assert len(_calls()) == len(ANSWERS) == 10


@pytest.mark.parametrize("number", range(10))
def test_a_question_is_answered_by_the_call_in_the_document(
    laboratory: Laboratory, number: int
) -> None:
    tool, arguments = _calls()[number]
    found = laboratory.ask(tool, **arguments)
    assert ANSWERS[number](found), found
