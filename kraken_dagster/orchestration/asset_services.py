"""What all asset modules share: the services of a step, and who asked for it."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.partitions import CATCHUP, TAG_STEP
from kraken_dagster.runtime.services import Services
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


def make_services(
    config: KrakenConfig,
    store: StoreResource,
    cluster: ClusterResource,
    storage: StorageResource,
) -> Services:
    return Services(
        config=config,
        store=store.create_store(config.mongodb.uri),
        engines=cluster.create_engines(config.engines),
        lister=storage.create_lister(),
    )


def asked_by_hand(context: dg.AssetExecutionContext) -> bool:
    """Whether a person asked for this run; a sensor's runs carry its tag."""
    return TAG_STEP not in context.run.tags


def is_catchup(context: dg.AssetExecutionContext) -> bool:
    """Whether `<instrument>_catchup` has launched this run."""
    return context.run.tags.get(TAG_STEP) == CATCHUP
