"""A real browser for tests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.laboratory import PATIENCE_S

# The first has the same engine, and draws no window of a browser around each page.
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    # It asks nobody for news of its own.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser, whose patience is that of the laboratories."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        unavailable("no Chromium to look at pages with")
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])
        yield browser
        browser.close()
