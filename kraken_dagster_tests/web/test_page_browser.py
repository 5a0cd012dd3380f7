"""The page in a real browser: on a desk and on a phone, by mouse and by keyboard."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from kraken_dagster.config.dagit import Role
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import PAGE
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import Status
from kraken_dagster.projects import projects as steps
from kraken_dagster.projects import settings as versions
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import database_uri, mark_stores, wait_until
from kraken_dagster_tests.web.browsing import findings
from kraken_dagster_tests.web.laboratory import (
    HTML_NAME,
    OpenPage,
    add,
    fill,
    served,
    with_disks,
    with_traces,
)

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("page browser")]
_FILE = "/file?id=thermo1_hela_0030.raw"
_PROJECT, _VERSION = "/project?id=PAGE1", "/settings/version?name=dia"
_VIEWS = (
    *("/", "/files", "/plots", "/status", "/wall", "/help", _FILE),
    *("/projects", _PROJECT, "/settings", _VERSION, "/alerts"),
    "/files/again?id=thermo1_hela_0030.raw",
)
_COUNT = 400


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[OpenPage]:
    home = tmp_path_factory.mktemp("page")
    for name in ("instruments", "backup", "output"):
        (home / name).mkdir()
    config = KrakenConfig.model_validate(
        {
            "home": home / "home",
            "locations": {name: str(home / name) for name in ("instruments", "backup", "output")},
            "instruments": {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}},
        }
    )
    name = f"page_browser_{secrets.token_hex(4)}"  # each module that uses it has its own
    with closing(connect(database_uri(server_uri, name))) as store:
        store.prepare()
        services = Services(config=config, store=store, engines={}, now=utc_now)
        fill(services, count=_COUNT, now=utc_now())
        mark_stores(services)
        steps.add_project(services, Project(id="PAGE1", name="Plasma"))
        dia = versions.add_settings(services, {"name": "dia", "software": "search"})
        steps.assign(services, "PAGE1", dia)
        versions.new_version(services, "dia", {"num_threads": 8})
        versions.add_settings(services, {"name": "wide_window", "software": "search"})
        with_disks(services)
        for number in range(20, 31, 2):
            name = f"thermo1_hela_{number:04d}.raw"
            with_traces(services, name, highest=1e6 * number)
        with served(services) as page:
            yield page


@pytest.mark.parametrize("view", _VIEWS)
def test_a_view_is_for_everyone_and_fits(page_server: OpenPage, anywhere: Page, view: str) -> None:
    anywhere.goto(page_server.origin + view)
    expect(anywhere.locator("h1")).to_have_count(1)
    if view == "/plots":
        expect(anywhere.locator(".plot canvas").first).to_be_visible()
    assert findings(anywhere) == []
    wide, seen = anywhere.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen


def test_the_table_follows_what_is_typed_and_how_far_one_scrolls(
    page_server: OpenPage, desk: Page
) -> None:
    desk.goto(f"{page_server.origin}/files")
    desk.keyboard.press("/")
    desk.keyboard.type("bruker1_hela & !(bad")
    expect(desk.locator("#count")).to_have_text("200 files")
    expect(desk.locator("#warnings")).to_contain_text("is ignored")
    assert "filter=bruker1_hela" in desk.url
    desk.locator("#scroll").evaluate("item => item.scrollTop = item.scrollHeight")
    expect(desk.get_by_role("link", name="bruker1_hela_0001.raw")).to_be_visible()
    desk.reload()
    expect(desk.locator("#filter")).to_have_value("bruker1_hela & !(bad")


def test_a_hostile_name_is_text(page_server: OpenPage, desk: Page) -> None:
    desk.goto(f"{page_server.origin}/files?filter=onmouseover")
    link = desk.locator("#rows a.file")
    expect(link).to_have_text(HTML_NAME)
    link.hover()
    link.click()
    expect(desk.locator("h1")).to_have_text(HTML_NAME)


def test_a_change_comes_without_a_reload(page_server: OpenPage, desk: Page) -> None:
    services = page_server.feed.services
    desk.goto(f"{page_server.origin}/files?filter=arrives")
    expect(desk.locator("#count")).to_contain_text("0 of")
    add(services, "arrives.raw", services.now(), instrument_id="bruker1")
    expect(desk.get_by_role("link", name="arrives.raw")).to_be_visible()
    desk.goto(f"{page_server.origin}/file?id=arrives.raw")
    raw_file = services.store.raw_files.get("arrives.raw")
    services.store.raw_files.transition(
        raw_file, Status.IGNORED, now=services.now(), reason="too old for this"
    )
    expect(desk.get_by_text("too old for this").first).to_be_visible()


def test_the_page_says_when_it_has_lost_the_server(page_server: OpenPage, browser: Browser) -> None:
    page = browser.new_page()
    with served(page_server.feed.services) as another:
        page.goto(f"{another.origin}/wall")
        expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#lost")).to_contain_text("The server is lost since")
    page.close()


def test_a_plot_is_zoomed_and_leads_to_a_file(page_server: OpenPage, desk: Page) -> None:
    desk.goto(f"{page_server.origin}/plots?y=proteins")
    over = desk.locator(".u-over")
    expect(over).to_be_visible()
    box = over.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    desk.mouse.move(box["x"] + box["width"] * 0.7, y)
    desk.mouse.down()
    desk.mouse.move(box["x"] + box["width"] * 0.9, y, steps=5)
    desk.mouse.up()
    expect(desk.locator("body")).to_have_attribute("data-drawn", "2")
    assert "low=" in desk.url
    place = desk.evaluate(_NEWEST)
    box = over.bounding_box()
    assert box is not None
    desk.mouse.move(box["x"] + place[0], box["y"] + place[1])
    desk.mouse.click(box["x"] + place[0], box["y"] + place[1])
    expect(desk.locator("h1")).to_contain_text("_hela_")


# Where the middle point of the plot is, by what the server gives of it.
_NEWEST = """async () => {
  const query = new URLSearchParams(location.search);
  const told = await (await fetch('/plots/data?' + query + '&width=600')).json();
  const {groups, range} = told.plots[0];
  const all = groups.flatMap(group => group.x.map((x, i) => [x, group.y[i]]));
  all.sort((a, b) => a[0] - b[0]);
  const [x, y] = all[all.length >> 1], ys = all.map(point => point[1]);
  const over = document.querySelector('.u-over');
  const pad = 0.1 * (Math.max(...ys) - Math.min(...ys));
  const low = Math.min(...ys) - pad, high = Math.max(...ys) + pad;
  return [(x - range[0]) / (range[1] - range[0]) * over.clientWidth, over.clientHeight / 2];
}"""


def test_a_chromatogram_is_drawn_with_those_before_it(page_server: OpenPage, desk: Page) -> None:
    desk.goto(page_server.origin + _FILE)
    expect(desk.locator("body")).to_have_attribute("data-traces", "2")
    expect(desk.locator("#traces canvas")).to_have_count(2)
    before = desk.locator("#traces figure").first.get_by_role("link")
    expect(before).to_have_count(5)
    before.first.click()
    expect(desk.locator("h1")).to_have_text("thermo1_hela_0028.raw")


def test_an_operator_logs_in_and_has_a_file_tried_again(page_server: OpenPage, desk: Page) -> None:
    page_server.access.prepare(page_server.origin, of=PAGE)
    desk.goto(f"{page_server.origin}/file?id=failed_0001.raw")
    expect(desk.get_by_text("Try again")).to_have_count(0)
    desk.goto(page_server.access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE))
    desk.goto(f"{page_server.origin}/file?id=failed_0001.raw")
    desk.get_by_text("Try again", exact=True).click()
    desk.get_by_role("button", name="Yes, try again").click()
    expect(desk.get_by_role("status").last).to_contain_text("at its next tick")

    def asked() -> datetime | None:
        return page_server.feed.services.store.raw_files.get("failed_0001.raw").retry_at

    assert wait_until(asked, "it is recorded")


def _as_operator(page_server: OpenPage, desk: Page) -> None:
    page_server.access.prepare(page_server.origin, of=PAGE)
    desk.goto(page_server.access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE))


def test_a_file_is_processed_again_with_settings_that_its_project_does_not_use(
    page_server: OpenPage, desk: Page
) -> None:
    name = "bruker1_hela_0101.raw"
    _as_operator(page_server, desk)
    desk.goto(f"{page_server.origin}/file?id={name}")
    desk.get_by_role("link", name="Process again with settings").click()
    expect(desk.get_by_role("heading", name="1 file")).to_be_visible()
    desk.locator("#others summary").click()
    assert findings(desk) == []
    desk.get_by_label("wide_window version 1").check()
    desk.get_by_role("button", name="Yes, process it again").click()
    expect(desk.get_by_role("status").last).to_contain_text("1 file with wide_window version 1")
    after = page_server.feed.services.store.raw_files.get(name)
    assert after.status is Status.QUEUED_FOR_QUANTING
    assert [item.name for item in after.quant_settings] == ["wide_window"]
    assert "a login on the page, with wide_window version 1" in after.history[-1]["reason"]


def test_the_files_that_are_picked_are_processed_again(page_server: OpenPage, desk: Page) -> None:
    _as_operator(page_server, desk)
    desk.goto(f"{page_server.origin}/files?filter=bruker1_hela_020")
    for number in (201, 203):
        desk.locator(f"input.pick[value='bruker1_hela_0{number}.raw']").check()
    expect(desk.locator("#picked")).to_have_text("For 2 selected:")
    desk.get_by_role("button", name="Take all that is shown").click()
    expect(desk.locator("#picked")).to_have_text("For all that is shown:")
    expect(desk.locator("input.pick:checked")).to_have_count(0)
    for number in (201, 203):
        desk.locator(f"input.pick[value='bruker1_hela_0{number}.raw']").check()
    desk.get_by_role("link", name="Process again").click()
    expect(desk.get_by_role("heading", name="2 files")).to_be_visible()
    desk.get_by_label("dia version 2").check()
    desk.get_by_role("button", name="Yes, process these 2 files again").click()
    expect(desk.get_by_role("status").last).to_contain_text("2 files with dia version 2")


def test_disks_are_drawn_with_the_day_on_which_each_is_full(
    page_server: OpenPage, anywhere: Page
) -> None:
    anywhere.goto(f"{page_server.origin}/status")
    for disk in ("store-backup", "store-output", "instrument-thermo1"):
        figure = anywhere.locator(f"#disk-{disk}")
        expect(figure.locator("svg polyline.free").first).to_be_visible()
        expect(figure.locator("svg polyline.ahead")).to_have_count(1)
        expect(figure).to_contain_text("Full on")
    first = anywhere.locator(".disks figure").first
    expect(first).to_contain_text("thermo1")  # what is full first


def test_the_chooser_says_what_columns_are(page_server: OpenPage, desk: Page) -> None:
    desk.goto(f"{page_server.origin}/files")
    desk.locator("#columns summary").click()
    expect(desk.locator("#chooser")).to_contain_text("Size (GB)")
    desk.get_by_label("Proteins").uncheck()
    desk.get_by_role("button", name="Show these").click()
    expect(desk.get_by_role("link", name="Proteins")).to_have_count(0)
    expect(desk.get_by_role("link", name="Precursors")).to_have_count(1)
