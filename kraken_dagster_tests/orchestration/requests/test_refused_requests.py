"""What is asked for by hand over files in any status, and is refused, changes none of them.

One run over all of them is what a backfill starts, one over a single file what "Materialize" does.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pymongo
import pytest
from dagster_shared.serdes import serialize_value

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import ENDED, OPEN_ACQUISITION, Status, Step
from kraken_dagster.orchestration.partitions import ASSETS, TAG_STEP
from kraken_dagster.quant.collect import collect
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.support.dagster_bench import (
    Bench,
    hastened,
    install_search,
    raw_file,
    require_success,
)
from kraken_dagster_tests.support.helpers import database_uri, wait_for_jobs

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
NOT_BACKED_UP = {"backup_status": None, "file_info": {}}
# A file of each status, with a result where it may have one.
SCENES: dict[str, dict[str, Any]] = {
    status.value: {"status": status, **fields}
    for status, fields in {
        **{status: {} for status in Status},
        **dict.fromkeys(OPEN_ACQUISITION, NOT_BACKED_UP),
        Status.MONITORING_DONE: NOT_BACKED_UP,
        Status.CHECKSUMMING: NOT_BACKED_UP,
        Status.CHECKSUMMING_DONE: NOT_BACKED_UP,
        Status.COPYING: {**NOT_BACKED_UP, "backup_status": "copying_in_progress"},
        Status.IGNORED: NOT_BACKED_UP,
    }.items()
}
VANISHED, RENAMED = "acquisition_vanished", "acquisition_renamed"
_FAILED = {"status": Status.ACQUISITION_FAILED, "file_info": {}, "backup_status": "skipped"}
SCENES[VANISHED] = {**_FAILED, "acquisition.errors": ["Main file was not created."]}
SCENES[RENAMED] = {**_FAILED, "acquisition.errors": ["FILE_RENAMED"]}
NAMES = {scene: f"{number:02d}_{scene}.raw" for number, scene in enumerate(SCENES)}
KEPT = {
    NAMES[scene] for scene, fields in SCENES.items() if fields["status"] in ENDED | OPEN_ACQUISITION
}
# Of these the result is somebody else's.
OWNERLESS = ("done_not_quanted", "quanting_failed", "acquisition_failed")
_MAY_CHANGE = (
    *("history", "updated_at_", "lease", "verified_at", "backup_seen"),
    "raw_metrics",  # a state of its own, beside that of the file
)


@pytest.fixture(scope="module")
def bench(server_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """All files done, each with its backup and its result."""
    folder, uri = tmp_path_factory.mktemp("refused"), database_uri(server_uri, "kraken_refused")
    roots = ("instruments", "backup", "output", "settings", "software")
    for name in (*roots, "instruments/thermo1"):
        (folder / name).mkdir()
    config = KrakenConfig.model_validate(
        {
            "mongodb": {"uri": uri},
            "home": folder / "home",
            "locations": {name: str(folder / name) for name in roots},
            "engines": {"local": {"type": "local", "slots": 50}},
            "instruments": {"thermo1": {"type": "thermo"}},
        }
    )
    with closing(connect(uri)) as store, dg.DagsterInstance.ephemeral() as instance:
        store.prepare()
        bench = Bench(hastened(config, copy_slots=3), store, instance)
        _all_done(bench, store)
        yield bench
    with pymongo.MongoClient(server_uri) as client:
        client.drop_database("kraken_refused")


def _all_done(bench: Bench, store: Store) -> None:
    install_search(bench.config, store)
    for name in NAMES.values():
        raw_file(bench.services.instrument_folder("thermo1"), name, f"bytes of {name}".encode())
    bench.requested("thermo1")
    require_success(bench.execute_range("thermo1_ingest", *_ends()))
    wait_for_jobs(bench.services)
    bench.tick("cluster_jobs")
    require_success(bench.execute_range("thermo1_collect", *_ends()))
    assert {bench.status(name) for name in NAMES.values()} == {Status.DONE}
    _documents(bench.services).update_many({}, {"$set": {"status_details": "how it was"}})
    for scene, fields in SCENES.items():
        _documents(bench.services).update_one({"_id": NAMES[scene]}, {"$set": fields})
    for scene in OWNERLESS:
        bench.store.jobs._collection.delete_many({"raw_file": NAMES[scene]})
    running = {"$set": {"state": "running", "collected_at": None}}
    bench.store.jobs._collection.update_one({"raw_file": NAMES["quanting"]}, running)
    for scene in (VANISHED, RENAMED):
        (bench.services.instrument_folder("thermo1") / NAMES[scene]).unlink()
    for name in sorted(NAMES.values()):
        if not bench.file(name).is_backed_up:
            shutil.rmtree(_result(bench, name))


def _ends() -> tuple[str, str]:
    return min(NAMES.values()), max(NAMES.values())


def _documents(services: Services) -> Any:
    return services.store.raw_files._collection


def _result(bench: Bench, name: str) -> Path:
    [job] = bench.store.jobs.of(name)
    return bench.services.result_folder(job)


def _facts(bench: Bench) -> dict[str, Any]:
    """Everything of the files that were to be kept, and what is on the stores of them."""
    found: dict[str, Any] = {}
    for name in KEPT:
        document = _documents(bench.services).find_one({"_id": name})
        facts = {key: value for key, value in document.items() if key not in _MAY_CHANGE}
        jobs = [(job.id, job.state) for job in bench.store.jobs.of(name)]
        output = bench.config.locations.output.path
        found[name] = (facts, jobs, sorted(str(item) for item in output.rglob(f"out_{name}*")))
    return found


@pytest.fixture
def unchanged(bench: Bench) -> Iterator[None]:
    """What the test does leaves every file as it was that isn't under way; the others are reset."""
    before, documents = _facts(bench), list(_documents(bench.services).find())
    jobs = list(bench.store.jobs._collection.find())
    yield
    after, open_job = _facts(bench), bench.status(NAMES["quanting"])
    for collection, were in (
        (_documents(bench.services), documents),
        (bench.store.jobs._collection, jobs),
    ):
        collection.delete_many({})
        collection.insert_many(were)
    assert open_job is Status.QUANTING
    for name in KEPT:
        assert after[name] == before[name]


JOBS = {
    "raw_file": "thermo1_ingest",
    "backup": "thermo1_ingest",
    "quant_job": "thermo1_quant",
    "quant_result": "thermo1_collect",
    "metrics": "thermo1_collect",
}


def _select(asset: str) -> list[dg.AssetKey]:
    return [dg.AssetKey(["thermo1", asset])]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("tags", [{}, {TAG_STEP: Step.QUANT.value}], ids=["by hand", "by a sensor"])
@pytest.mark.parametrize("asset", ASSETS)
def test_a_run_over_files_in_every_status_changes_none_that_had_ended(
    bench: Bench, asset: str, tags: dict[str, str]
) -> None:
    bench.execute_range(JOBS[asset], *_ends(), tags=tags, asset_selection=_select(asset))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_run_by_hand_of_each_asset_over_one_file_changes_nothing_of_it(
    bench: Bench, name: str
) -> None:
    bench.execute("thermo1_ingest", name)
    bench.execute("thermo1_quant", name)
    bench.execute("thermo1_collect", name)


@pytest.mark.usefixtures("unchanged")
def test_the_run_says_what_was_not_begun_and_how_to_have_it(bench: Bench) -> None:
    name = NAMES["done"]
    result = bench.execute(JOBS["quant_job"], name)
    assert not result.success
    for event in result.all_events:
        serialize_value(event)  # as Dagster keeps it, where it isn't in memory only
    reported = bench.log_of(result)
    assert "A result is there already" in reported
    assert "`kraken retry ID --output-exists-mode add`" in reported
    assert "nothing has changed" in bench.file(name).history[-1]["reason"]
    assert bench.file(name).status_details == "how it was"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("asset", ["backup", "quant_job", "metrics"])
@pytest.mark.parametrize("store", ["backup", "output"])
def test_a_store_that_is_away_leaves_every_file_that_had_ended(
    bench: Bench, asset: str, store: str
) -> None:
    path = getattr(bench.config.locations, store).path
    path.rename(path.with_name("away"))
    path.mkdir()
    try:
        modes = {"ops": {"thermo1__quant_job": {"config": {"output_exists_mode": "OVERWRITE"}}}}
        config = modes if asset == "quant_job" else {}
        bench.execute_range(
            JOBS[asset], *_ends(), run_config=config, asset_selection=_select(asset)
        )
    finally:
        path.rmdir()
        path.with_name("away").rename(path)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("mode", ["ADD", "OVERWRITE"])
def test_a_program_that_is_gone_refuses_before_anything_is_moved(bench: Bench, mode: str) -> None:
    assert bench.config.locations.software is not None
    program = bench.config.locations.software.path / "search"
    away = program.rename(program.with_name("away"))
    try:
        config = {"ops": {"thermo1__quant_job": {"config": {"output_exists_mode": mode}}}}
        result = bench.execute_range("thermo1_quant", *_ends(), run_config=config)
        assert not result.success
    finally:
        away.rename(program)


@pytest.mark.usefixtures("unchanged")
def test_results_that_can_not_be_read_any_more_leave_the_file_done(bench: Bench) -> None:
    folder = _result(bench, NAMES["done"])
    away = folder.rename(folder.with_name("away"))
    folder.write_bytes(b"no folder")
    try:
        for asset in ("quant_result", "metrics"):
            bench.execute("thermo1_collect", NAMES["done"], asset_selection=_select(asset))
    finally:
        folder.unlink()
        away.rename(folder)


def test_collecting_again_leaves_a_file_done(bench: Bench) -> None:
    collect(bench.services, NAMES["done"], run_id="again")
    assert bench.status(NAMES["done"]) is Status.DONE
