"""`raw_metrics` in Dagster: a side branch that holds up nothing, and the check of the backup."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import Status, Step
from kraken_dagster.orchestration.file_runs.run_requests import TAG_STEP
from kraken_dagster.orchestration.partitions import INDEX_COMPLETE
from kraken_dagster.raw_metrics.measure import RawOutcome
from kraken_dagster.rebuild.defs import rebuild_instrument
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.raw_readers.real_files import small_raw
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
WHOLE, TORN, ODD = small_raw(), small_raw()[:-1], b"raw" * 1000


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(config, copy_slots=20), store, instance)


def ingested(bench: Bench, name: str, content: bytes) -> dg.ExecuteInProcessResult:
    raw_file(bench.services.instrument_folder("thermo1"), name, content)
    [request] = bench.requested("thermo1")
    return bench.run(request)


def index_check(bench: Bench, name: str) -> list[Any]:
    return bench.checks("thermo1", "backup", INDEX_COMPLETE)[name]


def test_metrics_and_chromatogram_stand_there_before_the_job_has_ended(bench: Bench) -> None:
    install_search(bench.config, bench.store)
    assert ingested(bench, "a.raw", WHOLE).success
    assert bench.status("a.raw") is Status.QUANTING
    shown = bench.materialised("thermo1", "raw_metrics")["a.raw"]
    assert (shown["ms1_scans"], shown["complete"]) == (14.0, 1.0)
    assert shown["instrument_serial"] == "SN06061F"
    assert shown["TIC"].startswith("![TIC](data:image/svg+xml;base64,")
    [check] = index_check(bench, "a.raw")
    assert check.passed


@pytest.mark.parametrize(
    ("content", "materialised", "reported"),
    [
        pytest.param(TORN, ["a.raw"], "Expected 1504354 bytes, found 1504353", id="cut"),
        pytest.param(ODD, [], "This is no Thermo raw file", id="no Thermo file"),
    ],
)
def test_a_bad_file_fails_its_check_and_nothing_else(
    bench: Bench, content: bytes, materialised: list[str], reported: str
) -> None:
    install_search(bench.config, bench.store)
    assert ingested(bench, "a.raw", content).success
    assert bench.status("a.raw") is Status.QUANTING
    assert list(bench.materialised("thermo1", "raw_metrics")) == materialised
    [check] = index_check(bench, "a.raw")
    assert not check.passed
    assert reported in check.metadata["what was found"].value


def test_many_files_are_read_in_one_run_and_one_that_fails_costs_no_other(bench: Bench) -> None:
    for name, content in (("a.raw", WHOLE), ("b.raw", ODD), ("c.raw", WHOLE)):
        assert ingested(bench, name, content).success
    again = bench.execute_range(
        "__ASSET_JOB", "a.raw", "c.raw", asset_selection=[dg.AssetKey(["thermo1", "raw_metrics"])]
    )
    assert again.success
    assert sorted(bench.materialised("thermo1", "raw_metrics")) == ["a.raw", "c.raw"]
    assert [len(index_check(bench, name)) for name in ("a.raw", "b.raw", "c.raw")] == [2, 2, 2]


def test_a_run_that_died_after_the_backup_is_made_up_for_by_the_watcher(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kraken_dagster.raw_metrics.defs.measure", killed)
        assert not ingested(bench, "a.raw", WHOLE).success
    assert bench.file("a.raw").is_backed_up
    before = bench.status("a.raw")
    wanted = [it for it in bench.requested("thermo1") if it.tags[TAG_STEP] == Step.RAW_METRICS]
    [request] = wanted
    assert bench.run(request).success
    assert list(bench.materialised("thermo1", "raw_metrics")) == ["a.raw"]
    assert list(bench.materialised("thermo1", "backup")) == ["a.raw"]
    assert bench.status("a.raw") is before
    for _ in range(3):
        later = bench.tick("thermo1_watcher").run_requests or ()
        assert [it for it in later if it.tags[TAG_STEP] == Step.RAW_METRICS] == []


def test_what_can_not_be_read_for_now_is_tried_three_times_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(services: Services, raw_file_id: str) -> RawOutcome:
        return RawOutcome(services.store.raw_files.current(raw_file_id), "the store is away")

    monkeypatch.setattr("kraken_dagster.raw_metrics.defs.measure", away)
    assert ingested(bench, "a.raw", WHOLE).success
    asked = 0
    for _ in range(6):
        for request in bench.tick("thermo1_watcher").run_requests or ():
            if request.tags[TAG_STEP] == Step.RAW_METRICS:
                asked += 1
                assert bench.run(request).success
    assert asked == 3


def test_a_backup_alone_tells_what_is_known_of_its_index(bench: Bench) -> None:
    ingested(bench, "a.raw", TORN)
    done = bench.execute(
        "__ASSET_JOB", "a.raw", asset_selection=[dg.AssetKey(["thermo1", "backup"])]
    )
    assert done.success
    newest, first = index_check(bench, "a.raw")
    assert (newest.passed, first.passed) == (False, False)


def test_a_new_storage_shows_what_was_read(bench: Bench) -> None:
    ingested(bench, "a.raw", WHOLE)
    ingested(bench, "b.raw", TORN)
    shown = bench.materialised("thermo1", "raw_metrics")
    with dg.DagsterInstance.ephemeral() as instance:
        other = Bench(bench.config, bench.store, instance)
        rebuilt = rebuild_instrument(other.services, instance, "thermo1")
        assert rebuilt.events["raw_metrics"] == 2
        again = other.materialised("thermo1", "raw_metrics")
        for name, metadata in shown.items():
            lost = {"TIC"}  # is in the file of traces
            kept = {key: value for key, value in metadata.items() if key not in lost}
            assert {key: again[name][key] for key in kept} == kept
        checks = other.checks("thermo1", "backup", INDEX_COMPLETE)
        assert [checks[name][0].passed for name in ("a.raw", "b.raw")] == [True, False]
        assert rebuild_instrument(other.services, instance, "thermo1").checks == 0
