"""Reads all that is known of many raw files, page by page: for rebuilding and retiring."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.model.eligibility import output_path
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import (
    AFTER_BACKUP,
    BACKED_UP,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.documents import DATES, dated_id, parse
from kraken_dagster.store.raw_files.members import MemberLists

PAGE = 100  # `$in` over more values costs the embedded server more than it saves
# AlphaKraken writes `new` where Kraken writes `initial`.
_ON_THE_INSTRUMENT = (InstrumentFileStatus.INITIAL.value, "new", InstrumentFileStatus.MOVED.value)
_PUT_ASIDE = (
    InstrumentFileStatus.MOVED,
    InstrumentFileStatus.RENAMED,
    InstrumentFileStatus.PURGED,
)

Document = dict[str, Any]


@translated
class Bulk:
    def __init__(self, database: "Database[Document]", members: MemberLists) -> None:
        self._members = members
        self._raw_files: MongoCollection[Document] = database["raw_file"]
        self._jobs: MongoCollection[Document] = database["quant_job"]
        self._results: MongoCollection[Document] = database["metrics"]

    def _parsed(self, document: Document) -> RawFile:
        return parse(document, self._members)

    def ids(self, instrument_id: str) -> list[str]:
        """Of every file of an instrument, oldest first."""
        found = self._raw_files.find({"instrument_id": instrument_id}, DATES)
        return [raw_file_id for _, raw_file_id in sorted(map(dated_id, found))]

    def count_archived(self, instrument_id: str) -> int:
        """How many files an instance of Kraken has archived, renamed or purged."""
        return sum(
            self._raw_files.count_documents(
                {"instrument_id": instrument_id, "instrument_file_status": status}
            )
            for status in _PUT_ASIDE
        )

    def some_backups(self, count: int) -> list[RawFile]:
        """Some files with a recorded backup, half of them the oldest and half the newest."""
        found: dict[str, RawFile] = {}
        query: Document = {"file_info": {"$nin": [None, {}]}}
        for order in (ASCENDING, DESCENDING):
            newest = self._raw_files.find(query, {"history": 0}).sort("created_at", order)
            for item in map(self._parsed, newest.limit(count)):
                if item.is_backed_up and item.file_info and len(found) < count:
                    found[item.id] = item
                if len(found) >= (count // 2 if order == ASCENDING else count):
                    break
        return list(found.values())

    def some_results(self, count: int) -> list[PurePosixPath]:
        """The folders of some results, relative to the output, the newest; also where
        AlphaKraken has made them."""
        jobs = self._jobs.find({"state": JobState.SUCCEEDED}, {"relative_output_path": 1})
        found = [
            str(item.get("relative_output_path"))
            for item in jobs.sort("created_at", DESCENDING).limit(count)
        ]
        if not found:
            done = self._raw_files.find({"status": Status.DONE}, {"history": 0})
            found = [
                output_path(
                    item.id,
                    project_id=item.project_id,
                    created_at=item.created_at,
                    software_type=None,
                )
                for item in map(self._parsed, done.sort("created_at", DESCENDING).limit(count))
            ]
        return list(map(safe_relative, dict.fromkeys(found)))

    def has_backups(self, filing_id: str, store_id: str) -> bool:
        """Whether a backup in an instrument's folder is recorded in a store, or in one that isn't
        told."""
        own: Document = {"instrument_id": filing_id, "filed_as": None}
        return any(self._has_backups(who, store_id) for who in (own, {"filed_as": filing_id}))

    def _has_backups(self, who: Document, store_id: str) -> bool:
        query: Document = {
            **who,
            "backup_store": {"$in": [store_id, None]},
            "$or": [
                {"backup_status": {"$in": sorted(BACKED_UP)}},
                {
                    "backup_status": None,
                    "file_info": {"$nin": [None, {}]},
                    "status": {"$in": sorted(AFTER_BACKUP)},
                },
            ],
        }
        return self._raw_files.find_one(query, {"_id": 1}) is not None

    def filing_ids(self, instrument_id: str) -> set[str]:
        """The folders of the backup store that an instrument's backups are in."""
        query = {"instrument_id": instrument_id, "filed_as": {"$gt": ""}}
        return {instrument_id, *map(str, self._raw_files.distinct("filed_as", query))}

    def put_on_store(self, store_id: str) -> None:
        """Records where the backups are of which that isn't recorded."""
        query: Document = {"file_info": {"$nin": [None, {}]}, "backup_store": None}
        self._raw_files.update_many(query, {"$set": {"backup_store": store_id}})

    def knows_any(self, instrument_id: str, names: Sequence[str]) -> bool:
        """Whether one of these names is a raw file's id on the instrument, or its original name."""
        return any(
            self._raw_files.find_one(
                {
                    "instrument_id": instrument_id,
                    field: {"$in": list(names[start : start + PAGE])},
                },
                {"_id": 1},
            )
            for start in range(0, len(names), PAGE)
            for field in ("_id", "original_name")
        )

    def expects_any(self, instrument_id: str) -> bool:
        """Whether anything is recorded to stand in the instrument's folder or in its `Backup/`."""
        return any(
            self._raw_files.find_one(
                {
                    "instrument_id": instrument_id,
                    "instrument_file_status": place,
                    "gone_at": None,
                    "status": {"$nin": [Status.ACQUISITION_FAILED, Status.IGNORED]},
                },
                {"_id": 1},
            )
            for place in _ON_THE_INSTRUMENT
        )

    def has_had_any(self, instrument_id: str, extensions: Sequence[str]) -> bool:
        """Whether an acquisition with such a name was ever recorded of the instrument."""
        pattern = f"({'|'.join(map(re.escape, extensions))})$"
        query: Document = {
            "instrument_id": instrument_id,
            "original_name": {"$regex": pattern, "$options": "i"},
        }
        return self._raw_files.find_one(query, {"_id": 1}) is not None

    def pages(self, ids: Sequence[str]) -> Iterator[list[RawFile]]:
        """These files with their history, some at a time and in this order.

        One that can't be read is among them, and says so.
        """
        # Not by date with a limit: the embedded server reads everything after the date each time.
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            found = {str(item["_id"]): item for item in self._by_ids(some)}
            yield [self._parsed(found[item]) for item in some if item in found]

    def files(self, ids: Sequence[str]) -> list[RawFile]:
        """Those of at most `PAGE` files that there are; without their history."""
        return [self._parsed(item) for item in self._by_ids(ids, {"history": 0})]

    def jobs(self, ids: Sequence[str]) -> dict[str, list[QuantJob]]:
        """The jobs of at most `PAGE` files by the file's id, oldest first."""
        found: dict[str, list[QuantJob]] = {}
        if not ids:
            return found
        for item in self._jobs.find({"raw_file": {"$in": list(ids)}}):
            job = QuantJob.model_validate(item)
            found.setdefault(job.raw_file, []).append(job)
        return {key: sorted(jobs, key=lambda job: job.created_at) for key, jobs in found.items()}

    def results(self, ids: Sequence[str]) -> dict[str, list[Document]]:
        """The documents of `metrics` of at most `PAGE` files by the file's id, newest first."""
        found: dict[str, list[Document]] = {}
        if not ids:
            return found
        query = {"raw_file": {"$in": list(ids)}}
        for item in self._results.find(query).sort("created_at_", DESCENDING):
            found.setdefault(str(item["raw_file"]), []).append(item)
        return found

    def _by_ids(self, ids: Sequence[str], fields: Document | None = None) -> Iterator[Document]:
        yield from self._raw_files.find({"_id": {"$in": list(ids)}}, fields)
