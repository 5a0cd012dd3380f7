"""The step `backup` asked for once more: a person has it read again, a sensor nothing."""

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.errors import BackupDamaged, DigestMismatch, UnknownRawFile
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.support.helpers import Bench, backed_up, finish, md5sum


def again(world, *, by_hand: bool, name: str = "x.raw") -> BackupOutcome:
    return back_up(world, name, run_id="run-2", options=BackupOptions(), by_hand=by_hand)


@pytest.fixture
def backup(world):
    """The path of a file in the backup; on the instrument it is gone."""
    raw_file = backed_up(world, "thermo1", "x.raw")
    (world.instrument_folder("thermo1") / "x.raw").unlink()
    return world.backup_folder(raw_file) / "x.raw"


def test_a_person_has_the_backup_read_again_without_the_instrument(world, backup):
    before = world.store.raw_files.get("x.raw")
    outcome = again(world, by_hand=True)
    assert (outcome.done, outcome.reason, outcome.proven) == (True, "verified again", 1)
    assert outcome.facts == before.file_info
    after = world.store.raw_files.get("x.raw")
    assert (after.status, after.history) == (before.status, before.history)


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (flip_a_bit, "50000 bytes, MD5"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "49999 bytes"),
        (lambda path: path.unlink(), "no file"),
    ],
)
def test_a_damaged_backup_is_found_recorded_and_left_as_it_is(world, backup, damage, found):
    damage(backup)
    before = backup.read_bytes() if backup.exists() else None
    with pytest.raises(BackupDamaged, match=rf"x\.raw.*Found {found}.*`kraken retry`"):
        again(world, by_hand=True)
    assert (backup.read_bytes() if backup.exists() else None) == before
    raw_file = world.store.raw_files.get("x.raw")
    assert (raw_file.status, raw_file.backup_status) == (Status.ERROR, "copying_failed")
    assert (raw_file.is_backed_up, raw_file.lease) == (False, None)
    assert list(raw_file.file_info) == ["x.raw"]  # what was recorded once stays


def test_a_damaged_backup_is_made_anew_where_the_instrument_still_has_the_file(world):
    raw_file = backed_up(world, "thermo1", "x.raw")
    path = world.backup_folder(raw_file) / "x.raw"
    flip_a_bit(path)
    with pytest.raises(BackupDamaged):
        again(world, by_hand=True)
    options = BackupOptions(backup_overwrite_file_id="x.raw")
    back_up(world, "x.raw", run_id="run-3", options=options)
    assert md5sum(path) == raw_file.file_info["x.raw"].md5
    assert path.with_name("x.raw.1.alphakraken.bkp").exists()
    assert world.store.raw_files.get("x.raw").file_info == raw_file.file_info


def test_a_damaged_backup_is_not_replaced_by_a_file_that_changed_on_the_instrument(world):
    raw_file = backed_up(world, "thermo1", "x.raw")
    path = world.backup_folder(raw_file) / "x.raw"
    path.unlink()
    with pytest.raises(BackupDamaged):
        again(world, by_hand=True)
    flip_a_bit(world.instrument_folder("thermo1") / "x.raw")
    with pytest.raises(DigestMismatch, match="checksum_overwrite_file_id"):
        again(world, by_hand=True)
    assert world.store.raw_files.get("x.raw").file_info == raw_file.file_info


def test_every_member_of_a_folder_is_read_again(world):
    raw_file = backed_up(world, "bruker1", "x.d")
    assert again(world, by_hand=True, name="x.d").proven == len(raw_file.file_info)
    flip_a_bit(world.backup_folder(raw_file) / "x.d/4711.m/hystar.method")
    with pytest.raises(BackupDamaged, match=r"hystar\.method"):
        again(world, by_hand=True, name="x.d")


def test_a_sensors_request_for_what_is_backed_up_meanwhile_reads_nothing(world, backup):
    flip_a_bit(backup)
    outcome = again(world, by_hand=False)
    assert (outcome.done, outcome.reason) == (False, "the backup is there already")


def test_a_sensors_stale_request_on_a_final_file_does_nothing(world, backup):
    raw_file = world.store.raw_files.get("x.raw")
    world.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=world.now())
    final = world.store.raw_files.get("x.raw")
    outcome = again(world, by_hand=False)
    assert (outcome.done, outcome.reason) == (False, "nothing is due: the file is done_not_quanted")
    assert world.store.raw_files.get("x.raw") == final


@pytest.mark.parametrize("by_hand", [True, False])
def test_nothing_is_copied_while_the_acquisition_goes_on(world, by_hand):
    Bench(world, "thermo1").write("x.raw")
    Bench(world, "thermo1").look()
    outcome = again(world, by_hand=by_hand)
    assert not outcome.done
    assert "the acquisition is not over yet" in outcome.reason
    assert [it.name for it in world.config.locations.backup.path.iterdir()] == [MARKER_NAME]


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_ignored_file_is_not_copied(world, by_hand):
    thermo = Bench(world, "thermo1")
    thermo.write("x.raw")
    thermo.look()
    raw_file = world.store.raw_files.get("x.raw")
    world.store.raw_files.transition(raw_file, Status.IGNORED, now=world.now(), reason="too old")
    outcome = again(world, by_hand=by_hand)
    assert (outcome.done, outcome.reason) == (False, "the file is ignored: too old")


def test_a_file_that_nobody_knows_is_told(world):
    with pytest.raises(UnknownRawFile):
        again(world, by_hand=True)


def test_a_person_who_is_quicker_than_the_sensor_has_the_backup_made(world):
    Bench(world, "thermo1").write("x.raw")
    finish(world, "thermo1")
    assert again(world, by_hand=True).reason == "copied and verified"
