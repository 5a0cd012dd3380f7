"""Whatever a job does to the backup itself is found when it has ended, and told with its name."""

import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.fs.rate_limit import RateLimit
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


def main_file(services, raw_file: RawFile) -> Path:
    return services.backup_folder(raw_file) / services.rules(raw_file.instrument_id).main_file(
        raw_file.id
    )


def metrics(script: str) -> str:
    """A job's script, which leaves a metric after it has done this."""
    return f'{script}\nprintf "metric\\n5\\n" > "$OUTPUT_PATH/metrics.tsv"'


def processed(services, instrument_id: str, name: str, script: str, **changes) -> RawFile:
    """A backed up file after a job ran that gets the path of its backup's main file."""
    raw_file = backed_up(services, instrument_id, name, **changes)
    path = main_file(services, raw_file)
    words = f"set -- '{path}'\ncd \"$OUTPUT_PATH\" || exit 9\nchmod -R u+w '{path.parent}'\n"
    custom_settings(services, "search", words + script, metrics_type="custom")
    tick_until_idle(services)
    return services.store.raw_files.get(name)


@pytest.mark.parametrize("ends", ["exit 0", "exit 3"])
@pytest.mark.parametrize("how", ALTERATIONS)
@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_what_a_job_did_to_the_backup_is_found_and_told(services, instrument_id, name, how, ends):
    if ends == "exit 3" and how not in ("append", "delete"):
        ends = "kill -9 $$"
    after = processed(services, instrument_id, name, f"{ALTERATIONS[how]}\n{ends}")
    assert (after.status, after.backup_status) == (Status.ERROR, BackupStatus.COPYING_FAILED)
    jobs = services.store.jobs.of(name)
    (job,) = [job for job in jobs if job.settings_name == "search"]
    (reported,) = [str(event["reason"]) for event in after.history if event["to"] == "error"]
    assert job.id in reported
    assert "ran on it" in reported
    assert all(job.collected_at is not None for job in jobs)
    assert not after.is_backed_up
    assert after.retry_at is None


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_job_that_alters_nothing_costs_no_reading(services, instrument_id, name, monkeypatch):
    from kraken_dagster.runtime import after_jobs

    read = []
    monkeypatch.setattr(after_jobs, "read_all", lambda *args, **_: read.append(args))
    raw_file = backed_up(services, instrument_id, name)
    custom_settings(
        services,
        "search",
        'find "$RAW_FILE_PATH" -type f -exec cat {} + | wc',
        metrics_type="custom",
    )
    tick_until_idle(services)
    after = services.store.raw_files.get(name)
    assert (after.status, after.status_details) == (Status.DONE, None)
    assert (after.verified_at, read) == (raw_file.verified_at, [])


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_other_times_with_the_same_bytes_are_recorded_anew_and_nothing_else(
    services, instrument_id, name
):
    after = processed(services, instrument_id, name, 'touch "$1"')
    assert (after.status, after.status_details) == (Status.DONE, None)
    assert after.is_backed_up
    assert after.verified_at > after.backed_up_at
    # The right to write, which the job had given itself, is taken again.
    assert after.backup_seen is not None
    assert after.backup_seen.writable == 0
    assert main_file(services, after).stat().st_mode & 0o222 == 0


def test_change_times_that_differ_by_themselves_cost_two_readings(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    path = main_file(services, raw_file)
    custom_settings(services, "search", f"chmod 400 '{path}'; chmod 444 '{path}'")
    proofs = []
    for _ in range(4):
        tick_until_idle(services)
        proofs.append(services.store.raw_files.get("x.raw").verified_at)
        assert services.store.raw_files.get("x.raw").status is Status.DONE
        again = {"slots": each(2), "output_exists_mode": OutputExistsMode.ADD}
        submit_jobs(services, "x.raw", run_id="q", **again)
    assert raw_file.verified_at < proofs[0] < proofs[1] == proofs[2] == proofs[3]


@pytest.mark.parametrize("name", ["analysis.tdf-shm", "analysis.tdf-wal", "1.m/new"])
def test_a_file_that_a_job_left_in_the_backup_is_told_and_left_alone(services, name):
    script = f'mkdir -p "${{1%/*}}/1.m"; printf x > "${{1%/*}}/{name}"'
    after = processed(services, "bruker1", "x.d", script)
    assert after.is_backed_up
    assert f"x.d/{name}" in after.status_details
    ids = [job.id for job in services.store.jobs.of("x.d")]
    (reported,) = [str(event["reason"]) for event in after.history if name in str(event["reason"])][
        :-1
    ]
    assert any(job_id in reported for job_id in ids)
    left = services.backup_folder(after) / "x.d" / name
    assert left.read_bytes() == b"x"
    assert verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit()).extra == (
        f"x.d/{name}",
    )


def test_a_file_that_a_job_left_beside_a_thermo_file_is_told(services):
    after = processed(services, "thermo1", "x.raw", 'printf x > "$1.index"; printf y > "$1.md5x"')
    assert after.status is Status.DONE
    assert "x.raw.index" in after.status_details


def test_a_backup_that_is_mended_ends_its_file_as_the_job_had_ended(services):
    after = processed(services, "thermo1", "x.raw", ALTERATIONS["append"])
    assert after.status is Status.ERROR
    overwriting = BackupOptions(backup_overwrite_file_id="x.raw")
    back_up(services, "x.raw", run_id="again", options=overwriting)
    tick_until_idle(services)
    after = services.store.raw_files.get("x.raw")
    assert (after.status, after.is_backed_up) == (Status.DONE, True)
    assert len(services.store.jobs.of("x.raw")) == 1


def test_a_store_that_is_away_when_the_job_ends_is_waited_for(services):
    raw_file = backed_up(services, "bruker1", "x.d")
    custom_settings(services, "search", "exit 0")
    submit_jobs(services, raw_file.id, run_id="q", slots=each(2))
    wait_for_jobs(services)
    root = services.config.locations.backup.path
    root.rename(root.with_name("away"))
    root.mkdir()
    before = fields(services, "x.d")
    poll(services, slots={"local": 2})
    with pytest.raises(StoreAway):
        collect(services, "x.d", run_id="c")
    after = fields(services, "x.d")
    assert (after["status"], after["history"]) == (before["status"], before["history"])
    assert not any(job.collected_at for job in services.store.jobs.of("x.d"))
    root.rmdir()
    shutil.move(root.with_name("away"), root)
    path = main_file(services, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"damaged meanwhile")
    tick_until_idle(services)
    assert services.store.raw_files.get("x.d").status is Status.ERROR


def test_a_run_that_dies_after_its_look_looks_once_more(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    custom_settings(services, "search", "exit 0")
    submit_jobs(services, raw_file.id, run_id="q", slots=each(2))
    wait_for_jobs(services)
    (found,) = poll(services, slots={"local": 2}).to_collect
    assert found.id == "x.raw"
    path = main_file(services, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"x")
    collect(services, "x.raw", run_id="c")
    assert services.store.raw_files.get("x.raw").status is Status.ERROR
    assert poll(services, slots={"local": 2}).to_collect == ()


def test_a_backup_of_an_earlier_version_is_remembered_before_its_job(services):
    raw_file = backed_up(services, "bruker1", "x.d")
    services.store.raw_files.update(raw_file, {"backup_seen": None}, now=services.now(), note="old")
    custom_settings(services, "search", "exit 0")
    tick_until_idle(services)
    after = services.store.raw_files.get("x.d")
    assert (after.status, after.verified_at) == (Status.DONE, raw_file.verified_at)
    assert after.backup_seen == raw_file.backup_seen


def test_one_that_had_another_size_then_is_read_after_its_job(services):
    raw_file = backed_up(services, "bruker1", "x.d")
    services.store.raw_files.update(raw_file, {"backup_seen": None}, now=services.now(), note="old")
    path = main_file(services, raw_file)
    path.chmod(0o644)
    path.write_bytes(b"damaged long ago")
    custom_settings(services, "search", "exit 0")
    tick_until_idle(services)
    assert services.store.raw_files.get("x.d").status is Status.ERROR


@pytest.mark.parametrize("in_wal", [4900, 0])
def test_a_program_that_opens_an_index_leaves_the_backup_as_it_was(services, in_wal):
    """Search programs put the -wal back into the file that they open."""
    folder = services.instrument_folder("bruker1") / "s.d"
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
    custom_settings(services, "search", f'CODE="{code}"\n{script}')
    finish(services, "bruker1")
    back_up(services, "s.d", run_id="b", options=BackupOptions())
    tick_until_idle(services)
    after = services.store.raw_files.get("s.d")
    assert (after.status, after.status_details) == (Status.DONE, None)
    (job,) = [job for job in services.store.jobs.of("s.d") if job.settings_name == "search"]
    assert (services.result_folder(job) / "frames").read_text() == f"{100 + in_wal}\n"
    assert (
        verify_backup(services, "s.d", run_id="v", rate_limit=RateLimit()).verdict
        is Verdict.VERIFIED
    )
    assert sorted(
        os.listdir(services.backup_folder(services.store.raw_files.get("s.d")) / "s.d")
    ) == [
        "analysis.tdf",
        "analysis.tdf-wal",
        "analysis.tdf_bin",
    ]
