"""The jobs. Steps run in one process: a run is short, and waits for nothing."""

import dagster as dg

from kraken_dagster.catchup.defs import catchup_op
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.offsite.defs import scrub_copies_op
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    EVALUATE_JOB,
    METRICS,
    OFFSITE,
    PURGE_JOB,
    QUANT_JOB,
    QUANT_RESULT,
    RAW_FILE,
    RAW_METRICS,
    REBUILD_JOB,
    RETIRE_JOB,
    SCRUB_JOB,
    SCRUB_OFFSITE_JOB,
    archive_job,
    asset_key,
    catchup_job,
    collect_job,
    ingest_job,
    name_here,
    offsite_job,
    quant_job,
)
from kraken_dagster.quality.defs import evaluate_op
from kraken_dagster.rebuild.defs import rebuild_op
from kraken_dagster.rebuild.retire_defs import retire_op
from kraken_dagster.retention.defs import archive_op, purge_op
from kraken_dagster.retention.scrub_defs import scrub_op


def instrument_jobs(instrument_id: str):
    """`<instrument>_ingest`, `<instrument>_quant` and `<instrument>_collect`."""
    steps = {
        ingest_job(instrument_id): (RAW_FILE, BACKUP, RAW_METRICS, QUANT_JOB),
        quant_job(instrument_id): (QUANT_JOB,),
        collect_job(instrument_id): (QUANT_RESULT, METRICS),
    }
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(
                *(asset_key(instrument_id, item) for item in assets)
            ),
        )
        for name, assets in steps.items()
    ]


def uploading_job(instrument_id: str):
    """`<instrument>_offsite`: by itself, so that nothing else waits for an upload."""
    return dg.define_asset_job(
        offsite_job(instrument_id),
        selection=dg.AssetSelection.assets(asset_key(instrument_id, OFFSITE)),
    )


def archiving_job(config: KrakenConfig, instrument_id: str) -> dg.JobDefinition:
    """`<instrument>_archive`: all due files of the instrument in one run."""
    return _job_of(
        archive_op(config, instrument_id),
        name=archive_job(instrument_id),
        description=f"Moves backed up files of {instrument_id} aside.",
    )


def catching_up_job(config: KrakenConfig, instrument_id: str) -> dg.JobDefinition:
    """`<instrument>_catchup`: registers everything in bulk, and has backfills do the steps."""
    return _job_of(
        catchup_op(config, instrument_id),
        name=catchup_job(instrument_id),
        description=f"Catches up on all files that stand on {instrument_id}.",
    )


def purging_job(config: KrakenConfig) -> dg.JobDefinition:
    """`purge`: every instrument in turn, or those that the run config names."""
    return _job_of(
        purge_op(config),
        name=name_here(config, PURGE_JOB),
        description="Frees instruments' disks of what is proven to be in the backup.",
    )


def scrubbing_job(config: KrakenConfig) -> dg.JobDefinition:
    """`scrub`: the backups whose proof is the oldest."""
    return _job_of(
        scrub_op(config),
        name=name_here(config, SCRUB_JOB),
        description="Reads backups again, the oldest proof first.",
    )


def scrubbing_copies_job(config: KrakenConfig) -> dg.JobDefinition:
    """`scrub_offsite`: the copies on the S3 server; only where those are configured."""
    return _job_of(
        scrub_copies_op(config),
        name=name_here(config, SCRUB_OFFSITE_JOB),
        description="Asks the S3 server for the copies, and reads some of them back.",
    )


def rebuilding_job(config: KrakenConfig) -> dg.JobDefinition:
    """`rebuild_from_mongodb`: what `kraken rebuild` does, from Dagit."""
    return _job_of(
        rebuild_op(config),
        name=name_here(config, REBUILD_JOB),
        description="Adds to Dagster what MongoDB knows and Dagster has lost.",
    )


def retiring_job(config: KrakenConfig) -> dg.JobDefinition:
    """`retire_partitions`: files that are final and old leave Dagit."""
    return _job_of(
        retire_op(config),
        name=name_here(config, RETIRE_JOB),
        description="Keeps the number of files that Dagit shows in bounds.",
    )


def evaluating_job(config: KrakenConfig) -> dg.JobDefinition:
    """`evaluate_quality`: what `kraken quality evaluate` does, from Dagit."""
    return _job_of(
        evaluate_op(config),
        name=name_here(config, EVALUATE_JOB),
        description="Judges all quality control runs anew, by the guide sets of now.",
    )


def _job_of(op: dg.OpDefinition, *, name: str, description: str) -> dg.JobDefinition:
    @dg.job(name=name, description=description)
    def job() -> None:
        op()

    return job
