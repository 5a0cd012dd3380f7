"""The collection `verification` (ours): readings of many backups that go on where they stopped."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection as MongoCollection

from kraken_dagster.store.errors import translated

Document = dict[str, Any]


@translated
class Verifications:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def begin(
        self, key: str, selection: Sequence[str], *, now: datetime, forgotten_before: datetime
    ) -> datetime:
        """When the verification of this selection began: now, or earlier if it wasn't finished.

        One in which nothing was read since `forgotten_before` begins anew.
        """
        found = self._collection.find_one({"_id": key})
        if found is not None and found["at"] >= forgotten_before:
            began: datetime = found["began_at"]
            return began
        self._collection.update_one(
            {"_id": key},
            {"$set": {"began_at": now, "at": now, "selection": list(selection)}},
            upsert=True,
        )
        return now

    def goes_on(self, key: str, *, now: datetime) -> None:
        self._collection.update_one({"_id": key}, {"$set": {"at": now}})

    def end(self, key: str) -> None:
        self._collection.delete_one({"_id": key})
