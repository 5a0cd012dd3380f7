"""Looks at shares that show a part, something else, or nothing: they change no acquisition."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.catchup.catchup import CatchupOptions
from kraken_dagster.catchup.register import register_all
from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.errors import FolderMissing
from kraken_dagster.model.files.folder import Listing
from kraken_dagster.model.raw_file import Status
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, done
from kraken_dagster_tests.support.helpers import Bench, finish, wait_until

OPEN = ("queued_for_monitoring", "monitoring_acquisition")
CANT_KNOW = ("ESTALE", "EHOSTDOWN", "EACCES", "ENOTCONN", "EIO")


@contextmanager
def another_disk(bench: Bench, *, names: Sequence[str] = ()) -> Iterator[Path]:
    """Has another folder stand in the instrument's place, as under a mount point."""
    away = bench.folder.rename(bench.folder.with_name("away"))
    bench.folder.mkdir()
    for name in names:
        bench.write(name, 77)
    try:
        yield bench.folder
    finally:
        shutil.rmtree(bench.folder)
        away.rename(bench.folder)


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_an_empty_folder_ends_no_acquisition_and_is_told(services, instrument_id, name):
    bench = Bench(services, instrument_id)
    bench.write(name)
    bench.scan()
    with another_disk(bench):
        for _ in range(4):
            scan = bench.scan(minutes=61)
            assert "folder is empty" in scan.problem
            assert (scan.blind, scan.ended, scan.registered) == (True, (), ())
    assert bench.status(name) in OPEN
    assert bench.acquisition(name)["missing_since"] is None
    health = services.store.health.get(instrument_id)
    assert (health["status"], "folder is empty" in health["status_details"]) == ("error", True)
    assert bench.scan(minutes=1).problem is None
    assert services.store.health.get(instrument_id)["status"] == "ok"


def test_another_disk_ends_no_acquisition_however_long_its_own_files_stand_there(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    with another_disk(bench, names=["stranger.raw", "another.raw"]):
        for _ in range(6):
            scan = bench.scan(minutes=61)
            assert "it may be another disk" in scan.problem
    assert bench.status("x.raw") in OPEN
    bench.scan(minutes=1)
    assert bench.acquisition("x.raw")["missing_since"] is None


def test_a_folder_with_nothing_but_debris_ends_no_acquisition(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    with another_disk(bench) as folder:
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "lost+found").mkdir()
        for _ in range(4):
            assert bench.scan(minutes=61).blind
    assert bench.status("x.raw") in OPEN


def test_an_instrument_that_writes_again_is_believed_what_is_missing(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    (bench.folder / "x.raw").unlink()
    assert bench.scan(minutes=1).blind
    bench.write("y.raw", 100)
    assert bench.scan(minutes=1).blind
    bench.write("y.raw", 200)
    bench.scan(minutes=1)
    assert not bench.scan(minutes=1).blind
    for _ in range(3):
        bench.scan(minutes=61)
    assert bench.acquisition("x.raw")["errors"] == ["Main file vanished: x.raw"]


def test_a_file_that_vanishes_while_another_stands_is_judged(services):
    bench = Bench(services, "thermo1")
    for name in ("x.raw", "y.raw"):
        bench.write(name)
    bench.scan()
    (bench.folder / "x.raw").unlink()
    for _ in range(3):
        assert bench.scan(minutes=61).problem is None
    assert bench.acquisition("x.raw")["errors"] == ["Main file vanished: x.raw"]


def test_a_folder_of_which_all_was_moved_aside_counts_as_there(services):
    done(services, "thermo1", "x.raw")
    bench = Bench(services, "thermo1")
    bench.write("y.raw")
    bench.scan()
    assert archive_members(services, "x.raw", run_id="m", options=ArchiveOptions()).moved
    (bench.folder / "y.raw").unlink()
    assert bench.scan(minutes=1).problem is None
    bench.scan(minutes=120)
    assert bench.acquisition("y.raw")["errors"] == ["Main file vanished: y.raw"]


def test_a_folder_that_never_had_any_counts_as_there(services):
    bench = Bench(services, "thermo1")
    for _ in range(2):
        assert bench.scan(minutes=1).problem is None
    assert services.store.health.get("thermo1")["status"] == "ok"


def test_a_folder_that_is_away_is_no_time_in_which_a_main_file_is_missing(services):
    bench = Bench(services, "bruker1")
    (bench.folder / "x.d").mkdir()
    bench.scan()
    bench.scan(minutes=60)
    away = bench.folder.rename(bench.folder.with_name("away"))
    for _ in range(3):
        with pytest.raises(FolderMissing):
            bench.scan(minutes=60)
    away.rename(bench.folder)
    bench.scan(minutes=1)
    bench.scan(minutes=57)
    assert bench.status("x.d") in OPEN
    bench.scan(minutes=60)
    assert bench.status("x.d") == "monitoring_done"


def test_a_catch_up_ends_nothing_in_an_empty_folder_and_says_so(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    with another_disk(bench):
        for _ in range(3):
            services.now.forward(minutes=61)
            found = register_all(services, "thermo1", CatchupOptions())
            assert any("folder is empty" in problem for problem in found.problems)
    assert bench.status("x.raw") in OPEN


@contextmanager
def erring(folder: Path) -> Iterator[Callable[[str, str, str], None]]:
    """A FUSE folder; what is yielded has an operation on a part of a path fail from then on."""
    if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
        unavailable("no FUSE: /dev/fuse or fusermount3 is missing")
    real, rules = folder.with_name("real"), folder.with_name("rules.json")
    folder.rename(real)
    folder.mkdir()
    program = [sys.executable, "-m", "kraken_dagster_tests.file_systems.erring_folder"]
    server = subprocess.Popen([*program, real, folder, rules])

    def fail(operation: str, part: str, name: str) -> None:
        rules.write_text(json.dumps([[operation, part, getattr(errno, name)]]))

    try:
        wait_until(lambda: os.path.ismount(folder), "it is mounted")
        yield fail
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
        server.terminate()
        server.wait()


@pytest.mark.parametrize("name", CANT_KNOW)
@pytest.mark.parametrize(
    ("instrument_id", "raw", "part"),
    [
        ("bruker1", "b.d", "analysis.tdf_bin"),
        ("bruker1", "b.d", "/b.d"),
        ("thermo1", "b.raw", "/b.raw"),
        ("sciex1", "b.wiff", "/b.wiff"),
    ],
)
def test_what_can_not_be_looked_at_is_not_missing(services, instrument_id, raw, part, name):
    bench = Bench(services, instrument_id)
    bench.write(raw)
    with erring(bench.folder) as fail:
        bench.scan()
        bench.scan(minutes=5)
        fail("getattr", part, name)
        for _ in range(5):
            scan = bench.scan(minutes=31)
            assert (scan.ended, scan.newly_left_alone, scan.blind) == ((), (), False)
            assert os.strerror(getattr(errno, name)) in scan.problem
        health = services.store.health.get(instrument_id)
        assert (health["status"], health["status_details"]) == ("error", scan.problem)
    assert bench.status(raw) == "monitoring_acquisition"
    assert bench.acquisition(raw)["missing_since"] is None


@pytest.mark.parametrize("name", ["ENOENT", "ENOTDIR"])
def test_only_what_is_said_not_to_be_there_is_missing(services, name):
    bench = Bench(services, "bruker1")
    bench.write("b.d")
    bench.write("other.d")
    with erring(bench.folder) as fail:
        bench.scan()
        fail("getattr", "/b.d/analysis.tdf_bin", name)
        for _ in range(3):
            assert bench.scan(minutes=61).problem is None
    assert bench.acquisition("b.d")["errors"] == ["Main file vanished: analysis.tdf_bin"]


def test_a_listing_that_fails_half_way_changes_nothing(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    with erring(bench.folder) as fail:
        bench.scan()
        fail("readdir", "/", "EIO")
        for _ in range(3):
            with pytest.raises(Exception, match="can't be read"):
                bench.scan(minutes=61)
    assert bench.status("x.raw") in OPEN


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_file_that_is_moved_between_the_listing_and_mongodb_is_no_other_acquisition(
    services, instrument_id, name
):
    done(services, instrument_id, name)
    moves: list[bool] = []

    def moved_meanwhile(folder: str, **options: object) -> Listing:
        listing = list_folder(folder, **options)
        if not moves:
            outcome = archive_members(services, name, run_id="m", options=ArchiveOptions())
            moves.append(outcome.moved)
        return listing

    assert look_at(replace(services, lister=moved_meanwhile), instrument_id).registered == ()
    assert moves == [True]
    finish(services, instrument_id)
    assert [item.id for item in services.store.raw_files.in_status(instrument_id, set(Status))] == [
        name
    ]


def test_another_acquisition_of_a_name_is_registered_as_it_stands_when_it_is_confirmed(services):
    done(services, "thermo1", "x.raw")
    bench = Bench(services, "thermo1")
    bench.write("x.raw", 777)

    def grows(folder: str, **options: object) -> Listing:
        listing = list_folder(folder, **options)
        bench.write("x.raw", 778)
        return listing

    (new,) = look_at(replace(services, lister=grows), "thermo1").registered
    assert new.acquisition["seen_size"] == 778


@pytest.mark.parametrize("hours", [1, 9_000])
def test_a_clock_that_was_set_back_stops_no_watching(services, hours):
    bench = Bench(services, "thermo1")
    then = services.now.time
    services.now.forward(hours=hours)
    bench.write("x.raw")
    bench.write("y.raw")
    bench.scan()
    services.now.time = then
    for size in (100, 200):
        bench.write("x.raw", size)
        bench.scan(minutes=61)
        assert bench.status("x.raw") in OPEN
    for _ in range(2):
        bench.scan(minutes=61)
    assert bench.status("x.raw") == "monitoring_done"


def test_what_was_watched_anew_after_the_listing_is_not_judged_by_it(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    then = services.now.time
    services.now.forward(minutes=2)
    bench.scan()
    services.now.time = then
    before = bench.acquisition("x.raw")
    (bench.folder / "x.raw").unlink()
    bench.write("y.raw")
    bench.scan(minutes=1)
    assert bench.acquisition("x.raw") == before
