"""What is written to after its backup is compared once, also where nothing is archived."""

import os
from dataclasses import replace

import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.model.errors import ContentChanged, LeaseLost
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.archiving import rename_checks as move_checks
from kraken_dagster.retention.archiving.archive import archive
from kraken_dagster.retention.archiving.compare import compare_changed, due_for_comparison
from kraken_dagster.retention.archiving.rename import archive_members
from kraken_dagster.retention.archiving.within_rate import plan_of
from kraken_dagster_tests.file_systems.foreign import foreign
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish, md5sum

MAINS = {
    "thermo1": ("x.raw", ""),
    "bruker1": ("x.d", "analysis.tdf_bin"),
    "sciex1": ("x.wiff", ""),
}


def main_of(services, instrument_id):
    name, main = MAINS[instrument_id]
    return services.instrument_folder(instrument_id) / name / main


def write_again(path, *, later_s, flip=255):
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(byte ^ flip for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + int(later_s * 10**9)))


def main_file_within(services, instrument_id):
    """The main file by which a look tells, which for Bruker is the first of its list."""
    name, _ = MAINS[instrument_id]
    rules = services.rules(instrument_id)
    recorded = services.store.raw_files.get(name).file_info
    return services.instrument_folder(instrument_id) / rules.main_file_among(name, recorded)


def compared(services, instrument_id):
    look_at(services, instrument_id)
    return compare_changed(services, instrument_id, run_id="c")


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read, in their order; they are really read."""
    found = []
    read = move_checks.Folder.read

    def counted(self, relative, **kwargs):
        found.append(relative)
        return read(self, relative, **kwargs)

    monkeypatch.setattr(move_checks.Folder, "read", counted)
    return found


@pytest.mark.parametrize("instrument_id", MAINS)
def test_other_content_is_found_by_a_look_and_kept_though_nothing_is_moved(services, instrument_id):
    name, _ = MAINS[instrument_id]
    first = backed_up(services, instrument_id, name)
    path = main_file_within(services, instrument_id)
    write_again(path, later_s=60)
    other = md5sum(path)
    (outcome,) = compared(services, instrument_id)
    assert isinstance(outcome.problem, ContentChanged)
    (second,) = services.store.raw_files.in_status(instrument_id, {Status.QUEUED_FOR_MONITORING})
    assert second.id == second.collision_flag + name
    finish(services, instrument_id)
    back_up(services, second.id, run_id="b", options=BackupOptions())
    assert other in {
        fact.md5 for fact in services.store.raw_files.get(second.id).file_info.values()
    }
    assert (
        back_up(services, name, run_id="verify", options=BackupOptions()).facts == first.file_info
    )
    assert compared(services, instrument_id) == []
    assert len(services.store.raw_files.known(instrument_id, [name])[name]) == 2


@pytest.mark.parametrize("instrument_id", MAINS)
def test_what_was_only_touched_is_read_once_and_recorded_anew(services, instrument_id, reads):
    name, _ = MAINS[instrument_id]
    backed_up(services, instrument_id, name)
    write_again(main_file_within(services, instrument_id), later_s=60, flip=0)
    (outcome,) = compared(services, instrument_id)
    assert outcome.problem is None
    assert len(reads) == len(services.store.raw_files.get(name).file_info)
    reads.clear()
    assert compared(services, instrument_id) == []
    services.now.forward(minutes=10)
    assert [item.moved for item in archive(services, instrument_id, run_id="a")] == [True]
    assert reads == []


def test_times_that_a_file_system_rounds_ask_for_no_comparison(services):
    backed_up(services, "thermo1", "x.raw")
    path = main_of(services, "thermo1")
    write_again(path, later_s=1.9, flip=0)
    assert compared(services, "thermo1") == []
    write_again(path, later_s=0.2, flip=0)
    assert len(compared(services, "thermo1")) == 1


def test_a_file_that_went_before_it_was_compared_is_asked_for_again_by_a_look_alone(services):
    backed_up(services, "thermo1", "x.raw")
    path = main_of(services, "thermo1")
    write_again(path, later_s=60)
    look_at(services, "thermo1")
    away = path.with_name("elsewhere")
    path.rename(away)
    assert [item.problem for item in compare_changed(services, "thermo1", run_id="c")] == [None]
    assert due_for_comparison(services, "thermo1", services.now()) == []
    away.rename(path)
    assert isinstance(compared(services, "thermo1")[0].problem, ContentChanged)


def test_change_times_that_differ_alone_are_read_for_until_they_prove_to_mean_nothing(
    services, reads
):
    names = [f"x{number}.raw" for number in range(4)]
    for name in names:
        backed_up(services, "thermo1", name)
    folder = services.instrument_folder("thermo1")
    services.now.forward(minutes=10)
    for name in names:
        (folder / name).chmod(0o640)
    archive(services, "thermo1", run_id="a")
    assert sorted(reads) == names[:2]
    there = services.store.raw_files.known("thermo1", names)
    places = {there[name][0].instrument_file_status for name in names}
    assert places == {InstrumentFileStatus.MOVED}
    reads.clear()  # one whose change time held: they mean something again
    for name in ("y.raw", "z.raw"):
        backed_up(services, "thermo1", name)
        if name == "z.raw":
            (folder / name).chmod(0o640)
        services.now.forward(minutes=10)
        archive(services, "thermo1", run_id="a")
    assert reads == ["z.raw"]


def test_what_was_read_before_a_move_that_fails_is_recorded_first(services, reads):
    raw_file = backed_up(services, "thermo1", "x.raw")
    main_of(services, "thermo1").chmod(0o640)
    scans = []

    def on_scan(scan, held):
        scans.append((scan, held))

    with pytest.raises(LeaseLost):
        archive_members(plan_of(services, raw_file), may_go_on=lambda: False, on_scan=on_scan)
    ((scan, held),) = scans
    assert (held, reads) == (False, ["x.raw"])
    reads.clear()
    plan = replace(plan_of(services, raw_file), scan=scan)
    assert archive_members(plan, may_go_on=lambda: True).moved == ("x.raw",)
    assert reads == []


def test_a_move_that_goes_on_after_its_own_renames_reads_nothing(services, reads):
    raw_file = backed_up(services, "sciex1", "x.wiff")
    leave = iter([True, True, False])
    with pytest.raises(LeaseLost):
        archive_members(plan_of(services, raw_file), may_go_on=lambda: next(leave))
    assert len(list((services.instrument_folder("sciex1") / "Backup").iterdir())) in {1, 2}
    services.now.forward(minutes=10)
    assert [item.moved for item in archive(services, "sciex1", run_id="a")] == [True]
    assert reads == []


@pytest.mark.parametrize("ways", ["newino", "fat"])
@pytest.mark.parametrize("instrument_id", MAINS)
def test_a_share_of_foreign_ways_is_moved_aside_without_being_read(
    services, instrument_id, ways, reads
):
    name, _ = MAINS[instrument_id]
    acquire(services, instrument_id, name)
    with foreign(services.instrument_folder(instrument_id), ways):
        finish(services, instrument_id)
        back_up(services, name, run_id="b", options=BackupOptions())
        services.now.forward(minutes=10)
        (outcome,) = archive(services, instrument_id, run_id="a")
    assert (outcome.moved, reads) == (True, []), outcome.reason
