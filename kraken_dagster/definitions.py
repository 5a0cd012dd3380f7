"""The composition root: configuration in, Dagster definitions out."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from kraken_dagster.acquisition.defs import watcher_sensor
from kraken_dagster.alerts.defs import alerts_sensor
from kraken_dagster.backup.defs import backup_asset, raw_file_asset
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.private import be_private
from kraken_dagster.jobs import (
    archiving_job,
    catching_up_job,
    evaluating_job,
    instrument_jobs,
    purging_job,
    rebuilding_job,
    retiring_job,
    scrubbing_copies_job,
    scrubbing_job,
    uploading_job,
)
from kraken_dagster.monitoring.defs import disk_assets
from kraken_dagster.monitoring.loaded import load_and_report
from kraken_dagster.offsite.defs import offsite_asset, uploads_sensor
from kraken_dagster.orchestration.this_run import instruments_of_this_run
from kraken_dagster.orchestration.ticks import recorded_schedule, recorded_sensor
from kraken_dagster.orchestration.without_config import nothing_is_handed_on, without_config
from kraken_dagster.quality.defs import in_control_checks
from kraken_dagster.quant.cluster_jobs import cluster_jobs_sensor
from kraken_dagster.quant.defs import quant_job_asset, quant_result_asset
from kraken_dagster.quant.metrics_defs import metrics_asset
from kraken_dagster.raw_metrics.defs import raw_metrics_asset
from kraken_dagster.retention.archiving.archiver import archiver_sensor
from kraken_dagster.runtime.logs import quote_log_records
from kraken_dagster.schedules import (
    purge_schedule,
    retire_schedule,
    scrub_offsite_schedule,
    scrub_schedule,
)
from resources.cluster import ClusterResource
from resources.kraken import KrakenResource
from resources.storage import StorageResource
from resources.store import StoreResource

_ASSETS = (
    raw_file_asset,
    backup_asset,
    raw_metrics_asset,
    quant_job_asset,
    quant_result_asset,
    metrics_asset,
)
_SCHEDULES_OF_ALL = (purge_schedule, scrub_schedule, retire_schedule)
_JOBS_OF_ALL = (purging_job, scrubbing_job, rebuilding_job, retiring_job)


def build_defs(
    config: KrakenConfig,
    *,
    only: Sequence[str] | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Everything that Dagster shows of these instruments.

    Args:
        only: the instruments that are needed; else all that are configured.
        resource_overrides: stand-ins for `store`, `cluster` or `storage`, for tests.
    """
    instruments = list(config.instruments if only is None else only)
    uploads = [] if config.offsite is None else [uploading_job(item) for item in instruments]
    jobs = {item: instrument_jobs(item) for item in instruments}
    all_jobs = [job for some in jobs.values() for job in some]
    return dg.Definitions(
        assets=[
            *(factory(config, item) for item in instruments for factory in _ASSETS),
            *(offsite_asset(config, item) for item in instruments if config.offsite is not None),
            *(disk_assets(config) if instruments else []),
        ],
        asset_checks=[check for item in instruments for check in in_control_checks(config, item)],
        jobs=[*all_jobs, *uploads, *_other_jobs(config, instruments)],
        schedules=[recorded_schedule(config, item) for item in _schedules(config, instruments)],
        sensors=[recorded_sensor(config, item) for item in _sensors(config, jobs, uploads)],
        resources=_resources(config, resource_overrides or {}),
        executor=dg.in_process_executor,
    )


def _schedules(config: KrakenConfig, instruments: Sequence[str]) -> list[dg.ScheduleDefinition]:
    copies = instruments and config.offsite is not None
    return [
        *(of_all(config) for of_all in _SCHEDULES_OF_ALL if instruments),
        *([scrub_offsite_schedule(config)] if copies else []),
    ]


def _sensors(
    config: KrakenConfig, jobs: Mapping[str, Sequence[Any]], uploads: Sequence[Any]
) -> list[dg.SensorDefinition]:
    """Those of each instrument, by its jobs, and those of all."""
    all_jobs = [job for some in jobs.values() for job in some]
    return [
        *(watcher_sensor(config, item, some) for item, some in jobs.items()),
        *(archiver_sensor(config, item) for item in jobs),
        *([cluster_jobs_sensor(config, all_jobs)] if jobs else []),
        *([uploads_sensor(config, uploads)] if uploads else []),
        *([alerts_sensor(config)] if jobs else []),
    ]


def _other_jobs(config: KrakenConfig, instruments: Sequence[str]) -> list[dg.JobDefinition]:
    """The jobs that are not of one raw file."""
    copies = instruments and config.offsite is not None
    return [
        *(catching_up_job(config, item) for item in instruments),
        *(archiving_job(config, item) for item in instruments),
        *(of_all(config) for of_all in _JOBS_OF_ALL if instruments),
        *([scrubbing_copies_job(config)] if copies else []),
        *([evaluating_job(config)] if instruments and config.qc.classes else []),
    ]


def _resources(config: KrakenConfig, overrides: Mapping[str, Any]) -> dict[str, Any]:
    parts = {
        "store": StoreResource(home=str(config.home)),
        "cluster": ClusterResource(home=str(config.home)),
        "storage": StorageResource(),
        **overrides,
    }
    whole = KrakenResource(**{name: parts[name] for name in ("store", "cluster", "storage")})
    shown = {name: without_config(item) for name, item in {"kraken": whole, **parts}.items()}
    return {**shown, "io_manager": nothing_is_handed_on()}


@dg.definitions
def defs() -> dg.Definitions:
    """What `workspace.yaml` loads: the instruments of instruments.yaml."""
    be_private()  # also where it is loaded by `dagster dev`
    quote_log_records()
    config = load_and_report()
    return build_defs(config, only=instruments_of_this_run(config))
