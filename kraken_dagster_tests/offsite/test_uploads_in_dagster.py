"""The asset `offsite` and its sensor: what is requested, what Dagit shows, and what waits."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg
import pytest

from kraken_dagster.alerts.facts import gather
from kraken_dagster.alerts.rules.registry import judge
from kraken_dagster.config.offsite import Offsite
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.definitions import build_defs
from kraken_dagster.model.raw_file import BackupStatus
from kraken_dagster.rebuild.defs import rebuild_instrument
from kraken_dagster.runtime.exclusive_runs import at_work, offsite_of
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3, Server
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS
from kraken_dagster_tests.support.dagster_bench import Bench, hastened
from kraken_dagster_tests.support.helpers import backed_up

pytestmark = [
    *NEEDS_S3,
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
    # Dagster's own code asks it, where a resource is made of others.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]
SENSOR, JOB = "offsite_uploads", "thermo1_offsite"


@pytest.fixture
def make_bench(
    config: KrakenConfig, store: Store, server: Server, services
) -> Iterator[Callable[..., Bench]]:
    """Two files are backed up; the second copy has these options."""
    backed_up(services, "thermo1", "a.raw")
    backed_up(services, "thermo1", "b.raw")
    instances: list[dg.DagsterInstance] = []

    def make(*, lease_s: float = 90, **options: object) -> Bench:
        given = {"endpoint": server.endpoint, "part_mb": 5, "timeout_s": 2, **options}
        offsite = Offsite.model_validate(given)
        instances.append(dg.DagsterInstance.ephemeral())
        copied = hastened(config, lease_s=lease_s).model_copy(update={"offsite": offsite})
        return Bench(copied, store, instances[-1])

    yield make
    for instance in instances:
        instance.dispose()


def test_without_it_in_the_configuration_nothing_of_it_is_there(config):
    repository = build_defs(config).get_repository_def()
    names = [*repository.sensor_defs, *repository.get_all_jobs()]
    assert [item.name for item in names if "offsite" in item.name] == []
    keys = repository.asset_graph.get_all_asset_keys()
    assert [key for key in keys if "offsite" in key.path] == []


def test_a_tick_requests_the_oldest_and_its_run_materialises_the_asset(make_bench, bucket):
    bench = make_bench(bucket=bucket)
    [wanted] = bench.tick(SENSOR).run_requests
    assert (wanted.job_name, wanted.partition_key) == (JOB, "a.raw")
    assert bench.run(wanted).success
    key = dg.AssetKey(["thermo1", "offsite"])
    made = bench.instance.get_latest_materialization_event(key).asset_materialization
    assert made.partition == "a.raw"
    assert made.metadata["off-site"].value.startswith(f"s3://{bucket}/thermo1/")
    assert made.metadata["sent bytes"].value == made.metadata["size bytes"].value > 0
    after = bench.services.store.raw_files.get("a.raw")
    assert after.backup_status is BackupStatus.UPLOAD_DONE
    assert [item.partition_key for item in bench.tick(SENSOR).run_requests] == ["b.raw"]


def test_a_live_upload_holds_its_slot_and_is_not_taken_for_dead(make_bench, bucket):
    bench = make_bench(bucket=bucket, lease_s=0.5)
    [wanted] = bench.tick(SENSOR).run_requests
    run = bench.queue(wanted, dg.DagsterRunStatus.STARTED)
    bench.start(run)
    name = offsite_of("a.raw")
    with at_work(bench.services, name, run_id=run.run_id, lease_s=600):
        time.sleep(0.6)  # a run that holds nothing for longer counts as dead
        assert "being uploaded" in bench.tick(SENSOR).skip_message
        bench.tick("thermo1_watcher")
        assert bench.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    bench.tick("thermo1_watcher")
    assert bench.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE


def test_while_the_bucket_is_unfit_no_run_is_requested_and_the_tick_says_why(
    make_bench, server, bucket
):
    bench = make_bench(bucket=server.make_bucket(f"{bucket}-plain", versions=False))
    skipped = bench.tick(SENSOR)
    assert skipped.run_requests == []
    assert "keeps no versions" in skipped.skip_message
    board = bench.store.health.offsite()
    assert "keeps no versions" in board["status_details"]
    waiting = bench.services.store.raw_files.get("a.raw")
    assert waiting.backup_status is BackupStatus.COPYING_DONE
    assert "keeps no versions" in waiting.offsite_waits_for
    assert "not uploaded yet" in waiting.history[-1]["reason"]
    bench.tick(SENSOR)
    assert len(bench.services.store.raw_files.get("a.raw").history) == len(waiting.history)
    versions = {"Status": "Enabled"}
    server.client().put_bucket_versioning(
        Bucket=f"{bucket}-plain", VersioningConfiguration=versions
    )
    [wanted] = bench.tick(SENSOR).run_requests
    assert bench.run(wanted).success
    assert bench.services.store.raw_files.get("a.raw").offsite_waits_for is None


def test_outside_of_the_hours_everything_waits(make_bench, bucket):
    begin, end = (f"{utc_now() + timedelta(hours=ahead):%H:%M}" for ahead in (2, 3))
    hours = {"begin": begin, "end": end}
    bench = make_bench(bucket=bucket, hours=hours)
    assert "2 files wait: uploads run again at" in bench.tick(SENSOR).skip_message


def test_a_failed_upload_fails_its_run_and_says_what_to_do(make_bench, bucket, monkeypatch):
    bench = make_bench(bucket=bucket)
    [wanted] = bench.tick(SENSOR).run_requests
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    result = bench.run(wanted)
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "check the credentials" in failure.event_specific_data.user_failure_data.description
    skipped = bench.tick(SENSOR).skip_message
    assert "doesn't let Kraken in" in skipped


def test_the_nightly_job_looks_and_a_new_storage_is_told_of_the_copies(make_bench, bucket):
    bench = make_bench(bucket=bucket, read_gb_per_month=1)
    assert bench.run(bench.tick(SENSOR).run_requests[0]).success
    schedule = bench.repository.get_schedule_def("scrub_offsite")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (
        bench.repository.get_job("scrub_offsite")
        .execute_in_process(instance=bench.instance)
        .success
    )
    assert bench.services.store.raw_files.get("a.raw").offsite.verified_at is not None
    with dg.DagsterInstance.ephemeral() as new:
        rebuilt = rebuild_instrument(bench.services, new, "thermo1")
        assert rebuilt.events["offsite"] == 1
        made = new.get_latest_materialization_event(dg.AssetKey(["thermo1", "offsite"]))
        assert made.asset_materialization.metadata["off-site"].value.startswith(f"s3://{bucket}/")


def test_a_copy_that_fails_is_an_alert(make_bench, server, bucket, monkeypatch):
    bench = make_bench(bucket=bucket)
    [wanted] = bench.tick(SENSOR).run_requests
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    bench.run(wanted)
    bench.tick(SENSOR)
    found = judge(gather(bench.services, None), Thresholds(), utc_now()).found
    assert {"upload_failed", "health_failed"} <= {item.rule.kind for item in found}
    [board] = [item for item in found if item.condition.subject == "offsite copies"]
    assert "doesn't let Kraken in" in board.condition.details


def test_a_day_of_all_instruments_is_uploaded_and_the_server_gives_it_back(
    make_bench, services, server, bucket
):
    """Two files of each vendor, beside the two that there are; every byte is asked for."""
    for number in range(2):
        for instrument_id, name in INSTRUMENTS.items():
            backed_up(services, instrument_id, f"day_{number}_{name}")
    bench = make_bench(bucket=bucket, slots=4)
    while requests := bench.tick(SENSOR).run_requests:
        assert all(bench.run(wanted).success for wanted in requests)
    client, store = server.client(), bench.services.store
    files = store.raw_files.latest(list(INSTRUMENTS))
    assert len(files) == 8
    for raw_file in files:
        assert raw_file.backup_status is BackupStatus.UPLOAD_DONE
        folder = bench.services.backup_folder(raw_file)
        objects = store.offsite.objects(raw_file.id)
        assert objects.keys() == raw_file.file_info.keys()
        for path, stored in objects.items():
            given = client.get_object(**stored.version)["Body"].read()
            assert given == (folder / path).read_bytes()
    versions = client.list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == len({item["Key"] for item in versions})
