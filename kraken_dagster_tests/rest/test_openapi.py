"""The description of REST: every route is in it, and its examples are true."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kraken_dagster.web.api import examples
from kraken_dagster.web.api.openapi import describe, schema_of
from kraken_dagster.web.api.routes import ENDPOINTS
from kraken_dagster.web.app import make_app
from kraken_dagster.web.column_config import ColumnChoice
from kraken_dagster_tests.web.laboratory import OpenPage

_DOCUMENT = describe(ENDPOINTS)
_EXAMPLES = {
    "raw_files/?project_id=PAGE1": examples.RAW_FILES,
    "v1/files": examples.FILES,
    "v1/files/thermo1_hela_0004.raw": examples.FILE,
    "v1/metrics?project=PAGE1": examples.METRICS,
    "v1/status": examples.STATUS,
    "v1/instruments": examples.INSTRUMENTS,
    "v1/settings": examples.SETTINGS,
    "v1/projects": examples.PROJECTS,
}


def test_every_route_is_described(page: OpenPage) -> None:
    served = {
        (method, route.path.replace(":any}", "}"))
        for route in make_app(page.feed, ColumnChoice()).routes
        if route.path.startswith("/api/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (method.upper(), path) for path, item in _DOCUMENT["paths"].items() for method in item
    }
    assert served == described
    assert json.loads(page.get("/api/openapi.json").content) == _DOCUMENT


def test_every_parameter_and_answer_says_what_it_is() -> None:
    for path, item in _DOCUMENT["paths"].items():
        for operation in item.values():
            assert operation["summary"], path
            for parameter in operation["parameters"]:
                assert parameter.get("description") or parameter["in"] == "path", (path, parameter)
    names = [op["operationId"] for item in _DOCUMENT["paths"].values() for op in item.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", _EXAMPLES)
def test_examples_have_the_fields_that_answers_have(page: OpenPage, path: str) -> None:
    answer, example = json.loads(page.get(f"/api/{path}").content), _EXAMPLES[path]
    Draft202012Validator(schema_of(example)).validate(answer)
    metrics = {f"data.{name}" for name in ("precursors", "proteins", "ms1_median_accumulation")}
    assert _keys(example) - _keys(answer) - metrics == set()


def _keys(value: Any) -> set[str]:
    """The fields of an answer and of the first of each of its lists."""
    found = set(value)
    for name, item in value.items():
        if name == "data" and item:
            found |= {f"{name}.{key}" for key in item[0]}
    return found
