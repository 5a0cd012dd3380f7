"""What the rules of alerts ask of raw files, their results and jobs: counts and a few documents,
however many files there are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import (
    AFTER_BACKUP,
    BACKED_UP,
    FINAL,
    BackupStatus,
    InstrumentFileStatus,
    Status,
)
from kraken_dagster.store.errors import translated

MOST = 100
_AT_ONCE = 100  # `$in` over more values costs the embedded server more than it saves
# AlphaKraken writes `new` where Kraken writes `initial`.
_NOT_MOVED = [InstrumentFileStatus.INITIAL.value, "new"]

Document = dict[str, Any]


@translated
class AlertFacts:
    def __init__(self, database: "Database[Document]") -> None:
        self._raw_files: MongoCollection[Document] = database["raw_file"]
        self._metrics: MongoCollection[Document] = database["metrics"]
        self._jobs: MongoCollection[Document] = database["quant_job"]
        self._board: MongoCollection[Document] = database["kraken_status"]

    def statuses(self) -> list[Document]:
        """Every document of `kraken_status`, without what was left alone."""
        return list(self._board.find({}, {"left_alone": 0}))

    def newest(self, instrument_id: str, *, limit: int) -> list[Document]:
        """The files that were made last, newest first."""
        fields = {"original_name": 1, "created_at": 1, "created_at_": 1}
        found = self._raw_files.find({"instrument_id": instrument_id}, fields)
        return list(found.sort("created_at", DESCENDING).limit(limit))

    def made_since(self, instrument_id: str, since: datetime) -> list[Document]:
        """The files that were made since then, newest first."""
        query = {"instrument_id": instrument_id, "created_at": {"$gte": since}}
        found = self._raw_files.find(query, {"created_at": 1})
        return list(found.sort("created_at", DESCENDING).limit(10 * MOST))

    def count_not_moved(self, instrument_id: str, *, before: datetime) -> int:
        """Files made before that, which stand on the instrument where they were written."""
        query = {
            "instrument_id": instrument_id,
            "instrument_file_status": {"$in": _NOT_MOVED},
            "created_at": {"$lt": before},
            "gone_at": None,
        }
        return self._raw_files.count_documents(query)

    def failed(self, instrument_id: str, *, since: datetime) -> list[Document]:
        """Files in status `error` that were changed since then, the last change first."""
        query = {
            "instrument_id": instrument_id,
            "status": Status.ERROR,
            "updated_at_": {"$gte": since},
        }
        names = ("status_details", "retry_at", "failures", "ended_as", "updated_at_")
        found = self._raw_files.find(query, dict.fromkeys(names, 1))
        return list(found.sort("updated_at_", DESCENDING).limit(MOST))

    def jobs_failed(self, instrument_id: str, *, since: datetime) -> list[Document]:
        """Files of which a job failed since then and none was tried again, the last first."""
        query = {
            "instrument_id": instrument_id,
            "status": Status.QUANTING_FAILED,
            "updated_at_": {"$gte": since},
            "history": {"$elemMatch": {"to": Status.QUANTING_FAILED, "at": {"$gte": since}}},
        }
        found = self._raw_files.find(query, {"status_details": 1, "updated_at_": 1})
        return list(found.sort("updated_at_", DESCENDING).limit(MOST))

    def upload_failed(self, instrument_id: str) -> list[str]:
        query = {"instrument_id": instrument_id, "backup_status": BackupStatus.UPLOAD_FAILED}
        found = self._raw_files.find(query, {"_id": 1}).limit(MOST)
        return [str(item["_id"]) for item in found]

    def without_backup(self, instrument_id: str, *, before: datetime) -> list[Document]:
        """Files known since before that, under way and without a backup, oldest first."""
        statuses = sorted(set(Status) - FINAL - AFTER_BACKUP | {Status.ERROR})
        query = {
            "instrument_id": instrument_id,
            "status": {"$in": statuses},
            "backup_status": {"$nin": sorted(BACKED_UP)},
            "backed_up_at": None,
            "created_at_": {"$lt": before},
        }
        fields = {"created_at_": 1, "status": 1, "backup_status": 1, "file_info": 1}
        found = self._raw_files.find(query, fields).sort("created_at_", ASCENDING).limit(MOST)
        return [item for item in found if not _has_one_of_before(item)]

    def unknown_jobs(self, *, before: datetime) -> list[Document]:
        """Jobs that their engine hasn't known since before that."""
        query = {
            "state": JobState.UNKNOWN,
            "uncollected": True,
            "unknown_since": {"$lt": before, "$ne": None},
        }
        fields = {"engine": 1, "raw_file": 1, "unknown_since": 1}
        return list(self._jobs.find(query, fields).limit(MOST))

    def metrics(self, raw_files: Sequence[str], names: Sequence[str]) -> dict[str, Document]:
        """Of each file the newest value of each of these metrics."""
        found: dict[str, Document] = {}
        fields = dict.fromkeys((*names, "raw_file", "created_at_"), 1)
        for start in range(0, len(raw_files), _AT_ONCE):
            query = {"raw_file": {"$in": list(raw_files[start : start + _AT_ONCE])}}
            results = list(self._metrics.find(query, fields))
            for result in sorted(results, key=lambda item: item["created_at_"]):
                values = {name: result[name] for name in names if result.get(name) is not None}
                found.setdefault(str(result["raw_file"]), {}).update(values)
        return found


def _has_one_of_before(document: Document) -> bool:
    """Whether AlphaKraken made its backup before it recorded `backup_status`."""
    return document.get("backup_status") is None and bool(document.get("file_info"))
