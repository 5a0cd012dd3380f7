"""The check `in_control`: one of each run, however many files it is on, and of the newest run."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.quality_rules import QualityControl
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.quant.mzqc_file import leave_mzqc
from kraken_dagster.runtime.stores import opened
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.metrics.test_mzqc import valid
from kraken_dagster_tests.quality.laboratory import BEGAN, EVERY, event
from kraken_dagster_tests.quality.test_recorded import QC, Recorded
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search
from kraken_dagster_tests.support.helpers import job, record

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
KEY = dg.AssetCheckKey(dg.AssetKey(["thermo1", "metrics"]), "in_control")
RAW_KEY = dg.AssetCheckKey(dg.AssetKey(["thermo1", "raw_metrics"]), "in_control")


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with_quality = config.model_copy(
        update={"qc": QualityControl.model_validate({**QC, "mzqc_files": True})}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(with_quality), store, instance)


def check(bench: Bench, key: dg.AssetCheckKey = KEY) -> Any:
    """The newest evaluation, and how many there are."""
    records = bench.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return records[0].event.dagster_event.asset_check_evaluation_data, len(records)


def judged(bench: Bench) -> Any:
    """The check by itself, as a person has it executed in Dagit."""
    job = bench.repository.get_implicit_global_asset_job_def()
    chosen = job.get_subset(asset_selection=set(), asset_check_selection={KEY})
    assert chosen.execute_in_process(instance=bench.instance).success
    return check(bench)[0]


def test_the_newest_run_is_told_of_with_its_limits(bench: Bench, store: Store) -> None:
    recorded = Recorded(store)
    for number in range(8):
        recorded.add(number)
    reported = judged(bench)
    assert reported.passed
    assert "x_hela_007.raw" in reported.description
    recorded.add(8, proteins=100.0)
    reported = judged(bench)
    assert (reported.passed, reported.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "98 % below the mean" in reported.description
    shown = {name: item.value for name, item in reported.metadata.items()}
    assert shown["hela, s: run"] == "x_hela_008.raw"
    assert shown["hela, s: last good run"] == "x_hela_007.raw"
    assert "from 8 runs; levey_jennings" in shown["hela, s: proteins"]
    assert shown["hela, s: proteins z"] < -3


def test_a_search_that_has_ended_is_judged_by_the_run_that_collects_it(bench: Bench) -> None:
    install_search(bench.config, bench.store)
    name = "20260301_HeLa_01.raw"
    folder = bench.services.instrument_folder("thermo1")
    plan = Acquisition(name=name, vendor="thermo", minutes=1, size_bytes=400_000, seed=3)
    SimulatedInstrument(folder, "thermo", LabClock(1e5)).acquire(plan)
    [ingest] = bench.requested("thermo1")
    assert bench.run(ingest).success
    [collect] = bench.collected()
    result = bench.run(collect)
    assert result.success
    reported, _ = check(bench)
    assert "only 0 good runs before it" in reported.description
    of_raw_file, verdict = bench.store.quality.verdicts_of(name)
    assert verdict.by == f"run {result.run_id}"
    assert verdict.series.settings_name == "search"
    assert of_raw_file.series.is_of_raw_files
    assert of_raw_file.by != verdict.by
    early, _ = check(bench, RAW_KEY)
    assert "(raw_metrics:1): not_judged" in early.description
    assert "(search:1): not_judged" in reported.description
    (job,) = bench.store.jobs.of(name)
    left = bench.services.result_folder(job) / "kraken.mzQC"
    valid(json.loads(left.read_text()))
    assert name in left.read_text()


def test_no_mzqc_file_is_written_out_of_the_output(bench: Bench, tmp_path: Path) -> None:
    made = job(relative_output_path="P/out_x.raw/custom", metrics_type="diann")
    raw_file, services = record(), bench.services
    folder = services.result_folder(made)
    folder.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with opened(services, Role.OUTPUT) as root:
        reported = leave_mzqc(services, raw_file, made, {"proteins": 3}, {}, root=root)
    assert reported is not None
    assert "leads out of the output" in reported
    assert list(elsewhere.iterdir()) == []
    folder.unlink()
    folder.mkdir()
    with opened(services, Role.OUTPUT) as root:
        assert leave_mzqc(services, raw_file, made, {"proteins": 3}, {}, root=root) is None
        assert leave_mzqc(services, raw_file, made, {"nothing": 3}, {}, root=root) is None
    assert [item.name for item in folder.iterdir()] == ["kraken.mzQC"]


def test_a_backfill_of_old_files_is_one_check_and_tells_of_the_newest(
    bench: Bench, store: Store
) -> None:
    recorded = Recorded(store)
    names = [recorded.add(number) for number in range(20)]
    recorded.add(20, "late_hela.raw", proteins=100.0)
    keys = [partition_key(name) for name in names]
    bench.instance.add_dynamic_partitions("thermo1_raw_files", keys)
    assert bench.execute_range("thermo1_collect", names[0], names[-1]).success
    reported, count = check(bench)
    assert count == 1
    assert reported.metadata["hela, s: run"].value == "late_hela.raw"


def test_few_runs_are_a_warning_and_no_quiet(bench: Bench, store: Store) -> None:
    Recorded(store).add(0, "sample.raw")
    reported = judged(bench)
    assert (reported.passed, reported.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "no quality control run" in reported.description
    Recorded(store).add(1)
    reported = judged(bench)
    assert (reported.passed, reported.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "only 0 good runs before it" in reported.description


def test_the_job_judges_anew_and_tells(bench: Bench, store: Store) -> None:
    recorded = Recorded(store)
    for number in range(8):
        recorded.add(number)
    recorded.add(8, proteins=100.0)
    assert not judged(bench).passed
    at = BEGAN + 8 * EVERY
    change = {"begins_at": at - timedelta(minutes=1), "ends_at": at + timedelta(hours=1)}
    store.quality.annotate(event(instrument_id="thermo1", new_guide_set=False, **change))
    done = bench.repository.get_job("evaluate_quality").execute_in_process(instance=bench.instance)
    assert done.success
    reported, _ = check(bench)
    assert "acquired during: column, new column" in reported.description


def test_without_classes_there_is_no_check_and_no_job(config: KrakenConfig, store: Store) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        plain = Bench(hastened(config), store, instance)
    assert not plain.repository.asset_graph.has(KEY)
    assert "evaluate_quality" not in plain.repository.job_names
