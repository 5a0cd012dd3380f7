"""The asset of a step that takes no options: one definition for all of them."""

from collections.abc import Callable, Collection

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.file_runs.file_batches import (
    Events,
    for_each_file,
    for_many_at_once,
)
from kraken_dagster.orchestration.file_runs.outcomes import Work
from kraken_dagster.orchestration.metadata import Metadata
from kraken_dagster.orchestration.partitions import asset_key, raw_files
from kraken_dagster.orchestration.run_config import require_understood
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource

# Of a run: what is done on each of its files.
WorkOf = Callable[[dg.AssetExecutionContext, Services], Work]


def file_asset(
    config: KrakenConfig,
    instrument_id: str,
    name: str,
    work_of: WorkOf,
    *,
    description: str,
    after: str | None = None,
    kinds: Collection[str] = (),
    pool: str | None = None,
    at_once: int | None = None,
    metadata: Metadata | None = None,
) -> dg.AssetsDefinition:
    """The asset `[instrument_id, name]`, a partition for each raw file, `after` another one.

    A run over many files works on `at_once` of them, or on `catchup_threads`, at a time.
    """
    key = asset_key(instrument_id, name)

    @dg.asset(
        key=key,
        deps=[] if after is None else [asset_key(instrument_id, after)],
        group_name=instrument_id,
        partitions_def=raw_files(instrument_id),
        output_required=False,
        description=description,
        kinds=set(kinds),
        pool=pool,
        metadata=metadata,
    )
    def of_each_file(
        context: dg.AssetExecutionContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Events:
        threads = at_once or config.instrument(instrument_id).catchup_threads
        services = _services(context, kraken, config)
        work = work_of(context, services)
        yield from for_each_file(context, key, services, work, threads=threads)

    return for_many_at_once(of_each_file)


def _services(
    context: dg.AssetExecutionContext, kraken: KrakenResource, config: KrakenConfig
) -> Services:
    require_understood(context, config)
    with dagster_errors():
        return kraken.create_services(config)
