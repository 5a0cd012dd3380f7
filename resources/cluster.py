"""The engines that run jobs, as a Dagster resource."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, TypeAdapter

from kraken_dagster.clients.engines import make_engines
from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.engines import Engine as EngineEntry
from kraken_dagster.domain.ports import Engine

_ENTRIES = TypeAdapter(dict[str, EngineEntry])


class ClusterResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One engine for each of `engines` in instruments.yaml."""

    engines: dict[str, Any] = Field(description="The section `engines`.")
    home: str = Field(description="The folder for jobs on this machine.")

    @classmethod
    def of(cls, config: KrakenConfig) -> "ClusterResource":
        return cls(engines=_ENTRIES.dump_python(config.engines, mode="json"), home=str(config.home))

    def create_engines(self) -> dict[str, Engine]:
        return make_engines(_ENTRIES.validate_python(self.engines), Path(self.home))
