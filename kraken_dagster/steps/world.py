"""What a step works with: configuration, store, engines, and the clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kraken_dagster.clients.listing import list_folder
from kraken_dagster.clients.store.connection import Store
from kraken_dagster.domain.config import InstrumentEntry, KrakenConfig
from kraken_dagster.domain.engines import SlurmEngine
from kraken_dagster.domain.ports import Engine, FolderLister
from kraken_dagster.domain.quant import QuantJob
from kraken_dagster.domain.raw_file import RawFile
from kraken_dagster.domain.vendors import RULES, VendorRules, safe_relative


def utc_now() -> datetime:
    """Now, in UTC, to the millisecond: what MongoDB keeps of a date."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True)
class World:
    config: KrakenConfig
    store: Store
    engines: Mapping[str, Engine]
    lister: FolderLister = list_folder
    now: Callable[[], datetime] = field(default=utc_now)

    def instrument(self, instrument_id: str) -> InstrumentEntry:
        return self.config.instrument(instrument_id)

    def instrument_folder(self, instrument_id: str) -> Path:
        path = self.instrument(instrument_id).path
        assert path is not None  # `KrakenConfig.instrument` sets it
        return path

    def rules(self, instrument_id: str) -> VendorRules:
        return RULES[self.instrument(instrument_id).type]

    def backup_folder(self, raw_file: RawFile) -> Path:
        """The folder here that holds the raw file's backup under its id."""
        root = self.config.locations.backup.path
        return root / raw_file.instrument_id / raw_file.year_month

    def backup_base_path(self, raw_file: RawFile) -> str:
        """The same folder as the cluster sees it."""
        root = self.config.locations.backup.cluster_path
        return f"{root}/{raw_file.instrument_id}/{raw_file.year_month}"

    def on_cluster(self, engine_name: str) -> bool:
        """Whether this engine's jobs run elsewhere, and see the roots under other paths."""
        return isinstance(self.config.engines[engine_name], SlurmEngine)

    def result_folder(self, job: QuantJob) -> Path:
        """The job's output folder as it is seen here."""
        return self.config.locations.output.path / safe_relative(job.relative_output_path)
