"""The op that takes out of Dagit the files that are final and old, so that it stays fast."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.files.file_ids import partition_key, raw_file_id_of
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.partitions import partitions_of, raw_files
from kraken_dagster.rebuild.partition_window import to_retire
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource


def retire(services: Services, instance: dg.DagsterInstance, instrument_id: str) -> int:
    """Deletes the partitions that nobody needs; how many. MongoDB keeps the files.

    Raises:
        StoreUnavailable
    """
    if services.instrument(instrument_id).partition_window_days <= 0:
        return 0
    name = raw_files(instrument_id).name
    assert name is not None
    ids = [raw_file_id_of(key) for key in partitions_of(instance, instrument_id)]
    retired = 0
    for some in to_retire(services, instrument_id, ids):
        for raw_file_id in some:
            instance.delete_dynamic_partition(name, partition_key(raw_file_id))
        retired += len(some)
    return retired


def retire_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    @dg.op(
        name="retire_old_partitions",
        out=dg.Out(dg.Nothing),
        description="Takes files out of Dagit that are final and older than partition_window_days.",
    )
    def retire_partitions(
        context: dg.OpExecutionContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> None:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        for instrument_id in kraken_config.instruments:
            with dagster_errors():
                count = retire(services, context.instance, instrument_id)
            days = services.instrument(instrument_id).partition_window_days
            reported = (
                f"{count} files retired, window {days:g} days" if days > 0 else "no window is set"
            )
            context.log.info(f"{instrument_id}: {reported}")

    return retire_partitions
