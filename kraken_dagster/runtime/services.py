"""What a step works with: configuration, store, engines, and the clock."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.fs.private import group_id
from kraken_dagster.model.errors import ConfigError, UnsafePath
from kraken_dagster.model.files.file_ids import collision_flag, raw_file_id
from kraken_dagster.model.files.vendors import RULES, VendorRules, safe_relative
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.ports import Engine, FolderLister
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.settings import Settings
from kraken_dagster.store.connection import Store


def utc_now() -> datetime:
    """Now, in UTC, to the millisecond: what MongoDB keeps of a date."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def backup_folder_below_root(
    base_path: str | None, root: str, instrument_id: str
) -> PurePosixPath | None:
    """A recorded `backup_base_path` relative to the backup root; None where it tells nothing.

    AlphaKraken's newer versions record it relative to the root, older ones not at all. One below
    another root was recorded before the cluster's path was changed: what begins with the
    instrument's month is the same as then.
    """
    if not base_path:
        return None
    below = base_path.removeprefix(f"{root.rstrip('/')}/").rstrip("/")
    if below.startswith("/"):
        month = re.search(rf".*/({re.escape(instrument_id)}/\d{{4}}_\d\d(?:/.*)?)$", below)
        below = "" if month is None else month[1]
    try:
        return safe_relative(below)
    except UnsafePath:  # none of ours: the rule of the folders holds
        return None


@dataclass(frozen=True)
class Services:
    config: KrakenConfig
    store: Store
    engines: Mapping[str, Engine]
    lister: FolderLister = list_folder
    now: Callable[[], datetime] = field(default=utc_now)
    _instruments: dict[str, InstrumentEntry] = field(default_factory=dict, init=False, repr=False)

    def instrument(self, instrument_id: str) -> InstrumentEntry:
        """
        Raises:
            ConfigError: it isn't configured (any more), and its files are.
        """
        if instrument_id not in self.config.instruments:
            raise ConfigError(
                "The instrument of this file is not in instruments.yaml",
                file=instrument_id,
                next_step="add it there, with its `type`; its folder need not be there.",
            )
        if instrument_id not in self._instruments:  # what it inherits is put together once
            self._instruments[instrument_id] = self.config.instrument(instrument_id)
        return self._instruments[instrument_id]

    def instrument_folder(self, instrument_id: str) -> Path:
        path = self.instrument(instrument_id).path
        assert path is not None  # `KrakenConfig.instrument` sets it
        return path

    def rules(self, instrument_id: str) -> VendorRules:
        return RULES[self.instrument(instrument_id).type]

    def backup_folder(self, raw_file: RawFile, root: Path | None = None) -> Path:
        """The folder here that holds the raw file's backup under its id.

        `root` is that of the open store, through which it is to be read and written.
        """
        return (root or self.config.locations.backup.path) / self._backup_place(raw_file)

    @property
    def backup_group(self) -> int | None:
        """The id of the group that may read backups; None where the site's umask says who may.

        Raises:
            ConfigError: this machine has no such group.
        """
        name = self.config.locations.backup.group
        return None if name is None else group_id(name)

    def backup_base_path(self, raw_file: RawFile) -> str:
        """The same folder as the cluster sees it."""
        return f"{self.config.locations.backup.cluster_path}/{self._backup_place(raw_file)}"

    def own_name(self, raw_file: RawFile) -> str:
        """The id that the file would have had on a collision; always the same, nobody else's."""
        flag = collision_flag(raw_file.created_at_)
        return raw_file_id(self.rules(raw_file.instrument_id), raw_file.original_name, flag)

    def _backup_place(self, raw_file: RawFile) -> PurePosixPath:
        """Below the root: where it was recorded, else where the rule of the folders has it."""
        root = self.config.locations.backup.cluster_path
        recorded = backup_folder_below_root(raw_file.backup_base_path, root, raw_file.filing_id)
        return recorded or PurePosixPath(raw_file.filing_id, raw_file.year_month)

    def on_cluster(self, engine_name: str) -> bool:
        """Whether this engine's jobs run elsewhere, and see the roots under other paths."""
        return isinstance(self.config.engines[engine_name], SlurmEngine)

    def engine_of(self, instrument_id: str, settings: Settings) -> str:
        """The engine that runs a job: that of the settings where they name one of ours."""
        wanted = settings.job_engine
        if wanted is not None and wanted in self.config.engines:
            return wanted
        return self.instrument(instrument_id).engine

    def settings_folder(self, settings: Settings) -> Path:
        """The folder here of the settings' own files."""
        locations = self.config.locations
        return (locations.settings or locations.output).path / safe_relative(settings.name)

    def result_folder(self, job: QuantJob, root: Path | None = None) -> Path:
        """The job's output folder as it is seen here; `root` is that of the open output."""
        return (root or self.config.locations.output.path) / safe_relative(job.relative_output_path)
