"""The collection `errand` (ours): work on a whole instrument, which one run at a time does."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.errors import LeaseHeld
from kraken_dagster.model.raw_file import Lease
from kraken_dagster.store.errors import translated

Document = dict[str, Any]


class ExclusiveRun(BaseModel):
    """`attempt` counts the runs that were requested for it; `began_at` is when the last began."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    name: str = Field(alias="_id")
    attempt: int = 0
    lease: Lease | None = None
    began_at: datetime | None = None

    def held(self, now: datetime) -> Lease | None:
        return self.lease if self.lease is not None and self.lease.is_live(now) else None


@translated
class ExclusiveRuns:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def get(self, name: str) -> ExclusiveRun:
        document = self._collection.find_one({"_id": name})
        return (
            ExclusiveRun(name=name) if document is None else ExclusiveRun.model_validate(document)
        )

    def next_attempt(self, name: str) -> int | None:
        """Counts one more run; None if somebody else just did."""
        before = self._made(name).attempt
        result = self._collection.update_one(
            {"_id": name, "attempt": before}, {"$set": {"attempt": before + 1}}
        )
        return before + 1 if result.modified_count == 1 else None

    def take(self, name: str, lease: Lease, *, now: datetime) -> None:
        """
        Raises:
            LeaseHeld: another run is at it.
        """
        exclusive_run = self._made(name)
        held = exclusive_run.held(now)
        if held is not None and held.run_id != lease.run_id:
            raise _held(name, held)
        old = None if exclusive_run.lease is None else exclusive_run.lease.token
        result = self._collection.update_one(
            {"_id": name, "lease.token": old},
            {"$set": {"lease": lease.model_dump(), "began_at": now}},
        )
        if result.matched_count == 0:
            raise _held(name, self.get(name).lease or lease)

    def renew(self, name: str, lease: Lease, until: datetime) -> bool:
        result = self._collection.update_one(
            {"_id": name, "lease.token": lease.token}, {"$set": {"lease.until": until}}
        )
        return result.matched_count == 1

    def release(self, name: str, lease: Lease) -> None:
        self._collection.update_one(
            {"_id": name, "lease.token": lease.token}, {"$unset": {"lease": ""}}
        )

    def forget(self, name: str) -> None:
        """Drops an entry that is over for good, unless a run is at it."""
        self._collection.delete_one({"_id": name, "lease": None})

    def forget_lapsed(self, step: str, *, before: datetime) -> None:
        """Drops the entries of this step whose lease lapsed before that."""
        self._collection.delete_many({"lease.step": step, "lease.until": {"$lt": before}})

    def _made(self, name: str) -> ExclusiveRun:
        """The document, made where there is none, so that it can be compared and set."""
        try:
            self._collection.insert_one({"_id": name, "attempt": 0})
        except DuplicateKeyError:
            return self.get(name)
        return ExclusiveRun(name=name)


def _held(name: str, lease: Lease) -> LeaseHeld:
    return LeaseHeld(
        "Another run does this already",
        file=name,
        found=f"run {lease.run_id} on {lease.host}, until {lease.until:%H:%M:%S} UTC",
        next_step="nothing: that run goes on; if it dies its lease lapses and another is started.",
    )
