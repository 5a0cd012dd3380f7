"""The schema of instruments.yaml. Reading the file is `config/loader.py`.

Every key's description is shown in docs/configuration.md, and a test fails when one is missing.
"""

import re
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from kraken_dagster.config.alerts import Alerts
from kraken_dagster.config.code_locations import CodeLocation, LocationName
from kraken_dagster.config.dagit import Dagit
from kraken_dagster.config.engines import (
    ENGINE_LOCAL,
    Engine,
    EngineName,
    LocalEngine,
)
from kraken_dagster.config.offsite import Offsite
from kraken_dagster.config.patterns import why_not_pattern
from kraken_dagster.config.quality_rules import QualityControl
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.eligibility import DEFAULT_SKIP_PATTERN
from kraken_dagster.model.files.acquisition import Timing
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.strict import Strict

InstrumentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
MetricsType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
FunctionName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
]


class OutputExistsMode(StrEnum):
    RAISE = "raise"
    OVERWRITE = "overwrite"
    ASSOCIATE = "associate"
    ADD = "add"


class PurgeProof(StrEnum):
    LOCAL = "local"
    LOCAL_AND_OFFSITE = "local_and_offsite"


class Options(Strict):
    """Options that a run can also be given in its run config."""

    consider_old_files_acquired: bool = Field(
        False,
        description="An acquisition is over if its file is more than 5 h older than the youngest.",
    )
    debug_max_file_age_in_hours: float = Field(
        -1, description="Older files are ignored: not backed up, not processed. -1: no limit."
    )
    backup_overwrite_file_id: str | None = Field(
        None,
        description="A raw file id, or INSTRUMENT_<id>: a different file that stands in its place "
        "in the backup is set aside and replaced.",
    )
    checksum_overwrite_file_id: str | None = Field(
        None,
        description="A raw file id, or INSTRUMENT_<id>: recorded checksums that differ from the "
        "source's are replaced.",
    )
    output_exists_mode: OutputExistsMode = Field(
        OutputExistsMode.RAISE,
        description="What to do where a result is: `raise`, `overwrite` (the old one is set "
        "aside), `associate` (a complete one is taken; else the job that still writes it is "
        "followed), `add` (a new `.runN`).",
    )

    min_free_space_gb: float = Field(
        -1, description="Purge the instrument until this much is free. 0 or less: off."
    )
    min_file_age_to_remove_in_days: float = Field(
        14, ge=0, description="Younger files are never purged."
    )
    debug_no_cluster_ssh: bool = Field(
        False,
        description="Make no connection to a cluster; jobs are recorded as skipped, and can be "
        "submitted later.",
    )
    move_files: bool = Field(True, description="Archive backed up files on the instrument.")
    move_failed: bool = Field(
        False,
        description="Archive failed and ignored acquisitions too. They have no backup, and are "
        "never purged.",
    )
    remove_files: bool = Field(True, description="Purge files that were archived.")
    purge_needs_complete_index: bool = Field(
        False,
        description="Purge only files whose backup could be read to the end of a complete index; "
        "not those of formats that don't tell.",
    )
    purge_proof: PurgeProof = Field(
        PurgeProof.LOCAL,
        description="What proves that a file may be purged: `local`, its backup; "
        "`local_and_offsite`, also the copy on the S3 server of `offsite`.",
    )


class Defaults(Strict):
    """Settings of an instrument; in `defaults` they hold for all of them."""

    engine: str = Field(ENGINE_LOCAL, description="Which of `engines` runs its jobs.")
    sensors: Literal["stopped", "running"] = Field(
        "stopped", description="Whether a new instrument's sensors start switched on."
    )
    skip_processing: bool = Field(False, description="Back up only; process nothing.")
    skip_quanting: bool = Field(False, description="An older name of `skip_processing`.")
    skip_processing_pattern: str = Field(
        DEFAULT_SKIP_PATTERN,
        description="A regular expression: files in whose names it is found are backed up only. "
        "Empty: none is left out.",
    )
    file_move_delay_m: float = Field(
        5, description="Minutes from the backup to the archiving. -1: never."
    )
    copy_slots: int = Field(
        2, ge=1, description="How many files are copied at once; a Dagster pool limit wins."
    )
    copy_threads: int = Field(
        4, ge=1, le=16, description="How many members of one Bruker folder are copied at once."
    )
    copy_mb_per_s: float | None = Field(
        None,
        gt=0,
        description="Megabytes per second that one run may read from the instrument for copies; "
        "`copy_slots` runs may read at once. Without it there is no limit.",
    )
    catchup_threads: int = Field(
        4, ge=1, le=64, description="How many files a run over many of them works on at once."
    )
    watch_interval_s: int = Field(30, ge=1, description="Seconds between two looks at the folder.")
    folder_timeout_s: float = Field(
        20, gt=0, description="Seconds within which the folder must answer."
    )
    copy_stall_s: float = Field(
        600, gt=0, description="A copy in which no byte moves for this many seconds is given up."
    )
    lease_s: float = Field(
        90, gt=0, description="Seconds after which a run that died is replaced by another."
    )
    retry_after_s: float = Field(
        60, gt=0, description="Seconds until a failed step is tried again; doubles, up to 30 min."
    )
    scrub_every_days: float = Field(
        90, gt=0, description="Days within which every backup is read again, if `scrub` is on."
    )
    scrub_mb_per_s: float = Field(
        100, gt=0, description="Megabytes per second that reading backups again may take."
    )
    partition_window_days: float = Field(
        0,
        ge=0,
        description="Files that are final, and to which nothing happened for so many days, are "
        "taken out of Dagit; MongoDB keeps them. 0: never.",
    )

    @field_validator("skip_processing_pattern")
    @classmethod
    def _usable_pattern(cls, value: str) -> str:
        if problem := why_not_pattern(value):
            raise ValueError(problem)
        return value


class InstrumentEntry(Defaults, Options):
    """One mass spectrometer. What it doesn't say is taken from `options` and `defaults`."""

    type: Vendor = Field(description="thermo, bruker or sciex.")
    path: Path | None = Field(
        None,
        description="Its folder here, apart from every other's; else "
        "`<locations.instruments>/<id>`.",
    )


class Location(Strict):
    """A root: the path here, and where it differs, the path on the cluster."""

    path: Path = Field(description="The path on this machine.")
    cluster: str | None = Field(None, description="The path on the cluster, where it differs.")

    @model_validator(mode="before")
    @classmethod
    def _plain_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def cluster_path(self) -> str:
        return self.cluster or str(self.path)


class BackupLocation(Location):
    """The backup store, and who may read what is in it."""

    group: str | None = Field(
        None,
        description="The group that may read backups, and nobody else: files get mode 0440, "
        "folders 0550. Without one the umask of Kraken's start decides, as a rule for 0444 and "
        "0555.",
    )


class Locations(Strict):
    instruments: Location = Field(description="Where the instruments' folders are mounted.")
    backup: BackupLocation = Field(description="The backup store.")
    output: Location = Field(description="Where results go.")
    settings: Location | None = Field(None, description="Configuration files of the programs.")
    software: Location | None = Field(None, description="Programs of `software_type: custom`.")


class MongoDB(Strict):
    uri: str | None = Field(
        None,
        repr=False,  # it may hold a password
        description="mongodb://... of a real MongoDB. Without one the embedded server is started.",
    )


class Page(Strict):
    columns: Path | None = Field(
        None,
        description="A file that says how columns are shown, with AlphaKraken's keys; see page.md.",
    )
    restore_folders: list[Path] = Field(
        [],
        description="Folders into which operators may have backups copied from the page.",
    )


class Simulation(Strict):
    """Only for simulated laboratories: their clock runs faster than the real one."""

    speed: float = Field(1, gt=0, description="Laboratory seconds per real second.")


class KrakenConfig(Strict):
    """instruments.yaml as a whole."""

    mongodb: MongoDB = Field(default_factory=MongoDB, description="Where the facts are kept.")
    locations: Locations = Field(description="The roots of all paths.")
    engines: dict[EngineName, Engine] = Field(
        default={ENGINE_LOCAL: LocalEngine(type="local", slots=2)},
        description="What runs the jobs, by name.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Settings for all instruments."
    )
    options: Options = Field(
        default_factory=Options, description="Run options for all instruments."
    )
    instruments: dict[InstrumentId, InstrumentEntry] = Field(
        description="The mass spectrometers, by id ([a-z0-9_]+)."
    )
    code_locations: dict[LocationName, CodeLocation] = Field(
        default_factory=dict,
        description="Which instruments are served together, and where, by name ([a-z0-9_]+), for "
        "`kraken compose`; each other instrument by itself.",
    )
    metrics: dict[MetricsType, FunctionName] = Field(
        default_factory=dict,
        description="Functions of the site's own that read results, by the metrics type "
        "([a-z0-9_]+) of the settings, as `package.module:function`.",
    )
    qc: QualityControl = Field(
        default_factory=QualityControl,
        description="Which runs are quality control, and how they are judged.",
    )
    offsite: Offsite | None = Field(
        None, description="A second copy of every backup on an S3 server. None: there is none."
    )
    reading_limits: ReadingLimits = Field(
        default_factory=ReadingLimits,
        description="What a process may take that reads files which Kraken did not write.",
    )
    simulation: Simulation | None = Field(
        None, description="Present only where the instruments are simulated."
    )
    dagit: Dagit = Field(
        default_factory=Dagit, description="Who is let into Dagit, and from where."
    )
    page: Page = Field(default_factory=Page, description="How the laboratory's page looks.")
    alerts: Alerts = Field(default_factory=Alerts, description="Who is told of what is wrong.")
    home: Path = Field(
        Path(".kraken"),
        description="Kraken's own folder: the embedded server's data, local jobs, Dagster's home.",
    )

    _whole: "KrakenConfig | None" = PrivateAttr(default=None)
    _location: str | None = PrivateAttr(default=None)

    @property
    def all_instruments(self) -> frozenset[str]:
        """Every instrument in the file, also those that are served by other processes."""
        return frozenset(self.whole.instruments)

    @property
    def whole(self) -> "KrakenConfig":
        """The file's configuration, where this code location serves some of its instruments."""
        return self if self._whole is None else self._whole

    @property
    def location(self) -> str:
        """The code location: `KRAKEN_LOCATION`, or this host and home; the same after a restart."""
        return self._location or f"{socket.gethostname()}:{self.home}"

    @property
    def is_named(self) -> bool:
        """Whether `KRAKEN_LOCATION` names the code location."""
        return self._location is not None

    @property
    def suffix(self) -> str:
        """What tells names of this code location from those of others; empty if it serves all."""
        return "" if self._whole is None or self._location is None else f"_{self._location}"

    @property
    def owns_shared(self) -> bool:
        """Whether what all code locations have in common is shown by this one: the disks of the
        backup and the output. It is the one with the first instrument of the file."""
        return next(iter(self.whole.instruments), None) in self.instruments

    @property
    def timing(self) -> Timing:
        speed = 1 if self.simulation is None else self.simulation.speed
        return Timing().hastened(speed)

    def instrument(self, instrument_id: str) -> InstrumentEntry:
        """An instrument with everything that it takes from `options` and `defaults`."""
        entry = self.instruments[instrument_id]
        inherited = {
            **self.defaults.model_dump(exclude_unset=True),
            **self.options.model_dump(exclude_unset=True),
        }
        own = entry.model_dump(exclude_unset=True)
        own["path"] = entry.path or self.locations.instruments.path / instrument_id
        return InstrumentEntry(**{**inherited, **own})

    def located(self, location: str) -> "KrakenConfig":
        """The same, in a code location of that name."""
        located = self.model_copy()
        located._location = location
        return located

    def only(self, instrument_ids: set[str], *, location: str | None = None) -> "KrakenConfig":
        """The same, serving only these instruments, in a code location of that name."""
        kept = {key: value for key, value in self.instruments.items() if key in instrument_ids}
        served = self.model_copy(update={"instruments": kept})
        served._whole, served._location = self.whole, location
        return served


def expand_environment(text: str, environment: dict[str, str]) -> str:
    """`${NAME}` and `${NAME:-default}`; KeyError with the name where there is neither."""

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name in environment:
            return environment[name]
        if default is None:
            raise KeyError(name)
        return default

    return re.sub(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}", value, text)
