"""The collection `store` (ours): the ids of the stores that belong to this MongoDB."""

from datetime import datetime
from typing import Any

from pymongo.collection import Collection as MongoCollection

from kraken_dagster.fs.stores.marker import Role, StoreRecord
from kraken_dagster.store.errors import translated

Document = dict[str, Any]


@translated
class Markers:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def ids(self, role: Role) -> set[str]:
        """The ids of the stores that are recorded for this role."""
        return {str(item["_id"]) for item in self._collection.find({"role": role}, {"_id": 1})}

    def of(self, role: Role) -> list[StoreRecord]:
        """The stores that are recorded for this role, in the order in which they came."""
        found = self._collection.find({"role": role}).sort("recorded_at", 1)
        return [
            StoreRecord(
                id=str(item["_id"]),
                role=Role(item["role"]),
                path=str(item.get("path")),
                cluster_path=str(item.get("cluster_path")),
            )
            for item in found
        ]

    def record(self, store: StoreRecord, *, by: str, now: datetime) -> None:
        """Makes a store known, or keeps where a known one is now."""
        place = {"path": store.path, "cluster_path": store.cluster_path, "seen_at": now}
        first = {"role": store.role, "recorded_at": now, "recorded_by": by}
        self._collection.update_one(
            {"_id": store.id}, {"$set": place, "$setOnInsert": first}, upsert=True
        )
