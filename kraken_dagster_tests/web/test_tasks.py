"""The tasks of docs/tasks.md in a browser, by somebody who knows no address, in three clicks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from kraken_dagster.config.dagit import Role
from kraken_dagster.dagit.access import PAGE
from kraken_dagster.runtime.services import utc_now
from kraken_dagster_tests.support.laboratory import PATIENCE_S
from kraken_dagster_tests.web.laboratory import OpenPage
from kraken_dagster_tests.web.test_page_browser import page_server

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("page browser")]
__all__ = ["page_server"]  # a fixture
_DOCS = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
_ALLOWED = 3


class Clicks:
    """A user who counts."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def on(self, item: Locator) -> None:
        item.first.click()
        self.count += 1

    def link(self, name: str | re.Pattern[str]) -> None:
        self.on(self.page.get_by_role("link", name=name, exact=isinstance(name, str)))


@pytest.fixture
def user(page_server: OpenPage, browser: Browser) -> Iterator[Clicks]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=page_server.origin)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page_server.access.prepare(page_server.origin, of=PAGE)
    page.goto(page_server.access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE))
    page.goto(page_server.origin)
    clicks = Clicks(page)
    yield clicks
    assert clicks.count <= _ALLOWED
    context.close()


def _card(user: Clicks, instrument: str) -> Locator:
    return user.page.locator("article.card", has=user.page.get_by_role("link", name=instrument))


def _copied(user: Clicks) -> list[str]:
    user.on(user.page.get_by_role("button", name="Copy paths"))
    expect(user.page.get_by_role("button", name=re.compile("^Copied"))).to_be_visible()
    text: str = user.page.evaluate("navigator.clipboard.readText()")
    return text.splitlines()


def test_the_tasks_are_ten() -> None:
    rows = [line for line in _DOCS.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 10
    for row in rows:
        clicks = [int(number) for number in re.findall(r"(\d) clicks?\b", row)]
        assert clicks, row
        assert max(clicks) <= _ALLOWED, row


def test_who_needs_me_stands_first(user: Clicks) -> None:
    expect(user.page.locator("article.card").first.locator(".wrong").first).to_be_visible()


def test_last_nights_samples(user: Clicks) -> None:
    user.on(_card(user, "bruker1").locator(".facts a"))
    expect(user.page.locator("#rows a.file").first).to_contain_text("bruker1_hela_0399")


def test_the_last_file_of_an_instrument_has_its_chromatogram(user: Clicks) -> None:
    user.on(_card(user, "bruker1").locator("a.file"))
    expect(user.page.get_by_role("heading", name="Chromatogram")).to_be_visible()


def test_metrics_of_the_last_month(user: Clicks) -> None:
    user.link("Plots")
    expect(user.page.locator("body")).to_have_attribute("data-drawn", "1")
    user.on(user.page.get_by_role("button", name="30 days"))
    expect(user.page.locator("body")).to_have_attribute("data-drawn", "2")


def test_paths_of_a_projects_files(user: Clicks) -> None:
    user.link("Projects")
    user.on(user.page.locator("tr", has_text="PAGE1").locator("td a"))
    expect(user.page.locator("#count")).to_have_text(re.compile("^400 "))
    assert "/pool/bruker1/2026_03/bruker1_hela_0399.raw" in _copied(user)


def test_paths_of_what_a_filter_shows(user: Clicks) -> None:
    user.link("Files")
    user.page.wait_for_url("**/files")
    user.page.wait_for_load_state()  # the shortcut is there then
    user.page.keyboard.press("/")
    expect(user.page.locator("#filter")).to_be_focused()
    user.page.keyboard.type("bruker1_hela_000")
    expect(user.page.locator("#count")).to_have_text("5 files")
    assert len(_copied(user)) == 5


def test_all_metrics_as_a_sheet(user: Clicks) -> None:
    user.link("Files")
    user.on(user.page.locator("#downloads summary"))
    with user.page.expect_download() as download:
        user.link("Excel (XLSX)")
    assert download.value.suggested_filename == "files.xlsx"


def test_why_a_file_failed_and_what_to_do(user: Clicks) -> None:
    user.on(_card(user, "thermo1").locator(".alarm a"))
    user.link("failed_0001.raw")
    expect(user.page.get_by_text("Next: free some space").first).to_be_visible()


def test_what_failed_is_done_again(user: Clicks, page_server: OpenPage) -> None:
    user.page.goto(f"{page_server.origin}/file?id=failed_0001.raw")
    user.on(user.page.get_by_text("Try again", exact=True))
    user.on(user.page.get_by_role("button", name="Yes, try again"))
    expect(user.page.get_by_role("status").last).to_contain_text("at its next tick")


def test_a_file_is_processed_with_other_settings(user: Clicks, page_server: OpenPage) -> None:
    user.page.goto(f"{page_server.origin}/file?id=bruker1_hela_0397.raw")
    user.link(re.compile("Process again with settings"))
    user.on(user.page.get_by_label(re.compile("dia version 1")))
    user.on(user.page.get_by_role("button", name="Yes, process it again"))
    expect(user.page.get_by_role("status").last).to_contain_text("1 file with dia version 1")


def test_a_project_uses_the_new_version(user: Clicks) -> None:
    user.link("Projects")
    user.link("PAGE1")
    user.on(user.page.get_by_role("button", name="Use the newest"))
    expect(user.page.locator("#said")).to_contain_text("dia version 2 from the next file on")
