"""Looks at real folders: what is registered, and when an acquisition is over.

Every scenario is played twice: by one watcher, and by one that is restarted before every look.
"""

from datetime import timedelta

import pytest

from kraken_dagster.config.instruments import Options
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster_tests.support.helpers import NOW, Bench

OPEN = ("queued_for_monitoring", "monitoring_acquisition")


@pytest.fixture(params=["one watcher", "restarted before every look"])
def bench(request, services, mongodb_uri):
    """Makes the bench of an instrument."""
    uri = None if request.param == "one watcher" else mongodb_uri
    return lambda instrument_id, by=services: Bench(by, instrument_id, uri=uri)


def reason(bench, name: str) -> str | None:
    return bench.services.store.raw_files.get(name).status_details


def test_what_is_new_is_registered_once_oldest_first(bench):
    thermo = bench("thermo1")
    for name, hours in (("b.raw", 2), ("a.raw", 1), ("c.raw", 3)):
        thermo.write(name, created_at=NOW - timedelta(hours=hours))
    assert [item.id for item in thermo.scan().registered] == ["c.raw", "b.raw", "a.raw"]
    assert thermo.scan(minutes=1).registered == ()
    assert len(thermo.statuses()) == 3


def test_a_record_says_what_the_file_is_and_to_which_project_it_belongs(bench, store):
    store.catalog.add_project(Project(id="P123", name="a project"), now=NOW)
    thermo = bench("thermo1")
    for name in ("20260301_P123_x.raw", "20260301_x.raw"):
        thermo.write(name, created_at=NOW - timedelta(hours=1))
    thermo.scan()
    found = store.raw_files.get("20260301_P123_x.raw")
    assert (found.original_name, found.instrument_id) == (found.id, "thermo1")
    assert (found.created_at, found.created_at_) == (NOW - timedelta(hours=1), NOW)
    assert (found.status, found.instrument_file_status) == ("queued_for_monitoring", "initial")
    assert (found.project_id, found.collision_flag, found.size) == ("P123", None, None)
    assert store.raw_files.get("20260301_x.raw").project_id == FALLBACK_PROJECT


@pytest.mark.parametrize(
    ("instrument_id", "name"), [("thermo1", "x.RAW"), ("bruker1", "x.d"), ("sciex1", "x.wiff")]
)
def test_the_raw_files_of_every_vendor_are_found_among_other_things(bench, instrument_id, name):
    found = bench(instrument_id)
    found.write(name)
    for other in ("x.txt", "x.wiff.scan", "x.wiff2", "raw", "desktop.ini"):
        (found.folder / other).write_bytes(b"other")
    (found.folder / "Backup").mkdir()
    (found.folder / "Backup" / name).write_bytes(b"moved aside")
    found.scan()
    assert list(found.statuses()) == [name]


def test_an_acquisition_ends_when_the_next_one_begins(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw")
    thermo.scan()
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_acquisition"
    thermo.write("b.raw")
    found = thermo.scan(minutes=1)
    assert [item.id for item in found.ended] == ["a.raw"]
    assert [item.id for item in found.registered] == ["b.raw"]
    assert thermo.status("a.raw") == "monitoring_done"
    assert "the next acquisition has begun: 'b.raw'" in reason(thermo, "a.raw")
    assert thermo.status("b.raw") in OPEN
    assert thermo.acquisition("a.raw")["ended_size"] == 100


def test_what_somebody_copies_beside_a_running_acquisition_does_not_end_it(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw", 100)
    thermo.scan()
    for minute in range(1, 6):
        thermo.write("a.raw", 100 + minute)
        thermo.write("old.raw", 777, created_at=NOW - timedelta(days=300))
        thermo.scan(minutes=1)
        assert thermo.status("a.raw") in OPEN
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_done"


def test_an_acquisition_of_an_earlier_version_ends_at_the_second_look_after_the_next_one(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw")
    thermo.scan()
    store = thermo.services.store
    gone = dict.fromkeys(("seen_size", "seen_total", "seen_scan", "grown"), "")
    fields = {f"acquisition.{name}": value for name, value in gone.items()}
    store._database["raw_file"].update_one({"_id": "a.raw"}, {"$unset": fields})
    thermo.write("b.raw")
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") in OPEN
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_done"


def test_several_new_acquisitions_at_once_tell_nothing_and_the_one_after_them_does(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw")
    thermo.scan()
    for name in ("b.raw", "c.raw"):
        thermo.write(name)
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") in OPEN
    thermo.write("d.raw")
    thermo.scan(minutes=1)
    assert {thermo.status(name) for name in ("a.raw", "b.raw", "c.raw")} == {"monitoring_done"}


def test_an_acquisition_ends_after_an_hour_until_a_size_is_taken_and_one_without_a_change(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw")
    for minutes in (0, 60, 59):
        thermo.scan(minutes=minutes)
        assert thermo.status("a.raw") in OPEN
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_done"
    assert reason(thermo, "a.raw") == "the main file has stopped changing"


def test_an_acquisition_that_goes_on_growing_does_not_end(bench):
    thermo = bench("thermo1")
    for hour in range(1, 8):
        thermo.write("a.raw", 100 * hour)
        thermo.scan(minutes=60)
        assert thermo.status("a.raw") in OPEN
    thermo.scan(minutes=60)
    assert thermo.status("a.raw") == "monitoring_done"


def test_an_empty_file_never_ends_by_itself(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw", 0)
    for _ in range(5):
        thermo.scan(minutes=120)
        assert thermo.status("a.raw") in OPEN


def test_a_bruker_folder_without_its_main_file_fails_after_two_hours(bench):
    bruker = bench("bruker1")
    (bruker.folder / "x.d").mkdir()
    (bruker.folder / "x.d" / "analysis.tdf").write_bytes(b"something")
    bruker.scan()
    bruker.scan(minutes=119)
    assert bruker.status("x.d") in OPEN
    bruker.scan(minutes=1)
    assert bruker.status("x.d") == "monitoring_done"
    acquisition = bruker.acquisition("x.d")
    assert acquisition["errors"] == ["Main file was not created: analysis.tdf_bin"]
    assert acquisition["ended_size"] is None


def test_a_main_file_that_comes_in_time_is_watched_as_any_other(bench):
    bruker = bench("bruker1")
    (bruker.folder / "x.d").mkdir()
    bruker.scan()
    bruker.scan(minutes=119)
    bruker.write("x.d")
    for minutes in (1, 60, 60):
        bruker.scan(minutes=minutes)
    assert bruker.status("x.d") == "monitoring_done"
    assert bruker.acquisition("x.d")["errors"] == []


def test_a_file_that_vanishes_is_waited_for_from_when_it_was_missed(bench):
    thermo = bench("thermo1")
    path = thermo.write("a.raw", 0)
    thermo.write("other.raw", 0)  # an empty folder would tell nothing
    thermo.scan()
    thermo.scan(minutes=300)
    path.unlink()
    thermo.scan(minutes=1)
    thermo.scan(minutes=119)
    assert thermo.status("a.raw") in OPEN
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_done"
    assert thermo.acquisition("a.raw")["errors"] == ["Main file vanished: a.raw"]


def test_a_failed_thermo_acquisition_ends_with_its_new_name_and_that_one_is_its_own(bench):
    thermo = bench("thermo1")
    path = thermo.write("a.raw")
    thermo.scan()
    path.rename(thermo.folder / "a_CORRUPTED.raw")
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") == "monitoring_done"
    assert thermo.acquisition("a.raw")["errors"] == ["File got renamed: a_CORRUPTED.raw"]
    assert thermo.status("a_CORRUPTED.raw") in OPEN


def test_a_corrupted_file_is_no_next_acquisition(bench):
    thermo = bench("thermo1")
    thermo.write("a.raw")
    thermo.scan()
    thermo.write("b_CORRUPTED.raw")
    thermo.scan(minutes=1)
    assert thermo.status("a.raw") in OPEN


def test_a_sciex_acquisition_ends_only_once_its_scan_file_is_complete(bench):
    sciex = bench("sciex1")
    sciex.write("a.wiff")
    scan = sciex.folder / "a.wiff.scan"
    scan.write_bytes(b"x" * 144)
    sciex.scan()
    sciex.write("b.wiff")
    sciex.scan(minutes=1)
    assert sciex.status("a.wiff") in OPEN
    scan.write_bytes(b"x" * 145)
    sciex.scan(minutes=1)
    assert sciex.status("a.wiff") == "monitoring_done"


def test_a_sciex_acquisition_whose_scan_file_stays_small_ends_a_day_after_its_last_change(bench):
    sciex = bench("sciex1")
    sciex.write("a.wiff")
    sciex.scan()
    for _ in range(24):
        sciex.scan(minutes=60)
        assert sciex.status("a.wiff") in OPEN
    sciex.scan(minutes=60)
    assert sciex.status("a.wiff") == "monitoring_done"


@pytest.mark.parametrize(("consider_old", "expected"), [(True, "monitoring_done"), (False, None)])
def test_old_files_count_as_acquired_where_the_option_says_so(
    bench, make_services, config, consider_old, expected
):
    options = Options(consider_old_files_acquired=consider_old)
    thermo = bench("thermo1", make_services(config.model_copy(update={"options": options})))
    thermo.write("old.raw", created_at=NOW - timedelta(hours=5, minutes=1))
    thermo.write("recent.raw", created_at=NOW - timedelta(hours=4, minutes=59))
    thermo.write("youngest.raw", created_at=NOW)
    thermo.scan()
    thermo.scan(minutes=1)
    assert thermo.status("old.raw") == (expected or "monitoring_acquisition")
    assert thermo.status("recent.raw") == thermo.status("youngest.raw") == "monitoring_acquisition"
