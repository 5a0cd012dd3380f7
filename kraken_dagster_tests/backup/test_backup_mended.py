"""A backup that was damaged and is whole again shows again what its file had ended with."""

import hashlib

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.raw_file import FileFact, RawFile, Status
from kraken_dagster_tests.support.helpers import NOW, backed_up

ENDS = {
    Status.QUANTING_FAILED: "custom: exit code 3, no precursors left after filtering",
    Status.ACQUISITION_FAILED: "Main file vanished: x.raw",
    Status.DONE_NOT_QUANTED: "Filename contains special characters.",
    Status.DONE: None,
}


def ended(services, status: Status, details: str | None) -> RawFile:
    """A file with a backup that ended with these words, by the table of transitions."""
    raw_file = backed_up(services, "thermo1", "x.raw")
    ways = {Status.ACQUISITION_FAILED: [], Status.DONE_NOT_QUANTED: []}
    for step in ways.get(status, [Status.QUEUED_FOR_QUANTING, Status.QUANTING]):
        raw_file = services.store.raw_files.transition(raw_file, step, now=NOW)
    return services.store.raw_files.transition(raw_file, status, now=NOW, reason=details)


def damage_and_mend(services, *, in_between=lambda: None) -> RawFile:
    path = services.backup_folder(services.store.raw_files.get("x.raw")) / "x.raw"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + b"?")
    with pytest.raises(BackupDamaged):
        back_up(services, "x.raw", run_id="finds", options=BackupOptions())
    broken = services.store.raw_files.get("x.raw")
    assert (broken.status, "not what was recorded" in broken.status_details) == ("error", True)
    in_between()
    path.write_bytes(whole)
    back_up(services, "x.raw", run_id="mends", options=BackupOptions())
    return services.store.raw_files.get("x.raw")


@pytest.mark.parametrize(("status", "details"), ENDS.items())
def test_a_mended_backup_shows_again_what_its_file_had_ended_with(services, status, details):
    before = ended(services, status, details)
    after = damage_and_mend(services)
    assert (after.status, after.status_details) == (status, details)
    assert (after.is_backed_up, after.ended_as, after.ended_details) == (True, None, None)
    assert after.acquisition == before.acquisition
    reported = after.history[-1]["reason"]
    assert "whole again" in reported
    assert details is None or details in reported


def test_damage_that_was_recorded_without_the_words_finds_them_in_the_history(services):
    ended(services, Status.QUANTING_FAILED, ENDS[Status.QUANTING_FAILED])

    def forget() -> None:
        services.store._database["raw_file"].update_one({}, {"$unset": {"ended_details": ""}})

    after = damage_and_mend(services, in_between=forget)
    assert after.status_details == ENDS[Status.QUANTING_FAILED]


def test_damage_that_is_found_twice_keeps_the_words_of_the_first_end(services):
    ended(services, Status.QUANTING_FAILED, ENDS[Status.QUANTING_FAILED])

    def found_again() -> None:
        with pytest.raises(Exception, match="never overwritten"):
            back_up(services, "x.raw", run_id="again", options=BackupOptions())

    after = damage_and_mend(services, in_between=found_again)
    assert (after.status, after.status_details) == (
        Status.QUANTING_FAILED,
        ENDS[Status.QUANTING_FAILED],
    )


def test_a_backup_with_an_etag_of_another_program_is_mended_too_and_keeps_it(services):
    ended(services, Status.DONE, None)
    documents = services.store._database["raw_file"]
    (size, md5) = documents.find_one()["file_info"]["x.raw"]
    documents.update_one({}, {"$set": {"file_info": {"x.raw": [size, md5, "etag-3"]}}})
    after = damage_and_mend(services)
    assert (after.status, after.file_info["x.raw"].etag) == (Status.DONE, "etag-3")


def test_debris_that_an_earlier_version_has_recorded_keeps_no_backup_from_being_mended(services):
    """It was recorded when it still counted as a member; now it is none, there or not."""
    raw_file = backed_up(services, "bruker1", "x.d")
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=NOW, reason="why")
    documents = services.store._database["raw_file"]
    recorded = documents.find_one({"_id": "x.d"})["file_info"]
    folder = services.backup_folder(raw_file)
    (folder / "x.d").chmod(0o755)
    (folder / "x.d" / ".DS_Store").write_bytes(b"shown")
    debris = FileFact(size=5, md5=hashlib.md5(b"shown").hexdigest())
    recorded = {**recorded, "x.d/.DS_Store": debris.to_record()}
    documents.update_one({"_id": "x.d"}, {"$set": {"file_info": recorded}})
    member = folder / next(name for name in recorded if name.endswith("tdf_bin"))
    member.unlink()
    with pytest.raises(BackupDamaged):
        back_up(services, "x.d", run_id="finds", options=BackupOptions())
    assert back_up(services, "x.d", run_id="mends", options=BackupOptions()).done
    after = services.store.raw_files.get("x.d")
    assert (after.status, after.status_details) == (Status.DONE_NOT_QUANTED, "why")
    assert "x.d/.DS_Store" not in after.file_info
    assert (folder / "x.d" / ".DS_Store").exists()
