"""One poll for all jobs: asks each engine once, and requests what follows from the answers."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.raw_file import RawFile, Step
from kraken_dagster.monitoring.code_locations import sign_of_life
from kraken_dagster.monitoring.defs import show_disks
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.partitions import (
    CLUSTER_JOBS_SENSOR,
    collect_job,
    name_here,
    quant_job,
)
from kraken_dagster.orchestration.pools import slots_of_all_engines
from kraken_dagster.orchestration.run_requests import (
    ensure_partitions,
    live_files,
    quant_run_config,
    request,
)
from kraken_dagster.quant.jobs.poll import Poll, poll
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def cluster_jobs_sensor(config: KrakenConfig, jobs: Sequence[Any]) -> dg.SensorDefinition:
    instruments = list(config.instruments)
    job_names = [name(item) for item in instruments for name in (quant_job, collect_job)]
    interval = min(config.instrument(item).watch_interval_s for item in instruments)

    @dg.sensor(
        name=name_here(config, CLUSTER_JOBS_SENSOR),
        jobs=jobs,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the state of all open jobs at once, and has results collected.",
    )
    def cluster_jobs(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            services = kraken.create_services(config)
            twin = sign_of_life(services, interval_s=interval)
            if twin is not None:
                context.log.error(twin)
                return skip(twin)
            found = poll(services, slots=slots_of_all_engines(context.instance, config))
            requests = _requests(context, services, found, set(job_names))
            problems = [*found.problems, *_show_disks(context.instance, services)]
        except StoreUnavailable as error:
            return skip(str(error))
        for problem in problems:
            context.log.error(problem)
        if requests:
            return dg.SensorResult(run_requests=requests)
        reported = "".join(f"; {problem}" for problem in problems)
        return skip(f"{found.open_jobs} jobs are open, nothing to collect{reported}")

    return cluster_jobs


def _show_disks(instance: dg.DagsterInstance, services: Services) -> list[str]:
    """Shows the disks; what goes wrong with that is a problem that is told, and stops no job."""
    try:
        return show_disks(instance, services)
    except Exception as error:  # noqa: BLE001
        return [f"the disks can't be shown: {type(error).__name__}: {error}"]


def _requests(
    context: dg.SensorEvaluationContext, services: Services, found: Poll, jobs: set[str]
) -> list[dg.RunRequest]:
    live = live_files(context.instance, services, jobs)
    requests: list[dg.RunRequest] = []
    wanted: list[tuple[RawFile, Step]] = [
        *((item, Step.COLLECT) for item in found.to_collect),
        *((item, Step.QUANT) for item in found.to_submit),
    ]
    for raw_file, step in wanted:
        if raw_file.id in live:
            continue
        ensure_partitions(context.instance, raw_file.instrument_id, [raw_file])
        made = _request(services, raw_file, step)
        if made is not None:
            requests.append(made)
    return requests


def _request(services: Services, raw_file: RawFile, step: Step) -> dg.RunRequest | None:
    instrument_id = raw_file.instrument_id
    if step is Step.COLLECT:
        return request(services, raw_file, step=step, job_name=collect_job(instrument_id))
    return request(
        services,
        raw_file,
        step=step,
        job_name=quant_job(instrument_id),
        run_config={"ops": quant_run_config(services, instrument_id)},
    )
