"""What the tests of rebuilding share: Dagster's storage on the disk, lost and made anew."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.partitions import ASSETS, raw_files
from kraken_dagster.rebuild.defs import Rebuilt, rebuild_instrument
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import Bench, raw_file
from kraken_dagster_tests.support.laboratory import SHIPPED_DAGSTER_YAML

INSTRUMENT = "thermo1"


@contextmanager
def new_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster with SQLite below a new folder, as `kraken up` has it."""
    folder.mkdir()
    shutil.copyfile(SHIPPED_DAGSTER_YAML, folder / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@dataclass
class Rebuilding(Bench):
    """A bench whose Dagster can lose everything."""

    @classmethod
    def on(cls, config: KrakenConfig, store: Store, instance: dg.DagsterInstance) -> "Rebuilding":
        return cls(config, store, instance)

    def with_instance(self, instance: dg.DagsterInstance) -> "Rebuilding":
        return Rebuilding(self.config, self.store, instance)

    def rebuild(self, instrument_id: str = INSTRUMENT) -> Rebuilt:
        return rebuild_instrument(self.services, self.instance, instrument_id)

    def back_up(self, *names: str) -> None:
        for name in names:
            raw_file(self.services.instrument_folder(INSTRUMENT), name)
        for request in self.requested(INSTRUMENT):
            assert self.run(request).success

    def process(self, *names: str) -> None:
        self.back_up(*names)
        while any(self.status(name) is not Status.DONE for name in names):
            for request in self.collected():
                assert self.run(request).success

    def partitions(self, instrument_id: str = INSTRUMENT) -> list[str]:
        name = raw_files(instrument_id).name
        assert name is not None
        return sorted(self.instance.get_dynamic_partitions(name))

    def shown(self, key: str) -> dict[str, dict[str, Any]]:
        """The metadata of the newest materialisation of each asset of a partition."""
        found = {asset: self.materialised(INSTRUMENT, asset).get(key) for asset in ASSETS}
        return {asset: metadata for asset, metadata in found.items() if metadata is not None}

    def counts(self) -> dict[str, int]:
        """How many materialisations each asset has."""
        return {
            asset: len(
                self.instance.fetch_materializations(
                    dg.AssetKey([INSTRUMENT, asset]), limit=1000
                ).records
            )
            for asset in ASSETS
        }

    def checks(self, key: str) -> list[bool]:
        """Whether the backup's checks passed, newest first."""
        check = dg.AssetCheckKey(dg.AssetKey([INSTRUMENT, "backup"]), "digests_match")
        storage = self.instance.event_log_storage
        found = [
            record.event.dagster_event.asset_check_evaluation_data
            for record in storage.get_asset_check_execution_history(check, limit=1000)
        ]
        return [item.passed for item in found if item.partition == key]

    def observed(self, key: str) -> list[dict[str, Any]]:
        """The observations of the raw file, newest first."""
        records = self.instance.fetch_observations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey([INSTRUMENT, "raw_file"]), asset_partitions=[key]
            ),
            limit=100,
        ).records
        return [
            {name: value.value for name, value in item.asset_observation.metadata.items()}
            for item in records
        ]
