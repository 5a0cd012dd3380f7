"""The client asks again when the page says so, and as late as it says."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from kraken_dagster.client import KrakenClient, RestError
from kraken_dagster.client.connection import Connection, wait_of
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.web.laboratory import served

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "http://page.example"
PROBLEM = {"Content-Type": "application/problem+json"}
AWAY = {"type": "urn:kraken:StoreUnavailable", "title": "MongoDB is away", "transient": True}
AWAY |= {"detail": "MongoDB is away. Next: wait."}


def test_who_asks_too_often_waits_and_gets_the_answer(services: Services) -> None:
    settings = services.config.page.model_copy(update={"requests_a_minute": 40})
    config = services.config.model_copy(update={"page": settings})
    with served(replace(services, config=config), lives=False) as page:
        patient, hasty = KrakenClient(page.origin), KrakenClient(page.origin, retries=0)
        assert len([patient.files() for _ in range(41)]) == 41
        with pytest.raises(RestError, match=r"Too many requests: .* Next: ask again") as refused:
            [hasty.files() for _ in range(200)]
    assert (refused.value.status, refused.value.transient) == (429, True)


def _connection(waits: list[float], *given: httpx.Response, retries: int = 3) -> Connection:
    left = list(given)
    return Connection(
        URL,
        None,
        timeout_s=5,
        retries=retries,
        wait=waits.append,
        transport=httpx.MockTransport(lambda _: left.pop(0)),
    )


def _later(after: str | None = None, status: int = 503) -> httpx.Response:
    headers = PROBLEM if after is None else {**PROBLEM, "Retry-After": after}
    return httpx.Response(status, json=AWAY, headers=headers)


def test_it_waits_as_long_as_it_is_told() -> None:
    waits: list[float] = []
    done = httpx.Response(200, json={"data": []})
    asked = _connection(waits, _later("7"), _later(), _later("2", 429), done)
    assert asked.get("files") == {"data": []}
    assert waits == [7.0, 2.0, 2.0]


def test_it_gives_up_with_the_words_of_the_last_answer() -> None:
    waits: list[float] = []
    with pytest.raises(RestError, match=r"^MongoDB is away\. Next: wait\.$") as refused:
        _connection(waits, _later("1"), _later("1"), retries=1).get("files")
    assert (refused.value.status, refused.value.kind, waits) == (503, "StoreUnavailable", [1.0])
    with pytest.raises(RestError):
        _connection(waits, _later("3600")).get("files")
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        (None, 4),
        ("soon", 4),
        ("-3", 4),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    assert wait_of(header, 2, now=NOW) == seconds
