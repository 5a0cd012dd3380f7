"""The MongoDB store as a Dagster resource."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from kraken_dagster.runtime.open_store import open_store
from kraken_dagster.store.connection import Store


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Connects to MongoDB.

    The URI is no configuration of the resource: it may hold a password, and Dagster keeps and shows
    what a resource is configured with.
    """

    home: str = Field(description="The folder for the embedded server's data.")

    def create_store(self, named_uri: str | None) -> Store:
        """
        Raises:
            StoreUnavailable, ConfigError
        """
        return open_store(Path(self.home), named_uri)
