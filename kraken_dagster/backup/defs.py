"""The assets `raw_file` (the acquisition is over) and `backup` (copied and verified)."""

import warnings
from collections.abc import Callable

import dagster as dg
from dagster import PreviewWarning

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.copying.progress import Progress
from kraken_dagster.model.errors import DigestMismatch
from kraken_dagster.model.raw_file import OPEN_ACQUISITION, BackupStatus, RawFile
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.orchestration.asked_by import asked_by_hand, is_catchup
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.file_runs.file_assets import file_asset
from kraken_dagster.orchestration.file_runs.file_batches import (
    Events,
    for_each_file,
    for_many_at_once,
)
from kraken_dagster.orchestration.file_runs.its_files import copies_at_once
from kraken_dagster.orchestration.file_runs.outcomes import Check, Done, Work
from kraken_dagster.orchestration.file_runs.planned import has_next, has_raw_metrics
from kraken_dagster.orchestration.metadata import (
    Metadata,
    acquisition_metadata,
    backup_metadata,
    digests_metadata,
    index_metadata,
    text,
)
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    DIGESTS_MATCH,
    INDEX_COMPLETE,
    RAW_FILE,
    asset_key,
    copy_pool,
    op_name,
    raw_files,
)
from kraken_dagster.orchestration.pools import pool_limit
from kraken_dagster.orchestration.run_config import backup_config, open_config, require_understood
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource

_CHECKS = {
    DIGESTS_MATCH: "What the backup's disk gives back is what was read of the source.",
    INDEX_COMPLETE: "The backup was read to the end of a complete index, and what that points to "
    "is there; told by `raw_metrics`.",
}


def raw_file_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    key, backup_key = asset_key(instrument_id, RAW_FILE), asset_key(instrument_id, BACKUP)

    def acquired_in(context: dg.AssetExecutionContext, services: Services) -> Work:
        def acquired(raw_file_id: str) -> Done:
            record = services.store.raw_files.current(raw_file_id)
            if record.status in OPEN_ACQUISITION:
                reported = what_they_wait_for(services, [record])[record.id]
                reason = f"The acquisition is not over yet: {reported}"
                planned = has_next(context, key)  # with the backup comes its check
                checks = _nothing_compared(record, reason) if planned else ()
                return Done(reason, unusual=True, checks=checks, checks_of=backup_key)
            return Done(f"{record.id!r}: {record.status}", metadata=acquisition_metadata(record))

        return acquired

    return file_asset(
        config,
        instrument_id,
        RAW_FILE,
        acquired_in,
        description="A raw file whose acquisition is over.",
        kinds=[config.instrument(instrument_id).type.value],
    )


def _spec(instrument_id: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        asset_key(instrument_id, BACKUP),
        deps=[asset_key(instrument_id, RAW_FILE)],
        group_name=instrument_id,
        skippable=True,
        description="The raw file's verified copy on the backup store.",
    )


def backup_asset(config: KrakenConfig, instrument_id: str) -> dg.AssetsDefinition:
    defaults = config.instrument(instrument_id)
    partitions = raw_files(instrument_id)
    key = asset_key(instrument_id, BACKUP)

    BackupConfig = open_config(BACKUP, defaults)

    @dg.multi_asset(
        name=op_name(instrument_id, BACKUP),
        specs=[_spec(instrument_id)],
        check_specs=_checks(key, partitions),
        partitions_def=partitions,
        can_subset=True,
        pool=copy_pool(instrument_id),
    )
    def backup(
        context: dg.AssetExecutionContext,
        config: BackupConfig,  # type: ignore[valid-type]
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Events:
        require_understood(context, kraken_config)
        options = BackupOptions(**backup_config(config).model_dump())
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        work = _with_failed_check(_back_up_one(context, key, services, options))
        slots = pool_limit(context.instance, copy_pool(instrument_id), default=defaults.copy_slots)
        threads = copies_at_once(context, slots=slots, threads=defaults.catchup_threads)
        yield from for_each_file(context, key, services, work, threads=threads)

    kraken_config = config
    return for_many_at_once(backup)


def _back_up_one(
    context: dg.AssetExecutionContext, key: dg.AssetKey, services: Services, options: BackupOptions
) -> Work:
    single = len(context.partition_keys) == 1
    decides = is_catchup(context) and not has_next(context, key)
    reads = has_raw_metrics(context, key.path[0])

    def work(raw_file_id: str) -> Done:
        with dagster_errors():
            outcome = back_up(
                services,
                raw_file_id,
                run_id=context.run.run_id,
                options=options,
                by_hand=asked_by_hand(context),
                decides=decides,
                on_progress=_progress_to(context, key) if single else lambda _: None,
            )
        return _done(outcome, reads=reads)

    return work


def _done(outcome: BackupOutcome, *, reads: bool) -> Done:
    """`reads`: a later step of this run reads the backup, and tells of its index."""
    if not outcome.done:
        checks = _nothing_compared(outcome.raw_file, outcome.reason)
        return Done(f"No backup was made: {outcome.reason}", checks=checks)
    digests = Check(DIGESTS_MATCH, True, digests_metadata(outcome.facts))
    return Done(
        f"{outcome.raw_file.id!r}: {outcome.reason}",
        metadata=_backup_metadata(outcome),
        checks=(digests,) if reads else (digests, _index_as_known(outcome.raw_file)),
    )


def _index_as_known(record: RawFile) -> Check:
    """What was found when the raw file was last read."""
    state = record.raw_metrics
    reported = "it is read by `raw_metrics`" if state is None else state.in_words
    return Check(INDEX_COMPLETE, state is None or state.is_sound, index_metadata(state, reported))


def _nothing_compared(record: RawFile, reason: str) -> tuple[Check, ...]:
    """A check that was planned and told nothing would be shown as one that hasn't passed."""
    damaged = record.backup_status is BackupStatus.COPYING_FAILED
    known = "the backup failed, or is damaged; " if damaged else ""
    reported = f"{known}nothing was compared: {reason}"
    digests = Check(DIGESTS_MATCH, not damaged, {"what was found": text(reported)})
    return digests, _index_as_known(record)


def _with_failed_check(backed_up: Work) -> Work:
    """A backup with other bytes than recorded fails its check, too."""

    def work(raw_file_id: str) -> Done:
        try:
            return backed_up(raw_file_id)
        except dg.Failure as failure:
            if not isinstance(failure.__cause__, DigestMismatch):
                raise
            check = Check(DIGESTS_MATCH, False, dict(failure.metadata))
            return Done(str(failure.description), checks=(check,), failure=failure)

    return work


def _checks(key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Checks by partition are a preview in Dagster 1.13, and every load would say so.
        warnings.simplefilter("ignore", category=PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, partitions_def=partitions, description=description)
            for name, description in _CHECKS.items()
        ]


def _backup_metadata(outcome: BackupOutcome) -> Metadata:
    """What MongoDB knows of the backup too, and what only this run can tell."""
    rate = outcome.copied_bytes / 1e6 / outcome.seconds if outcome.seconds else 0.0
    metadata = {
        **backup_metadata(
            outcome.raw_file,
            outcome.facts,
            how=outcome.reason,
            manifest=outcome.manifest,
            instrument_facts=outcome.instrument_facts,
        ),
        "copied bytes": dg.MetadataValue.int(outcome.copied_bytes),
        "proven without a copy": dg.MetadataValue.int(outcome.proven),
        "seconds": dg.MetadataValue.float(round(outcome.seconds, 3)),
        "MB/s": dg.MetadataValue.float(round(rate, 3)),
    }
    if outcome.set_aside:
        metadata["set aside"] = dg.MetadataValue.json([str(path) for path in outcome.set_aside])
    return metadata


def _progress_to(context: dg.AssetExecutionContext, key: dg.AssetKey) -> Callable[[Progress], None]:
    """Shows a running copy in the run's log and, as observations, on the asset's page."""

    def show(progress: Progress) -> None:
        left = progress.seconds_left
        rest = "" if left is None else f", {left:.0f} s left"
        context.log.info(
            f"{progress.done_bytes} of {progress.total_bytes} bytes, "
            f"{progress.megabytes_per_s:.1f} MB/s{rest}"
        )
        context.log_event(
            dg.AssetObservation(
                asset_key=key,
                partition=context.partition_key,
                metadata={
                    "bytes so far": progress.done_bytes,
                    "bytes in all": progress.total_bytes,
                    "MB/s": round(progress.megabytes_per_s, 3),
                    "seconds left": -1.0 if left is None else round(left, 1),
                },
            )
        )

    return show
