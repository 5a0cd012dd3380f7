"""Nothing in Dagit's lineage looks unwell while all is well."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Recorded,
)

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import BackupStatus, Status, Step
from kraken_dagster.orchestration.partitions import ingest_job
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
CHECK = dg.AssetCheckKey(dg.AssetKey(["thermo1", "backup"]), "digests_match")


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(config, copy_slots=20), store, instance)


def recorded(bench: Bench) -> dict[str, Recorded]:
    """By file, what Dagster has of the check's last execution; a planned one has told nothing."""
    storage = bench.instance.event_log_storage
    return {
        str(item.partition_key): item.latest_execution_status
        for item in storage.get_asset_check_partition_info([CHECK])
    }


def said(bench: Bench, file_id: str) -> str:
    (newest, *_) = bench.checks("thermo1", "backup", "digests_match")[file_id]
    return newest.metadata["what was found"].value


def test_a_failed_acquisition_without_a_backup_leaves_no_check_that_has_not_passed(bench):
    folder = bench.services.instrument_folder("thermo1")
    raw_file(folder, "a.raw")
    path = raw_file(folder, "b.raw")
    bench.tick("thermo1_watcher")
    path.rename(folder / "b_CORRUPTED.raw")
    requested = []
    for _ in range(6):
        found = bench.tick("thermo1_watcher").run_requests or []
        requested += [bench.run(request).success for request in found]
    assert requested == [True] * 3
    failed = bench.file("b.raw")
    assert (failed.status, failed.backup_status) == (
        Status.ACQUISITION_FAILED,
        BackupStatus.SKIPPED,
    )
    names = ("a.raw", "b.raw", "b_CORRUPTED.raw")
    assert recorded(bench) == dict.fromkeys(names, Recorded.SUCCEEDED)
    assert "nothing was compared: File got renamed: b_CORRUPTED.raw" in said(bench, "b.raw")


def test_a_run_by_hand_on_an_open_acquisition_leaves_no_check_that_has_not_passed(bench):
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw")
    bench.tick("thermo1_watcher")
    assert bench.execute(ingest_job("thermo1"), "a.raw").success
    assert recorded(bench) == {"a.raw": Recorded.SUCCEEDED}
    assert "nothing was compared: The acquisition is not over yet" in said(bench, "a.raw")


def test_a_run_that_compares_nothing_passes_no_check_of_a_damaged_backup(bench):
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw")
    for _ in range(3):
        for request in bench.tick("thermo1_watcher").run_requests or []:
            assert bench.run(request).success
    assert recorded(bench) == {"a.raw": Recorded.SUCCEEDED}
    record = bench.file("a.raw")
    damaged = {"backup_status": BackupStatus.COPYING_FAILED}
    bench.store.raw_files.update(record, damaged, now=bench.services.now(), note="a test")
    tags = {"kraken/step": Step.BACKUP.value}
    assert bench.execute(ingest_job("thermo1"), "a.raw", tags=tags).success
    assert recorded(bench) == {"a.raw": Recorded.FAILED}
    assert "is damaged; nothing was compared: nothing is due" in said(bench, "a.raw")


def test_the_file_systems_are_materialised_so_that_none_looks_as_if_it_never_was(bench):
    for instrument_id in bench.config.instruments:
        bench.tick(f"{instrument_id}_watcher")
    bench.tick("cluster_jobs")
    keys = [dg.AssetKey(["file_systems", name]) for name in ("backup", "output", "thermo1")]
    for key in keys:
        event = bench.instance.get_latest_materialization_event(key)
        assert event is not None, key
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["free GB"].value > 0
