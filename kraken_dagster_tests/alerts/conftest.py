from collections.abc import Iterator

import pytest

from kraken_dagster_tests.alerts.receivers import WebhookServer, running


@pytest.fixture
def hook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    with running(server):
        yield server
