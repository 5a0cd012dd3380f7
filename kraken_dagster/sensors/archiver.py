"""The archiver of one instrument: has its backed up files moved aside, all due ones in one run."""

import dagster as dg

from kraken_dagster.assets.common import make_world
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.errors import StoreUnavailable
from kraken_dagster.partitions import TAG_INSTRUMENT, archive_job, op_name
from kraken_dagster.sensors.runs import ensure_partitions, request_errand
from kraken_dagster.steps.archive import ArchiveOptions, due_for_comparison, due_for_move
from kraken_dagster.steps.errands import archive_of
from kraken_dagster.steps.world import World
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def archiver_sensor(config: KrakenConfig, instrument_id: str) -> dg.SensorDefinition:
    instrument = config.instrument(instrument_id)

    @dg.sensor(
        name=f"{instrument_id}_archiver",
        job_name=archive_job(instrument_id),
        minimum_interval_seconds=instrument.watch_interval_s,
        default_status=dg.DefaultSensorStatus(instrument.sensors.upper()),
        description=f"Has backed up files of {instrument_id} moved into its Backup folder.",
    )
    def archiver(
        context: dg.SensorEvaluationContext,
        store: dg.ResourceParam[StoreResource],
        cluster: dg.ResourceParam[ClusterResource],
        storage: dg.ResourceParam[StorageResource],
    ) -> dg.RunRequest | dg.SkipReason:
        options = ArchiveOptions.of(instrument)
        try:
            world = make_world(config, store, cluster, storage)
            due = due_for_comparison(world, instrument_id, world.now())
            due += due_for_move(world, instrument_id, world.now())
            if not due and options.off is not None:
                return dg.SkipReason(f"nothing is moved aside: {options.off}")
            if not due:
                return dg.SkipReason(f"no file is due{_troubles(world, instrument_id)}")
            ensure_partitions(context.instance, instrument_id, due)
            return request_errand(
                context.instance,
                world,
                errand=archive_of(instrument_id),
                job_name=archive_job(instrument_id),
                lease_s=instrument.lease_s,
                run_config={"ops": {op_name(instrument_id, "archive"): {"config": vars(options)}}},
                tags={TAG_INSTRUMENT: instrument_id},
            )
        except StoreUnavailable as error:
            return dg.SkipReason(str(error))

    return archiver


def _troubles(world: World, instrument_id: str) -> str:
    count, one = world.store.retention.unmovable(instrument_id)
    if one is None:
        return ""
    why = one.status_details if one.archive is None else one.archive.in_words()
    return f"; {count} can't be moved, {one.id!r}: {why}"
