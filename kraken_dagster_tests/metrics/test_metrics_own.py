"""Metrics of a site's own function, which may do anything, and its documented example."""

import errno
import os
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pymongo
import pytest
import yaml

from kraken_dagster.config.loader import load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.metrics import diann, msqc
from kraken_dagster.metrics.registry import READERS, read_metrics
from kraken_dagster.model.errors import ConfigError, OutputUnreadable, OwnFunctionError
from kraken_dagster.model.metric_values import (
    BUILT_IN_TYPES,
    LONGEST_NAME,
    MOST_METRICS,
    RESERVED_NAMES,
)
from kraken_dagster_tests.cli.test_cli_doctor import examine
from kraken_dagster_tests.metrics.test_metrics import ALPHADIA
from kraken_dagster_tests.metrics.test_metrics_skyline import TOGETHER
from kraken_dagster_tests.support.helpers import write_config

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

RESULT = {}
NOT_A_FUNCTION = 7


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


class LazyMapping(dict):
    def items(self):
        raise OSError("gone")


def gives(folder):
    return RESULT["given"]


def tells_the_folder(folder):
    assert isinstance(folder, Path)
    return {"folder": str(folder)}


def raises(folder):
    raise RESULT["given"]


def own(function):
    return {"ours": f"{__name__}:{function}"}


def read(folder, function="gives", given=None):
    RESULT["given"] = given
    return read_metrics("ours", folder, own=own(function))


def the_problem(reading):
    (problem,) = reading.problems
    assert isinstance(problem, OwnFunctionError)
    text = str(problem)
    assert ["'ours'" in text, __name__ in text, "Next: " in text] == [True, True, True]
    return text


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EHOSTDOWN])
def test_a_function_that_meets_a_share_in_trouble_is_called_again_later(tmp_path, number):
    with pytest.raises(OutputUnreadable) as caught:
        read(tmp_path, "raises", OSError(number, os.strerror(number)))
    assert caught.value.transient


def test_a_function_that_may_not_read_something_has_failed(tmp_path):
    text = the_problem(read(tmp_path, "raises", PermissionError(errno.EACCES, "no")))
    assert "PermissionError" in text


def test_a_function_gets_the_result_folder_and_its_metrics_are_kept(tmp_path):
    reading = read(tmp_path, "tells_the_folder")
    assert (reading.metrics, reading.problems) == ({"folder": str(tmp_path)}, ())


def test_numbers_of_numpys_become_pythons_own_and_what_is_not_finite_none(tmp_path):
    given = {
        "a.b": np.float32(0.5),
        "integer": np.int64(7),
        "array": np.array(1.5),
        "truth": np.bool_(True),
        "text": np.str_("x"),
        "nan": float("nan"),
        "numpys nan": np.float64("nan"),
        "infinity": float("-inf"),
        "none": None,
        "big": 2**63 - 1,
    }
    reading = read(tmp_path, given=given)
    assert reading.problems == ()
    assert reading.metrics == {
        "a:b": 0.5,
        "integer": 7,
        "array": 1.5,
        "truth": True,
        "text": "x",
        "nan": None,
        "numpys nan": None,
        "infinity": None,
        "none": None,
        "big": 2**63 - 1,
    }
    types = {type(value) for value in reading.metrics.values()}
    assert types == {float, int, bool, str, type(None)}


def test_whatever_is_kept_mongodb_holds(tmp_path, mongodb_uri):
    odd = {"a.$b": 1, " ": 2.5, "ÄÖ 日本": "日本", "x" * 255: True, "least": -(2**63), "nan": 1e999}
    metrics = read(tmp_path, given=odd | {"$no": 1, "too big": 2**64}).metrics
    assert len(metrics) == len(odd)
    with pymongo.MongoClient(mongodb_uri) as client:
        collection = client.get_default_database()["metrics"]
        collection.insert_one({"_id": 1, **metrics})
        assert collection.find_one({"_id": 1}) == {"_id": 1, **metrics}


@pytest.mark.parametrize(
    "name", ["", "$x", 7, None, "a\0", "\ud800", "x" * 256, *sorted(RESERVED_NAMES)]
)
def test_a_name_that_can_not_be_stored_is_told_and_the_others_are_kept(tmp_path, name):
    reading = read(tmp_path, given={name: 1, "good": 2})
    assert reading.metrics == {"good": 2}
    shown = repr(name[:60]) if isinstance(name, str) else repr(type(name).__name__)
    assert shown in the_problem(reading)


@pytest.mark.parametrize(
    "value",
    [2**63, [1], {"a": 1}, b"x", Decimal(1), 1j, np.array([1, 2]), "x" * 10_001, "\udc80"],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_can_not_be_stored_is_told_and_the_others_are_kept(tmp_path, value):
    reading = read(tmp_path, given={"bad": value, "good": 2})
    assert reading.metrics == {"good": 2}
    assert "'bad': " in the_problem(reading)


def test_two_names_that_become_one_are_told(tmp_path):
    reading = read(tmp_path, given={"a.b": 1, "a:b": 2})
    assert reading.metrics == {"a:b": 1}
    assert "another metric has this name" in the_problem(reading)


def test_the_longest_name_and_the_most_metrics_are_kept(tmp_path):
    names = [f"{number}".rjust(LONGEST_NAME, "x") for number in range(MOST_METRICS + 3)]
    reading = read(tmp_path, given=dict.fromkeys(names, 1))
    assert len(reading.metrics) == MOST_METRICS
    assert str(the_problem(reading)).count(f"only {MOST_METRICS} metrics are kept") == 3


@pytest.mark.parametrize("given", [None, 7, [("a", 1)], "text", {1, 2}], ids=repr)
def test_something_else_than_a_mapping_is_told(tmp_path, given):
    reading = read(tmp_path, given=given)
    assert reading.metrics == {}
    assert type(given).__name__ in the_problem(reading)


def test_a_mapping_that_fails_is_told(tmp_path):
    assert "OSError: gone" in the_problem(read(tmp_path, given=LazyMapping()))


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (ValueError("no such sheet"), "ValueError: no such sheet"),
        (SystemExit(3), "SystemExit: 3"),
        (Unspeakable(), "Unspeakable"),
        (KeyError("x" * 100_000), "KeyError"),
        (FileNotFoundError(2, "gone", "summary.csv"), "summary.csv"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_whatever_a_function_raises_is_told_with_file_and_line(tmp_path, error, reported):
    text = the_problem(read(tmp_path, "raises", error))
    assert reported in text
    assert re.search(r"in .*test_metrics_own\.py, line \d+", text)
    assert str(tmp_path) in text
    assert len(text) < 2_000


def test_an_interruption_is_no_problem_of_the_function(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, "raises", KeyboardInterrupt())


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("no_such_package_at_all.x:f", "No module named"),
        (f"{__name__}:no_such", "no attribute 'no_such'"),
        (f"{__name__}:NOT_A_FUNCTION", "Found int"),
        ("broken_lab:f", "SyntaxError"),
        ("quitting_lab:f", "SystemExit"),
    ],
)
def test_a_function_that_can_not_be_loaded_is_told(tmp_path, monkeypatch, name, reported):
    (tmp_path / "broken_lab.py").write_text("def f(:\n")
    (tmp_path / "quitting_lab.py").write_text("raise SystemExit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    reading = read_metrics("ours", tmp_path, own={"ours": name})
    assert reading.metrics == {}
    (problem,) = reading.problems
    assert isinstance(problem, OwnFunctionError)
    assert [reported in str(problem), repr(name) in str(problem)] == [True, True]
    assert "instruments.yaml" in str(problem)


def test_custom_can_be_given_a_function_and_else_has_no_metrics(tmp_path):
    assert read_metrics("custom", tmp_path).metrics == {}
    functions = {"custom": f"{__name__}:tells_the_folder"}
    assert read_metrics("custom", tmp_path, own=functions).metrics == {"folder": str(tmp_path)}


# --- instruments.yaml and doctor


def test_functions_are_configured_by_type(tmp_path):
    functions = {"searchlight": "our_lab.metrics:read_searchlight", "custom": "a:B.c"}
    assert load_config(write_config(tmp_path, "", metrics=functions)).metrics == functions


@pytest.mark.parametrize(
    "functions",
    [
        {"Searchlight": "a:b"},
        {"x": "no colon"},
        {"x": "a:b c"},
        {"x": "a:b [extra]"},
        {"x": "a.:b"},
        {"x": "a:b\n"},
        {"x": None},
        {"alphadia": "a:b"},
    ],
    ids=str,
)
def test_what_is_no_type_or_no_function_is_told_with_its_key(tmp_path, functions):
    (key,) = functions
    with pytest.raises(ConfigError, match=rf"key 'metrics\.{key}'"):
        load_config(write_config(tmp_path, "", metrics=functions))


def test_the_types_that_can_not_be_taken_are_those_that_are_read():
    assert set(READERS) == BUILT_IN_TYPES


def test_doctor_loads_each_function(tmp_path, mongodb_uri):
    functions = {"good": f"{__name__}:gives", "gone": "no_such_package_at_all:f"}
    code, found = examine(write_config(tmp_path, mongodb_uri, metrics=functions))
    assert code == 1
    assert found["metrics good"] == ("ok", f"{__name__}:gives can be called")
    level, words = found["metrics gone"]
    assert (level, "No module named" in words) == ("error", True)


# --- docs/metrics.md


def test_the_documented_example_works(tmp_path, monkeypatch):
    text = DOCUMENT.read_text()
    code = re.search(r"```python\n# our_lab/metrics\.py\n(.*?)```", text, re.DOTALL)[1]
    entry = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    package = tmp_path / "our_lab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "metrics.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = KrakenConfig.model_validate(
        {
            "locations": {"instruments": "i", "backup": "b", "output": "o"},
            "instruments": {},
            **entry,
        }
    )
    (tmp_path / "summary.csv").write_text("Peptides,Median score,Version\n812,,1.2\n")
    reading = read_metrics("searchlight", tmp_path, own=config.metrics)
    assert reading.problems == ()
    assert reading.metrics == {"peptides": 812, "median_score": None, "version": "1.2"}
    (tmp_path / "summary.csv").unlink()
    (problem,) = read_metrics("searchlight", tmp_path, own=config.metrics).problems
    assert ["summary.csv" in str(problem), "metrics.py, line" in str(problem)] == [True, True]


def test_every_type_metric_and_reserved_name_is_documented():
    text = DOCUMENT.read_text()
    names = {*BUILT_IN_TYPES, *ALPHADIA, *diann.METRICS, *msqc.METRICS, *TOGETHER, *RESERVED_NAMES}
    names |= {"median_precursor_rt", *diann.METRICS.values()}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
