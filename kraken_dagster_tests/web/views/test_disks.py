"""Disks over time on the page: what was free, and when that ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kraken_dagster.alerts.facts import gather, keep_samples
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.views import disks as view
from kraken_dagster.web.views import fleet
from kraken_dagster_tests.web.laboratory import served

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
GB = 1024**3


def _samples(days: float, *, first: float, per_day: float) -> list[tuple[datetime, float]]:
    """Each hour until now."""
    hours = range(round(days * 24), -1, -1)
    return [(NOW - timedelta(hours=n), first - per_day * (days - n / 24)) for n in hours]


def _item(name: str, **fields: Any) -> dict[str, Any]:
    standard = {"status": "ok", "looked_at": NOW, "free_space_gb": 60.0, "total_space_gb": 200.0}
    return {"id": name, **standard, **fields}


def test_a_disk_is_full_when_the_trend_of_its_last_week_says() -> None:
    samples = _samples(20, first=260, per_day=10)
    assert view.forecast(samples, 60, None, NOW).days == pytest.approx(6)
    emptied = [*_samples(20, first=260, per_day=10)[:-170], *_samples(7, first=50, per_day=-1)]
    assert view.forecast(emptied, 57, 10, NOW) == view.Forecast(
        None, "it gets no fuller, by the trend of the last 7 days"
    )


@pytest.mark.parametrize(
    "samples",
    [
        [],
        _samples(0.5, first=100, per_day=10),  # less than a day
        [(at - timedelta(days=2), gb) for at, gb in _samples(5, first=100, per_day=10)],  # old
    ],
)
def test_where_no_trend_is_known_it_goes_by_the_files(samples: view.Samples) -> None:
    by_files = view.forecast(samples, 60, 20, NOW)
    assert by_files == view.Forecast(3, "at this week's rate of files, if nothing is purged")
    assert view.forecast(samples, 60, None, NOW).basis.startswith("not known")


def test_what_is_full_in_a_hundred_years_has_no_date() -> None:
    slowly = _samples(7, first=1e6, per_day=1e-6)
    assert view.forecast(slowly, 1e6, None, NOW).days is None
    assert view.forecast([], 1e308, 1e-300, NOW).days is None


def test_disks_are_drawn_with_what_is_to_come_and_what_is_full_first_stands_first() -> None:
    report = {
        "file_systems": [_item("backup"), _item("output", free_space_gb=None)],
        "instruments": [_item("t1", free_space_gb=30.0)],
    }
    samples = {"file system backup": _samples(20, first=260, per_day=10)}
    found = view.disks(report, samples, {"t1": 30.0}, NOW)
    assert [item.id for item in found] == ["t1", "backup", "output"]
    first, backup, output = found
    assert first.full_at == NOW + timedelta(days=1)
    assert backup.full_at == pytest.approx(NOW + timedelta(days=6), abs=timedelta(minutes=1))
    assert output.drawing is None
    assert backup.drawing is not None
    (line,) = backup.drawing.lines
    assert len(line.split()) == 20 * 24 + 2  # the last look is newer than the last sample
    assert backup.drawing.ahead.endswith(",142")  # it ends where nothing is free


def test_a_gap_in_the_looks_is_a_gap_in_the_line() -> None:
    samples = _samples(20, first=100, per_day=1)
    gap = [pair for pair in samples if not 5 < (NOW - pair[0]) / timedelta(days=1) < 9]
    [disk] = view.disks({"file_systems": [_item("backup")]}, {"file system backup": gap}, {}, NOW)
    assert disk.drawing is not None
    assert len(disk.drawing.lines) == 2


@pytest.mark.parametrize("free", [0.0, 0.004, 1e9])
def test_a_disk_of_any_size_is_drawn(free: float) -> None:
    item = _item("backup", free_space_gb=free, total_space_gb=free)
    [disk] = view.disks({"file_systems": [item]}, {}, {}, NOW)
    assert disk.drawing is not None
    assert 10 <= disk.drawing.last[1] <= 142


def test_how_much_is_free_is_kept_of_instruments_too_but_not_of_old_looks(
    services: Services,
) -> None:
    health, now = services.store.health, services.now()
    health.file_system_well("backup", free_bytes=50 * GB, total_bytes=100 * GB, now=now)
    for name, at in (("thermo1", now), ("bruker1", now - timedelta(days=1))):
        health.well(name, details="", free_bytes=7 * GB, total_bytes=9 * GB, left_alone=[], now=at)
    keep_samples(services, gather(services, None), now)
    since = now - timedelta(days=2)
    kept = {
        name: [gb for _, gb in services.store.alerts.samples(name, since=since, until=now)]
        for name in ("file system backup", "thermo1", "bruker1")
    }
    assert kept == {"file system backup": [50], "thermo1": [7], "bruker1": []}


def test_the_fleet_and_the_status_tell_the_same_day(services: Services) -> None:
    now = services.now()
    for at, gb in _samples(10, first=110, per_day=10):
        services.store.alerts.sample("thermo1", free_gb=gb, at=now - (NOW - at))
    services.store.health.well(
        "thermo1",
        details="",
        free_bytes=10 * GB,
        total_bytes=200 * GB,
        left_alone=[],
        now=now,
    )
    with served(services, lives=False) as page:
        text = page.get("/status").text
        assert "by the trend of the last 7 days" in text
        (card,) = (
            item
            for item in fleet.cards(Table(), page.feed.report, now, page.feed.samples)
            if item.id == "thermo1"
        )
        assert card.disk is not None
        assert card.disk.days == pytest.approx(1)
        assert f"on {now + timedelta(days=card.disk.days):%a %d %b %Y}" in text
