"""Behaviour as data: our own cases, those of others where they are there, and what runs them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.metrics.registry import READERS
from kraken_dagster_tests.conformance import GROUPS, main, run_case

OWN = Path(__file__).parents[1] / "cases" / "own.json"
GOOD = {
    "group": "special_characters",
    "name": "n",
    "input": {"raw_file_name": "a b"},
    "expected": 1,
}


def load(path: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cases


def is_known(case: dict[str, Any]) -> bool:
    if case["group"] == "metrics":
        return case["input"]["metrics_type"] in READERS
    return case["group"] in GROUPS


def write(folder: Path, *cases: dict[str, Any]) -> str:
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    return str(path)


@pytest.mark.parametrize("case", load(OWN), ids=lambda case: f"{case['group']}: {case['name']}")
def test_a_case_of_our_own(case: dict[str, Any]) -> None:
    passed, found = run_case(case, OWN.parent)
    assert passed, f"expected {case['expected']!r}, got {found!r}"


def test_our_own_cases_have_several_of_every_group_under_different_names() -> None:
    counted = Counter(case["group"] for case in load(OWN))
    assert {group: counted[group] for group in GROUPS if counted[group] < 3} == {}
    assert counted.keys() <= GROUPS.keys()
    names = Counter((case["group"], case["name"]) for case in load(OWN))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_cases_of_others_hold_wherever_their_group_is_known(shared: Path) -> None:
    folder = shared / "cases"
    results = {
        f"{case['group']}: {case['name']}": run_case(case, folder)
        for case in load(folder / "cases.json")
        if is_known(case)
    }
    assert results
    assert {name: found for name, (passed, found) in results.items() if not passed} == {}


def test_a_wrong_answer_fails_and_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {**GOOD, "name": "wrong", "expected": 2}
    assert main([write(tmp_path, GOOD, wrong)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "special_characters: wrong: expected 2, got 1",
        "1 passed, 1 failed",
    ]


def test_all_files_are_run_and_nought_means_that_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path, GOOD)
    assert main([good, str(OWN), good]) == 0
    assert capsys.readouterr().out == f"{len(load(OWN)) + 2} passed, 0 failed\n"


def test_a_group_that_nobody_knows_counts_as_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write(tmp_path, {**GOOD, "group": "tea_leaves"})]) == 1
    assert "unknown group 'tea_leaves'" in capsys.readouterr().out


def test_no_file_at_all_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FILE [FILE ...]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expected", "passes"),
    [
        ({"raises": "WrongExtension"}, True),
        ({"raises": "ValueError"}, True),
        ({"raises": "UnsafePath"}, False),
        ({}, False),
    ],
)
def test_an_error_is_an_answer_by_any_name_of_its_classes(
    expected: dict[str, str], passes: bool
) -> None:
    names = {"instrument_type": "thermo", "raw_file_id": "a", "original_name": "a", "files": []}
    case = {"group": "file_mapping", "name": "n", "input": names}
    assert run_case({**case, "expected": {"copy": expected, "move": expected}}, OWN)[0] is passes


@pytest.mark.parametrize(("expected", "passes"), [(True, True), (1, False), ("true", False)])
def test_an_answer_is_not_equal_to_what_only_counts_as_equal(
    expected: object, passes: bool
) -> None:
    age = {"max_age_hours": "-1", "age_hours": 1}
    case = {"group": "age_criterion", "name": "n", "input": age, "expected": expected}
    assert run_case(case, OWN)[0] is passes
