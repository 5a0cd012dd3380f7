"""Looks that fail: folders and a MongoDB that are away, watchers that die or come twice."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Thread

import pytest

from kraken_dagster.acquisition.watch import due_for_backup, look_at
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import FolderMissing, FolderUnreadable, StoreUnavailable
from kraken_dagster.model.raw_file import Status
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.fakes import stumbling
from kraken_dagster_tests.support.helpers import (
    NOW,
    Bench,
    lease,
    record,
)

ROUNDS = 12


@pytest.fixture
def thermo(services):
    return Bench(services, "thermo1")


def test_a_folder_that_is_away_is_told_and_is_good_again_once_it_is_back(services, thermo):
    thermo.write("x.raw")
    thermo.scan()
    away = thermo.folder.rename(thermo.folder.with_name("unmounted"))
    with pytest.raises(FolderMissing, match="mount the instrument's share"):
        thermo.scan(minutes=1)
    health = services.store.health.get("thermo1")
    assert health["status"] == "error"
    assert "folder is not there" in health["status_details"]
    assert health["last_error_occurred_at"] == services.now()
    away.rename(thermo.folder)
    assert thermo.scan(minutes=1).standing == 1
    assert services.store.health.get("thermo1")["status"] == "ok"


def test_a_folder_that_is_away_ends_no_acquisition(thermo):
    thermo.write("x.raw")
    thermo.scan()
    away = thermo.folder.rename(thermo.folder.with_name("unmounted"))
    for _ in range(3):
        with pytest.raises(FolderMissing):
            thermo.scan(minutes=120)
    away.rename(thermo.folder)
    thermo.scan(minutes=1)
    assert thermo.statuses() == {"x.raw": "monitoring_acquisition"}


def test_a_file_where_the_folder_should_be_is_told(services, thermo):
    thermo.folder.rmdir()
    thermo.folder.write_bytes(b"a file")
    with pytest.raises(FolderUnreadable, match="check that it is a folder"):
        thermo.scan()
    assert services.store.health.get("thermo1")["status"] == "error"


def test_one_instrument_that_is_away_leaves_the_others_as_they_are(services, thermo):
    bruker = Bench(services, "bruker1")
    bruker.write("x.d")
    thermo.folder.rmdir()
    with pytest.raises(FolderMissing):
        thermo.scan()
    bruker.scan()
    assert bruker.statuses() == {"x.d": "queued_for_monitoring"}
    assert services.store.health.get("bruker1")["status"] == "ok"


def test_a_look_without_mongodb_does_nothing_and_the_next_one_everything(services, thermo):
    thermo.write("x.raw")
    away = connect(f"mongodb://127.0.0.1:{free_port()}/", timeout_s=0.1)
    with closing(away), pytest.raises(StoreUnavailable):
        look_at(replace(services, store=away), "thermo1")
    assert thermo.statuses() == {}
    assert [item.id for item in thermo.scan().registered] == ["x.raw"]


def test_a_watcher_may_die_after_any_write_and_the_next_look_completes_what_it_left(
    services, thermo
):
    calls = died = 0
    for number in range(3):
        thermo.write(f"{number}.raw", created_at=NOW - timedelta(hours=3 - number))
        while True:
            try:
                look_at(stumbling(services, calls), "thermo1")
            except StoreUnavailable:
                died, calls = died + 1, calls + 1
                services.now.forward(seconds=30)
            else:
                break
        calls = 0
        services.now.forward(seconds=30)
    assert died >= 12
    assert set(thermo.statuses()) == {"0.raw", "1.raw", "2.raw"}
    for name in ("0.raw", "1.raw"):
        steps = [event["to"] for event in services.store.raw_files.get(name).history]
        assert steps[0] == "queued_for_monitoring"
        assert steps[-1] == "monitoring_done"
        assert len(steps) == len(set(steps))


def scan_at_once(services, uri: str) -> list[Exception]:
    """Two watchers with a connection and a clock of their own look at the same moment."""
    barrier, failed = Barrier(2), []

    def scan(offset_ms: int) -> None:
        now = services.now() + timedelta(milliseconds=offset_ms)
        with closing(connect(uri)) as store:
            store.raw_files.count_by_status("thermo1")  # so that both are connected
            barrier.wait()
            try:
                look_at(replace(services, store=store, now=lambda: now), "thermo1")
            except Exception as error:  # noqa: BLE001 - the test's own thread reports it
                failed.append(error)

    watchers = [Thread(target=scan, args=(offset,)) for offset in (0, 1)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    return failed


def test_two_watchers_of_one_instrument_register_nothing_twice(services, thermo, mongodb_uri):
    for number in range(ROUNDS):
        for letter in "abcde":
            thermo.write(f"{letter}{number}.raw")
        assert scan_at_once(services, mongodb_uri) == []
        services.now.forward(minutes=1)
    expected = {f"{letter}{number}.raw" for number in range(ROUNDS) for letter in "abcde"}
    assert set(thermo.statuses()) == expected


def test_two_watchers_of_one_instrument_end_an_acquisition_once(services, thermo, mongodb_uri):
    thermo.write("x.raw")
    thermo.scan()
    for number in range(ROUNDS):
        thermo.write(f"{number}.raw")
        assert scan_at_once(services, mongodb_uri) == []
        services.now.forward(minutes=1)
    for name in ("x.raw", *(f"{number}.raw" for number in range(ROUNDS - 1))):
        steps = [event["to"] for event in services.store.raw_files.get(name).history]
        assert steps.count("monitoring_done") == 1


def test_due_are_files_that_nobody_holds_oldest_first(services):
    ages = {"young.raw": 1, "old.raw": 3, "held.raw": 2, "failed.raw": 4, "waits.raw": 5}
    for name, hours in ages.items():
        status = Status.ERROR if name in ("failed.raw", "waits.raw") else Status.MONITORING_DONE
        retry_at = NOW + timedelta(hours=1) if name == "waits.raw" else NOW
        raw_file = record(
            name, status=status, retry_at=retry_at, created_at=NOW - timedelta(hours=hours)
        )
        services.store.raw_files.register(raw_file, reason="discovered")
    services.store.raw_files.take_lease("held.raw", lease(), now=NOW)

    def due() -> list[str]:
        return [item.id for item in due_for_backup(services.store, "thermo1", services.now())]

    assert due() == ["failed.raw", "old.raw", "young.raw"]
    services.now.forward(seconds=90)  # the lease lapses
    assert due() == ["failed.raw", "old.raw", "held.raw", "young.raw"]
