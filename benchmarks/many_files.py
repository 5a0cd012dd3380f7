"""Years of files for benchmarks: documents in MongoDB as Kraken leaves them, without the files."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import (
    BackupStatus,
    DecidedSettings,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import DEFAULT_DATABASE, connect
from kraken_dagster.store.quant.jobs import object_id
from kraken_dagster_tests.support.helpers import mark_stores

FIRST = datetime(2020, 1, 1, tzinfo=UTC)
INSTRUMENT = "thermo1"
_WAY = (
    Status.QUEUED_FOR_MONITORING,
    Status.MONITORING_ACQUISITION,
    Status.MONITORING_DONE,
    Status.COPYING,
    Status.COPYING_DONE,
    Status.QUEUED_FOR_QUANTING,
    Status.QUANTING,
    Status.DONE,
)
_AT_ONCE = 1000


def make_services(folder: Path, uri: str, **defaults: Any) -> Services:
    """An instrument with an empty folder, on the database `benchmark` of the server."""
    (folder / "instruments" / INSTRUMENT).mkdir(parents=True, exist_ok=True)
    config = KrakenConfig.model_validate(
        {
            "home": folder / "home",
            "mongodb": {"uri": uri},
            "defaults": defaults,
            "locations": {name: str(folder / name) for name in ("instruments", "backup", "output")},
            "instruments": {INSTRUMENT: {"type": "thermo"}},
        }
    )
    store = connect(uri)
    store.prepare()
    services = Services(config=config, store=store, engines={})
    mark_stores(services)
    return services


def fill(uri: str, files: int, *, begin: int = 0) -> None:
    """Adds files that are done: backed up, processed, measured, moved aside."""
    with MongoClient(uri) as client:
        database = client.get_default_database(DEFAULT_DATABASE)
        for start in range(begin, files, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, files))
            for name, documents in _documents(numbers).items():
                database[name].insert_many(documents)


def name_of(number: int) -> str:
    return f"20200101_lab_sample_{number:06d}.raw"


def _documents(numbers: range) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"raw_file": [], "quant_job": [], "metrics": []}
    for number in numbers:
        name, at = name_of(number), FIRST + timedelta(minutes=20 * number)
        found["raw_file"].append(_raw_file(name, at))
        job = _job(name, at)
        found["quant_job"].append(job)
        found["metrics"].append(_result(job, at, number))
    return found


def _raw_file(name: str, at: datetime) -> dict[str, Any]:
    record = RawFile(
        id=name,
        original_name=name,
        instrument_id=INSTRUMENT,
        status=Status.DONE,
        size=1_000_000_000,
        backup_base_path=f"/backup/{INSTRUMENT}/{at:%Y_%m}",
        backup_status=BackupStatus.COPYING_DONE,
        instrument_file_status=InstrumentFileStatus.MOVED,
        created_at=at,
        created_at_=at,
        updated_at_=at + timedelta(hours=2),
        backed_up_at=at + timedelta(hours=1),
        verified_at=at + timedelta(hours=1),
        acquisition={"ended_at": at + timedelta(minutes=50), "ended_size": 1_000_000_000},
        attempts={"backup": 1, "quant_jobs": 1},
        quant_settings=[DecidedSettings(name="search", version=1, attempt=1)],
        history=list(_history(at)),
    )
    document = record.model_dump(by_alias=True, exclude={"file_info", "unreadable"})
    return {**document, "file_info": {name: [1e9, "d41d8cd98f00b204e9800998ecf8427e"]}}


def _history(at: datetime) -> Iterator[dict[str, Any]]:
    old = None
    for number, new in enumerate(_WAY):
        when = at + timedelta(minutes=10 * number)
        yield {"at": when, "from": old, "to": new, "reason": "as it should", "run_id": "run"}
        old = new
    moved = {"at": at + timedelta(hours=2), "from": old, "to": old, "reason": "moved aside"}
    yield {**moved, "instrument_file": InstrumentFileStatus.MOVED}


def _job(name: str, at: datetime) -> dict[str, Any]:
    job = QuantJob(
        id=f"kraken-{name}-search-v1-1",
        raw_file=name,
        instrument_id=INSTRUMENT,
        settings_name="search",
        settings_version=1,
        software_type="custom",
        software="search",
        metrics_type="alphadia",
        engine="cluster",
        attempt=1,
        state=JobState.SUCCEEDED,
        output_path=f"/output/_FALLBACK/{at:%Y_%m}/out_{name}/custom",
        relative_output_path=f"_FALLBACK/{at:%Y_%m}/out_{name}/custom",
        command=["search", f"/backup/{name}", "--threads", "8"],
        environment={"RAW_FILE_ID": name},
        created_at=at + timedelta(hours=1),
        started_at=at + timedelta(hours=1),
        ended_at=at + timedelta(hours=2),
        collected_at=at + timedelta(hours=2),
        cluster_job_id="4711",
        exit_code=0,
        node="node01",
        peak_memory_bytes=8 * 1024**3,
    )
    return job.model_dump(by_alias=True)


def _result(job: dict[str, Any], at: datetime, number: int) -> dict[str, Any]:
    return {
        "_id": object_id("metrics", job["_id"]),
        "raw_file": job["raw_file"],
        "settings_name": "search",
        "settings_version": 1,
        "type": "alphadia",
        "output_path": job["relative_output_path"],
        "created_at_": at + timedelta(hours=2),
        "provenance": {"kraken": "0.1.0", "software": "search", "command": job["command"]},
        **{f"metric_{index}": float(number % 97 + index) for index in range(25)},
    }
