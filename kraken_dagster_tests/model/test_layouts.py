"""Acquisitions that are laid out in another way than usual, and those that nobody knows."""

from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import due_for_backup, look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.catchup.catchup import CatchupOptions
from kraken_dagster.catchup.register import register_all
from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.errors import SourceChanged
from kraken_dagster.model.files.folder import Listing
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.vendors import RULES, Vendor
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
from kraken_dagster_tests.retention.retention_cases import aside, created, files_in, purge_all
from kraken_dagster_tests.support.helpers import Bench, finish, record

MAIN_FILES = (
    "analysis.tdf_bin",
    "analysis.tsf_bin",
    "analysis.baf",
    "ANALYSIS.TDF_BIN",
    "Analysis.tsf_bin",
    "analysis.BAF",
)
SCIEX = {
    "s.wiff2": ("s.wiff.scan", "s.timeseries.data"),
    "s.WIFF2": ("s.WIFF.SCAN",),
    "s.WIFF": ("s.WIFF.SCAN", "s.WIFF2", "s.TimeSeries.Data"),
    "s.wiff": ("s.wiff2.scan", "s.wiff2"),
}


def write(folder: Path, name: str, size: int = 1_000) -> None:
    (folder / name).write_bytes(b"x" * size)


def back_up_due(services, instrument_id: str) -> None:
    for item in due_for_backup(services.store, instrument_id, services.now()):
        back_up(services, item.id, run_id="b", options=BackupOptions(), decides=True)


def through_the_whole_life(services, instrument_id: str, name: str) -> set[str]:
    """Backs up, archives and purges; the members as they were recorded."""
    finish(services, instrument_id)
    raw_file = back_up(services, name, run_id="b", options=BackupOptions()).raw_file
    assert raw_file.is_backed_up
    assert KnownFile.of(raw_file).main_file_size(services.rules(instrument_id)) == 1_000
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    services.now.forward(minutes=6)
    outcome = archive_members(services, name, run_id="m", options=ArchiveOptions())
    assert outcome.moved, outcome.reason
    created(services, name, days_ago=15)
    assert [item.raw_file_id for item in purge_all(services, instrument_id).deleted] == [name]
    assert files_in(aside(services, instrument_id)) == {}
    return set(raw_file.file_info)


@pytest.mark.parametrize("main", MAIN_FILES)
def test_a_bruker_folder_of_every_kind_goes_its_way(services, main):
    folder = services.instrument_folder("bruker1") / "q.d"
    folder.mkdir()
    write(folder, main)
    write(folder, "SampleInfo.xml", 10)
    assert through_the_whole_life(services, "bruker1", "q.d") == {
        f"q.d/{main}",
        "q.d/SampleInfo.xml",
    }


@pytest.mark.parametrize("main", MAIN_FILES)
def test_the_growth_of_every_kind_of_main_file_is_watched(services, main):
    bench = Bench(services, "bruker1")
    (bench.folder / "q.d").mkdir()
    for hour in range(1, 6):
        write(bench.folder / "q.d", main, 100 * hour)
        bench.scan(minutes=61)
        assert bench.status("q.d") in ("queued_for_monitoring", "monitoring_acquisition")
    bench.scan(minutes=61)
    assert bench.status("q.d") == "monitoring_done"
    assert bench.acquisition("q.d")["errors"] == []


@pytest.mark.parametrize("main", MAIN_FILES)
def test_a_second_acquisition_of_every_kind_is_known_by_its_size(services, main):
    bench = Bench(services, "bruker1")
    (bench.folder / "q.d").mkdir()
    write(bench.folder / "q.d", main)
    finish(services, "bruker1")
    back_up(services, "q.d", run_id="b", options=BackupOptions())
    assert bench.scan(minutes=1).registered == ()
    write(bench.folder / "q.d", main, 777)
    (new,) = bench.scan(minutes=1).registered
    assert new.original_name == "q.d"


def test_a_folder_whose_layout_is_not_known_is_told_once_by_its_name_and_kept(services):
    bench = Bench(services, "bruker1")
    for name in ("odd.d", "other.d"):
        (bench.folder / name).mkdir()
    write(bench.folder / "odd.d", "analysis.yep")
    write(bench.folder / "other.d", "analysis.baf")
    reported = [left.name for _ in range(4) for left in bench.scan(minutes=61).newly_left_alone]
    assert reported == ["odd.d"]
    (left,) = services.store.health.get("bruker1")["left_alone"]
    assert "none of analysis.tdf_bin, analysis.tsf_bin, analysis.baf" in left["reason"]
    back_up_due(services, "bruker1")
    failed = services.store.raw_files.get("odd.d")
    assert (failed.status, failed.is_backed_up) == (Status.ACQUISITION_FAILED, True)


def test_a_folder_that_was_just_made_is_watched_and_not_told(services):
    bench = Bench(services, "bruker1")
    (bench.folder / "new.d").mkdir()
    for _ in range(2):
        assert bench.scan(minutes=30).newly_left_alone == ()
    assert bench.status("new.d") == "monitoring_acquisition"


@pytest.mark.parametrize(("name", "companions"), SCIEX.items())
def test_a_sciex_acquisition_of_every_spelling_goes_its_way(services, name, companions):
    folder = services.instrument_folder("sciex1")
    for item in (name, *companions):
        write(folder, item)
    assert through_the_whole_life(services, "sciex1", name) == {name, *companions}
    assert files_in(folder) == {}


def test_a_wiff2_that_gets_its_wiff_while_it_is_watched_is_one_acquisition(services):
    bench = Bench(services, "sciex1")
    for name in ("s.wiff2", "s.wiff.scan"):
        write(bench.folder, name)
    assert [item.id for item in bench.scan().registered] == ["s.wiff2"]
    write(bench.folder, "s.wiff")
    assert [item.id for item in bench.scan(minutes=1).registered] == ["s.wiff"]
    finish(services, "sciex1")
    back_up_due(services, "sciex1")
    given_up, kept = (services.store.raw_files.get(name) for name in ("s.wiff2", "s.wiff"))
    assert (given_up.status, given_up.is_backed_up) == (Status.IGNORED, False)
    assert "a member of 's.wiff'" in str(given_up.status_details)
    assert set(kept.file_info) == {"s.wiff", "s.wiff2", "s.wiff.scan"}


def test_a_wiff2_that_gets_its_wiff_while_it_is_looked_at_is_never_registered(services):
    bench = Bench(services, "sciex1")
    write(bench.folder, "s.wiff2")

    def gets_its_wiff(folder: str, **options: object) -> Listing:
        listing = list_folder(folder, **options)
        write(bench.folder, "s.wiff")
        return listing

    assert look_at(replace(services, lister=gets_its_wiff), "sciex1").registered == ()
    assert [item.id for item in bench.scan(minutes=1).registered] == ["s.wiff"]


def test_a_wiff_that_comes_after_the_backup_of_its_wiff2_is_a_member_of_that(services):
    bench = Bench(services, "sciex1")
    for name in ("s.wiff2", "s.wiff.scan"):
        write(bench.folder, name)
    finish(services, "sciex1")
    back_up_due(services, "sciex1")
    write(bench.folder, "s.wiff")
    for _ in range(2):
        assert bench.scan(minutes=6).registered == ()
    assert services.store.raw_files.get("s.wiff2").status is Status.DONE_NOT_QUANTED
    outcome = archive_members(services, "s.wiff2", run_id="m", options=ArchiveOptions())
    assert "a file of this acquisition that the backup lacks" in outcome.reason
    retry(services, "s.wiff2", asked_by="a person")
    with pytest.raises(SourceChanged):  # it must stand still until the next try
        back_up_due(services, "sciex1")
    services.now.forward(minutes=5)
    back_up_due(services, "sciex1")
    members = services.store.raw_files.get("s.wiff2").file_info
    assert set(members) == {"s.wiff", "s.wiff2", "s.wiff.scan"}


def test_what_is_left_of_a_sciex_acquisition_is_no_other(services):
    bench = Bench(services, "sciex1")
    for name in ("s.wiff", "s.wiff2", "s.wiff.scan"):
        write(bench.folder, name)
    write(bench.folder, "t.wiff")
    bench.scan()
    (bench.folder / "s.wiff").unlink()
    scan = bench.scan(minutes=1)
    assert scan.registered == ()
    assert [left.name for left in scan.newly_left_alone] == ["s.wiff2"]


def test_a_purge_that_was_cut_short_leaves_no_acquisition_to_a_catch_up(services):
    raw_file = record("s.wiff", instrument_id="sciex1", status=Status.DONE)
    moved = raw_file.model_copy(update={"instrument_file_status": InstrumentFileStatus.MOVED})
    services.store.raw_files.register(moved, reason="archived")
    folder = aside(services, "sciex1")
    folder.mkdir()
    write(folder, "s.wiff2")
    write(folder, "t.wiff2")
    found = register_all(services, "sciex1", CatchupOptions())
    assert [item.id for item in found.registered] == ["t.wiff2"]


@pytest.mark.parametrize("vendor", Vendor)
def test_the_main_file_is_found_among_the_members_without_case(vendor: Vendor) -> None:
    rules, name = RULES[vendor], f"x{RULES[vendor].extension}"
    assert rules.main_file_among(name, []) is None
    assert rules.main_file_among(name, [rules.main_file(name)]) == rules.main_file(name)
    if rules.is_folder:
        paths = [f"{name}/{main.upper()}" for main in reversed(rules.main_files)]
        assert rules.main_file_among(name, paths) == f"{name}/{rules.main_files[0].upper()}"
        assert rules.main_file_among(name, [f"y{name}/{rules.main_files[0]}"]) is None
