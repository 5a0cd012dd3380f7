"""The op of `<instrument>_catchup`: registers everything, and launches backfills of what is due."""

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
from pydantic import Field

from kraken_dagster.catchup.catchup import CatchupOptions, Wave, decide_on, due
from kraken_dagster.catchup.register import register_all
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.orchestration.dagster_internals import (
    EXTERNALLY_MANAGED_ASSETS_TAG,
    PartitionBackfill,
    make_new_backfill_id,
)
from kraken_dagster.orchestration.failures import NothingToDo, dagster_errors, failure_of_many
from kraken_dagster.orchestration.file_runs.run_requests import live_runs
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    CATCHUP,
    METRICS,
    QUANT_JOB,
    QUANT_RESULT,
    RAW_FILE,
    RAW_METRICS,
    TAG_INSTRUMENT,
    TAG_STEP,
    add_partitions,
    asset_key,
    collect_job,
    ingest_job,
    op_name,
    quant_job,
    stand_together,
)
from kraken_dagster.runtime.exclusive_runs import at_work, catchup_of
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource

# The second has Dagster write no event of its own for each asset of each file, neither when it
# creates a run nor for an output: the steps write all that there is to be told.
CATCHUP_TAGS = {TAG_STEP: CATCHUP, EXTERNALLY_MANAGED_ASSETS_TAG: "true"}


def catchup_op(config: KrakenConfig, instrument_id: str) -> dg.OpDefinition:
    kraken_config, defaults = config, config.instrument(instrument_id)

    class CatchupConfig(dg.Config):
        """`limit`: this many files, 0 for all; `files_per_run`: so many to a backfill;
        `raw_metrics`: also read raw files that were backed up before, and were not read yet."""

        consider_old_files_acquired: bool = True
        debug_max_file_age_in_hours: float = defaults.debug_max_file_age_in_hours
        output_exists_mode: OutputExistsMode = OutputExistsMode.ASSOCIATE
        newest_first: bool = False
        limit: int = Field(0, ge=0)
        raw_metrics: bool = False
        files_per_run: int = Field(10_000, ge=1)

    @dg.op(
        name=op_name(instrument_id, CATCHUP),
        out=dg.Out(dg.Nothing),
        description=f"Registers what stands on {instrument_id}, and launches backfills of it.",
    )
    def catch_up(
        context: dg.OpExecutionContext,
        config: CatchupConfig,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> None:
        options = CatchupOptions(**config.model_dump(exclude={"files_per_run"}))
        try:
            with dagster_errors():
                services = kraken.create_services(kraken_config)
                failed, of = _catch_up(
                    context, services, instrument_id, options, config.files_per_run
                )
        except NothingToDo as reason:
            context.log.warning(str(reason))
            return
        if failed:
            raise failure_of_many(failed, of=of)

    return catch_up


def _catch_up(
    context: dg.OpExecutionContext,
    services: Services,
    instrument_id: str,
    options: CatchupOptions,
    files_per_run: int,
) -> tuple[list[tuple[str, str]], int]:
    """What failed of the files that were decided on, and how many were."""
    exclusive_run, lease_s = catchup_of(instrument_id), services.instrument(instrument_id).lease_s
    with at_work(services, exclusive_run, run_id=context.run.run_id, lease_s=lease_s):
        live = live_runs(context.instance, services, _jobs(instrument_id)).files
        waves, to_decide = _scan(context, services, instrument_id, options, live)
        failed = _decide(context, services, to_decide)
        for wave in waves:
            _launch(context, instrument_id, wave, options, files_per_run)
    return failed, len(to_decide)


def _jobs(instrument_id: str) -> set[str]:
    return {ingest_job(instrument_id), quant_job(instrument_id), collect_job(instrument_id)}


def _scan(
    context: dg.OpExecutionContext,
    services: Services,
    instrument_id: str,
    options: CatchupOptions,
    live: Collection[str],
) -> tuple[list[Wave], list[RawFile]]:
    found = register_all(services, instrument_id, options)
    for problem in found.problems:
        context.log.warning(problem)
    waves, to_decide = due(services, instrument_id, options, now=services.now(), live=live)
    metadata = {
        "in the folder": found.in_folder,
        "in Backup/": found.in_backup_folder,
        "registered": len(found.registered),
        "still being acquired": found.still_open,
        "due": sum(len(wave.files) for wave in waves),
        "to be decided on": len(to_decide),
    }
    context.log.info(", ".join(f"{name}: {count}" for name, count in metadata.items()))
    context.add_output_metadata(metadata)
    return waves, to_decide


def _decide(
    context: dg.OpExecutionContext, services: Services, files: Sequence[RawFile]
) -> list[tuple[str, str]]:
    """Decides what is run on files that are backed up; pairs of raw file id and what failed."""
    if not files:
        return []
    run_id = context.run.run_id

    def one(raw_file: RawFile) -> tuple[str, str] | None:
        try:
            decide_on(services, raw_file.id, run_id=run_id)
        except StoreError:
            raise
        except KrakenError as error:
            return raw_file.id, str(error)
        return None

    threads = services.instrument(files[0].instrument_id).catchup_threads
    with ThreadPoolExecutor(max_workers=threads) as executor:
        failed = [item for item in executor.map(one, files) if item is not None]
    context.log.info(f"{len(files)} files that are backed up were decided on")
    return failed


def _launch(
    context: dg.OpExecutionContext,
    instrument_id: str,
    wave: Wave,
    options: CatchupOptions,
    files_per_run: int,
) -> None:
    """A backfill for each so many files, of the assets that are due on them."""
    assets = [*((RAW_FILE, BACKUP, RAW_METRICS) if wave.backup else ())]
    assets += [*((RAW_METRICS,) if wave.raw_metrics else ())]
    assets += [*((QUANT_JOB, QUANT_RESULT, METRICS) if wave.result else ())]
    mode = {"output_exists_mode": options.output_exists_mode.value}
    run_config = (
        {"ops": {op_name(instrument_id, QUANT_JOB): {"config": mode}}} if wave.result else {}
    )
    instance = context.instance
    for start in range(0, len(wave.files), files_per_run):
        keys = [partition_key(item.id) for item in wave.files[start : start + files_per_run]]
        add_partitions(instance, instrument_id, keys)
        stand_together(instance, instrument_id, keys)
        backfill_id = make_new_backfill_id()
        last = min(start + files_per_run, len(wave.files))
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id=backfill_id,
                asset_graph=context.repository_def.asset_graph,
                partition_names=keys,
                asset_selection=[asset_key(instrument_id, item) for item in assets],
                backfill_timestamp=time.time(),
                tags={**CATCHUP_TAGS, TAG_INSTRUMENT: instrument_id},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=f"{instrument_id}: catching up, {start + 1} to {last}",
                description=f"{', '.join(assets)} of {len(keys)} files",
                run_config=run_config,
            )
        )
        context.log.info(f"backfill {backfill_id}: {', '.join(assets)} of {len(keys)} files")
