"""What is asked of the collection `raw_file` by everybody."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import DESCENDING
from pymongo.collection import Collection as MongoCollection

from kraken_dagster.model.errors import UnknownRawFile
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.documents import IDENTITY, known_file, parse, readable
from kraken_dagster.store.raw_files.members import MemberLists

# `$in` over more values than this costs the embedded server more than it saves.
_NAMES_AT_ONCE = 100

Document = dict[str, Any]


@translated
class RawFileQueries:
    def __init__(self, collection: "MongoCollection[Document]", members: MemberLists) -> None:
        self._collection = collection
        self._members = members

    def get(self, raw_file_id: str) -> RawFile:
        return self._one(raw_file_id, None)

    def current(self, raw_file_id: str) -> RawFile:
        """The file without its history, which takes longer to read than all the rest."""
        return self._one(raw_file_id, {"history": 0})

    def _one(self, raw_file_id: str, fields: Document | None) -> RawFile:
        document = self._collection.find_one({"_id": raw_file_id}, fields)
        if document is None:
            raise UnknownRawFile(
                "No such raw file in MongoDB",
                file=raw_file_id,
                next_step="`kraken files` lists the ids; a file is known once its instrument's "
                "watcher has seen it.",
            )
        return parse(document, self._members)

    def many(self, raw_file_ids: Iterable[str]) -> dict[str, RawFile]:
        """Those of these files that MongoDB has, by id; without their history."""
        found: dict[str, RawFile] = {}
        for some in _batches(list(raw_file_ids), _NAMES_AT_ONCE):
            for document in self._collection.find({"_id": {"$in": some}}, {"history": 0}):
                found[str(document["_id"])] = parse(document, self._members)
        return found

    def backed_up(self, raw_file_ids: Iterable[str]) -> set[str]:
        """Those of these files that have a backup."""
        return {key for key, item in self.many(raw_file_ids).items() if item.is_backed_up}

    def known(self, instrument_id: str, names: Iterable[str]) -> dict[str, list[KnownFile]]:
        """What is known of these original names on an instrument."""
        found: dict[str, list[KnownFile]] = {}
        for some in _batches(list(names), _NAMES_AT_ONCE):
            query = {"instrument_id": instrument_id, "original_name": {"$in": some}}
            for document in self._collection.find(query, IDENTITY):
                name = str(document["original_name"])
                found.setdefault(name, []).append(known_file(document))
        return found

    def ids_of_month(self, filing_id: str, month: str) -> list[str]:
        """The ids of the files whose backups belong into a month, `YYYY_MM`, of an instrument's
        folder, or are recorded there."""
        year, number = map(int, month.split("_"))
        begin = datetime(year, number, 1, tzinfo=UTC)
        end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
        there = re.escape(f"{filing_id}/{month}")
        found: list[str] = []
        for who in ({"instrument_id": filing_id}, {"filed_as": filing_id}):
            query = {
                **who,
                "$or": [
                    {"created_at": {"$gte": begin, "$lt": end}},
                    {"backup_base_path": {"$regex": f"(^|/){there}(/|$)"}},
                ],
            }
            found += [str(document["_id"]) for document in self._collection.find(query, {"_id": 1})]
        return found

    def in_status(self, instrument_id: str, statuses: Collection[Status]) -> list[RawFile]:
        query = {"instrument_id": instrument_id, "status": {"$in": sorted(statuses)}}
        return readable(self._collection.find(query, {"history": 0}), self._members)

    def due_again(self, instrument_id: str, now: datetime) -> list[RawFile]:
        """Files in status `error` whose failed step is to be tried again by itself."""
        query = {
            "instrument_id": instrument_id,
            "status": Status.ERROR,
            "retry_at": {"$lte": now},
        }
        return readable(self._collection.find(query, {"history": 0}), self._members)

    def latest(
        self,
        instrument_ids: Sequence[str],
        *,
        statuses: Collection[Status] = tuple(Status),
        project_id: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
    ) -> list[RawFile]:
        """The newest files of some instruments, newest first; without their history.

        Args:
            since: only those that were made then or later.
        """
        found: list[RawFile] = []
        for query in _chosen(instrument_ids, statuses, project_id, since):
            documents = self._collection.find(query, {"history": 0})
            documents = documents.sort("created_at", DESCENDING).limit(limit)
            found.extend(parse(document, self._members) for document in documents)
        return sorted(found, key=lambda item: item.created_at, reverse=True)[:limit]

    def ids(
        self,
        instrument_ids: Sequence[str],
        *,
        statuses: Collection[Status] = tuple(Status),
        project_id: str | None = None,
        since: datetime | None = None,
    ) -> list[str]:
        """The ids of all that `latest` would give without a limit, newest first."""
        found = [
            (document["created_at"], str(document["_id"]))
            for query in _chosen(instrument_ids, statuses, project_id, since)
            for document in self._collection.find(query, {"created_at": 1})
            if isinstance(document.get("created_at"), datetime)
        ]
        return [file_id for _, file_id in sorted(found, reverse=True)]

    def count_by_status(self, instrument_id: str) -> dict[Status, int]:
        counts = {
            status: self._collection.count_documents(
                {"instrument_id": instrument_id, "status": status}
            )
            for status in Status
        }
        return {status: count for status, count in counts.items() if count}


def _chosen(
    instrument_ids: Sequence[str],
    statuses: Collection[Status],
    project_id: str | None,
    since: datetime | None,
) -> Iterator[Document]:
    """A query for each instrument, which an index serves."""
    for instrument_id in instrument_ids:
        query: Document = {"instrument_id": instrument_id}
        if set(statuses) != set(Status):
            query["status"] = {"$in": sorted(statuses)}
        if project_id is not None:
            query["project_id"] = project_id
        if since is not None:
            query["created_at"] = {"$gte": since}
        yield query


def _batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
