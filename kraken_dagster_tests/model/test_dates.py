"""Dates that instruments' disks tell and that can't be: nothing is decided by them."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.instruments import Options
from kraken_dagster.model.files.dates import clock_difference, dated, in_words, plausible
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.doctor.checks import examine
from kraken_dagster.quant.jobs.slots import free
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
from kraken_dagster_tests.retention.retention_cases import purge_all
from kraken_dagster_tests.support.helpers import NOW, Bench, finish, record

# What systems say for "unknown", what broken clocks say, and what can be in no file system but is
# answered all the same.
ODD = (0.0, -1.0, -11_644_473_600.0, 315_532_800.0, 4_102_444_801.0, 1e15, -1e15)


@pytest.mark.parametrize("epoch", ODD)
def test_a_date_that_can_not_be_becomes_the_one_of_the_first_look(epoch: float) -> None:
    assert plausible(epoch, first_seen=NOW) == NOW


@pytest.mark.parametrize("days", [0, 1, 3_000])
def test_a_date_that_can_be_is_taken(days: int) -> None:
    date = NOW - timedelta(days=days)
    assert plausible(date.timestamp(), first_seen=NOW) == date
    assert dated(date, first_seen=NOW) == date


@pytest.mark.parametrize("year", [1601, 1970, 1980, 2099])
def test_what_another_program_has_recorded_is_clamped_too(year: int) -> None:
    odd = record(created_at=NOW.replace(year=year))
    assert (odd.dated_at, odd.year_month) == (NOW, "2026_03")


def test_the_folder_in_which_another_program_has_put_a_backup_stays_its_folder() -> None:
    filed = record(created_at=NOW.replace(year=2099), file_info={"x.raw": {"size": 1, "md5": "a"}})
    assert filed.year_month == "2099_03"


@pytest.mark.parametrize(
    ("newest", "grew", "expected"),
    [
        (59, 0, None),
        (61, None, 61),
        (None, -86_000, None),
        (None, -90_000, -90_000),
        (-9e9, -1, None),
    ],
)
def test_a_clock_is_said_to_differ_only_where_that_is_known(newest, grew, expected) -> None:
    at = NOW.timestamp()
    seen = {"newest": newest, "grew": grew}
    shifted = {name: None if value is None else at + value for name, value in seen.items()}
    assert clock_difference(**shifted, now=NOW) == expected


def test_a_difference_of_clocks_is_told_in_units_of_its_size() -> None:
    assert in_words(364 * 86_400) == "364.0 days ahead of"
    assert in_words(-7_200) == "2.0 hours behind"
    assert in_words(61) == "61 seconds ahead of"


@pytest.mark.parametrize("year", [1971, 1980, 2099])
def test_the_month_of_a_backup_is_that_of_the_first_look_and_the_raw_value_is_kept(services, year):
    bench = Bench(services, "thermo1")
    odd = datetime(year, 6, 1, tzinfo=UTC)
    bench.write("x.raw", created_at=odd)
    finish(services, "thermo1")
    back_up(services, "x.raw", run_id="b", options=BackupOptions())
    raw_file = services.store.raw_files.get("x.raw")
    assert (raw_file.created_at, raw_file.year_month) == (NOW, "2026_03")
    ctime = (bench.folder / "x.raw").stat().st_ctime
    assert raw_file.created_at_on_disk == min(odd.timestamp(), ctime)
    assert raw_file.backup_base_path is not None
    assert raw_file.backup_base_path.endswith("thermo1/2026_03")


def test_what_has_an_odd_date_comes_neither_before_nor_instead_of_the_others(services):
    dates = {"of 1970.raw": NOW.replace(year=1970), "of 2099.raw": NOW.replace(year=2099)}
    dates |= {"old.raw": NOW - timedelta(days=2), "young.raw": NOW - timedelta(days=1)}
    for name, date in dates.items():
        fields = {"status": Status.MONITORING_DONE, "created_at": date}
        services.store.raw_files.register(record(name, **fields), reason="by another program")
    due = due_for_backup(services.store, "thermo1", services.now())
    assert [item.id for item in due[:2]] == ["old.raw", "young.raw"]
    assert [item.id for item in free(due, services.now())[:2]] == ["old.raw", "young.raw"]
    for item in due:
        fields = {"instrument_file_status": InstrumentFileStatus.MOVED}
        services.store.raw_files.update(item, fields, now=services.now(), note="moved")
    oldest = [item.id for item in services.store.retention.moved("thermo1")]
    assert (oldest[:2], len(oldest)) == (["old.raw", "young.raw"], 4)
    assert services.store.bulk.ids("thermo1")[:2] == ["old.raw", "young.raw"]


@pytest.mark.parametrize("year", [1971, 2001, 2024])
def test_a_file_is_not_purged_for_a_date_of_its_own(services, year):
    bench = Bench(services, "thermo1")
    bench.write("x.raw", created_at=NOW.replace(year=year))
    finish(services, "thermo1")
    raw_file = back_up(services, "x.raw", run_id="b", options=BackupOptions()).raw_file
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    services.now.forward(days=1)
    assert archive_members(services, "x.raw", run_id="m", options=ArchiveOptions()).moved
    assert purge_all(services, "thermo1").deleted == ()
    services.now.forward(days=14)
    assert [item.raw_file_id for item in purge_all(services, "thermo1").deleted] == ["x.raw"]


@pytest.mark.parametrize("year", [1971, 2099])
def test_no_file_is_ignored_for_a_date_that_can_not_be(make_services, config, year):
    options = Options(debug_max_file_age_in_hours=10)
    bench = Bench(make_services(config.model_copy(update={"options": options})), "thermo1")
    bench.write("odd.raw", created_at=NOW.replace(year=year))
    bench.write("old.raw", created_at=NOW - timedelta(hours=11))
    bench.scan()
    assert bench.statuses() == {"odd.raw": "queued_for_monitoring", "old.raw": "ignored"}


def test_no_running_acquisition_is_old_beside_one_with_a_date_that_can_not_be(
    make_services, config
):
    options = Options(consider_old_files_acquired=True)
    bench = Bench(make_services(config.model_copy(update={"options": options})), "thermo1")
    for name, date in {
        "runs.raw": NOW - timedelta(hours=1),
        "of 2099.raw": NOW.replace(year=2099),
        "of 1971.raw": NOW.replace(year=1971),
        "done.raw": NOW - timedelta(hours=6),
    }.items():
        bench.write(name, created_at=date)
    bench.scan()
    bench.scan(minutes=1)
    ended = {name for name, status in bench.statuses().items() if status == "monitoring_done"}
    assert ended == {"done.raw"}


def test_a_clock_that_is_ahead_is_told_once_for_the_instrument(services):
    bench = Bench(services, "thermo1")
    at = services.now().timestamp() + 3 * 86_400
    for number in range(5):
        os.utime(bench.write(f"{number}.raw"), (at, at))
    later = max(item.stat().st_ctime for item in bench.folder.iterdir())
    found = bench.scan()
    health = services.store.health.get("thermo1")
    assert health["clock_difference_s"] == pytest.approx(max(at, later) - NOW.timestamp())
    assert health["status_details"].count("its clock is") == 1
    assert health["status"] == "ok"
    assert found.newly_left_alone == ()
    reported = [
        item for item in examine(services.config, lambda: services) if item.what == "thermo1"
    ]
    assert [item.level for item in reported] == ["warning"]
    assert "use NTP" in reported[0].found


def test_a_clock_that_is_behind_is_found_out_by_what_grows(services):
    services.now.time = datetime.now(UTC) + timedelta(days=9)
    bench = Bench(services, "thermo1")
    bench.write("x.raw", 100)
    bench.scan()
    assert services.store.health.get("thermo1")["clock_difference_s"] is None
    bench.write("x.raw", 200)
    bench.scan(minutes=1)
    assert services.store.health.get("thermo1")["clock_difference_s"] < -8 * 86_400
    assert "days behind this machine's" in services.store.health.get("thermo1")["status_details"]
