"""The client for notebooks, with a page over a real database."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pandas as pd
import pytest

from kraken_dagster.client import KrakenClient, RestError, RestWarning
from kraken_dagster.client.frames import OF_FILES, OF_RESULTS, frame_of, frame_of_traces
from kraken_dagster.client.units import units_of_results, units_of_traces
from kraken_dagster.model.api_tokens import TokenScope
from kraken_dagster.model.printable import printable
from kraken_dagster.operations.tokens import add_token
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.changes import FIELDS
from kraken_dagster.web.queries import results
from kraken_dagster_tests.rest.conftest import RERUN, TRACED
from kraken_dagster_tests.web.laboratory import HOSTILE, OpenPage, add, served

TIME = "datetime64[ns, UTC]"


@pytest.fixture
def client(page: OpenPage) -> Iterator[KrakenClient]:
    with KrakenClient(page.origin, page_size=5) as client:
        yield client


def _types(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(kind) for name, kind in frame.dtypes.items()}


def test_the_columns_are_those_of_the_server() -> None:
    assert ("id", *FIELDS) == OF_FILES
    assert results.BASIC == OF_RESULTS


def test_it_loads_nothing_of_the_server() -> None:
    script = "import sys, kraken_dagster.client; print(*{m.split('.')[0] for m in sys.modules})"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "pandas" in loaded
    assert {"dagster", "pymongo", "bson", "starlette", "yaml"}.isdisjoint(loaded)


def test_files_come_page_after_page_with_types_and_units(client: KrakenClient) -> None:
    found = client.files()
    assert len(found) == 14 + len(HOSTILE)
    assert set(HOSTILE) < set(found["id"])
    assert found["created_at"].is_monotonic_decreasing
    assert found["created_at"].max() == pd.Timestamp("2026-03-01 11:55", tz="UTC")
    assert _types(found) == {
        **dict.fromkeys(("id", "original_name", "status_details"), "string"),
        **dict.fromkeys(("backup_base_path", "collision_flag"), "string"),
        **dict.fromkeys(("instrument_id", "project_id", "status"), "category"),
        **dict.fromkeys(("backup_status", "instrument_file_status"), "category"),
        **dict.fromkeys(("created_at", "created_at_", "updated_at_", "verified_at"), TIME),
        "size": "Int64",
    }
    assert found.attrs["units"] == {"size": "B"}
    assert found["verified_at"].isna().all()


def test_a_limit_is_of_the_newest_and_conditions_are_those_of_rest(client: KrakenClient) -> None:
    newest = client.files()["id"]
    for limit in (1, 5, 7):
        assert list(client.files(limit=limit)["id"]) == list(newest[:limit])
    since = datetime(2026, 3, 1, 6, tzinfo=UTC)
    found = client.files(instrument="thermo1", since=since, filter="hela", status="done")
    assert list(found["id"]) == [f"thermo1_hela_{number:04d}.raw" for number in (10, 8, 6)]
    assert len(client.files(since=date(2026, 3, 1), name_contains="HELA")) == 12
    with pytest.raises(ValueError, match="limit is 0"):
        client.files(limit=0)


def test_fields_are_columns_and_what_no_file_has_is_told(client: KrakenClient) -> None:
    with pytest.warns(RestWarning, match="no file of this page has 'nothing'"):
        found = client.files(project="PAGE1", fields=["proteins", "size_gb", "note", "nothing"])
    assert _types(found) == {
        "id": "string",
        "proteins": "Int64",
        "size_gb": "float64",
        "note": "string",
        "nothing": "float64",
    }
    assert found.attrs["units"] == {"size_gb": "GB"}
    everything = client.files(project="PAGE1", fields="*")
    assert list(everything.columns[: len(OF_FILES)]) == list(OF_FILES)
    assert everything["irt_a_delta_rt"].dtype == "float64"
    with pytest.warns(RestWarning, match="presursors"):
        assert client.files(instrument="thermo1", filter="presursors=[1,]").empty


def test_metrics_are_rows_of_results_with_units(client: KrakenClient) -> None:
    found = client.metrics(instrument="bruker1")
    assert len(found) == 6
    assert found["raw_file"][0] == RERUN
    assert _types(found) == {
        "raw_file": "string",
        **dict.fromkeys(("instrument_id", "project_id", "type", "settings_name"), "category"),
        **dict.fromkeys(("created_at", "measured_at"), TIME),
        **dict.fromkeys(("settings_version", "precursors", "proteins"), "Int64"),
        **dict.fromkeys(("huge", "irt_a_delta_rt", "irt_b_delta_rt"), "float64"),
        "note": "string",
    }
    assert found.attrs["units"] == {"irt_a_delta_rt": "min", "irt_b_delta_rt": "min"}
    assert found["proteins"].isna().tolist() == [True, *[False] * 5]
    assert found["proteins"].sum() == sum(7_000 + number for number in (1, 3, 5, 7, 9))
    chosen = client.metrics(instrument="bruker1", metrics="precursors,note", limit=2)
    assert list(chosen.columns) == [*OF_RESULTS, "precursors", "note"]
    assert list(chosen["raw_file"]) == list(found["raw_file"][:2])


def test_no_rows_have_the_same_types(client: KrakenClient) -> None:
    files, metrics = client.files(instrument="nowhere"), client.metrics(instrument="nowhere")
    assert (len(files), len(metrics)) == (0, 0)
    assert _types(files) == _types(client.files(limit=3))
    assert _types(metrics)["created_at"] == TIME
    assert _types(metrics)["type"] == "category"


def test_traces_are_values_over_retention_time(client: KrakenClient) -> None:
    pressure = client.traces(TRACED[0], "pressure_1")
    assert pressure.attrs["units"] == {"rt_min": "min", "value": "bar"}
    assert (len(pressure), pressure["value"][0], pressure["rt_min"][2]) == (3000, 300.0, 0.02)
    with pytest.warns(RestWarning, match=f"no traces: '{RERUN}'. Next: "):
        found = client.traces([*TRACED, RERUN])
    assert _types(found) == {
        **dict.fromkeys(("raw_file", "trace", "unit"), "category"),
        **dict.fromkeys(("rt_min", "value"), "float64"),
    }
    highest = found[found["trace"] == "tic"].groupby("raw_file", observed=True)["value"].max()
    assert highest.to_dict() == dict.fromkeys(TRACED, 1e6)
    assert found.attrs["units"] == {"rt_min": "min"}  # the column `unit` tells each trace's
    units = found.groupby("trace", observed=True)["unit"].first().to_dict()
    assert units == {"tic": "arbitrary", "pressure_1": "bar"}
    assert client.traces([]).columns.equals(found.columns)
    with pytest.raises(RestError, match="materialise `raw_metrics`"):
        client.traces(RERUN)


def test_a_unit_is_told_where_all_traces_have_it() -> None:
    pressure = {"name": "pump", "unit": "bar", "rt_min": [0.1, 0.2], "values": [300, None]}
    current = {"name": "tic", "unit": "counts", "rt_min": [0.1], "values": [5]}
    one = frame_of_traces([{"file": "a.raw", "traces": [pressure]}])
    both = frame_of_traces([{"file": "a.raw", "traces": [pressure, current]}])
    assert units_of_traces(one) == {"rt_min": "min", "value": "bar"}
    assert units_of_traces(both) == {"rt_min": "min"}
    assert both["unit"].tolist() == ["bar", "bar", "counts"]
    assert both["value"].isna().tolist() == [False, True, False]


def test_a_column_of_another_kind_than_expected_is_there_all_the_same() -> None:
    rows = [{"size": 1.5, "verified_at": "never", "x": {"a": 1}}, {"size": 2, "x": True}]
    with pytest.warns(RestWarning, match="verified_at: 1 dates"):
        frame = frame_of(rows, ["size", "verified_at", "x", "good"])
    assert frame["size"].tolist() == [1.5, 2.0]
    assert frame["x"].tolist() == ["{'a': 1}", "True"]
    assert _types(frame_of([{"good": True}, {}], ["good"])) == {"good": "boolean"}


def test_one_metric_in_two_units_has_none_and_is_told() -> None:
    rows = [{"type": "alphadia", "fwhm_rt": 4.5}, {"type": "diann", "fwhm_rt": 0.07}]
    frame = frame_of(rows, ["type", "fwhm_rt"])
    with pytest.warns(RestWarning, match=r"fwhm_rt is in s \(alphadia\), min \(diann\)"):
        assert units_of_results(frame, OF_RESULTS) == {}
    assert units_of_results(frame[:1], OF_RESULTS) == {"fwhm_rt": "s"}


@pytest.mark.parametrize("name", [RERUN, *HOSTILE])
def test_everything_is_told_of_a_file_of_any_name(client: KrakenClient, name: str) -> None:
    assert client.file(name)["id"] == name
    with pytest.raises(RestError) as refused:
        client.traces(name)
    assert (refused.value.kind, refused.value.file) == ("MissingOutputError", printable(name))


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("files/no.raw", lambda client: client.file("no.raw")),
        ("files?filter=hela&limit=5", lambda client: client.files(filter="hela")),
        ("files?since=yesterday&limit=5", lambda client: client.files(since="yesterday")),
    ],
)
def test_an_error_has_the_words_of_the_server(
    page: OpenPage, client: KrakenClient, path: str, ask: Callable[[KrakenClient], object]
) -> None:
    problem = json.loads(page.get(f"/api/v1/{path}").content)
    with pytest.raises(RestError) as refused:
        ask(client)
    error = refused.value
    assert str(error).endswith(problem["detail"])
    assert str(error).startswith(problem["title"].rstrip("."))
    assert (error.status, error.what) == (problem["status"], problem["title"])
    assert (error.next_step, error.found) == (problem.get("next_step"), problem.get("found"))


def test_a_token_is_an_argument_or_in_the_environment(
    page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = datetime.now(UTC) + timedelta(days=1)
    token = add_token(page.feed.services, "notebook", TokenScope.READ, expires_at=expires, by="me")
    monkeypatch.setenv("KRAKEN_URL", f"{page.origin}/api/")
    monkeypatch.setenv("KRAKEN_TOKEN", f"{token}\n")
    assert len(KrakenClient().files(limit=1)) == 1
    with pytest.raises(RestError) as refused:
        KrakenClient(token="kraken_nonsense").files()
    assert (refused.value.status, refused.value.kind) == (401, "access")
    assert token not in repr(KrakenClient())
    with pytest.raises(RestError, match="This is not a token") as refused:
        KrakenClient(token="secret\N{EM DASH}word")
    assert "secret" not in str(refused.value)


def test_a_page_that_is_not_there_is_told_with_the_next_step() -> None:
    with pytest.raises(RestError, match=r"can't be reached.*ConnectError.*Next: check") as refused:
        KrakenClient("http://127.0.0.1:9").files()
    assert (refused.value.status, refused.value.transient) == (None, True)
    for address in ("nonsense", "http://[", "ftp://127.0.0.1"):
        with pytest.raises(RestError, match="can't be reached"):
            KrakenClient(address).files()


def test_another_server_is_told_apart_from_kraken(page: OpenPage) -> None:
    with pytest.raises(RestError, match="does not answer as Kraken's page") as refused:
        KrakenClient(page.origin, transport=_answers(httpx.Response(200, text="<html>"))).files()
    assert refused.value.status == 200
    moved = httpx.Response(302, headers={"Location": "https://login.example"})
    with pytest.raises(RestError, match="leads to https://login"):
        KrakenClient(page.origin, transport=_answers(moved)).files()


def _answers(*given: httpx.Response) -> httpx.MockTransport:
    left = list(given)
    return httpx.MockTransport(lambda _: left.pop(0) if len(left) > 1 else left[0])


def test_a_date_that_nanoseconds_cannot_hold_is_told(services: Services) -> None:
    at, now = datetime(1601, 1, 1, tzinfo=UTC), services.now()
    add(services, "old.raw", at, created_at_=now, updated_at_=now)
    with (
        served(services, lives=False) as page,
        pytest.warns(RestWarning, match="created_at: 1 dates are missing"),
    ):
        found = KrakenClient(page.origin).files()
    assert found["created_at"].isna().all()
    assert found["created_at_"].notna().all()
    assert str(found["created_at"].dtype) == TIME
