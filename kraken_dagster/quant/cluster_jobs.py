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
from kraken_dagster.orchestration.file_runs.run_groups import in_groups, request_run
from kraken_dagster.orchestration.file_runs.run_requests import (
    live_runs,
    quant_run_config,
)
from kraken_dagster.orchestration.partitions import (
    CLUSTER_JOBS_SENSOR,
    collect_job,
    name_here,
    quant_job,
)
from kraken_dagster.orchestration.pools import slots_of_all_engines
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
    live = live_runs(context.instance, services, jobs)
    wanted: dict[tuple[str, Step], list[RawFile]] = {}
    for step, files in ((Step.COLLECT, found.to_collect), (Step.QUANT, found.to_submit)):
        for item in files:
            if item.id not in live.files:
                wanted.setdefault((item.instrument_id, step), []).append(item)
    requests = []
    for (instrument_id, step), some in wanted.items():
        many_from = services.instrument(instrument_id).files_per_run_from
        for files in in_groups(some, many_from=many_from, fixed=live.fixed):
            requests.append(_request(context.instance, services, files, step))
    return [item for item in requests if item is not None]


def _request(
    instance: dg.DagsterInstance, services: Services, files: Sequence[RawFile], step: Step
) -> dg.RunRequest | None:
    """A run for files of one instrument."""
    instrument_id = files[0].instrument_id
    submits = step is Step.QUANT
    job_name = quant_job(instrument_id) if submits else collect_job(instrument_id)
    run_config = {"ops": quant_run_config(services, instrument_id)} if submits else None
    return request_run(
        instance, services, files, step=step, job_name=job_name, run_config=run_config
    )
