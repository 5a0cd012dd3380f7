"""The asset `offsite` and its sensor: what is requested, what Dagit shows, and what waits."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg
import pytest

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs
from kraken_dagster.model.raw_file import BackupStatus
from kraken_dagster.runtime.exclusive_runs import at_work, offsite_of
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3, Server
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
    assert bench.services.store.raw_files.get("a.raw").backup_status is BackupStatus.COPYING_DONE


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
