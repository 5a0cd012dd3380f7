"""An instrument that is away, or doesn't let go of a file: the move is tried again by itself."""

import shutil
from dataclasses import replace
from datetime import timedelta

from kraken_dagster.model.errors import CopyStalled, FolderMissing, InstrumentBusy, MoveRefused
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members, due_for_move
from kraken_dagster.runtime.refusals import ARCHIVE, note_refusal
from kraken_dagster_tests.retention.retention_cases import (
    aside,
    done,
    files_in,
    hanging_at,
    move_all,
    notes,
)
from kraken_dagster_tests.support.helpers import acquire, finish, lease

BUSY = InstrumentBusy("The instrument's file system refuses it", found="Text file busy")


def due(services) -> list[str]:
    found = due_for_move(services, "thermo1", services.now(), options=ArchiveOptions())
    return [item.id for item in found]


def waits(services, raw_file_id: str) -> float:
    """Seconds until the next try."""
    refusal = services.store.raw_files.get(raw_file_id).archive
    return (refusal.retry_at - services.now()).total_seconds()


def test_an_instrument_that_is_away_puts_all_its_files_off_and_changes_no_status(services):
    for name in ("a.raw", "b.raw"):
        done(services, "thermo1", name)
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("away"))
    outcomes = move_all(services, "thermo1")
    assert [type(item.problem) for item in outcomes] == [FolderMissing, FolderMissing]
    assert due(services) == []
    assert [item.id for item in services.store.retention.troubled("thermo1")] == ["a.raw", "b.raw"]
    for name in ("a.raw", "b.raw"):
        assert services.store.raw_files.get(name).status is Status.DONE_NOT_QUANTED
    folder.with_name("away").rename(folder)
    services.now.forward(seconds=61)
    assert [item.moved for item in move_all(services, "thermo1")] == [True, True]
    assert services.store.retention.troubled("thermo1") == []


def test_an_unmounted_share_does_not_look_like_files_that_were_deleted(services):
    done(services, "thermo1", "x.raw")
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    (outcome,) = move_all(services, "thermo1")
    assert isinstance(outcome.problem, FolderMissing)
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.INITIAL
    assert list(folder.iterdir()) == []


def test_another_disk_does_not_look_like_files_that_were_deleted(services):
    done(services, "thermo1", "w.raw")
    move_all(services, "thermo1")
    for name in ("x.raw", "y.raw"):
        done(services, "thermo1", name)
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("kept"))
    folder.mkdir()
    (folder / ".directory").write_bytes(b"1")
    for backup_too in (False, True):
        if backup_too:
            (folder / "Backup").mkdir()
        outcomes = move_all(services, "thermo1")
        assert [type(item.problem) for item in outcomes] == [FolderMissing] * 2
        services.now.forward(minutes=31)
    assert sorted(path.name for path in folder.iterdir()) == [".directory", "Backup"]
    shutil.rmtree(folder)
    folder.with_name("kept").rename(folder)
    assert [item.moved for item in move_all(services, "thermo1")] == [True] * 2


def test_a_file_whose_reading_hangs_holds_up_no_other(services, monkeypatch):
    for name in ("a.raw", "b.raw", "c.raw"):
        done(services, "thermo1", name)
    aside(services, "thermo1").mkdir()
    folder = services.instrument_folder("thermo1")
    shutil.copy2(folder / "a.raw", aside(services, "thermo1"))  # so that both are read
    outcomes = move_all(hanging_at(services, "a.raw", monkeypatch), "thermo1")
    assert [item.moved for item in outcomes] == [False, True, True]
    assert isinstance(outcomes[0].problem, CopyStalled)
    assert waits(services, "a.raw") > 0


def test_on_another_disk_a_failed_acquisition_is_not_recorded_as_gone(services):
    done(services, "thermo1", "w.raw")
    move_all(services, "thermo1")
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
    folder = services.instrument_folder("thermo1")
    folder.rename(folder.with_name("kept"))
    folder.mkdir()
    (folder / ".directory").write_bytes(b"1")
    (outcome,) = move_all(services, "thermo1", move_failed=True)
    assert isinstance(outcome.problem, FolderMissing)
    after = services.store.raw_files.get("x.raw")
    assert after.instrument_file_status is InstrumentFileStatus.INITIAL


def test_waits_double_up_to_half_an_hour_and_the_history_has_it_once(services):
    done(services, "thermo1", "x.raw")
    found = []
    for _ in range(8):
        raw_file = services.store.raw_files.get("x.raw")
        note_refusal(services, raw_file, ARCHIVE, BUSY, run_id="m")
        found.append(waits(services, "x.raw"))
        assert due(services) == []
        services.now.forward(seconds=found[-1])
        assert due(services) == ["x.raw"]
    assert found == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    after = services.store.raw_files.get("x.raw")
    assert sum("Text file busy" in note for note in notes(after)) == 1
    assert after.status is Status.DONE_NOT_QUANTED


def test_no_trouble_is_noted_of_a_file_that_another_run_has_moved_meanwhile(services):
    stale = done(services, "thermo1", "x.raw")
    assert [item.moved for item in move_all(services, "thermo1")] == [True]
    note_refusal(services, stale, ARCHIVE, BUSY, run_id="late")
    after = services.store.raw_files.get("x.raw")
    assert after.archive is None
    assert services.store.retention.troubled("thermo1") == []
    assert not any("Text file busy" in note for note in notes(after))


def test_another_trouble_is_news(services):
    done(services, "thermo1", "x.raw")
    for problem in (BUSY, MoveRefused("Something else")):
        note_refusal(services, services.store.raw_files.get("x.raw"), ARCHIVE, problem, run_id="m")
    found = notes(services.store.raw_files.get("x.raw"))
    assert "Text file busy" in found[-2]
    assert found[-1].startswith("refused, looked at again at ")


def test_retry_of_a_file_that_is_put_off_makes_it_due_at_once(services):
    done(services, "thermo1", "x.raw")
    note_refusal(services, services.store.raw_files.get("x.raw"), ARCHIVE, BUSY, run_id="m")
    retry(services, "x.raw", asked_by="ada")
    assert due(services) == ["x.raw"]


def test_retry_of_a_file_that_is_put_off_leaves_its_status_alone(services):
    note_refusal(services, done(services, "thermo1", "x.raw"), ARCHIVE, BUSY, run_id="m")
    after, reported = retry(services, "x.raw", asked_by="ada")
    assert (after.status, after.archive) == (Status.DONE_NOT_QUANTED, None)
    assert reported.startswith("it is archived, or purged")


def test_retry_of_a_file_that_failed_in_processing_does_both(services):
    raw_file = done(services, "thermo1", "x.raw")
    for status in (Status.QUEUED_FOR_QUANTING, Status.QUANTING_FAILED):
        raw_file = services.store.raw_files.transition(raw_file, status, now=services.now())
    note_refusal(services, raw_file, ARCHIVE, BUSY, run_id="m")
    after, _ = retry(services, "x.raw", asked_by="ada")
    assert (after.status, after.archive) == (Status.QUEUED_FOR_QUANTING, None)


def test_retry_of_a_file_in_error_does_both(services):
    raw_file = done(services, "thermo1", "x.raw")
    raw_file = services.store.raw_files.transition(raw_file, Status.ERROR, now=services.now())
    note_refusal(services, raw_file, ARCHIVE, BUSY, run_id="m")
    after, _ = retry(services, "x.raw", asked_by="ada")
    assert (after.archive, after.retry_at) == (None, services.now())


def test_a_move_clears_what_stood_in_its_way(services):
    done(services, "thermo1", "x.raw")
    note_refusal(services, services.store.raw_files.get("x.raw"), ARCHIVE, BUSY, run_id="m")
    services.now.forward(minutes=2)
    assert [item.moved for item in move_all(services, "thermo1")] == [True]
    assert services.store.raw_files.get("x.raw").archive is None


def test_a_file_that_another_run_works_on_is_left_to_it(services):
    done(services, "thermo1", "x.raw")
    other = lease("run-7", until=services.now().replace(year=2030))
    services.store.raw_files.take_lease("x.raw", other, now=services.now())
    assert due(services) == []
    assert "run-7 works on it" in archive_members(services, "x.raw", run_id="m").reason
    assert "x.raw" in files_in(services.instrument_folder("thermo1"))


def test_of_two_runs_that_want_the_same_file_one_moves_it(services):
    done(services, "thermo1", "x.raw")
    stale = services.store.raw_files.get("x.raw")
    assert archive_members(services, "x.raw", run_id="one").moved
    again = archive_members(services, stale.id, run_id="two")
    assert not again.moved
    assert again.reason == "its file on the instrument is moved"


def test_a_run_without_its_lease_renames_nothing(services):
    done(services, "thermo1", "x.raw")
    late = replace(services, now=Late(services.now, seconds=3600, after=3))
    outcomes = move_all(late, "thermo1")
    assert [item.moved for item in outcomes] == [False]
    assert "x.raw" in files_in(services.instrument_folder("thermo1"))
    services.now.forward(hours=2)
    assert [item.moved for item in move_all(services, "thermo1")] == [True]


class Late:
    """A clock that jumps while the run that asks it is held up."""

    def __init__(self, clock, *, seconds: float, after: int) -> None:
        self.clock, self.seconds, self.left = clock, seconds, after

    def __call__(self):
        self.left -= 1
        late = timedelta(seconds=self.seconds if self.left < 0 else 0)
        return self.clock() + late
