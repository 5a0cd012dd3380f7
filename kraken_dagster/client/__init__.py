"""What Kraken knows, as pandas data frames: for notebooks, over REST, without MongoDB or Dagster.

Hands on what its users need, whose notebooks keep to these names.
"""

from kraken_dagster.client.client import KrakenClient
from kraken_dagster.client.errors import RestError, RestWarning

__all__ = ["KrakenClient", "RestError", "RestWarning"]
