"""Archiving, purging and scrubbing through Dagster: sensors, jobs, what Dagit shows."""

import os
import secrets
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import InstrumentBusy, LeaseHeld, StoreUnavailable
from kraken_dagster.model.raw_file import InstrumentFileStatus, Lease, Status
from kraken_dagster.model.retention.rules import GB
from kraken_dagster.retention import defs as lifecycle
from kraken_dagster.runtime.exclusive_runs import archive_of, at_work
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.schedules import purge_schedule
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.retention.retention_cases import (
    disk_is_full,
    flip_a_bit,
    hangs_at_the_second_file,
)
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
ARCHIVER = "thermo1_archiver"
A_LOT_GB = 1e9  # more than any disk has: everything that may go goes


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    options = {
        "file_move_delay_m": 0,
        "copy_slots": 9,
        "lease_s": 5,
    }
    made = hastened(config, **options)
    run_options = made.options.model_copy(update={"min_file_age_to_remove_in_days": 0})
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(made.model_copy(update={"options": run_options}), store, instance)


def folder(bench: Bench, instrument_id: str = "thermo1"):
    return bench.services.instrument_folder(instrument_id)


def backed_up(bench: Bench, *names: str) -> None:
    for name in names:
        raw_file(folder(bench), name, name.encode() * 1000)
    for request in bench.requested("thermo1"):
        assert bench.run(request).success
    assert {bench.file(name).is_backed_up for name in names} == {True}


def archived(bench: Bench, *names: str) -> None:
    backed_up(bench, *names)
    (request,) = bench.tick(ARCHIVER).run_requests
    assert run(bench, request).success
    assert {on_instrument(bench, name) for name in names} == {InstrumentFileStatus.MOVED}


def run(bench: Bench, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    return execute(bench, request.job_name, request.run_config)


def execute(bench: Bench, job: str, run_config: dict | None = None) -> dg.ExecuteInProcessResult:
    return bench.repository.get_job(job).execute_in_process(
        run_config=run_config or {}, instance=bench.instance, raise_on_error=False
    )


def purge(bench: Bench, **config) -> dg.ExecuteInProcessResult:
    return execute(bench, "purge", {"ops": {"purge_instruments": {"config": config}}})


def on_instrument(bench: Bench, name: str) -> InstrumentFileStatus | None:
    return bench.file(name).instrument_file_status


def observations(bench: Bench, name: str, *, key: str = "raw_file") -> list[dict]:
    """What Dagit shows of a file beside its materialisations, newest first."""
    found = bench.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(["thermo1", key]), asset_partitions=[name]),
        limit=100,
    ).records
    return [
        {label: value.value for label, value in record.asset_observation.metadata.items()}
        for record in found
    ]


def failure_of(bench: Bench, result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    return str(result.get_failed_step_keys()) + "".join(
        event.step_failure_data.error_display_string
        for event in result.all_events
        if event.is_step_failure
    )


def test_all_files_that_are_due_are_moved_aside_by_one_run(bench):
    assert "no file is due" in bench.tick(ARCHIVER).skip_message
    archived(bench, "a.raw", "b.raw", "c.raw")
    assert sorted(os.listdir(folder(bench) / "Backup")) == ["a.raw", "b.raw", "c.raw"]
    assert os.listdir(folder(bench)) == ["Backup"]
    (shown,) = observations(bench, "b.raw")
    assert (shown["on the instrument"], shown["archived"]) == ("moved", True)
    assert "no file is due" in bench.tick(ARCHIVER).skip_message


def test_a_second_run_is_not_requested_while_one_is_at_it_or_on_its_way(bench):
    backed_up(bench, "a.raw")
    (request,) = bench.tick(ARCHIVER).run_requests
    queued = bench.instance.create_run_for_job(
        bench.repository.get_job(request.job_name), status=dg.DagsterRunStatus.NOT_STARTED
    )
    assert f"run {queued.run_id} is on its way" in bench.tick(ARCHIVER).skip_message
    bench.instance.report_run_canceled(queued)
    with at_work(bench.services, archive_of("thermo1"), run_id="elsewhere", lease_s=60):
        assert "run elsewhere does this already" in bench.tick(ARCHIVER).skip_message
        result = run(bench, request)
        assert result.success
        assert "Another run does this already" in bench.log_of(result)
    assert on_instrument(bench, "a.raw") is InstrumentFileStatus.INITIAL
    (again,) = bench.tick(ARCHIVER).run_requests
    assert again.run_key != request.run_key
    assert run(bench, again).success
    assert on_instrument(bench, "a.raw") is InstrumentFileStatus.MOVED


def test_a_run_whose_process_is_gone_is_reported_and_replaced(bench):
    backed_up(bench, "a.raw")
    (request,) = bench.tick(ARCHIVER).run_requests
    lost = bench.instance.create_run_for_job(
        bench.repository.get_job(request.job_name), status=dg.DagsterRunStatus.STARTING
    )
    bench.instance.report_dagster_event(started(lost), lost.run_id)
    assert "is on its way" in bench.tick(ARCHIVER).skip_message
    with_short_leases = bench.config.model_copy(
        update={"defaults": bench.config.defaults.model_copy(update={"lease_s": 1e-6})}
    )
    impatient = Bench(with_short_leases, bench.store, bench.instance)
    (again,) = impatient.tick(ARCHIVER).run_requests
    assert again.run_key != request.run_key
    assert bench.instance.get_run_by_id(lost.run_id).status is dg.DagsterRunStatus.FAILURE
    assert "The run's process is gone" in bench.log_of(lost)


def started(run_: dg.DagsterRun):
    from dagster import DagsterEvent, DagsterEventType

    return DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run_.job_name)


def test_of_those_who_want_an_errand_at_once_one_gets_it(bench):
    second = at_work(bench.services, "errand", run_id="two", lease_s=60)
    with (
        at_work(bench.services, "errand", run_id="one", lease_s=60),
        pytest.raises(LeaseHeld, match="run one on"),
    ):
        second.__enter__()
    with at_work(bench.services, "errand", run_id="two", lease_s=60):
        pass


def test_an_errand_of_a_run_that_died_is_free_when_its_lease_has_lapsed(bench):
    now = utc_now()
    dead = Lease(
        token=secrets.token_hex(4),
        run_id="dead",
        host="h",
        step="s",
        until=now + timedelta(hours=1),
    )
    bench.store.exclusive_runs.take("errand", dead, now=now)
    later = now + timedelta(hours=2)
    alive = dead.model_copy(
        update={"run_id": "alive", "token": "other", "until": later + timedelta(hours=1)}
    )
    with pytest.raises(LeaseHeld):
        bench.store.exclusive_runs.take("errand", alive, now=now)
    bench.store.exclusive_runs.take("errand", alive, now=later)
    assert bench.store.exclusive_runs.renew("errand", dead, later) is False
    bench.store.exclusive_runs.release("errand", dead)
    assert bench.store.exclusive_runs.get("errand").held(later).run_id == "alive"


def test_a_refusal_fails_the_run_once_and_is_told_by_the_sensor(bench):
    backed_up(bench, "a.raw", "b.raw")
    (folder(bench) / "Backup").mkdir()
    (folder(bench) / "Backup" / "a.raw").write_bytes(b"something else")
    (request,) = bench.tick(ARCHIVER).run_requests
    failed = failure_of(bench, run(bench, request))
    assert "'a.raw'" in failed
    assert on_instrument(bench, "b.raw") is InstrumentFileStatus.MOVED
    (shown,) = observations(bench, "a.raw")
    assert shown["archived"] is False
    reported = bench.tick(ARCHIVER).skip_message
    assert "1 can't be moved, 'a.raw': refused, looked at again at " in reported
    refusal = bench.file("a.raw").archive.model_copy(update={"retry_at": utc_now()})
    bench.store.retention.note(bench.file("a.raw"), "archive", refusal, now=utc_now(), run_id="t")
    (request,) = bench.tick(ARCHIVER).run_requests
    assert run(bench, request).success  # it is still refused, and that was told
    assert len(observations(bench, "a.raw")) == 1


def test_what_is_put_off_is_shown_only_once_it_is_moved(bench, monkeypatch):
    backed_up(bench, "a.raw")

    def busy(*_args, **_options):
        raise InstrumentBusy("The instrument's file system refuses it")

    (request,) = bench.tick(ARCHIVER).run_requests
    with monkeypatch.context() as patched:
        patched.setattr("kraken_dagster.retention.archiving.archive.rename_members", busy)
        assert run(bench, request).success
    assert observations(bench, "a.raw") == []
    bench.store.retention.clear(bench.file("a.raw"), now=utc_now(), note="retry")
    (request,) = bench.tick(ARCHIVER).run_requests
    assert run(bench, request).success
    assert [item["archived"] for item in observations(bench, "a.raw")] == [True]


def test_an_archiver_that_is_off_says_so(bench):
    off = bench.config.options.model_copy(update={"move_files": False})
    stand_in = Bench(bench.config.model_copy(update={"options": off}), bench.store, bench.instance)
    assert "move_files is off" in stand_in.tick(ARCHIVER).skip_message


# -- purging --------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_be_deleted_and_deletes_nothing(bench):
    archived(bench, "a.raw", "b.raw")
    backed_up(bench, "c.raw")
    result = purge(
        bench, dry_run=True, min_free_space_gb=A_LOT_GB, min_file_age_to_remove_in_days=0
    )
    assert result.success
    log = bench.log_of(result)
    assert "would delete 'a.raw', 5000 B" in log
    assert "would delete 'b.raw', 5000 B" in log
    assert sorted(os.listdir(folder(bench) / "Backup")) == ["a.raw", "b.raw"]


def test_a_purge_shows_what_was_deleted_why_and_by_what_it_was_proven(bench):
    archived(bench, "a.raw", "b.raw")
    result = purge(
        bench,
        instruments=["thermo1"],
        min_free_space_gb=A_LOT_GB,
        min_file_age_to_remove_in_days=0,
    )
    assert "GB less than the" in failure_of(bench, result)
    assert {on_instrument(bench, name) for name in ("a.raw", "b.raw")} == {
        InstrumentFileStatus.PURGED
    }
    assert os.listdir(folder(bench) / "Backup") == []
    newest, _ = observations(bench, "a.raw")
    assert (newest["on the instrument"], newest["freed bytes"]) == ("purged", 5000)
    assert "every byte of them and of the backup read" in newest["what was done"]
    assert "shall be" in newest["why"]
    (event,) = [item for item in bench.file("a.raw").history if "purged:" in str(item["reason"])]
    assert event["run_id"] == result.run_id


def test_a_purge_is_off_unless_it_is_asked_for(bench):
    archived(bench, "a.raw")
    assert purge(bench).success
    assert purge(bench, remove_files=False, min_free_space_gb=A_LOT_GB).success
    assert on_instrument(bench, "a.raw") is InstrumentFileStatus.MOVED


def test_an_instrument_that_is_away_stops_the_purge_of_no_other(bench):
    archived(bench, "a.raw")
    folder(bench, "bruker1").rename(folder(bench, "bruker1").with_name("away"))
    result = purge(bench, min_free_space_gb=A_LOT_GB, min_file_age_to_remove_in_days=0)
    assert "bruker1: The instrument's folder is not there" in failure_of(bench, result)
    assert on_instrument(bench, "a.raw") is InstrumentFileStatus.PURGED


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_nobody_expected_of_an_instrument_stops_the_purge_of_no_other(
    bench, monkeypatch, dry_run
):
    archived(bench, "a.raw")
    monkeypatch.setattr(lifecycle, "purge", odd_for("bruker1", lifecycle.purge))
    monkeypatch.setattr(lifecycle, "plan", odd_for("bruker1", lifecycle.plan))
    result = purge(
        bench,
        dry_run=dry_run,
        instruments=["bruker1", "thermo1"],
        min_free_space_gb=A_LOT_GB,
        min_file_age_to_remove_in_days=0,
    )
    assert "bruker1: ZeroDivisionError: odd" in failure_of(bench, result)
    moved, purged = InstrumentFileStatus.MOVED, InstrumentFileStatus.PURGED
    assert on_instrument(bench, "a.raw") is (moved if dry_run else purged)
    assert ("would delete 'a.raw'" in bench.log_of(result)) is dry_run


def odd_for(instrument_id: str, function):
    def odd(services, name, **options):
        if name == instrument_id:
            raise ZeroDivisionError("odd")
        return function(services, name, **options)

    return odd


def test_what_was_deleted_before_a_purge_was_stopped_is_shown(bench, monkeypatch):
    archived(bench, "a.raw", "b.raw")
    hangs_at_the_second_file(monkeypatch)
    result = purge(bench, min_free_space_gb=A_LOT_GB, min_file_age_to_remove_in_days=0)
    assert "1 files purged, 5000 bytes freed; then it was stopped: It hangs" in failure_of(
        bench, result
    )
    assert observations(bench, "a.raw")[0]["on the instrument"] == "purged"
    assert bench.store.health.disk("thermo1")["status"] == "warning"


def test_rot_that_a_purge_finds_is_a_failed_check_although_enough_is_free(bench, monkeypatch):
    archived(bench, "a.raw", "b.raw")
    disk_is_full(monkeypatch)
    flip_a_bit(bench.services.backup_folder(bench.file("a.raw")) / "a.raw")
    result = purge(
        bench,
        instruments=["thermo1"],
        min_free_space_gb=4000 / GB,
        min_file_age_to_remove_in_days=0,
    )
    failed = failure_of(bench, result)
    assert "'a.raw': The backup is not what was recorded" in failed
    assert checks(bench, "a.raw")[0] is False
    assert on_instrument(bench, "b.raw") is InstrumentFileStatus.PURGED


@pytest.mark.parametrize(
    "odd",
    [
        {"min_free_space_gb": float("nan")},
        {"min_free_space_gb": float("inf")},
        {"min_file_age_to_remove_in_days": float("nan")},
        {"min_file_age_to_remove_in_days": -1.0},
    ],
)
def test_a_number_that_means_nothing_is_refused_before_anything_is_done(bench, odd):
    archived(bench, "a.raw")
    config = {"min_free_space_gb": A_LOT_GB, "min_file_age_to_remove_in_days": 0, **odd}
    (name,) = odd
    assert name in failure_of(bench, purge(bench, **config))
    assert on_instrument(bench, "a.raw") is InstrumentFileStatus.MOVED


def test_a_name_that_is_no_instrument_is_told(bench):
    reported = failure_of(bench, purge(bench, instruments=["nobody"]))
    assert "nobody: no such instrument here" in reported


# -- scrubbing ------------------------------------------------------------------------------------


def checks(bench: Bench, name: str) -> list[bool]:
    key = dg.AssetCheckKey(dg.AssetKey(["thermo1", "backup"]), "digests_match")
    records = bench.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return [
        record.event.dagster_event.asset_check_evaluation_data.passed
        for record in records
        if record.event.dagster_event.asset_check_evaluation_data.partition == name
    ]


def scrub(bench: Bench, **config) -> dg.ExecuteInProcessResult:
    return execute(bench, "scrub", {"ops": {"scrub_backups": {"config": config}}})


def test_a_scrub_reads_what_is_due_and_finds_a_bit_that_rotted(bench):
    backed_up(bench, "a.raw", "b.raw")
    for name in ("a.raw", "b.raw"):
        record = bench.file(name)
        if record.status is not Status.DONE_NOT_QUANTED:
            bench.store.raw_files.transition(
                record, Status.DONE_NOT_QUANTED, now=utc_now(), reason="test"
            )
    assert scrub(bench, scrub_every_days=30).success
    assert checks(bench, "a.raw") == [True]  # of the backup itself: no proof is old enough yet
    path = bench.services.backup_folder(bench.file("a.raw")) / "a.raw"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(bytes(damaged))
    failed = failure_of(bench, scrub(bench, scrub_every_days=0.5))
    assert "'a.raw': The backup is not what was recorded" in failed
    assert checks(bench, "a.raw") == [False, True]
    assert checks(bench, "b.raw") == [True, True]
    assert (bench.status("a.raw"), bench.file("a.raw").is_backed_up) == (Status.ERROR, False)
    assert bench.status("b.raw") is Status.DONE_NOT_QUANTED


def test_the_schedule_has_each_instrument_purged_by_a_run_of_its_own(bench):
    def evaluated(**options) -> list[dg.RunRequest] | dg.SkipReason:
        made = bench.config.options.model_copy(update=options)
        config = bench.config.model_copy(update={"options": made})
        return purge_schedule(config)(dg.build_schedule_context())

    requests = evaluated(min_free_space_gb=A_LOT_GB)
    assert [item.run_key for item in requests] == list(bench.config.instruments)
    result = execute(bench, "purge", requests[0].run_config)
    assert result.success  # the configuration of `bench` has it off
    assert isinstance(evaluated(), dg.SkipReason)
    assert isinstance(evaluated(min_free_space_gb=9, remove_files=False), dg.SkipReason)


def test_the_schedules_are_on_and_off_as_they_should_be(bench):
    schedules = {item.name: item for item in bench.repository.schedule_defs}
    assert schedules["purge"].default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedules["purge"].cron_schedule == "0 */12 * * *"
    assert schedules["scrub"].default_status is dg.DefaultScheduleStatus.STOPPED


# -- disks ----------------------------------------------------------------------------------------


def disk(bench: Bench, name: str) -> list[dict]:
    found = bench.instance.fetch_materializations(dg.AssetKey(["file_systems", name]), limit=10)
    return [
        {label: value.value for label, value in record.asset_materialization.metadata.items()}
        for record in found.records
    ]


def test_how_full_every_disk_is_is_shown_now_and_then(bench):
    bench.tick("thermo1_watcher")
    for _ in range(3):
        bench.tick("cluster_jobs")
    for name in ("backup", "output", "thermo1"):
        (shown,) = disk(bench, name)
        assert 0 <= shown["used %"] <= 100
        assert 0 < shown["free GB"] <= shown["total GB"]
    assert disk(bench, "bruker1") == []  # nobody has looked yet
    assert bench.store.health.file_system("backup")["entity_type"] == "file_system"


@pytest.mark.parametrize(
    "odd",
    [
        {"free_space_gb": 3.0},
        {"free_space_gb": "3 GB", "updated_at_": utc_now()},
        {"free_space_gb": 3.0, "total_space_gb": "?", "updated_at_": utc_now()},
    ],
)
def test_an_odd_document_of_a_disk_stops_nothing(bench, odd):
    for name in ("file system backup", "thermo1"):
        bench.store._database["kraken_status"].insert_one({"_id": name, "status": "ok", **odd})
    reported = bench.tick("cluster_jobs").skip_message
    assert reported == "0 jobs are open, nothing to collect"


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), StoreUnavailable("away")])
def test_disks_that_can_not_be_shown_hold_up_no_job(bench, monkeypatch, error):
    def odd(*_args):
        raise error

    monkeypatch.setattr("kraken_dagster.quant.cluster_jobs.show_disks", odd)
    reported = bench.tick("cluster_jobs").skip_message
    assert "0 jobs are open" in reported
    assert f"the disks can't be shown: {type(error).__name__}" in reported


def test_a_file_system_that_is_away_is_told_and_holds_up_nothing(bench):
    root = bench.config.locations.backup.path
    root.rename(root.with_name("away"))
    reported = bench.tick("cluster_jobs").skip_message
    assert "locations.backup: The backup store is away" in reported
    assert "`kraken init-store backup`" in reported
    assert bench.store.health.file_system("backup")["status"] == "error"
    assert bench.store.health.file_system("output")["status"] == "ok"
