"""What rules look at: everything that is known at one moment, frozen. Times are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Health:
    """A document of `kraken_status`. `name` is its id: an instrument, `file system backup`."""

    name: str
    entity: str
    status: str
    details: str
    updated_at: datetime | None = None
    free_gb: float | None = None
    total_gb: float | None = None
    clock_difference_s: float | None = None


@dataclass(frozen=True)
class FileName:
    """A file and when it was made, or first seen."""

    id: str
    at: datetime


@dataclass(frozen=True)
class FailedFile:
    id: str
    details: str
    at: datetime
    waits_for_person: bool
    failures: int
    backup_damaged: bool


@dataclass(frozen=True)
class Pressure:
    """The highest pressure of a file's run in bar; its gradient in any unit, the same for all."""

    file: str
    bar: float
    gradient: float | None
    at: datetime | None = None


@dataclass(frozen=True)
class OutOfControl:
    """The last run of a series, if it is out of control."""

    file: str
    series: str
    reason: str


@dataclass(frozen=True)
class InstrumentFacts:
    id: str
    path: str = ""
    purges: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    newest: tuple[FileName, ...] = ()
    not_moved: int = 0
    failed: tuple[FailedFile, ...] = ()
    jobs_failed: tuple[FailedFile, ...] = ()
    upload_failed: tuple[str, ...] = ()
    without_backup: tuple[FileName, ...] = ()
    pressures: tuple[Pressure, ...] = ()
    out_of_control: tuple[OutOfControl, ...] = ()


@dataclass(frozen=True)
class Sensor:
    name: str
    instrument: str | None
    is_on: bool
    last_tick: datetime | None


@dataclass(frozen=True)
class FailedJob:
    """A job of Dagster's, none of a single file, whose last runs failed."""

    name: str
    runs: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class DagsterFacts:
    """`daemon_seen` is the oldest of its threads' last signs of life; None: never any.

    `is_whole`: Dagster itself was asked; else it is when its sensor `alerts` last looked, and
    nothing else of Dagster is known.
    """

    daemon_seen: datetime | None
    is_whole: bool = True
    sensors: tuple[Sensor, ...] = ()
    failed_jobs: tuple[FailedJob, ...] = ()


@dataclass(frozen=True)
class UnknownJob:
    name: str
    engine: str
    since: datetime


@dataclass(frozen=True)
class Page:
    """A page that must answer; `problem` is None if it did."""

    url: str
    problem: str | None


@dataclass(frozen=True)
class Expiry:
    """A certificate; `problem`: why it can't be read."""

    name: str
    path: str
    expires: datetime | None
    problem: str | None = None


@dataclass(frozen=True)
class StuckChannel:
    name: str
    waiting: int
    since: datetime
    error: str


@dataclass(frozen=True)
class Trend:
    """How much was free on a disk in the last days, oldest first."""

    disk: str
    samples: tuple[tuple[datetime, float], ...]


@dataclass(frozen=True)
class Snapshot:
    """`unknown`: instruments of which something could not be read, with the reason. `dagster` is
    None where Dagster isn't reached from here, so that nothing of it is judged. `after_a_gap`: the
    looks have begun anew a moment ago. `after_silence`: those of Dagster's sensor have, as after
    its daemon was dead."""

    instruments: tuple[InstrumentFacts, ...] = ()
    health: tuple[Health, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    dagster: DagsterFacts | None = None
    after_a_gap: bool = False
    after_silence: bool = False
    local_free_gb: float | None = None
    jobs_unknown: tuple[UnknownJob, ...] = ()
    pages: tuple[Page, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    trends: tuple[Trend, ...] = ()
    channels: tuple[StuckChannel, ...] = ()
    users: frozenset[str] = frozenset()
