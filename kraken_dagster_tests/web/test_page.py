"""The page over a real MongoDB and real connections: who sees what, and what follows MongoDB."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pytest

from kraken_dagster.config.dagit import Dagit, Role
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import PROXY
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import Store, connect
from kraken_dagster.web.feed import Feed
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.web.laboratory import HOSTILE, HTML_NAME, OpenPage, add, fill, served

_FILE = "/file?id=thermo1_hela_0000.raw"


@pytest.fixture
def live(config: KrakenConfig, store: Store) -> Services:
    return Services(config=config, store=store, engines={}, now=utc_now)


@pytest.fixture
def page(live: Services) -> Iterator[OpenPage]:
    fill(live, count=12, now=live.now())
    with served(live, lives=False) as page:
        yield page


def test_every_page_answers_and_loads_nothing_from_elsewhere(page: OpenPage) -> None:
    for path in ("/", "/files", "/plots", "/status", "/wall", "/help", _FILE):
        answer = page.get(path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert " style=" not in answer.text
        assert "<script>" not in answer.text
        assert 'src="http' not in answer.text
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "read-only" in answer.text


def test_names_from_a_disk_are_shown_and_do_nothing(page: OpenPage) -> None:
    answer = page.get("/files", limit=200)
    assert "<b onmouseover" not in answer.text
    assert "&lt;b onmouseover" in answer.text
    read = re.sub(r'value="[^"]*"', "", answer.text)  # what a script gets is the name itself
    assert "\u202e" not in read
    assert "\x1b" not in read
    for name in HOSTILE:
        answer = page.get("/file", id=name)
        assert answer.status == 200, name
        assert "<b onmouseover" not in answer.text


def test_plots_are_given_as_json_whatever_stands_in_a_column(page: OpenPage) -> None:
    asked = {"y": "huge,note,irt_*_delta_rt,nothing,status", "filter": "hela"}
    reported = json.loads(page.get("/plots/data", **asked).text, parse_constant=pytest.fail)
    huge, note, irt, *empty = reported["plots"]
    assert huge["median"] == 1e308
    assert len(note["groups"]) == 2  # of two instruments: where it is a number
    assert len(irt["groups"]) == 4
    assert [item["groups"] for item in empty] == [[], []]


@pytest.mark.parametrize(
    "query",
    [
        {"x": "nothing", "y": "proteins"},
        {"x": "huge", "y": "huge", "low": "nan", "high": "-1e400"},
        {"y": "*" * 200, "width": "99999999999999999999"},
        {"y": "proteins", "low": "5", "high": "1", "color": "proteins"},
    ],
)
def test_odd_plots_are_answered(page: OpenPage, query: dict[str, str]) -> None:
    answer = page.get("/plots/data", **query)
    assert answer.status == 200
    json.loads(answer.text, parse_constant=pytest.fail)
    assert page.get("/plots", **query).status == 200


@pytest.mark.parametrize(
    "query",
    [
        {"filter": HTML_NAME},
        {"filter": "(" * 1000},
        {"filter": "\x00\ud7ff"},
        {"sort": "-<script>", "columns": "nope,<b>"},
        {"offset": "9" * 400, "limit": "-1"},
        {"offset": "½", "limit": "1e9"},
    ],
)
def test_odd_questions_are_answered(page: OpenPage, query: dict[str, str]) -> None:
    for path in ("/files", "/files/rows"):
        answer = page.get(path, **query)
        assert answer.status == 200
        assert "<script>" not in answer.text
        assert "<b onmouseover" not in answer.text


def test_rows_come_in_windows_with_their_number_and_what_was_ignored(page: OpenPage) -> None:
    answer = page.get("/files/rows", filter="hela & (bad", offset=2, limit=3)
    assert answer.text.count("<tr>") == 3
    assert answer.headers["X-Total"] == "12"
    assert "no%20regular%20expression" in answer.headers["X-Warnings"]


def test_a_baseline_that_can_not_be_understood_is_told(page: OpenPage) -> None:
    asked = {"y": "proteins", "filter": "hela"}
    whole = json.loads(page.get("/plots/data", **asked).text)
    of_two = json.loads(page.get("/plots/data", **asked, baseline="hela_000[12]").text)
    assert of_two["plots"][0]["median"] == 7001.5 != whole["plots"][0]["median"]
    assert of_two["total"] == whole["total"] == 12
    assert json.loads(page.get("/plots/data", **asked, baseline="nothing=[1,2]").text)["warnings"]


def test_unknown_pages_and_files_are_told(page: OpenPage) -> None:
    assert page.get("/nothing").status == 404
    answer = page.get("/file", id="nothing")
    assert answer.status == 404
    assert "No such raw file" in answer.text


def test_nobody_changes_anything_without_a_login(page: OpenPage) -> None:
    origin = ("Origin", page.origin)
    viewer, operator = page.login(Role.VIEWER), page.login(Role.OPERATOR)
    assert page.send("POST", "/file/retry", origin).status == 401
    assert page.send("POST", "/file/retry", origin, viewer).status == 403
    assert page.send("POST", "/file/retry", operator).status == 403  # of no page
    evil = ("Origin", "http://evil.example")
    assert page.send("POST", "/file/retry", operator, evil).status == 403
    assert page.send("DELETE", "/files", operator, origin).status == 405
    assert "operator" in page.get("/", operator).text


def test_a_foreign_name_and_a_foreign_page_get_nothing(page: OpenPage) -> None:
    assert page.get("/files", ("Host", "evil.example")).status == 421
    assert page.get("/files", ("Sec-Fetch-Site", "cross-site")).status == 200  # a link
    embedded = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")]
    assert page.get("/files", *embedded).status == 403


def test_behind_a_proxy_everyone_is_somebody_and_only_the_wall_is_open(live: Services) -> None:
    settings = Dagit.model_validate(
        {"hosts": ["page.lab:8443"], "trusted_proxies": ["127.0.0.1"], "operators": ["alice"]}
    )
    with served(live, settings=settings, root_path="/kraken", lives=False) as page:
        assert page.get("/kraken/files").status == 401
        assert page.get("/kraken/static/page.css").status == 200
        assert page.get("/kraken/wall").status == 200
        token = page.access.token(PROXY)
        said = [("X-Kraken-Proxy-Token", token), ("X-Forwarded-User", "alice")]
        answer = page.get("/kraken/files", *said)
        assert answer.status == 200
        assert 'href="/kraken/help"' in answer.text
        assert "alice, operator" in answer.text
        assert page.get("/files", *said).status == 200  # a proxy that takes its path away
        assert page.get("/files", ("X-Forwarded-User", "alice")).status == 403


def test_a_change_in_mongodb_reaches_who_listens(live: Services) -> None:
    with served(live) as page:
        before = page.feed.stamp
        add(live, "new.raw", live.now())
        wait_until(lambda: page.feed.stamp != before, "the page has taken it up")
        assert "new.raw" in page.get("/files").text
        raw_file = live.store.raw_files.get("new.raw")
        live.store.raw_files.transition(raw_file, Status.IGNORED, now=live.now(), reason="why")
        wait_until(
            lambda: page.get("/files/rows", filter="status=ignored").headers["X-Total"] == "1",
            "the change of a status is on the page",
        )


def test_events_say_what_the_server_knows(live: Services) -> None:
    with served(live) as page:
        reported: list[dict[str, Any]] = []
        done = threading.Event()
        threading.Thread(target=_listen, args=(page, reported, done)).start()
        wait_until(lambda: bool(reported), "an event has come")
        add(live, "new.raw", live.now())
        wait_until(
            lambda: reported[-1]["stamp"] > reported[0]["stamp"], "an event tells of the change"
        )
        done.set()


def _listen(page: OpenPage, reported: list[dict[str, Any]], done: threading.Event) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", page.place.port, timeout=60)
    with closing(connection):
        connection.request("GET", "/events")
        answer = connection.getresponse()
        while not done.is_set():
            line = answer.fp.readline().decode() if answer.fp else ""
            if line.startswith("data: "):
                reported.append(json.loads(line[6:]))


def test_what_was_removed_or_written_without_a_date_is_found_by_comparing(
    live: Services, mongodb_uri: str
) -> None:
    add(live, "one.raw", live.now())
    add(live, "two.raw", live.now())
    feed = Feed(live)
    feed.refresh()
    assert feed.table.ids == ["one.raw", "two.raw"]
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        files = client.get_default_database()["raw_file"]
        files.delete_one({"_id": "one.raw"})
        files.insert_one({"_id": "three.raw", "status": "odd"})
    feed._compared_at -= timedelta(hours=1)
    feed.refresh()
    assert sorted(feed.table.ids) == ["three.raw", "two.raw"]
    assert feed.table.text("status", feed.table.ids.index("three.raw")) == "odd"


def test_what_has_not_changed_changes_nothing(live: Services) -> None:
    fill(live, count=4, now=live.now())
    feed = Feed(live)
    feed.refresh()
    version = feed.table.version
    feed.refresh()
    assert feed.table.version == version


def test_without_mongodb_the_page_shows_what_it_has_and_how_old_it_is(
    live: Services, clock: Callable[[], datetime]
) -> None:
    add(live, "known.raw", live.now())
    with served(live, lives=False) as page:
        with closing(connect("mongodb://127.0.0.1:1/x", timeout_s=0.2)) as nowhere:
            away = Services(config=live.config, store=nowhere, engines={}, now=live.now)
            page.feed.services = away
            page.feed.refresh()
            assert "MongoDB can't be reached" in str(page.feed.problem)
            answer = page.get("/files")
            assert answer.status == 200
            assert "known.raw" in answer.text
            assert "this is what was known" in answer.text
            assert page.get("/file", id="known.raw").status == 503
        page.feed.services = live
        page.feed.refresh()
        assert page.feed.problem is None
