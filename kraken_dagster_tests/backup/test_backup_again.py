"""The step `backup` asked for once more: a person has it read again, a sensor nothing."""

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.errors import BackupDamaged, DigestMismatch, UnknownRawFile
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.support.helpers import Bench, backed_up, finish, md5sum


def again(services, *, by_hand: bool, name: str = "x.raw") -> BackupOutcome:
    return back_up(services, name, run_id="run-2", options=BackupOptions(), by_hand=by_hand)


@pytest.fixture
def backup(services):
    """The path of a file in the backup; on the instrument it is gone."""
    raw_file = backed_up(services, "thermo1", "x.raw")
    (services.instrument_folder("thermo1") / "x.raw").unlink()
    return services.backup_folder(raw_file) / "x.raw"


def test_a_person_has_the_backup_read_again_without_the_instrument(services, backup):
    before = services.store.raw_files.get("x.raw")
    outcome = again(services, by_hand=True)
    assert (outcome.done, outcome.reason, outcome.proven) == (True, "verified again", 1)
    assert outcome.facts == before.file_info
    after = services.store.raw_files.get("x.raw")
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
def test_a_damaged_backup_is_found_recorded_and_left_as_it_is(services, backup, damage, found):
    damage(backup)
    before = backup.read_bytes() if backup.exists() else None
    with pytest.raises(BackupDamaged, match=rf"x\.raw.*Found {found}.*`kraken retry`"):
        again(services, by_hand=True)
    assert (backup.read_bytes() if backup.exists() else None) == before
    raw_file = services.store.raw_files.get("x.raw")
    assert (raw_file.status, raw_file.backup_status) == (Status.ERROR, "copying_failed")
    assert (raw_file.is_backed_up, raw_file.lease) == (False, None)
    assert list(raw_file.file_info) == ["x.raw"]  # what was recorded once stays


def test_a_damaged_backup_is_made_anew_where_the_instrument_still_has_the_file(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    path = services.backup_folder(raw_file) / "x.raw"
    flip_a_bit(path)
    with pytest.raises(BackupDamaged):
        again(services, by_hand=True)
    options = BackupOptions(backup_overwrite_file_id="x.raw")
    back_up(services, "x.raw", run_id="run-3", options=options)
    assert md5sum(path) == raw_file.file_info["x.raw"].md5
    assert path.with_name("x.raw.1.alphakraken.bkp").exists()
    assert services.store.raw_files.get("x.raw").file_info == raw_file.file_info


def test_a_damaged_backup_is_not_replaced_by_a_file_that_changed_on_the_instrument(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    path = services.backup_folder(raw_file) / "x.raw"
    path.unlink()
    with pytest.raises(BackupDamaged):
        again(services, by_hand=True)
    flip_a_bit(services.instrument_folder("thermo1") / "x.raw")
    with pytest.raises(DigestMismatch, match="checksum_overwrite_file_id"):
        again(services, by_hand=True)
    assert services.store.raw_files.get("x.raw").file_info == raw_file.file_info


def test_every_member_of_a_folder_is_read_again(services):
    raw_file = backed_up(services, "bruker1", "x.d")
    assert again(services, by_hand=True, name="x.d").proven == len(raw_file.file_info)
    flip_a_bit(services.backup_folder(raw_file) / "x.d/4711.m/hystar.method")
    with pytest.raises(BackupDamaged, match=r"hystar\.method"):
        again(services, by_hand=True, name="x.d")


def test_a_sensors_request_for_what_is_backed_up_meanwhile_reads_nothing(services, backup):
    flip_a_bit(backup)
    outcome = again(services, by_hand=False)
    assert (outcome.done, outcome.reason) == (False, "the backup is there already")


def test_a_sensors_stale_request_on_a_final_file_does_nothing(services, backup):
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    final = services.store.raw_files.get("x.raw")
    outcome = again(services, by_hand=False)
    assert (outcome.done, outcome.reason) == (False, "nothing is due: the file is done_not_quanted")
    assert services.store.raw_files.get("x.raw") == final


@pytest.mark.parametrize("by_hand", [True, False])
def test_nothing_is_copied_while_the_acquisition_goes_on(services, by_hand):
    Bench(services, "thermo1").write("x.raw")
    Bench(services, "thermo1").scan()
    outcome = again(services, by_hand=by_hand)
    assert not outcome.done
    assert "the acquisition is not over yet" in outcome.reason
    assert [it.name for it in services.config.locations.backup.path.iterdir()] == [MARKER_NAME]


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_ignored_file_is_not_copied(services, by_hand):
    thermo = Bench(services, "thermo1")
    thermo.write("x.raw")
    thermo.scan()
    raw_file = services.store.raw_files.get("x.raw")
    services.store.raw_files.transition(
        raw_file, Status.IGNORED, now=services.now(), reason="too old"
    )
    outcome = again(services, by_hand=by_hand)
    assert (outcome.done, outcome.reason) == (False, "the file is ignored: too old")


def test_a_file_that_nobody_knows_is_told(services):
    with pytest.raises(UnknownRawFile):
        again(services, by_hand=True)


def test_a_person_who_is_quicker_than_the_sensor_has_the_backup_made(services):
    Bench(services, "thermo1").write("x.raw")
    finish(services, "thermo1")
    assert again(services, by_hand=True).reason == "copied and verified"
