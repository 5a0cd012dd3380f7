"""The engines that run jobs, as a Dagster resource."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from kraken_dagster.clients.local_jobs import LocalJobs
from kraken_dagster.domain.ports import Engine


class ClusterResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One engine for each name in `engines` of instruments.yaml."""

    engine_names: list[str] = Field(description="The names of the engines.")
    home: str = Field(description="The folder for jobs on this machine.")

    def create_engines(self) -> dict[str, Engine]:
        return {name: LocalJobs(Path(self.home) / "jobs" / name) for name in self.engine_names}
