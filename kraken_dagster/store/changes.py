"""What has changed in `raw_file` and `metrics`, for readers who keep a copy of all of it."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.store.errors import translated

_AT_ONCE = 100  # `$in` over more values costs the embedded server more than it saves
FIELDS = (
    "original_name",
    "instrument_id",
    "project_id",
    "status",
    "status_details",
    "size",
    "backup_status",
    "backup_base_path",
    "instrument_file_status",
    "collision_flag",
    "created_at",
    "created_at_",
    "updated_at_",
    "verified_at",
)

Document = dict[str, Any]


@translated
class Changes:
    def __init__(self, database: "Database[Document]") -> None:
        self._files: MongoCollection[Document] = database["raw_file"]
        self._results: MongoCollection[Document] = database["metrics"]
        self._verdicts: MongoCollection[Document] = database["qc_verdict"]

    def all_files(self) -> Iterator[Document]:
        """Every raw file, with `FIELDS` only."""
        yield from self._files.find({}, dict.fromkeys(FIELDS, 1))

    def stamps(self) -> dict[str, datetime | None]:
        """When every raw file was written to, by its id."""
        found = self._files.find({}, {"updated_at_": 1})
        return {str(item["_id"]): item.get("updated_at_") for item in found}

    def ids_since(self, at: datetime) -> set[str]:
        """The files that were written to since then, or have results or verdicts since then."""
        query = {"updated_at_": {"$gte": at}}
        files = {str(item["_id"]) for item in self._files.find(query, {"_id": 1})}
        found = self._results.find({"created_at_": {"$gte": at}}, {"raw_file": 1})
        judged = self._verdicts.find({"at": {"$gte": at}}, {"raw_file": 1})
        return files | {str(item.get("raw_file")) for item in (*found, *judged)}

    def files(self, raw_file_ids: Collection[str]) -> Iterator[Document]:
        """These raw files, with `FIELDS` only."""
        ids = list(raw_file_ids)
        for start in range(0, len(ids), _AT_ONCE):
            query = {"_id": {"$in": ids[start : start + _AT_ONCE]}}
            yield from self._files.find(query, dict.fromkeys(FIELDS, 1))

    def results(self, raw_file_ids: Collection[str]) -> dict[str, list[Document]]:
        """All results of these raw files, newest first, by the file's id."""
        found: dict[str, list[Document]] = {}
        ids = list(raw_file_ids)
        for start in range(0, len(ids), _AT_ONCE):
            query = {"raw_file": {"$in": ids[start : start + _AT_ONCE]}}
            for item in self._results.find(query):
                found.setdefault(str(item.get("raw_file")), []).append(item)
        for items in found.values():
            items.sort(key=_made_at, reverse=True)
        return found


def _made_at(result: Document) -> float:
    made = result.get("created_at_")
    return made.timestamp() if isinstance(made, datetime) else 0.0
