"""A script for AlphaKraken's REST, with all of its parameters, against Kraken's."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from kraken_dagster_tests.rest.conftest import MD5, MEMBERS, RERUN
from kraken_dagster_tests.web.laboratory import HOSTILE, OpenPage

# What AlphaKraken's model of an answer declares, and what its documents hold beside.
_DECLARED = ["id", "original_name", "instrument_id", "project_id", "status", "size", "created_at"]
_DECLARED += ["updated_at_", "metrics", "file_info", "backup_base_path"]
_BESIDE = {"status_details", "backup_status", "s3_upload_path", "instrument_file_status"}
_BESIDE |= {"collision_flag"}


def _get(page: OpenPage, **parameters: Any) -> dict[str, Any]:
    answer = page.get("/api/raw_files/", **parameters)
    assert answer.status == 200, answer.text
    found: dict[str, Any] = json.loads(answer.content)
    return found


def _ids(found: dict[str, Any]) -> list[str]:
    return [item["id"] for item in found["data"]]


def test_health_is_told_to_everybody(page: OpenPage) -> None:
    assert (page.get("/api/health").status, page.get("/api/health").text) == (
        200,
        '{"status":"ok"}',
    )


def test_an_address_without_its_slash_leads_on_with_its_parameters(page: OpenPage) -> None:
    answer = page.get("/api/raw_files", limit=3, name_contains="a&b")
    assert answer.status == 307
    assert answer.headers["Location"] == "raw_files/?" + urlencode(
        {"limit": 3, "name_contains": "a&b"}
    )


def test_an_answer_has_the_shape_of_alphakraken(page: OpenPage) -> None:
    found = _get(page, limit=2, instrument_id="thermo1", project_id="PAGE1")
    assert list(found) == ["total", "offset", "limit", "data"]
    assert (found["total"], found["offset"], found["limit"]) == (6, 0, 2)
    first = found["data"][0]
    assert list(first)[: len(_DECLARED)] == _DECLARED
    assert set(first) - set(_DECLARED) <= _BESIDE
    assert first["id"] == "thermo1_hela_0010.raw"
    assert first["created_at"] == "2026-03-01T10:00:00"  # UTC, without a zone
    assert first["file_info"] is None
    [metrics] = first["metrics"]
    assert metrics["type"] == "custom"
    assert metrics["proteins"] == 7_010
    assert not {"_id", "raw_file", "created_at_", "settings_name", "provenance"} & set(metrics)


def test_metrics_are_the_newest_of_each_settings_and_type(page: OpenPage) -> None:
    [found] = _get(page, name_contains=RERUN)["data"]
    assert [item["precursors"] for item in found["metrics"]] == [1]


def test_metrics_and_members_come_as_they_are_asked_for(page: OpenPage) -> None:
    [bare] = _get(page, name_contains=MEMBERS, include_metrics="false")["data"]
    assert bare["metrics"] is None
    [found] = _get(page, name_contains=MEMBERS, include_file_info="1")["data"]
    assert found["file_info"] == {MEMBERS: [1.5e9, MD5]}
    assert found["backup_base_path"] == "/pool/thermo1/2026_03"


def test_pages_follow_each_other_newest_first(page: OpenPage) -> None:
    everything = _get(page, limit=1000)
    dates = [item["created_at"] for item in everything["data"]]
    assert dates == sorted(dates, reverse=True)
    assert everything["total"] == len(everything["data"]) == 14 + len(HOSTILE)
    in_pages = [
        file_id
        for offset in range(0, 60, 10)
        for file_id in _ids(_get(page, limit=10, offset=offset))
    ]
    assert in_pages == _ids(everything)
    assert _get(page, offset=10**30)["data"] == []


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"name_contains": "HELA_000"}, 10),
        ({"name_contains": "hela.000"}, 0),  # no regular expression
        ({"date_from": "2026-03-01T10:00:00"}, 4),
        ({"date_from": "2026-03-01T11:00:00+01:00", "date_to": "2026-03-01T11:00:00Z"}, 2),
        ({"date_to": "2025-01-01"}, 0),
        ({"project_id": "NONE"}, 0),
        ({"instrument_id": "thermo"}, 0),
        ({"instrument_id": ""}, 0),
        ({"instrument_id[$ne]": "x", "name_contains": "hela"}, 12),
    ],
)
def test_files_are_found_by(page: OpenPage, parameters: dict[str, str], count: int) -> None:
    assert _get(page, **parameters)["total"] == count


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("limit", "0", "greater_than_equal"),
        ("limit", "1001", "less_than_equal"),
        ("limit", "many", "int_parsing"),
        ("offset", "-1", "greater_than_equal"),
        ("date_from", "yesterday", "datetime_from_date_parsing"),
        ("date_to", "0001-01-01T00:00:00+14:00", "value_error"),
        ("include_metrics", "perhaps", "bool_parsing"),
    ],
)
def test_wrong_parameters_are_told_as_alphakraken_tells_them(
    page: OpenPage, name: str, value: str, kind: str
) -> None:
    answer = page.get("/api/raw_files/", **{name: value})
    assert answer.status == 422
    [fault] = json.loads(answer.content)["detail"]
    assert (fault["type"], fault["loc"], fault["input"]) == (kind, ["query", name], value)
