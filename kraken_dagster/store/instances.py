"""Signs of life. The collection `instance` (ours): each `kraken up` on this MongoDB, by its host
and home, and each code location without one, by its name. `tick` (ours): the last tick of each of
Dagster's sensors and schedules, by its name."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pymongo import timeout
from pymongo.collection import Collection as MongoCollection

from kraken_dagster.store.errors import translated

# Of a process that gives a sign of life every 10 s.
LIVES_FOR = timedelta(seconds=60)
_WRITES_FOR_S = 2.0  # a tick waits no longer to be recorded

Document = dict[str, Any]


class Loaded(BaseModel):
    """What the code server of `kraken up`, or of one program (`daemon`, `dagit`), runs, since when.

    `problem`: why it could not take up a newer file. `stands`: it has nothing to work with since
    then; else it goes on with what it runs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    process: str
    pid: int
    digest: str
    file_time: AwareDatetime | None = None
    since: AwareDatetime
    instruments: list[str] = Field(default_factory=list)
    problem: str | None = None
    stands: bool = False


class OnDisk(BaseModel):
    """The configuration file as it is; `problem`: why nobody could load it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    path: str
    digest: str
    file_time: AwareDatetime | None = None
    problem: str | None = None


class Instance(BaseModel):
    """One `kraken up` or code location: what it serves, since when, and its last sign of life.

    Times are UTC. `location`: the name of a code location; `namespace`: where its processes are;
    `lives_for_s`: it is silent for no longer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    id: str = Field(alias="_id")
    host: str
    home: str
    pid: int
    instruments: list[str]
    since: datetime
    seen_at: datetime
    ended_at: datetime | None = None
    loaded: list[Loaded] = Field(default_factory=list)
    on_disk: OnDisk | None = None
    location: str | None = None
    namespace: str | None = None
    lives_for_s: float = LIVES_FOR.total_seconds()

    @classmethod
    def location_name(cls, location: str) -> str:
        return f"location {location}"

    @classmethod
    def name(cls, host: str, home: str) -> str:
        return f"{host}:{home}"

    def lives(self, now: datetime) -> bool:
        return self.ended_at is None and now - self.seen_at < timedelta(seconds=self.lives_for_s)


@translated
class Instances:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def seen(self, instance: Instance) -> None:
        self._collection.replace_one(
            {"_id": instance.id}, instance.model_dump(by_alias=True), upsert=True
        )

    def get(self, instance_id: str) -> Instance | None:
        document = self._collection.find_one({"_id": instance_id})
        return None if document is None else Instance.model_validate(document)

    def of_location(self, location: str) -> Instance | None:
        """Who works under that name, or without a name by its host and home."""
        return self.get(Instance.location_name(location)) or self.get(location)

    def living(self, *, serving: Collection[str], now: datetime) -> list[Instance]:
        """Those that live and serve one of these instruments."""
        return [item for item in self._serving(serving) if item.lives(now)]

    def all_living(self, *, now: datetime) -> list[Instance]:
        return [item for item in self.all() if item.lives(now)]

    def locations(self) -> list[Instance]:
        """The code locations that have a name, whether or not they live."""
        return [item for item in self.all() if item.location is not None]

    def all(self) -> list[Instance]:
        return [Instance.model_validate(item) for item in self._collection.find({})]

    def last(self, *, serving: Collection[str]) -> Instance | None:
        """The one that gave the last sign of life, whether or not it lives."""
        return max(self._serving(serving), key=lambda item: item.seen_at, default=None)

    def _serving(self, instruments: Collection[str]) -> list[Instance]:
        return [item for item in self.all() if set(item.instruments) & set(instruments)]


class TickKind(StrEnum):
    SENSOR = "sensor"
    SCHEDULE = "schedule"


class TickOutcome(StrEnum):
    REQUESTED = "requested"
    SKIPPED = "skipped"
    FAILED = "failed"


class Tick(BaseModel):
    """The last tick of a sensor or schedule. `name` is Dagster's, which no two of several code
    locations share. `at` is when it began, UTC; `details`: what it requested, or why it did
    nothing, or what went wrong; `every_s`: how far ticks are apart, None of a schedule."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    name: str = Field(alias="_id")
    kind: TickKind
    location: str
    at: AwareDatetime
    took_s: float
    outcome: TickOutcome
    details: str
    every_s: float | None = None


@translated
class Ticks:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def ticked(self, tick: Tick) -> None:
        """One small write, for which nobody waits longer than two seconds."""
        with timeout(_WRITES_FOR_S):
            self._collection.replace_one(
                {"_id": tick.name}, tick.model_dump(by_alias=True), upsert=True
            )

    def all(self) -> list[Tick]:
        return [Tick.model_validate(item) for item in self._collection.find({})]
