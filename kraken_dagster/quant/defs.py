"""The assets `quant_job` (jobs are submitted) and `quant_result` (jobs have ended)."""

from collections.abc import Callable, Sequence
from functools import partial

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.asked_by import asked_by_hand
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.file_runs.file_assets import file_asset
from kraken_dagster.orchestration.file_runs.file_batches import (
    Events,
    for_each_file,
    for_many_at_once,
)
from kraken_dagster.orchestration.file_runs.outcomes import Done, Work
from kraken_dagster.orchestration.metadata import Metadata, ended_metadata, submitted_metadata
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    QUANT_JOB,
    QUANT_RESULT,
    asset_key,
    raw_files,
)
from kraken_dagster.orchestration.pools import slots_of_all_engines
from kraken_dagster.orchestration.run_config import open_config, quant_config, require_understood
from kraken_dagster.quant.collect import JobResult, results_of
from kraken_dagster.quant.decide import QuantOutcome
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def _submitted(submit: Callable[[str], QuantOutcome], raw_file_id: str) -> Done:
    outcome = submit(raw_file_id)
    jobs, reason = outcome.submitted, outcome.reason
    metadata = submitted_metadata(jobs, state=reason) if jobs else None
    return Done(f"{outcome.raw_file.id!r}: {reason}", metadata=metadata)


def quant_job_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    defaults = config.instrument(instrument_id)

    QuantOptions = open_config(QUANT_JOB, defaults)
    key = asset_key(instrument_id, QUANT_JOB)

    @dg.asset(
        key=key,
        deps=[asset_key(instrument_id, BACKUP)],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description="The processing jobs of a raw file, one for each settings that apply.",
    )
    def quant_job(
        context: dg.AssetExecutionContext,
        config: QuantOptions,  # type: ignore[valid-type]
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Events:
        require_understood(context, kraken_config)
        options = quant_config(config)
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        slots = slots_of_all_engines(context.instance, kraken_config)

        submit = partial(
            submit_jobs,
            services,
            run_id=context.run.run_id,
            slots=slots,
            output_exists_mode=options.output_exists_mode,
            no_cluster=options.debug_no_cluster_ssh,
            by_hand=asked_by_hand(context),
        )
        yield from for_each_file(
            context, key, services, partial(_submitted, submit), threads=defaults.catchup_threads
        )

    kraken_config = config
    return for_many_at_once(quant_job)


def quant_result_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    return file_asset(
        config,
        instrument_id,
        QUANT_RESULT,
        _ended_in,
        after=QUANT_JOB,
        description="What the jobs left in the output folder.",
    )


def _ended_in(_context: dg.AssetExecutionContext, services: Services) -> Work:
    def ended(raw_file_id: str) -> Done:
        results, missing = results_of(services, raw_file_id)
        reason = f"Not everything is there yet: {missing}" if missing else "all jobs have ended"
        metadata = _results_metadata(results) if results else None
        return Done(reason, metadata=metadata, unusual=bool(missing))

    return ended


def _results_metadata(results: Sequence[JobResult]) -> Metadata:
    return {
        **ended_metadata([item.job for item in results]),
        "files": dg.MetadataValue.int(sum(item.files for item in results)),
        "size bytes": dg.MetadataValue.int(sum(item.size_bytes for item in results)),
    }
