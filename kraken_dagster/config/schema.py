"""The schema of instruments.yaml. Reading the file is `config/loader.py`.

Every key's description is shown in docs/configuration.md, and a test fails when one is missing.
"""

import re
import socket
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from kraken_dagster.config.alerts import Alerts
from kraken_dagster.config.code_locations import CodeLocation, LocationName
from kraken_dagster.config.dagit import Dagit
from kraken_dagster.config.engines import (
    ENGINE_LOCAL,
    Engine,
    EngineName,
    LocalEngine,
)
from kraken_dagster.config.instruments import Defaults, InstrumentEntry, Options
from kraken_dagster.config.offsite import Offsite
from kraken_dagster.config.quality_rules import QualityControl
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.files.acquisition import Timing
from kraken_dagster.model.strict import Strict

InstrumentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
MetricsType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
FunctionName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
]


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
    requests_a_minute: int = Field(
        600, ge=1, description="What one token, or one caller without, may ask of REST; rest.md."
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
