"""A file's way through Dagster, in one process: what is materialised, how failures are told."""

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.manifest import manifest_name
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
EXTENSIONS = {"thermo1": ".raw", "bruker1": ".d", "sciex1": ".wiff"}


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(config, copy_slots=20), store, instance)


def _acquire(bench: Bench, instrument_id: str, name: str) -> None:
    vendor = bench.config.instrument(instrument_id).type.value
    folder = bench.services.instrument_folder(instrument_id)
    acquisition = Acquisition(name=name, vendor=vendor, minutes=1, size_bytes=400_000, seed=3)
    SimulatedInstrument(folder, vendor, LabClock(1e5)).acquire(acquisition)


def _checks(bench: Bench, instrument_id: str, file_id: str) -> list[Any]:
    """Whether `digests_match` passed for the file, newest first, with what it said."""
    records = bench.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey([instrument_id, "backup"]), "digests_match"),
        limit=10,
        partition_filter=PartitionKeyFilter(key=partition_key(file_id)),
    )
    return [record.event.dagster_event.asset_check_evaluation_data for record in records]


def _failure(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, Any]]:
    """The op that failed, and the metadata of its `dg.Failure` as plain values."""
    [event] = [item for item in result.all_events if item.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return str(event.step_key), {name: item.value for name, item in failure.metadata.items()}


def _backed_up(bench: Bench, name: str = "a.raw") -> dg.ExecuteInProcessResult:
    raw_file(bench.services.instrument_folder("thermo1"), name)
    [request] = bench.requested("thermo1")
    return bench.run(request)


def _md5sum(bench: Bench, instrument_id: str, file_id: str) -> None:
    folder = bench.services.backup_folder(bench.file(file_id))
    done = subprocess.run(
        ["md5sum", "--strict", "-c", "--", manifest_name(file_id)],
        cwd=folder,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instrument_id", EXTENSIONS)
def test_a_file_goes_from_its_instrument_to_metrics_in_dagster(
    bench: Bench, instrument_id: str
) -> None:
    install_search(bench.config, bench.store)
    name = f"20260301_HeLa_01{EXTENSIONS[instrument_id]}"
    _acquire(bench, instrument_id, name)
    [ingest] = bench.requested(instrument_id)
    assert bench.run(ingest).success
    [collect] = bench.collected()
    assert bench.run(collect).success

    assert bench.status(name) is Status.DONE
    _md5sum(bench, instrument_id, name)
    for asset in ("raw_file", "backup", "quant_job", "quant_result", "metrics"):
        assert list(bench.materialised(instrument_id, asset)) == [name]
    backup = bench.materialised(instrument_id, "backup")[name]
    assert backup["size bytes"] == backup["copied bytes"] == bench.file(name).size
    assert isinstance(backup["MB/s"], float)
    assert backup["MB/s"] > 0
    assert bench.materialised(instrument_id, "quant_job")[name]["jobs"] == 1
    result = bench.materialised(instrument_id, "quant_result")[name]
    assert (result["jobs ended"], result["jobs failed"]) == (1, 0)
    assert result["size bytes"] > 0


@pytest.mark.parametrize("instrument_id", ["thermo1", "bruker1"])
def test_every_metric_is_a_number_on_the_materialisation(bench: Bench, instrument_id: str) -> None:
    install_search(bench.config, bench.store)
    name = f"20260301_HeLa_01{EXTENSIONS[instrument_id]}"
    _acquire(bench, instrument_id, name)
    [ingest] = bench.requested(instrument_id)
    bench.run(ingest)
    [collect] = bench.collected()
    bench.run(collect)
    [stored] = bench.store.metrics.of(name)
    ours = {"settings_version", "created_at_"}
    numbers = {
        key: value
        for key, value in stored.items()
        if key not in ours and isinstance(value, int | float) and math.isfinite(value)
    }
    shown = bench.materialised(instrument_id, "metrics")[name]
    assert len(numbers) >= 5
    assert {key: shown[key] for key in numbers} == numbers
    assert all(isinstance(shown[key], float) for key in numbers)


def test_a_verified_backup_passes_the_check_of_its_partition(bench: Bench) -> None:
    assert _backed_up(bench).success
    [check] = _checks(bench, "thermo1", "a.raw")
    assert (check.passed, check.partition) == (True, "a.raw")
    assert check.metadata["md5"].value == {"a.raw": bench.file("a.raw").file_info["a.raw"].md5}


HOSTILE_NAMES = [
    "new\nline.raw",
    "tab\there.raw",
    "dots...dots.raw",
    "%enc:is_our_prefix.raw",
    "$(touch pwned); 'quotes' \"and\" `ticks`.raw",
    "-rf.raw",
    "umlaut ä and 蛋白.raw",
    "back\\slash.raw",
    "[a,b]|{c}.raw",
    "\x1b[31mred.raw",
]


@pytest.mark.parametrize("many_from", [0, 2], ids=["a run each", "one run"])
def test_files_with_hostile_names_are_backed_up_under_their_partitions(
    config: KrakenConfig, store: Store, many_from: int
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        bench = Bench(
            hastened(config, copy_slots=20, files_per_run_from=many_from), store, instance
        )
        _back_up_hostile_names(bench, runs=1 if many_from else len(HOSTILE_NAMES))


def _back_up_hostile_names(bench: Bench, *, runs: int) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        raw_file(bench.services.instrument_folder("thermo1"), name, b"%d" % number)
    requests = bench.requested("thermo1")
    assert len(requests) == runs
    for request in requests:
        assert bench.run(request).success
    keys = {partition_key(name) for name in HOSTILE_NAMES}
    assert set(bench.instance.get_dynamic_partitions("thermo1_raw_files")) == keys
    assert set(bench.materialised("thermo1", "backup")) == keys
    for name in HOSTILE_NAMES:
        assert bench.status(name) is Status.DONE_NOT_QUANTED
        assert [check.passed for check in _checks(bench, "thermo1", name)] == [True]
        _md5sum(bench, "thermo1", name)


def test_a_backup_that_would_replace_something_fails_its_run_with_what_and_why(
    bench: Bench,
) -> None:
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw", b"the source")
    [request] = bench.requested("thermo1")
    folder = bench.services.backup_folder(bench.file("a.raw"))
    folder.mkdir(parents=True)
    (folder / "a.raw").write_bytes(b"something else")
    result = bench.run(request)

    assert not result.success
    step, reported = _failure(result)
    assert step == "thermo1__backup"
    assert reported["file"] == str(folder / "a.raw")
    assert "10 bytes" in reported["expected"]
    assert "14 bytes" in reported["found"]
    assert "backup_overwrite_file_id" in reported["next step"]
    assert reported["error"] == "BackupConflict"
    assert (folder / "a.raw").read_bytes() == b"something else"
    assert bench.materialised("thermo1", "backup") == {}
    assert bench.status("a.raw") is Status.ERROR
    assert bench.requested("thermo1") == []  # it waits for a person


def test_the_overwrite_option_in_the_run_config_moves_the_other_file_aside(bench: Bench) -> None:
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw", b"the source")
    [request] = bench.requested("thermo1")
    folder = bench.services.backup_folder(bench.file("a.raw"))
    folder.mkdir(parents=True)
    (folder / "a.raw").write_bytes(b"something else")
    assert not bench.run(request).success
    config = {"ops": {"thermo1__backup": {"config": {"backup_overwrite_file_id": "a.raw"}}}}
    assert bench.execute("thermo1_ingest", "a.raw", run_config=config).success
    assert (folder / "a.raw").read_bytes() == b"the source"
    assert (folder / "a.raw.1.alphakraken.bkp").read_bytes() == b"something else"


def test_a_backup_that_was_damaged_fails_the_check_of_its_partition(bench: Bench) -> None:
    assert _backed_up(bench).success
    copy = bench.services.backup_folder(bench.file("a.raw")) / "a.raw"
    damaged = bytearray(copy.read_bytes())
    damaged[1000] ^= 1
    copy.write_bytes(damaged)
    result = bench.execute("thermo1_ingest", "a.raw")

    assert not result.success
    newest, older = _checks(bench, "thermo1", "a.raw")
    assert (newest.passed, newest.partition, older.passed) == (False, "a.raw", True)
    assert bench.file("a.raw").file_info["a.raw"].md5 in newest.metadata["expected"].value
    assert _failure(result)[1]["error"] == "BackupDamaged"


def test_asking_for_the_result_of_a_running_job_says_so_and_fails_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    install_search(bench.config, bench.store, waits_for=go)
    try:
        assert _backed_up(bench).success
        result = bench.execute("thermo1_collect", "a.raw")
    finally:
        go.touch()
    assert result.success
    assert bench.materialised("thermo1", "quant_result") == {}
    assert "Not everything is there yet" in bench.log_of(result)
    [job] = bench.store.jobs.of("a.raw")
    assert job.id in bench.log_of(result)
    [collect] = bench.collected()  # and the job is none the worse for it
    assert bench.run(collect).success
    assert bench.status("a.raw") is Status.DONE


def test_a_failed_job_fails_its_collecting_run_and_ends_its_file(bench: Bench) -> None:
    install_search(bench.config, bench.store)
    assert _backed_up(bench, "a_FAIL_.raw").success
    [collect] = bench.collected()
    result = bench.run(collect)
    assert not result.success
    assert "fails, as its name says" in _failure(result)[1]["search log"]
    [job] = bench.store.jobs.of("a_FAIL_.raw")
    assert (job.state, job.exit_code) == (JobState.FAILED, 7)
    assert bench.status("a_FAIL_.raw") is Status.QUANTING_FAILED
    assert bench.tick("cluster_jobs").run_requests == []  # collected once


def test_asking_for_a_file_that_is_being_acquired_materialises_nothing(bench: Bench) -> None:
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw")
    bench.tick("thermo1_watcher")
    result = bench.execute("thermo1_ingest", "a.raw")
    assert result.success
    assert "The acquisition is not over yet" in bench.log_of(result)
    assert bench.materialised("thermo1", "raw_file") == {}
    assert bench.materialised("thermo1", "backup") == {}
    assert [it.name for it in bench.config.locations.backup.path.iterdir()] == [MARKER_NAME]


def test_a_stale_run_on_a_file_that_is_done_submits_nothing_again(bench: Bench) -> None:
    install_search(bench.config, bench.store)
    raw_file(bench.services.instrument_folder("thermo1"), "a.raw")
    [ingest] = bench.requested("thermo1")
    bench.run(ingest)
    [collect] = bench.collected()
    bench.run(collect)
    before = bench.file("a.raw")
    assert before.status is Status.DONE
    assert bench.run(ingest).success
    assert bench.execute("thermo1_quant", "a.raw", tags={"kraken/step": "quant"}).success
    assert len(bench.store.jobs.of("a.raw")) == 1
    assert bench.file("a.raw").history == before.history
