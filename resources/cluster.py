"""The engines that run jobs, as a Dagster resource."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from pydantic import Field

from kraken_dagster.config.engines import Engine as EngineEntry
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.ports import Engine


class ClusterResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One engine for each of `engines` in instruments.yaml.

    The entries are no configuration of the resource: what a site puts into `setup` or `directives`
    from the environment may be a secret, and Dagster keeps and shows a resource's configuration.
    """

    home: str = Field(description="The folder for jobs on this machine.")

    def create_engines(self, entries: Mapping[str, EngineEntry]) -> Mapping[str, Engine]:
        return make_engines(entries, Path(self.home))
