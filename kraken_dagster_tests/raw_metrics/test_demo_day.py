"""Of each file of the demo's plans, metrics and chromatogram stand in Dagit while its job still
runs, and where the spray died they say so.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, Status
from kraken_dagster.orchestration.partitions import INDEX_COMPLETE
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.simulation.instruments import Acquisition, Vendor
from kraken_dagster.simulation.plans import demo_plan
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.raw_readers.test_simulated import acquired
from kraken_dagster_tests.support.dagster_bench import SEARCH, Bench, hastened, install_search

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
_BEFORE_ITS_END = (Status.QUEUED_FOR_QUANTING, Status.QUANTING)
_INSTRUMENTS: dict[str, Vendor] = {"thermo1": "thermo", "bruker1": "bruker", "sciex1": "sciex"}


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(hastened(config, copy_slots=20), store, instance)


def searched(vendor: Vendor) -> list[Acquisition]:
    """The demo's ordinary files, of which each has a job."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    plan = demo_plan(vendor, files=2, start=start, project="", practice=False)
    found = {
        one.name: one
        for one in reversed(plan)  # the first of a name that is used once more
        if isinstance(one, Acquisition) and one.outcome == "ok" and "_DDA_" not in one.name
    }
    return list(found.values())


def test_of_each_file_of_the_demo_there_are_figures_before_its_job_has_ended(
    bench: Bench, tmp_path: Path
) -> None:
    end_of_jobs = tmp_path / "end_of_jobs"
    install_search(bench.config, bench.store, waits_for=end_of_jobs)
    bench.store.catalog.assign(FALLBACK_PROJECT, SEARCH, scope="bruker", now=utc_now())
    drops: dict[str, float] = {}
    try:
        for instrument_id, vendor in _INSTRUMENTS.items():
            for acquisition in searched(vendor):
                acquired(bench.services.instrument_folder(instrument_id), acquisition)
                [request] = bench.requested(instrument_id)
                assert bench.run(request).success
                assert bench.status(acquisition.name) in _BEFORE_ITS_END
                shown = bench.materialised(instrument_id, "raw_metrics")[acquisition.name]
                [check] = bench.checks(instrument_id, "backup", INDEX_COMPLETE)[acquisition.name]
                assert check.passed
                if vendor == "sciex":  # of whose scans nothing can be read
                    assert (shown["samples"], "TIC" in shown) == ("1", False)
                    continue
                assert shown["complete"] == 1
                assert shown["TIC"].startswith("![TIC](data:image/svg+xml;base64,")
                assert shown["ms1_scans"] > 50
                drops[acquisition.name] = shown["tic_drops"]
                assert shown["tic_drops"] == acquisition.spray_dies
    finally:
        end_of_jobs.touch()
    assert sorted(drops.values()) == [0, 0, 0, 1]
