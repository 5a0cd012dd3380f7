"""Quality control in a real browser: on a desk and on a phone, and a guide set by dragging."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from kraken_dagster.config.dagit import Role
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import PAGE
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import database_uri
from kraken_dagster_tests.web.browsing import findings
from kraken_dagster_tests.web.laboratory import OpenPage, served
from kraken_dagster_tests.web.quality.runs import COUNT, QC, fill_quality, name_of

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("page browser")]
_CHART = "/quality/chart?instrument={}&class=hela&settings=dia:1&metric=ms1_signal"
_VIEWS = {
    "glance": "/quality",
    "two": "/quality?instrument=thermo1&instrument=bruker1",
    "chart": _CHART.format("thermo1"),
    "run": f"/file?id={name_of('thermo1', COUNT - 1)}",
}


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[OpenPage]:
    home = tmp_path_factory.mktemp("quality")
    config = KrakenConfig.model_validate(
        {
            "home": home / "home",
            "locations": {name: str(home / name) for name in ("instruments", "backup", "output")},
            "instruments": {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}},
            "qc": QC,
        }
    )
    with closing(connect(database_uri(server_uri, "quality_browser"))) as store:
        store.prepare()
        services = Services(config=config, store=store, engines={}, now=utc_now)
        fill_quality(services, utc_now())
        with served(services) as page:
            yield page


@pytest.mark.parametrize("view", _VIEWS)
def test_a_view_of_quality_is_for_everyone_and_fits(
    page_server: OpenPage, anywhere: Page, view: str
) -> None:
    anywhere.goto(page_server.origin + _VIEWS[view])
    expect(anywhere.locator("h1")).to_have_count(1)
    assert findings(anywhere) == []
    wide, seen = anywhere.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen


def test_a_sparkline_leads_to_its_chart_and_a_point_to_its_file(
    page_server: OpenPage, desk: Page
) -> None:
    desk.goto(f"{page_server.origin}/quality")
    desk.get_by_role("region", name="bruker1").get_by_role("link", name="ms1 signal").click()
    expect(desk.locator("h1")).to_have_text("ms1 signal")
    desk.locator("#chart circle").last.click()
    expect(desk.locator("h1")).to_have_text(name_of("bruker1", COUNT - 1))


def test_an_operator_drags_over_the_chart_and_has_a_guide_set(
    page_server: OpenPage, desk: Page
) -> None:
    page_server.access.prepare(page_server.origin, of=PAGE)
    desk.goto(page_server.origin + _CHART.format("bruker1"))
    expect(desk.locator("#guide")).to_have_count(0)
    desk.goto(page_server.access.new_link(Role.OPERATOR, now=utc_now(), to=PAGE))
    desk.goto(page_server.origin + _CHART.format("bruker1"))
    first, last = desk.locator("#chart circle").nth(4), desk.locator("#chart circle").nth(23)
    begin, end = first.bounding_box(), last.bounding_box()
    assert begin is not None
    assert end is not None
    desk.mouse.move(begin["x"] - 3, begin["y"] + 40)
    desk.mouse.down()
    desk.mouse.move(end["x"] + 12, end["y"] + 40, steps=6)
    desk.mouse.up()
    expect(desk.locator("#picked")).to_have_text("20")
    desk.locator("#guide").get_by_label("Why").fill("a good month")
    desk.get_by_role("button", name="Make it").click()
    expect(desk.get_by_role("status").last).to_contain_text("20 runs of hela on bruker1")
    (made,) = page_server.feed.services.store.quality.guide_sets("bruker1")
    assert made.runs == tuple(name_of("bruker1", number) for number in range(4, 24))
    desk.get_by_role("link", name="Back").click()
    expect(desk.get_by_text("guide set of 20 runs")).to_be_visible()
