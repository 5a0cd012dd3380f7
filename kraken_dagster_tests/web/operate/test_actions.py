"""What an operator has done from the page, and what anybody takes away as a file."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow.parquet as pq
import pytest

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.table.exports import FORMS, as_csv, as_parquet, as_xlsx
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, backed_up, job, wait_until
from kraken_dagster_tests.web.laboratory import OpenPage, add, served, with_traces

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    with served(services, lives=False) as page:
        yield page


@pytest.mark.parametrize("name", ["failed.raw", f"{HOSTILE_STEMS[3]}.raw", "a&b=c?.raw"])
def test_an_operator_has_a_file_tried_again_and_it_is_recorded(page: OpenPage, name: str) -> None:
    services = page.feed.services
    add(services, name, services.now(), status=Status.ERROR)
    asked = "POST", f"/file/retry?id={quote(name)}", ("Origin", page.origin)
    assert page.send(*asked, page.login(Role.VIEWER)).status == 403
    assert services.store.raw_files.get(name).retry_at is None
    answer = page.send(*asked, page.login())
    assert answer.status == 200
    assert "goes on with it at its next tick" in answer.text
    after = services.store.raw_files.get(name)
    assert after.retry_at == services.now()
    assert "a login on the page" in after.history[-1]["reason"]


def test_what_can_not_be_done_is_told(page: OpenPage) -> None:
    services, operator = page.feed.services, page.login()
    add(services, "moving.raw", services.now(), status=Status.COPYING)
    origin = ("Origin", page.origin)
    answer = page.send("POST", "/file/retry?id=moving.raw", origin, operator)
    assert answer.status == 409
    assert "it is on its way" in answer.text
    assert page.send("POST", "/file/retry?id=nothing", origin, operator).status == 409
    assert page.send("POST", "/file/verify?id=nothing", origin, operator).status == 409
    odd = page.send("POST", "/file/retry?id=x", origin, operator, body="mode=delete")
    assert odd.status == 400
    long = page.send("POST", "/file/retry?id=x", origin, operator, body="x" * 200_000)
    assert long.status == 413


def test_a_backup_is_read_again_and_the_file_says_what_was_found(page: OpenPage) -> None:
    services = page.feed.services
    raw_file = backed_up(services, "thermo1", "good.raw")
    done, now = Status.DONE_NOT_QUANTED, services.now()
    services.store.raw_files.transition(raw_file, done, now=now, reason="nothing to run")
    operator = page.login()
    answer = page.send("POST", "/file/verify?id=good.raw", ("Origin", page.origin), operator)
    assert answer.status == 200
    wait_until(
        lambda: "Backup verified" in page.get("/file", id="good.raw").text, "it was verified"
    )
    assert services.store.raw_files.get("good.raw").verified_at is not None


def test_a_backup_is_copied_into_a_configured_folder_and_nowhere_else(
    services: Services, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    allowed = services.config.page.model_copy(update={"restore_folders": [tmp_path / "scratch"]})
    config = services.config.model_copy(update={"page": allowed})
    backed_up(services, "thermo1", "good.raw")
    with served(replace(services, config=config), lives=False) as page:
        asked = "POST", "/file/restore?id=good.raw", ("Origin", page.origin)
        body = urlencode({"folder": tmp_path / "scratch"})
        assert page.send(*asked, page.login(Role.VIEWER), body=body).status == 403
        elsewhere = page.send(*asked, page.login(), body=urlencode({"folder": tmp_path}))
        assert elsewhere.status == 400
        assert page.send(*asked, page.login(), body=body).status == 200
        wait_until(lambda: "copied out to" in page.get("/file", id="good.raw").text, "it is copied")
    source = services.backup_folder(services.store.raw_files.get("good.raw")) / "good.raw"
    assert (tmp_path / "scratch" / "good.raw").read_bytes() == source.read_bytes()
    (event,) = services.store.raw_files.get("good.raw").history[-1:]
    assert "asked for by a login on the page" in event["reason"]


def test_a_file_has_its_traces_with_those_of_the_files_before_it(page: OpenPage) -> None:
    services = page.feed.services
    for number in range(3):
        at = services.now() - timedelta(hours=3 - number)
        add(services, f"{number}.raw", at, status=Status.DONE)
        with_traces(services, f"{number}.raw", highest=1e6 * (number + 1))
    add(services, "later.raw", services.now(), status=Status.DONE)
    page.feed.refresh()
    found = json.loads(page.get("/file/traces", id="2.raw").text)
    tic, pressure = found["traces"]
    assert (tic["name"], max(tic["own"]["y"]), len(tic["own"]["x"])) == ("tic", 3e6, 600)
    assert [item["id"] for item in tic["before"]] == ["1.raw", "0.raw"]
    assert [max(item["y"]) for item in tic["before"]] == [2e6, 1e6]
    assert pressure["name"] == "pressure_1"
    assert json.loads(page.get("/file/traces", id="later.raw").text)["traces"] == []
    assert "No such raw file" in json.loads(page.get("/file/traces", id="x").text)["problem"]


def _table() -> tuple[Table, list[str]]:
    table = Table()
    table.put("=1+1.raw", {"at": AT, "v": 0.1, "mixed": "text", "odd": float("inf")})
    table.put("b,\"'.raw", {"v": 1e308, "mixed": 3})
    return table, ["at", "v", "mixed", "odd"]


def test_a_table_in_csv_has_the_exact_values() -> None:
    table, names = _table()
    text = as_csv(table, np.array([1, 0]), names).decode()
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert lines == [
        ["raw_file", *names],
        ["b,\"'.raw", "", "1e+308", "3", ""],
        ["=1+1.raw", "2026-03-01T12:00:00+00:00", "0.1", "text", "inf"],
    ]


def test_a_table_in_parquet_has_types() -> None:
    table, names = _table()
    found = pq.read_table(io.BytesIO(as_parquet(table, np.array([0, 1]), names)))
    assert found.column("v").to_pylist() == [0.1, 1e308]
    assert found.column("at").to_pylist() == [AT, None]
    assert found.column("mixed").to_pylist() == ["text", "3"]


def test_a_name_like_a_formula_is_a_text_in_a_sheet() -> None:
    import zipfile

    table, names = _table()
    with zipfile.ZipFile(io.BytesIO(as_xlsx(table, np.array([0, 1]), names))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "=1+1.raw" in sheet
    assert "<f>" not in sheet
    assert "1E+308" in sheet.upper()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_shown_or_picked_is_taken_away(page: OpenPage, form: str) -> None:
    for name in ("one.raw", "two.raw", "three.raw"):
        add(page.feed.services, name, page.feed.services.now())
    page.feed.refresh()
    answer = page.get("/files/export", filter="one|two", **{"as": form})
    assert answer.status == 200
    assert answer.headers["Content-Disposition"] == f'attachment; filename="files.{form}"'
    assert page.get("/files/export", **{"as": "exe"}).status == 400
    if form == "csv":
        assert answer.content.count(b"\n") == 3
        paths = page.get("/files/paths", filter="one|two", **{"as": "paths"})
        assert (paths.text, paths.headers["X-Left-Out"]) == ("", "2")
        picked = page.get("/files/export", id="three.raw", **{"as": form})
        assert picked.text.splitlines()[1].startswith("three.raw,")


def test_a_file_without_metrics_has_no_mzqc(page: OpenPage) -> None:
    add(page.feed.services, "bare.raw", page.feed.services.now())
    answer = page.get("/file/mzqc", id="bare.raw")
    assert answer.status == 404
    assert "There is no metric that mzQC has a term for" in answer.text


def test_the_files_that_are_shown_or_picked_are_one_mzqc(page: OpenPage) -> None:
    names = ("one.raw", "two.raw", "three.raw")
    services, now = page.feed.services, page.feed.services.now()
    for name in names:
        add(services, name, now)
        ended = job(f"job-{name}", raw_file=name, metrics_type="alphadia")
        services.store.metrics.add(ended, {"precursors": 90_000}, provenance={}, now=now)
    page.feed.refresh()
    answer = page.get("/files/export", filter="one|two", **{"as": "mzqc"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="files.mzQC"'
    runs = json.loads(answer.content)["mzQC"]["runQualities"]
    inputs = [run["metadata"]["inputFiles"][0]["name"] for run in runs]
    assert sorted(inputs) == ["one.raw", "two.raw"]
    picked = page.get("/files/export", id="three.raw", **{"as": "mzqc"})
    assert len(json.loads(picked.content)["mzQC"]["runQualities"]) == 1
