"""What the views show in a real browser: last ticks, and plots of many files."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.instances import Tick, TickKind, TickOutcome
from kraken_dagster_tests.web.browsing import findings
from kraken_dagster_tests.web.laboratory import OpenPage, served

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("views browser")]
_COUNT, _OUTLIER, _FLAGGED = 6_000, 500.0, 321
# Keeps every plot that is made, so that what is drawn can be read.
_CHARTS = """
window.charts = [];
let library;
Object.defineProperty(window, "uPlot", {
  configurable: true,
  get: () => library,
  set: made => {
    library = new Proxy(made, {
      construct(target, given) {
        const chart = new target(...given);
        window.charts.push(chart);
        return chart;
      },
    });
  },
});
"""


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    services.store.ticks.ticked(_tick("thermo1_watcher", 0, "looked at <b>2</b> files"))
    services.store.ticks.ticked(_tick("thermo1_archiver", 3, "no file is due"))
    failed = _tick("alerts", 0, "ValueError: a fault", outcome=TickOutcome.FAILED)
    services.store.ticks.ticked(failed)
    with served(replace(services, now=utc_now), lives=False) as page:
        yield page


def _tick(
    name: str, hours: float, details: str, outcome: TickOutcome = TickOutcome.SKIPPED
) -> Tick:
    return Tick(
        name=name,
        kind=TickKind.SENSOR,
        location="here",
        at=utc_now() - timedelta(hours=hours),
        took_s=0.25,
        outcome=outcome,
        details=details,
        every_s=30,
    )


def test_the_last_ticks_stand_with_what_to_do(page: OpenPage, anywhere: Page) -> None:
    anywhere.goto(f"{page.origin}/status")
    rows = anywhere.locator("#ticks tbody tr")

    def row(name: str) -> str:
        return rows.filter(has_text=name).inner_text()

    assert "skipped: looked at <b>2</b> files" in row("thermo1_watcher")
    assert "silent" in row("thermo1_archiver")
    assert "kraken sensors on thermo1_archiver" in row("thermo1_archiver")
    assert "failed: ValueError: a fault" in row("alerts")
    assert "never" in row("cluster_jobs")
    assert "it is off by default. To switch it on" in row("scrub schedule")
    assert findings(anywhere) == []


def test_many_files_are_drawn_from_the_lowest_to_the_highest(page: OpenPage, desk: Page) -> None:
    values = np.random.default_rng(1).normal(100, 10, _COUNT)
    values[_FLAGGED], values[_COUNT // 2] = 175.0, _OUTLIER
    with page.feed.table.lock:
        for number in range(_COUNT):
            cells = {
                "instrument_id": f"t{number % 2}",
                "created_at": utc_now() - timedelta(minutes=_COUNT - number),
                "v": float(values[number]),
                **({"quality": "out_of_control"} if number == _FLAGGED else {}),
            }
            page.feed.table.put(f"f{number}.raw", cells)
    desk.add_init_script(_CHARTS)
    desk.goto(f"{page.origin}/plots?y=v")
    expect(desk.locator(".plot canvas").first).to_be_visible()
    desk.wait_for_function("window.charts.length > 0")
    drawn = desk.evaluate("window.charts.at(-1).data")
    labels = desk.evaluate("window.charts.at(-1).series.map(item => item.label)")
    columns = dict(zip(labels, drawn, strict=True))
    assert labels[1:4] == ["t0 highest", "t0 lowest", "t0"]
    for group, own in (("t0", values[0::2]), ("t1", values[1::2])):
        high, low = (_known(columns[f"{group} {end}"]) for end in ("highest", "lowest"))
        assert max(high) == pytest.approx(own.max(), abs=1)
        assert min(low) == pytest.approx(own.min(), abs=1)
        assert np.mean(_known(columns[group])) == pytest.approx(own.mean(), abs=2)
    assert _known(columns["out of control"]) == [175.0]
    width = drawn[0][-1] - drawn[0][0]
    assert width == pytest.approx(60 * _COUNT, rel=0.01)


def _known(column: list[float | None]) -> list[float]:
    return [value for value in column if value is not None]
