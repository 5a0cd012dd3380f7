"""Dagster in this process: a tick of a sensor, and the runs that it asks for, on the real store."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.event_api import PartitionKeyFilter

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, RawFile, Status, Step
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.helpers import mark_stores, wait_until

SPEED = 1e6  # so that an hour of the monitor's patience is over between two ticks
SEARCH = Settings(
    name="search",
    software_type="custom",
    software="search",
    metrics_type="alphadia",
    config_params="RAW_FILE_PATH OUTPUT_PATH",
)


@dataclass
class Bench:
    """One code location and one instance of Dagster."""

    config: KrakenConfig
    store: Store
    instance: dg.DagsterInstance
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repository = build_defs(
            self.config, resource_overrides=self.overrides
        ).get_repository_def()
        mark_stores(self.services)

    @property
    def services(self) -> Services:
        engines = make_engines(self.config.engines, self.config.home)
        return Services(config=self.config, store=self.store, engines=engines)

    def tick(self, sensor: str) -> Any:
        """What the sensor answers: `run_requests`, `skip_message`."""
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.repository,
            sensor_name=sensor,
            resources=self.repository.get_top_level_resources(),
        )
        with context, partition_loading_context(dynamic_partitions_store=self.instance):
            return self.repository.get_sensor_def(sensor).evaluate_tick(context)

    def execute(
        self, job: str, file_id: str, *, tags: dict[str, str] | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        return self.repository.get_job(job).execute_in_process(
            partition_key=partition_key(file_id),
            instance=self.instance,
            raise_on_error=False,
            tags=tags,
            **options,
        )

    def range_tags(self, first: str, last: str, *, encoded: bool = False) -> dict[str, str]:
        """The tags of a backfill's run over these files and what was added between them."""
        ends = (first, last) if encoded else (partition_key(first), partition_key(last))
        names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        return dict(zip(names, ends, strict=True))

    def execute_range(
        self,
        job: str,
        first: str,
        last: str,
        *,
        encoded: bool = False,
        tags: dict[str, str] | None = None,
        **options: Any,
    ) -> dg.ExecuteInProcessResult:
        """A run over many partitions, as the daemon has a backfill done."""
        return self.repository.get_job(job).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={**self.range_tags(first, last, encoded=encoded), **(tags or {})},
            **options,
        )

    @contextmanager
    def held(self, file_id: str) -> Iterator[None]:
        """Another run works on the file."""
        with holding(self.services, file_id, step=Step.BACKUP, run_id="another run"):
            yield

    def start(self, run: dg.DagsterRun) -> None:
        """The run has begun, as its own process reports it."""
        event = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name)
        self.instance.report_dagster_event(event, run.run_id)

    def checks(self, instrument_id: str, asset: str, name: str) -> dict[str, list[Any]]:
        """The check's evaluations by partition, newest first."""
        key = dg.AssetCheckKey(dg.AssetKey([instrument_id, asset]), name)
        found: dict[str, list[Any]] = {}
        for file_id in self.instance.get_dynamic_partitions(f"{instrument_id}_raw_files"):
            records = self.instance.event_log_storage.get_asset_check_execution_history(
                key, limit=10, partition_filter=PartitionKeyFilter(key=file_id)
            )
            found[file_id] = [
                item.event.dagster_event.asset_check_evaluation_data
                for item in records
                if item.event and item.event.dagster_event
            ]
        return found

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Executes a run as a sensor has requested it."""
        return self.repository.get_job(request.job_name).execute_in_process(
            partition_key=request.partition_key,
            run_config=request.run_config,
            tags=request.tags,
            asset_selection=request.asset_selection,
            instance=self.instance,
            raise_on_error=False,
        )

    def queue(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """The run of a request, as it stands in Dagster before anything executes it."""
        key = request.partition_key
        return self.instance.create_run_for_job(
            self.repository.get_job(request.job_name),
            status=status,
            tags={**request.tags, **({} if key is None else {"dagster/partition": key})},
        )

    def requested(
        self, instrument_id: str, *, ticks: int = 4, every_s: float = 0
    ) -> list[dg.RunRequest]:
        """What the watcher requests, once the acquisitions in its folder are over."""
        for _ in range(ticks):
            if found := self.tick(f"{instrument_id}_watcher").run_requests:
                return list(found)
            time.sleep(every_s)
        return []

    def collected(self) -> list[dg.RunRequest]:
        """What `cluster_jobs` requests once a job has ended."""

        def requests() -> list[dg.RunRequest]:
            return list(self.tick("cluster_jobs").run_requests or ())

        return wait_until(requests, "a job has ended")

    def file(self, file_id: str) -> RawFile:
        return self.store.raw_files.get(file_id)

    def status(self, file_id: str) -> Status:
        return self.file(file_id).status

    def materialised(self, *key: str) -> dict[str, dict[str, Any]]:
        """The asset's materialisations, the newest of each partition: metadata as plain values."""
        records = self.instance.fetch_materializations(dg.AssetKey(key), limit=1000).records
        return {
            str(record.partition_key): {
                name: value.value for name, value in record.asset_materialization.metadata.items()
            }
            for record in reversed(records)
            if record.asset_materialization is not None
        }

    def log_of(self, result: dg.ExecuteInProcessResult | dg.DagsterRun) -> str:
        """What the run's log says."""
        return "\n".join(entry.message for entry in self.instance.all_logs(result.run_id))


def install_search(config: KrakenConfig, store: Store, *, waits_for: Path | None = None) -> None:
    """A program for Thermo and Sciex files that writes tables in AlphaDIA's form.

    Args:
        waits_for: it does so as soon as this file is there.
    """
    assert config.locations.software is not None
    program = config.locations.software.path / SEARCH.software
    program.parent.mkdir(parents=True, exist_ok=True)
    lines = ["#!/bin/sh"]
    if waits_for is not None:
        lines.append(f"until [ -e {shlex.quote(str(waits_for))} ]; do sleep 0.1; done")
    python = shlex.quote(sys.executable)
    lines.append(f'exec {python} -m kraken_dagster.simulation.search_program "$@"')
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    now = utc_now()
    store.catalog.add_settings(SEARCH, now=now)
    for scope in ("thermo", "sciex"):
        store.catalog.assign(FALLBACK_PROJECT, SEARCH, scope=scope, now=now)


def require_success(result: dg.ExecuteInProcessResult) -> None:
    """Else says which steps failed, and why."""
    failed = [event.message for event in result.all_events if event.is_failure]
    errors = [
        event.step_failure_data.error_display_string
        for event in result.all_events
        if event.is_step_failure
    ]
    assert result.success, "\n".join([*failed, *errors])


def hastened(config: KrakenConfig, **defaults: Any) -> KrakenConfig:
    """The configuration for a laboratory whose clock runs fast, with other defaults."""
    given = config.model_dump(exclude_unset=True)
    return KrakenConfig.model_validate(
        {**given, "simulation": {"speed": SPEED}, "defaults": defaults}
    )


def raw_file(folder: Path, name: str, content: bytes = b"raw" * 1000) -> Path:
    """A file of an instrument, written and left alone."""
    path = folder / name
    path.write_bytes(content)
    os.utime(path)
    return path
