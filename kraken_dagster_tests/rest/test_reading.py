"""`/api/v1`: what programs read."""

import csv
import io
import json
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from kraken_dagster.web.api import examples
from kraken_dagster_tests.rest.conftest import RERUN, TRACED
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS
from kraken_dagster_tests.web.laboratory import HOSTILE, OpenPage


def _get(page: OpenPage, path: str, status: int = 200, **query: Any) -> Any:
    answer = page.get(f"/api/v1/{path}", **query)
    assert answer.status == status, answer.text
    return json.loads(answer.content)


def _in_pages(page: OpenPage, **query: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        answer = _get(page, "files", **query, **({"cursor": cursor} if cursor else {}))
        found += [item["id"] for item in answer["data"]]
        cursor = answer["next"]
        if cursor is None:
            return found


def test_pages_by_cursor_have_every_file_once_newest_first(page: OpenPage) -> None:
    everything = _get(page, "files", limit=1000)
    assert everything["next"] is None
    order = [(item["created_at"], item["id"]) for item in everything["data"]]
    assert order == sorted(order, reverse=True)
    assert len(order) == 14 + len(HOSTILE)
    for limit in (4, len(order)):
        assert _in_pages(page, limit=limit) == [file_id for _, file_id in order]


def test_files_of_one_moment_are_in_one_order_over_all_pages(page: OpenPage) -> None:
    within = {"since": "2026-03-01T12:00:00", "until": "2026-03-01T12:30:00"}
    assert _in_pages(page, **within) == []
    hostile = _in_pages(page, limit=4, filter="created_at=[2026-02-20,2026-02-27]")
    assert sorted(hostile) == sorted(HOSTILE)


@pytest.mark.parametrize(
    ("filter_text", "count"),
    [
        ("instrument_id=thermo1 & hela", 6),
        ("instrument_id=1 & !thermo1 & hela", 6),
        ("instrument_id=thermo1 & precursors=[90300,]", 3),
        ("instrument_id=thermo1 & proteins=[7004,7006]", 2),
        ("status=error", 1),
        ("status=error|done", 13),
        ("created_at=[2026-03-01 10:00:00,] & note=3.5", 1),
        ("instrument_id=thermo1 & settings=dia", 6),
        ("instrument_id=nowhere & hela", 0),
        ("created_at=[2026-03-01,] & created_at=[,2026-02-01]", 0),
    ],
)
def test_a_filter_finds_what_the_page_finds(page: OpenPage, filter_text: str, count: int) -> None:
    found = _get(page, "files", filter=filter_text, limit=50)
    assert len(found["data"]) == count
    assert _in_pages(page, filter=filter_text, limit=5) == [it["id"] for it in found["data"]]
    shown = page.get("/files/paths", filter=filter_text).text.splitlines()
    assert sorted(shown) == sorted(it["id"] for it in found["data"])


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "hela"},
        {"filter": "status=done & proteins=[1,]"},
        {"name_contains": "hela"},
        {"name_contains": "hela", "until": "2030-01-01"},
        {"filter": "!instrument_id=thermo1"},
    ],
)
def test_what_would_look_at_all_files_needs_a_bound(page: OpenPage, query: dict[str, str]) -> None:
    problem = _get(page, "files", 400, **query)
    assert "needs a bound" in problem["detail"]
    assert "Next: add `instrument`" in problem["detail"]
    assert _get(page, "files", **query, since="2020-01-01")["data"]


def test_a_column_that_no_file_has_finds_nothing_and_is_told(page: OpenPage) -> None:
    found = _get(page, "files", instrument="thermo1", filter="presursors=[1,]")
    assert found["data"] == []
    assert found["warnings"] == ["no file that was looked at has a column 'presursors'"]


def test_fields_are_those_that_are_asked_for(page: OpenPage) -> None:
    query = {"project": "PAGE1", "name_contains": "hela_0004"}
    [found] = _get(page, "files", **query, fields="proteins,status,nothing")["data"]
    assert found == {
        "id": "thermo1_hela_0004.raw",
        "proteins": 7_004,
        "status": "done",
        "nothing": None,
    }
    [found] = _get(page, "files", **query, fields="*")["data"]
    assert (found["size"], found["settings"], found["huge"]) == (1_500_000_000, "dia v1", 1e308)
    assert found["created_at"] == "2026-03-01T04:00:00Z"


@pytest.mark.parametrize("name", [RERUN, f"{HOSTILE_STEMS[3]}.raw", *HOSTILE[:2]])
def test_everything_is_told_of_one_file(page: OpenPage, name: str) -> None:
    found = _get(page, f"files/{quote(name)}")
    assert found["id"] == name
    assert found["history"][0]["reason"] == "seen"
    if name == RERUN:
        assert [item["current"] for item in found["metrics"]] == [True, False]
        assert found["metrics"][1]["provenance"] == {"job": f"job-{name}"}
        assert found["jobs"][0]["id"] == f"job-{name}"


def test_metrics_are_rows_of_the_newest_results(page: OpenPage) -> None:
    query = {"instrument": "bruker1", "limit": 4, "metrics": "precursors,note"}
    found = _get(page, "metrics", **query)
    assert found["data"][0] == {
        "raw_file": RERUN,
        "instrument_id": "bruker1",
        "project_id": "PAGE1",
        "created_at": "2026-03-01T11:00:00Z",
        "type": "custom",
        "settings_name": "dia",
        "settings_version": 1,
        "measured_at": found["data"][0]["measured_at"],
        "precursors": 1,
        "note": None,
    }
    assert len(found["data"]) == 4
    rest = _get(page, "metrics", **query, cursor=found["next"])
    assert len(rest["data"]) == 2
    assert rest["next"] is None
    assert _get(page, "metrics", instrument="bruker1", type="raw")["data"] == []


def test_metrics_in_csv_and_parquet_have_the_same_rows(page: OpenPage) -> None:
    query = {"instrument": "bruker1", "limit": 3}
    rows = _get(page, "metrics", **query)["data"]
    answer = page.get("/api/v1/metrics", format="csv", **query)
    assert answer.headers["Content-Type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [line["raw_file"] for line in lines] == [row["raw_file"] for row in rows]
    assert lines[1]["irt_a_delta_rt"] == repr(rows[1]["irt_a_delta_rt"])
    assert answer.headers["X-Next-Cursor"] == _get(page, "metrics", **query)["next"]
    table = pq.read_table(
        io.BytesIO(page.get("/api/v1/metrics", format="parquet", **query).content)
    )
    assert [
        str(table.schema.field(name).type) for name in ("precursors", "created_at", "note")
    ] == [
        "int64",
        "timestamp[ms, tz=UTC]",
        "string",
    ]
    assert table.column("precursors").to_pylist() == [row["precursors"] for row in rows]


def test_the_laboratory_is_told(page: OpenPage) -> None:
    assert [it["id"] for it in _get(page, "instruments")["data"]] == ["thermo1", "bruker1"]
    assert any("in error" in line for line in _get(page, "status")["wrong"])
    assert [it["id"] for it in _get(page, "projects")["data"]] == ["_FALLBACK"]
    assert [it["name"] for it in _get(page, "settings")["data"]] == ["rawqc"]
    assert _get(page, "alerts")["data"] == []
    assert _get(page, "quality/verdicts", instrument="thermo1")["data"] == []


def test_each_trace_is_told_with_its_units(page: OpenPage) -> None:
    found = _get(page, f"files/{TRACED[0]}/traces")
    tic, pressure = found["traces"]
    assert set(pressure) == set(examples.TRACES["traces"][0])
    assert [tic[name] for name in ("name", "unit", "rt_unit")] == ["tic", "arbitrary", "min"]
    told = [pressure[name] for name in ("name", "title", "unit", "rt_unit")]
    assert told == ["pressure_1", "Evosep HP", "bar", "min"]
    assert len(pressure["values"]) == len(pressure["rt_min"]) == 3000
    assert (pressure["rt_min"][2], pressure["values"][2]) == (0.02, 300.02)
    only = _get(page, f"files/{TRACED[0]}/traces", name="pressure_1, tic")
    assert only == found
    unknown = _get(page, f"files/{TRACED[0]}/traces", 404, name="nothing")
    assert unknown["expected"] == "tic, pressure_1"


def test_errors_are_problem_details_in_the_words_of_the_commands(page: OpenPage) -> None:
    answer = page.get("/api/v1/files/nothing.raw")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.content)
    assert problem["type"] == "urn:kraken:UnknownRawFile"
    assert problem["detail"].startswith("No such raw file in MongoDB: 'nothing.raw'. Next: ")
    assert problem["file"] == "nothing.raw"
    assert "raw_metrics" in _get(page, "files/failed_0001.raw/traces", 404)["next_step"]
    assert _get(page, "nothing", 404)["status"] == 404
    wrong = _get(page, "files", 422, limit=0, typo=1)
    assert "query.typo" in wrong["detail"]
    assert _get(page, "files", 400, cursor="nonsense")["title"].startswith("The cursor is not one")


def test_a_stranger_is_refused_in_the_same_form(page: OpenPage) -> None:
    headers = {"Authorization": "Bearer nonsense"}
    answer = page.get("/api/v1/files", *headers.items())
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert json.loads(answer.content)["type"] == "urn:kraken:access"
    assert page.send("POST", "/api/v1/files/x/retry", ("Origin", page.origin)).status == 401
    for method in ("DELETE", "OPTIONS", "TRACE"):
        refused = page.send(method, "/api/v1/files/x")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, POST")
    wrong = page.send("POST", "/api/v1/files", ("Origin", page.origin), page.login())
    assert (wrong.status, sorted(wrong.headers["Allow"].split(", "))) == (405, ["GET", "HEAD"])


def test_an_address_with_a_slash_too_many_or_none_is_told(page: OpenPage) -> None:
    for path in ("v1/files", "v1/alerts"):
        moved = page.get(f"/api/{path}/?limit=1")
        assert moved.status == 307
        assert moved.headers["Location"].endswith(f"/api/{path}?limit=1")
    for path in ("/api", "/api/", "/api/v2/files"):
        answer = page.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("since", ["2026", "-1", "0.5", "1e9", "nan", "20260131", "yesterday", ""])
def test_a_number_is_no_date(page: OpenPage, since: str) -> None:
    wrong = _get(page, f"files?since={since}", 422)
    assert wrong["errors"][0]["loc"] == ["query", "since"]
    assert _get(page, "files", since="2026-03-01", instrument="thermo1")["data"]


def test_head_has_the_headers_of_get_and_no_content(page: OpenPage) -> None:
    whole, head = page.get("/api/v1/files"), page.send("HEAD", "/api/v1/files")
    assert (head.status, head.content) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]


@pytest.mark.parametrize("name", ["Authorization", "Last-Event-ID", "If-None-Match", "Cookie"])
def test_a_header_that_is_no_text_is_no_fault_of_kraken(page: OpenPage, name: str) -> None:
    answer = page.get("/api/v1/files?limit=1", (name, "\xff \xfe"))
    assert answer.status == 200, answer.text


def test_a_query_that_is_no_utf_8_is_taken_as_a_text(page: OpenPage) -> None:
    assert _get(page, "files?name_contains=%ff%fe&instrument=thermo1")["data"] == []
    assert "%ff" not in _get(page, "files?%ff=1", 422)["detail"]
    assert _get(page, "files/%ff%fe", 404)["type"] == "urn:kraken:UnknownRawFile"
