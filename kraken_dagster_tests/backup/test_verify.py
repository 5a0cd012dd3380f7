"""Backups that are read again: what is proven, what is found, and what that changes."""

import errno
import os
from pathlib import Path
from threading import Event

import pytest

from kraken_dagster.backup import verify as steps_verify
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import Verdict, VerifyOutcome, verify_backup
from kraken_dagster.fs import dir_handles as handles
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import BackupDamaged, BackupUnwritable, CopyStalled
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime import stores
from kraken_dagster_tests.retention.retention_cases import (
    INSTRUMENTS,
    aside,
    content,
    done,
    fields,
    flip_a_bit,
    impatient,
    moved,
    purge_all,
)
from kraken_dagster_tests.support.helpers import lease, manifest_holds, md5sum


def verify(services, name: str) -> VerifyOutcome:
    return verify_backup(services, name, run_id="verify", rate_limit=RateLimit())


def backup_of(services, name: str) -> Path:
    raw_file = services.store.raw_files.get(name)
    return services.backup_folder(raw_file) / name


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_whole_backup_is_verified_and_the_time_of_the_proof_kept(services, instrument_id, name):
    raw_file = done(services, instrument_id, name)
    before = content(services.config.locations.backup.path)
    outcome = verify(services, name)
    assert outcome.verdict is Verdict.VERIFIED
    assert (outcome.files, outcome.size_bytes) == (len(raw_file.file_info), raw_file.size)
    assert (outcome.extra, outcome.manifest_written) == ((), False)
    after = services.store.raw_files.get(name)
    assert after.verified_at == services.now()
    assert (after.status, after.lease) == (raw_file.status, None)
    assert content(services.config.locations.backup.path) == before


def test_every_byte_that_is_read_is_told(services):
    raw_file = done(services, "bruker1", "x.d")
    reported: list[int] = []
    verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit(), on_bytes=reported.append)
    assert sum(reported) == raw_file.size


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "MD5"),
        (lambda path: os.truncate(path, 1), "Found 1 bytes"),
        (lambda path: path.unlink(), "Found no file"),
        (lambda path: (path.rename(f"{path}.real"), path.symlink_to(f"{path}.real")), "a symbolic"),
    ],
)
@pytest.mark.parametrize("member", ["analysis.tdf", "4711.m/hystar.method"])
def test_a_mismatch_is_an_error_and_blocks_any_purge(services, damage, words, member):
    moved(services, "bruker1", "x.d")
    damage(backup_of(services, "x.d") / member)
    outcome = verify(services, "x.d")
    assert outcome.verdict is Verdict.MISMATCH
    assert words in outcome.reason
    after = services.store.raw_files.get("x.d")
    assert (after.status, after.backup_status) == (Status.ERROR, "copying_failed")
    assert after.status_details in outcome.reason
    assert purge_all(services, "bruker1").deleted == ()


def test_a_backup_that_is_whole_again_counts_as_damaged_no_longer(services):
    moved(services, "thermo1", "x.raw")
    flip_a_bit(backup_of(services, "x.raw"))
    assert verify(services, "x.raw").verdict is Verdict.MISMATCH
    before = fields(services, "x.raw")
    assert verify(services, "x.raw").verdict is Verdict.MISMATCH
    flip_a_bit(backup_of(services, "x.raw"))  # somebody brings it back from a tape
    outcome = verify(services, "x.raw")
    assert outcome.verdict is Verdict.VERIFIED
    assert "it counted as damaged, and its watcher puts that right" in outcome.reason
    after = fields(services, "x.raw")
    assert (after["retry_at"], before["retry_at"]) == (after["verified_at"], None)
    assert "its backup is whole again" in after["history"][-1]["reason"]
    changes = {"updated_at_": 0, "verified_at": 0, "retry_at": 0, "history": 0}
    assert {**after, **changes} == {**before, **changes}
    back_up(services, "x.raw", run_id="b", options=BackupOptions(), by_hand=False)
    ended = services.store.raw_files.get("x.raw")
    assert (ended.status, ended.backup_status) == (Status.DONE_NOT_QUANTED, "copying_done")


def test_a_first_backup_that_failed_is_no_damage(services):
    done(services, "thermo1", "x.raw")
    changes = {"status": "error", "backup_status": "copying_failed"}
    services.store._database["raw_file"].update_one(
        {"_id": "x.raw"}, {"$set": changes, "$unset": {"backed_up_at": ""}}
    )
    assert verify(services, "x.raw").verdict is Verdict.SKIPPED


@pytest.mark.parametrize("name", ["odd", "sub/x.raw"])
def test_a_document_under_an_odd_id_is_told_and_changes_no_status(services, name):
    done(services, "thermo1", "x.raw")
    document = {**fields(services, "x.raw"), "_id": name, "file_info": {name: [3.0, "0" * 32]}}
    services.store._database["raw_file"].insert_one(document)
    assert verify(services, name).verdict is Verdict.UNREADABLE
    assert fields(services, name)["status"] == "done_not_quanted"


def test_an_error_that_nobody_expected_is_this_file_s_own(services, monkeypatch):
    done(services, "thermo1", "x.raw")

    def odd(*_args, **_changes):
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("kraken_dagster.backup.verify.read_all", odd)
    outcome = verify(services, "x.raw")
    assert outcome.verdict is Verdict.UNREADABLE
    assert "ZeroDivisionError: odd" in outcome.reason


def test_a_backup_store_that_can_not_even_be_looked_at_is_away(services, monkeypatch):
    done(services, "thermo1", "x.raw")
    root, open_it = services.config.locations.backup.path, os.open

    def stale(path, *args, **options):
        if path == root:
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_it(path, *args, **options)

    monkeypatch.setattr(os, "open", stale)
    with pytest.raises(BackupUnwritable, match="Stale file handle"):
        verify(services, "x.raw")


@pytest.mark.parametrize("of_the_store", [False, True])
def test_a_file_that_hangs_is_told_and_a_store_that_hangs_is_away(
    services, monkeypatch, of_the_store
):
    done(services, "thermo1", "x.raw")
    services = impatient(services, copy_stall_s=0.2)
    comes_back = Event()
    monkeypatch.setattr(handles, "digest_of", lambda *_args, **_options: comes_back.wait())
    if of_the_store:
        require_store, asked = stores.require_store, []

        def hangs_later(*args):
            asked.append(args)
            return require_store(*args) if len(asked) == 1 else comes_back.wait()

        monkeypatch.setattr(stores, "require_store", hangs_later)
        with pytest.raises(CopyStalled):
            verify(services, "x.raw")
    else:
        outcome = verify(services, "x.raw")
        assert outcome.verdict is Verdict.UNREADABLE
        assert "gives no answer" in outcome.reason
    comes_back.set()
    after = services.store.raw_files.get("x.raw")
    assert (after.status, after.is_backed_up) == (Status.DONE_NOT_QUANTED, True)


def test_what_hung_and_comes_back_writes_no_manifest(services, monkeypatch):
    done(services, "thermo1", "x.raw")
    services = impatient(services, copy_stall_s=0.2)
    manifest = backup_of(services, "x.raw").with_name("x.raw.md5")
    manifest.unlink()
    comes_back, has_ended, digest_of = Event(), Event(), handles.digest_of

    def hangs(handle, **options):
        comes_back.wait()
        return digest_of(handle, **options)

    def settles(*args):
        written = settle(*args)
        has_ended.set()
        return written

    settle = steps_verify._settle_manifest
    monkeypatch.setattr(handles, "digest_of", hangs)
    monkeypatch.setattr(steps_verify, "_settle_manifest", settles)
    assert verify(services, "x.raw").verdict is Verdict.UNREADABLE
    comes_back.set()
    assert has_ended.wait(10)
    assert not manifest.exists()


def test_a_file_of_an_instrument_that_is_not_configured_any_more_is_told(services, make_services):
    done(services, "thermo1", "x.raw")
    outcome = verify(make_services(services.config.only({"bruker1"})), "x.raw")
    assert outcome.verdict is Verdict.SKIPPED
    assert "not in instruments.yaml: 'thermo1'" in outcome.reason


def test_a_manifest_that_says_otherwise_is_a_mismatch(services):
    done(services, "thermo1", "x.raw")
    manifest = backup_of(services, "x.raw").with_name("x.raw.md5")
    manifest.write_text(manifest.read_text().replace("x.raw", "y.raw"))
    assert "a manifest that says otherwise" in verify(services, "x.raw").reason
    assert services.store.raw_files.get("x.raw").status is Status.ERROR


def test_a_missing_manifest_is_told_and_written_anew(services):
    done(services, "bruker1", "x.d")
    manifest = backup_of(services, "x.d").with_name("x.d.md5")
    before = manifest.read_text()
    manifest.unlink()
    outcome = verify(services, "x.d")
    assert (outcome.verdict, outcome.manifest_written) == (Verdict.VERIFIED, True)
    assert manifest.read_text() == before
    assert manifest_holds(manifest.parent, manifest.name)


def test_files_that_mongodb_does_not_know_are_told_and_left_alone(services):
    done(services, "bruker1", "x.d")
    stranger = backup_of(services, "x.d") / "4711.m" / "stranger"
    stranger.write_text("?")
    outcome = verify(services, "x.d")
    assert (outcome.verdict, outcome.extra) == (Verdict.VERIFIED, ("x.d/4711.m/stranger",))
    assert stranger.exists()


@pytest.mark.parametrize("how", ["gone", "empty mountpoint"])
def test_a_store_that_is_away_says_nothing_about_a_backup(services, how):
    done(services, "thermo1", "x.raw")
    root = services.config.locations.backup.path
    root.rename(root.with_name("away"))
    if how != "gone":
        root.mkdir()
    before = fields(services, "x.raw")
    with pytest.raises(BackupUnwritable):
        verify(services, "x.raw")
    after = fields(services, "x.raw")
    assert {**after, "updated_at_": 0} == {**before, "updated_at_": 0}


def test_what_is_not_over_or_has_no_backup_is_skipped_with_the_reason(services):
    raw_file = done(services, "thermo1", "x.raw")
    held = lease("run-7", until=services.now().replace(year=2030))
    services.store.raw_files.take_lease("x.raw", held, now=services.now())
    assert "run run-7" in verify(services, "x.raw").reason
    services.store.raw_files.release_lease("x.raw", held, now=services.now())
    services.store.raw_files.transition(raw_file, Status.QUEUED_FOR_QUANTING, now=services.now())
    outcome = verify(services, "x.raw")
    assert (outcome.verdict, outcome.reason) == (
        Verdict.SKIPPED,
        "it is still worked on: queued_for_quanting",
    )


@pytest.mark.parametrize(
    "info", [{"x.raw": [50_000.0, None]}, {"y.raw": [50_000.0, "0" * 32]}, {"../x": [1.0, "0"]}]
)
def test_an_old_record_that_proves_nothing_is_told_and_changes_no_status(services, info):
    raw_file = done(services, "thermo1", "x.raw")
    services.store._database["raw_file"].update_one({"_id": "x.raw"}, {"$set": {"file_info": info}})
    assert verify(services, "x.raw").verdict is Verdict.UNREADABLE
    after = services.store.raw_files.get("x.raw")
    assert (after.status, after.is_backed_up) == (raw_file.status, True)
    assert after.verified_at == raw_file.verified_at


def test_damage_that_a_person_found_is_mended_without_processing_once_more(services):
    done(services, "thermo1", "x.raw")
    flip_a_bit(backup_of(services, "x.raw"))
    with pytest.raises(BackupDamaged):
        back_up(services, "x.raw", run_id="b", options=BackupOptions())
    options = BackupOptions(backup_overwrite_file_id="x.raw")
    back_up(services, "x.raw", run_id="again", options=options)
    assert services.store.raw_files.get("x.raw").status is Status.DONE_NOT_QUANTED


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_rot_is_mended_from_the_file_that_was_moved_aside(services, instrument_id, name):
    raw_file = moved(services, instrument_id, name)
    member = backup_of(services, name).parent / max(raw_file.file_info)
    flip_a_bit(member)
    assert verify(services, name).verdict is Verdict.MISMATCH
    retry(services, name, asked_by="ada")
    options = BackupOptions(backup_overwrite_file_id=name)
    kept = content(aside(services, instrument_id))
    assert back_up(services, name, run_id="again", options=options, by_hand=False).done
    after = services.store.raw_files.get(name)
    assert after.file_info == raw_file.file_info
    assert md5sum(member) == raw_file.file_info[max(raw_file.file_info)].md5
    assert content(aside(services, instrument_id)) == kept
    assert after.instrument_file_status is InstrumentFileStatus.MOVED
    # It ends as it had ended before, and is not processed once more.
    assert after.status is Status.DONE_NOT_QUANTED
    submitted = submit_jobs(services, name, run_id="q", slots=1, by_hand=False)
    assert submitted.reason == "nothing is due: the file is done_not_quanted"
    assert len(purge_all(services, instrument_id).deleted) == 1


def test_a_purged_file_whose_backup_is_whole_after_all_is_done_again(services):
    raw_file = moved(services, "thermo1", "x.raw")
    purge_all(services, "thermo1")
    path = backup_of(services, "x.raw")
    flip_a_bit(path)
    assert verify(services, "x.raw").verdict is Verdict.MISMATCH
    retry(services, "x.raw", asked_by="ada")
    with pytest.raises(BackupDamaged):
        back_up(services, "x.raw", run_id="b", options=BackupOptions(), by_hand=False)
    flip_a_bit(path)  # somebody brings it back from a tape
    retry(services, "x.raw", asked_by="ada")
    assert back_up(services, "x.raw", run_id="b", options=BackupOptions(), by_hand=False).done
    after = services.store.raw_files.get("x.raw")
    assert (after.status, after.is_backed_up) == (raw_file.status, True)
    assert verify(services, "x.raw").verdict is Verdict.VERIFIED


class Time:
    """A clock that only naps set forward."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def test_a_pace_takes_as_long_as_its_rate_says_with_a_sign_of_life_every_second():
    time, beats = Time(), []
    rate_limit = RateLimit(2, clock=time, sleep=time.sleep)
    for _ in range(3):
        rate_limit.took(8_000_000, beats.append)
    assert time.now == pytest.approx(100 + 12)
    assert max(time.naps) <= 1
    assert beats == [0] * len(time.naps)


def test_time_that_passed_by_itself_counts_and_is_not_saved_up():
    time = Time()
    rate_limit = RateLimit(1, clock=time, sleep=time.sleep)
    rate_limit.took(1_000_000)
    assert time.now == pytest.approx(101)
    time.now += 60  # another file was waited for
    rate_limit.took(1_000_000)
    assert time.now == pytest.approx(162)


def test_without_a_rate_nobody_waits():
    time = Time()
    RateLimit(clock=time, sleep=time.sleep).took(10**12)
    assert time.naps == []
