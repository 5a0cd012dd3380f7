"""What assets, sensors and ops take: MongoDB, the engines and the folders, as one resource."""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services
from resources.cluster import ClusterResource
from resources.storage import StorageResource
from resources.store import StoreResource


class KrakenResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Made of `store`, `cluster` and `storage`, each of which a test may give in its own form."""

    store: dg.ResourceDependency[StoreResource]
    cluster: dg.ResourceDependency[ClusterResource]
    storage: dg.ResourceDependency[StorageResource]

    def create_services(self, config: KrakenConfig) -> Services:
        """What the code of the steps works with; connects to MongoDB.

        Raises:
            StoreUnavailable, ConfigError
        """
        return Services(
            config=config,
            store=self.store.create_store(config.mongodb.uri),
            engines=self.cluster.create_engines(config.engines),
            lister=self.storage.create_lister(),
        )
