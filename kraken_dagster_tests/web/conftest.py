"""A browser for all that look at the page with one."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from kraken_dagster_tests.support.chromium import chromium
from kraken_dagster_tests.web.browsing import DESK, PHONE, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def anywhere(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    yield from opened(browser, request.param)


@pytest.fixture
def desk(browser: Browser) -> Iterator[Page]:
    yield from opened(browser, DESK)
