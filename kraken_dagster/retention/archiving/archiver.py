"""The archiver of one instrument: has its backed up files archived, all due ones in one run."""

import dagster as dg

from kraken_dagster.acquisition.identity import require_settled
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import InstrumentInDoubt, StoreUnavailable
from kraken_dagster.model.files.dates import local
from kraken_dagster.monitoring.waiting_rules import move_due_at
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.file_runs.run_requests import (
    ensure_partitions,
    request_exclusive_run,
)
from kraken_dagster.orchestration.partitions import TAG_INSTRUMENT, archive_job, op_name
from kraken_dagster.retention.archiving.archive import ArchiveOptions, due_for_move
from kraken_dagster.retention.archiving.compare import due_for_comparison
from kraken_dagster.retention.in_the_way import in_the_way
from kraken_dagster.runtime.exclusive_runs import archive_of
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def archiver_sensor(config: KrakenConfig, instrument_id: str) -> dg.SensorDefinition:
    instrument = config.instrument(instrument_id)

    @dg.sensor(
        name=f"{instrument_id}_archiver",
        job_name=archive_job(instrument_id),
        minimum_interval_seconds=instrument.watch_interval_s,
        default_status=dg.DefaultSensorStatus(instrument.sensors.upper()),
        description=f"Has backed up files of {instrument_id} moved into its Backup folder.",
        tags={TAG_INSTRUMENT: instrument_id},
    )
    def archiver(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.RunRequest | dg.SkipReason:
        options = ArchiveOptions.of(instrument)
        try:
            services = kraken.create_services(config)
            require_settled(services, instrument_id)
            due = due_for_comparison(services, instrument_id, services.now())
            due += due_for_move(services, instrument_id, services.now())
            if not due and options.off is not None:
                return skip(f"nothing is archived: {options.off}")
            if not due:
                reported = _next(services, instrument_id) + _refusals(services, instrument_id)
                return skip(f"no file is due{reported}")
            ensure_partitions(context.instance, instrument_id, due)
            return request_exclusive_run(
                context.instance,
                services,
                exclusive_run=archive_of(instrument_id),
                job_name=archive_job(instrument_id),
                lease_s=instrument.lease_s,
                run_config={"ops": {op_name(instrument_id, "archive"): {"config": vars(options)}}},
                tags={TAG_INSTRUMENT: instrument_id},
            )
        except (InstrumentInDoubt, StoreUnavailable) as error:
            return skip(str(error))

    return archiver


def _next(services: Services, instrument_id: str) -> str:
    """When the next file is due, of those that nothing stands in the way of."""
    now, instrument = services.now(), services.instrument(instrument_id)
    found = services.store.retention.to_move(
        instrument_id, now=now, failed_too=instrument.move_failed
    )
    times = [move_due_at(item, instrument=instrument, now=now) for item in found]
    later = [time for time in times if time is not None and time > now]
    return f"; {len(later)} wait, the next until {local(min(later), now=now)}" if later else ""


def _refusals(services: Services, instrument_id: str) -> str:
    found = [item for item in in_the_way(services, instrument_id) if item.move is not None]
    if not found or found[0].move is None:
        return ""
    first = found[0]
    return f"; {len(found)} can't be moved, {first.raw_file.id!r}: {first.move.in_words()}"
