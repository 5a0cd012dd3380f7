"""Whatever a job does to the backup itself is found when it has ended, and told with its name."""

import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.config.schema import OutputExistsMode
from kraken_dagster.fs.rate_limit import Pace
from kraken_dagster.model.errors import StoreAway
from kraken_dagster.model.raw_file import BackupStatus, RawFile, Status
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, fields
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    backed_up,
    each,
    finish,
    tick_until_idle,
    wait_for_jobs,
)

# Each alters what it gets as the path of the backup's main file, or of what else it names.
ALTERATIONS = {
    "append": 'printf x >> "$1"',
    "same size": 'printf x | dd of="$1" bs=1 seek=5 conv=notrunc status=none',
    "same size and times": (
        'touch -r "$1" times; printf x | dd of="$1" bs=1 seek=5 conv=notrunc status=none; '
        'touch -r times "$1"; rm times'
    ),
    "truncate": ': > "$1"',
    "rename": 'mv "$1" "$1.moved"',
    "delete": 'rm -f "$1"',
    "replace": 'cp "$1" new; printf x >> new; mv new "$1"',
}


def main_file(world, raw_file: RawFile) -> Path:
    return world.backup_folder(raw_file) / world.rules(raw_file.instrument_id).main_file(
        raw_file.id
    )


def metrics(script: str) -> str:
    """A job's script, which leaves a figure after it has done this."""
    return f'{script}\nprintf "figure\\n5\\n" > "$OUTPUT_PATH/metrics.tsv"'


def processed(world, instrument_id: str, name: str, script: str, **changes) -> RawFile:
    """A backed up file after a job ran that gets the path of its backup's main file."""
    raw_file = backed_up(world, instrument_id, name, **changes)
    path = main_file(world, raw_file)
    words = f"set -- '{path}'\ncd \"$OUTPUT_PATH\" || exit 9\nchmod -R u+w '{path.parent}'\n"
    custom_settings(world, "search", words + script, metrics_type="custom")
    tick_until_idle(world)
    return world.store.raw_files.get(name)


@pytest.mark.parametrize("ends", ["exit 0", "exit 3"])
@pytest.mark.parametrize("how", ALTERATIONS)
@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_what_a_job_did_to_the_backup_is_found_and_told(world, instrument_id, name, how, ends):
    if ends == "exit 3" and how not in ("append", "delete"):
        ends = "kill -9 $$"
    after = processed(world, instrument_id, name, f"{ALTERATIONS[how]}\n{ends}")
    assert (after.status, after.backup_status) == (Status.ERROR, BackupStatus.COPYING_FAILED)
    jobs = world.store.jobs.of(name)
    (job,) = [job for job in jobs if job.settings_name == "search"]
    (told,) = [str(event["reason"]) for event in after.history if event["to"] == "error"]
    assert job.id in told
    assert "ran on it" in told
    assert all(job.collected_at is not None for job in jobs)
    assert not after.is_backed_up
    assert after.retry_at is None


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_job_that_alters_nothing_costs_no_reading(world, instrument_id, name, monkeypatch):
    from kraken_dagster.runtime import after_jobs

    read = []
    monkeypatch.setattr(after_jobs, "read_all", lambda *args, **_: read.append(args))
    raw_file = backed_up(world, instrument_id, name)
    custom_settings(
        world, "search", 'find "$RAW_FILE_PATH" -type f -exec cat {} + | wc', metrics_type="custom"
    )
    tick_until_idle(world)
    after = world.store.raw_files.get(name)
    assert (after.status, after.status_details) == (Status.DONE, None)
    assert (after.verified_at, read) == (raw_file.verified_at, [])


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_other_times_with_the_same_bytes_are_recorded_anew_and_nothing_else(
    world, instrument_id, name
):
    after = processed(world, instrument_id, name, 'touch "$1"')
    assert (after.status, after.status_details) == (Status.DONE, None)
    assert after.is_backed_up
    assert after.verified_at > after.backed_up_at
    # The right to write, which the job had given itself, is taken again.
    assert after.backup_seen is not None
    assert after.backup_seen.writable == 0
    assert main_file(world, after).stat().st_mode & 0o222 == 0


def test_change_times_that_differ_by_themselves_cost_two_readings(world):
    raw_file = backed_up(world, "thermo1", "x.raw")
    path = main_file(world, raw_file)
    custom_settings(world, "search", f"chmod 400 '{path}'; chmod 444 '{path}'")
    proofs = []
    for _ in range(4):
        tick_until_idle(world)
        proofs.append(world.store.raw_files.get("x.raw").verified_at)
        assert world.store.raw_files.get("x.raw").status is Status.DONE
        again = {"slots": each(2), "output_exists_mode": OutputExistsMode.ADD}
        submit_jobs(world, "x.raw", run_id="q", **again)
    assert raw_file.verified_at < proofs[0] < proofs[1] == proofs[2] == proofs[3]


@pytest.mark.parametrize("name", ["analysis.tdf-shm", "analysis.tdf-wal", "1.m/new"])
def test_a_file_that_a_job_left_in_the_backup_is_told_and_left_alone(world, name):
    script = f'mkdir -p "${{1%/*}}/1.m"; printf x > "${{1%/*}}/{name}"'
    after = processed(world, "bruker1", "x.d", script)
    assert after.is_backed_up
    assert f"x.d/{name}" in after.status_details
    ids = [job.id for job in world.store.jobs.of("x.d")]
    (told,) = [str(event["reason"]) for event in after.history if name in str(event["reason"])][:-1]
    assert any(job_id in told for job_id in ids)
    left = world.backup_folder(after) / "x.d" / name
    assert left.read_bytes() == b"x"
    assert verify_backup(world, "x.d", run_id="v", pace=Pace()).extra == (f"x.d/{name}",)


def test_a_file_that_a_job_left_beside_a_thermo_file_is_told(world):
    after = processed(world, "thermo1", "x.raw", 'printf x > "$1.index"; printf y > "$1.md5x"')
    assert after.status is Status.DONE
    assert "x.raw.index" in after.status_details


def test_a_backup_that_is_mended_ends_its_file_as_the_job_had_ended(world):
    after = processed(world, "thermo1", "x.raw", ALTERATIONS["append"])
    assert after.status is Status.ERROR
    overwriting = BackupOptions(backup_overwrite_file_id="x.raw")
    back_up(world, "x.raw", run_id="again", options=overwriting)
    tick_until_idle(world)
    after = world.store.raw_files.get("x.raw")
    assert (after.status, after.is_backed_up) == (Status.DONE, True)
    assert len(world.store.jobs.of("x.raw")) == 1


def test_a_store_that_is_away_when_the_job_ends_is_waited_for(world):
    raw_file = backed_up(world, "bruker1", "x.d")
    custom_settings(world, "search", "exit 0")
    submit_jobs(world, raw_file.id, run_id="q", slots=each(2))
    wait_for_jobs(world)
    root = world.config.locations.backup.path
    root.rename(root.with_name("away"))
    root.mkdir()
    before = fields(world, "x.d")
    poll(world, slots={"local": 2})
    with pytest.raises(StoreAway):
        collect(world, "x.d", run_id="c")
    after = fields(world, "x.d")
    assert (after["status"], after["history"]) == (before["status"], before["history"])
    assert not any(job.collected_at for job in world.store.jobs.of("x.d"))
    root.rmdir()
    shutil.move(root.with_name("away"), root)
    path = main_file(world, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"damaged meanwhile")
    tick_until_idle(world)
    assert world.store.raw_files.get("x.d").status is Status.ERROR


def test_a_run_that_dies_after_its_look_looks_once_more(world):
    raw_file = backed_up(world, "thermo1", "x.raw")
    custom_settings(world, "search", "exit 0")
    submit_jobs(world, raw_file.id, run_id="q", slots=each(2))
    wait_for_jobs(world)
    (found,) = poll(world, slots={"local": 2}).to_collect
    assert found.id == "x.raw"
    path = main_file(world, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"x")
    collect(world, "x.raw", run_id="c")
    assert world.store.raw_files.get("x.raw").status is Status.ERROR
    assert poll(world, slots={"local": 2}).to_collect == ()


def test_a_backup_of_an_earlier_version_is_remembered_before_its_job(world):
    raw_file = backed_up(world, "bruker1", "x.d")
    world.store.raw_files.update(raw_file, {"backup_seen": None}, now=world.now(), note="old")
    custom_settings(world, "search", "exit 0")
    tick_until_idle(world)
    after = world.store.raw_files.get("x.d")
    assert (after.status, after.verified_at) == (Status.DONE, raw_file.verified_at)
    assert after.backup_seen == raw_file.backup_seen


def test_one_that_had_another_size_then_is_read_after_its_job(world):
    raw_file = backed_up(world, "bruker1", "x.d")
    world.store.raw_files.update(raw_file, {"backup_seen": None}, now=world.now(), note="old")
    path = main_file(world, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"damaged long ago")
    custom_settings(world, "search", "exit 0")
    tick_until_idle(world)
    assert world.store.raw_files.get("x.d").status is Status.ERROR


@pytest.mark.parametrize("in_wal", [4900, 0])
def test_a_program_that_opens_an_index_leaves_the_backup_as_it_was(world, in_wal):
    """Search programs put the -wal back into the file that they open."""
    folder = world.instrument_folder("bruker1") / "s.d"
    folder.mkdir()
    making = sqlite3.connect(folder.with_name("making"))
    making.execute("pragma journal_mode=wal")
    making.execute("pragma wal_autocheckpoint=0")
    making.execute("create table GlobalMetadata(Key text, Value text)")
    columns = "Id integer primary key, Time real, MsMsType int, SummedIntensities int"
    making.execute(f"create table Frames({columns}, AccumulationTime real)")
    rows = [(n, n / 10, n % 10, 1000, 100.0) for n in range(1, 101 + in_wal)]
    making.executemany("insert into Frames values(?, ?, ?, ?, ?)", rows[:100])
    making.commit()
    making.execute("pragma wal_checkpoint(truncate)")
    making.executemany("insert into Frames values(?, ?, ?, ?, ?)", rows[100:])
    making.commit()
    shutil.copy(folder.with_name("making"), folder / "analysis.tdf")
    shutil.copy(folder.with_name("making-wal"), folder / "analysis.tdf-wal")
    making.close()
    for left in folder.parent.glob("making*"):
        left.unlink()
    (folder / "analysis.tdf_bin").write_bytes(b"x" * 50_000)
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1] + '/analysis.tdf')\n"
        "print(*c.execute('select count(*) from Frames').fetchone(),"
        " file=open(os.environ['OUTPUT_PATH'] + '/frames', 'w'))"
    )
    script = f'exec {sys.executable} -c "$CODE" "$RAW_FILE_PATH"'
    custom_settings(world, "search", f'CODE="{code}"\n{script}')
    finish(world, "bruker1")
    back_up(world, "s.d", run_id="b", options=BackupOptions())
    tick_until_idle(world)
    after = world.store.raw_files.get("s.d")
    assert (after.status, after.status_details) == (Status.DONE, None)
    (job,) = [job for job in world.store.jobs.of("s.d") if job.settings_name == "search"]
    assert (world.result_folder(job) / "frames").read_text() == f"{100 + in_wal}\n"
    assert verify_backup(world, "s.d", run_id="v", pace=Pace()).verdict is Verdict.VERIFIED
    assert sorted(os.listdir(world.backup_folder(world.store.raw_files.get("s.d")) / "s.d")) == [
        "analysis.tdf",
        "analysis.tdf-wal",
        "analysis.tdf_bin",
    ]
