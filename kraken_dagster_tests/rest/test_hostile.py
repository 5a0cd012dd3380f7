"""Whatever a program asks of the routes that are described, it is no fault of Kraken's.

schemathesis asks more: 8,000 questions in some minutes, which is too long for a test. To have it
look at a page: `schemathesis run URL/api/openapi.json -H 'Authorization: Bearer TOKEN'
--exclude-path /api/v1/events`. It can't know that a cursor must be a list's, that verdicts need
a file or an instrument, or that AlphaKraken takes a number for a date.
"""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kraken_dagster.web.api.openapi import describe
from kraken_dagster.web.api.routes import ENDPOINTS
from kraken_dagster_tests.web.laboratory import OpenPage

_DOCUMENT = describe(ENDPOINTS)
_ENDLESS = "/api/v1/events"
_READING = [
    (path, item["get"])
    for path, item in _DOCUMENT["paths"].items()
    if "get" in item and path != _ENDLESS
]
_ODD = ["", "\0", "\ud7ff\uffff", "[,]", "a=[1,", "created_at=[nan,inf]", "created_at=[1e300,]"]
_ODD += ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e400", "-1", "9" * 30, "null"]
_ODD += [
    "instrument_id=(",
    "!" * 50,
    "&".join("a" * 60),
    "status=.*",
    "(?i)x{1000}",
    "%00",
    "../..",
]
_ODD += ["WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsICIiXQ", "W10", "e30", "parquet", "csv", "thermo1", "*"]
_VALUES = st.one_of(st.sampled_from(_ODD), st.text(max_size=40), st.integers().map(str))


def _address(draw: Any, path: str, operation: dict[str, Any]) -> str:
    query = {}
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace("{id}", quote(draw(_VALUES), safe="") or "x")
        elif draw(st.booleans()):
            enum = parameter["schema"].get("enum")
            known = st.sampled_from(enum) if enum else st.just(parameter.get("example", "thermo1"))
            query[parameter["name"]] = draw(st.one_of(known, _VALUES))
    return path + (f"?{urlencode(query)}" if query else "")


@pytest.mark.parametrize(("path", "operation"), _READING, ids=[path for path, _ in _READING])
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_parameter_is_a_fault_of_kraken(
    page: OpenPage, data: st.DataObject, path: str, operation: dict[str, Any]
) -> None:
    answer = page.get(_address(data.draw, path, operation))
    assert answer.status < 500, answer.text
    assert str(answer.status) in operation["responses"]
    kind = answer.headers["Content-Type"] or ""
    if kind.endswith("json"):
        found = json.loads(answer.content, parse_constant=_refuse)
        described = operation["responses"][str(answer.status)]["content"][kind]["schema"]
        schema = {**described, "components": _DOCUMENT["components"]}
        Draft202012Validator(schema).validate(found)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
