"""What Prometheus and load balancers ask of the page."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.web.laboratory import HTML_NAME, OpenPage, fill, served


@pytest.fixture
def page(config: KrakenConfig, store: Store) -> Iterator[OpenPage]:
    services = Services(config=config, store=store, engines={}, now=utc_now)
    fill(services, count=5, now=services.now())
    with served(services, lives=False) as page:
        yield page


def test_healthz_says_whether_the_page_follows_mongodb(page: OpenPage) -> None:
    answer = page.get("/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")
    assert page.feed.seen_at is not None
    page.feed.seen_at -= timedelta(minutes=2)
    answer = page.get("/healthz")
    assert (answer.status, answer.text) == (503, "stale\n")


def test_readyz_tells_that_dagster_does_not_tick(page: OpenPage) -> None:
    answer = page.get("/readyz")
    assert answer.status == 503
    assert "the sensor `alerts` has never ticked" in answer.text
    now = page.feed.services.now()
    alerts = page.feed.services.store.alerts
    alerts.looked(by="here", from_dagster=True, watching_since=now, now=now)
    assert (page.get("/readyz").status, page.get("/readyz").text) == (200, "ready\n")


def test_metrics_are_prometheus_text_and_name_no_file(page: OpenPage) -> None:
    answer = page.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE kraken_files gauge" in answer.text
    assert ".raw" not in answer.text
    assert HTML_NAME not in answer.text
