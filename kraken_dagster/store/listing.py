"""Lists of raw files for programs, in pages: newest first, by an index and never by an offset."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo import DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.store.errors import translated

# Large databases take minutes for one; they are made beside the work (`make_indexes`).
INDEXES = (
    IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
    IndexModel([("project_id", DESCENDING), ("created_at", DESCENDING)]),
)
_INDEX_WITHIN_S = 24 * 3600
_AT_ONCE = 100  # `$in` over more costs the embedded server more than it saves
_END = datetime(9999, 12, 31, tzinfo=UTC)

Document = dict[str, Any]


@translated
class Listing:
    """Files that have a date; one without, which no Kraken writes, is in no list."""

    def __init__(self, database: "Database[Document]") -> None:
        self._files: MongoCollection[Document] = database["raw_file"]

    def make_indexes(self) -> None:
        """Returns when they are there. Since MongoDB 4.2 a build holds up nobody's work."""
        with pymongo.timeout(_INDEX_WITHIN_S):
            for index in INDEXES:
                self._files.create_indexes([index])

    def newest_first(
        self,
        query: Mapping[str, Any],
        *,
        fields: Sequence[str],
        after: tuple[datetime, str] | None = None,
        batch: int,
    ) -> Iterator[list[Document]]:
        """Batches of files by (`created_at`, `_id`), greatest first, and short ones as they come.

        Args:
            query: of exact values and `$in`; a period as `created_at`.
            after: where the last page has ended.
            batch: documents that are read at a time.
        """
        wanted = dict.fromkeys((*fields, "created_at"), 1)
        period: Document = dict(query.get("created_at", {}))
        before = period.pop("$lte", None)
        period["$lt"] = _END
        if after is not None:
            at, last_id = after
            ties = self._of_moment(query, at, wanted)
            yield [item for item in ties if str(item["_id"]) < last_id]
            before, period = None, {**period, "$lt": at}
        if before is not None:
            period["$lte"] = before
        while True:
            found = self._files.find({**query, "created_at": period}, wanted)
            documents = list(found.sort("created_at", DESCENDING).limit(batch))
            if not documents:
                return
            # Files of the last moment may go on beyond the batch; they are read for themselves.
            last = documents[-1]["created_at"]
            whole = [item for item in documents if item["created_at"] != last]
            yield _sorted(whole) + self._of_moment(query, last, wanted)
            period = {**period, "$lt": last}

    def _of_moment(
        self, query: Mapping[str, Any], at: datetime, wanted: Document
    ) -> list[Document]:
        period = query.get("created_at", {})
        if at < period.get("$gte", at) or at > period.get("$lte", at):
            return []
        return _sorted(list(self._files.find({**query, "created_at": at}, wanted)))

    def documents(self, raw_file_ids: Sequence[str]) -> dict[str, Document]:
        """Whole documents but for what is long, by id."""
        found: dict[str, Document] = {}
        for start in range(0, len(raw_file_ids), _AT_ONCE):
            query = {"_id": {"$in": list(raw_file_ids[start : start + _AT_ONCE])}}
            for item in self._files.find(query, {"history": 0, "file_info": 0}):
                found[str(item["_id"])] = item
        return found


def _sorted(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda item: (item["created_at"], str(item["_id"])), reverse=True)
