"""Lists of raw files for programs, in pages: newest first, by an index and never by an offset."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
_BEGIN, _END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_MOMENT = timedelta(milliseconds=1)  # what MongoDB's dates tell apart
_FIRST_PERIOD, _WIDER = timedelta(hours=4), 4

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
        now: datetime,
    ) -> Iterator[list[Document]]:
        """Batches of files by (`created_at`, `_id`), greatest first, and short ones as they come.

        They are looked for in one period after the other, from now on back, each wider than the
        one before: the embedded server reads and sorts whatever stands in a period.

        Args:
            query: of exact values and `$in`; a period as `created_at`.
            after: where the last page has ended.
            batch: documents that are read at a time.
            now: where the first period ends that is not of the future.
        """
        wanted = dict.fromkeys((*fields, "created_at"), 1)
        low, before, rest = _bounds(query)
        if after is not None:
            yield self._left_of_moment(rest, after, (low, before), wanted)
            before = min(before, after[0])
        width = _FIRST_PERIOD
        while before > low:
            begin = _begin(before, low, width if before <= now else before - now)
            period = {"created_at": {"$gte": begin, "$lt": before}}
            found = self._files.find({**period, **rest}, wanted)
            documents = list(found.sort("created_at", DESCENDING).limit(batch))
            if len(documents) < batch:
                yield _sorted(documents)
                width *= 1 if before > now else _WIDER
                before = begin
                continue
            # Files of the last moment may go on beyond the batch; they are read for themselves.
            before = documents[-1]["created_at"]
            whole = [item for item in documents if item["created_at"] != before]
            yield _sorted(whole) + self._of_moment(rest, before, wanted)

    def _left_of_moment(
        self,
        rest: Document,
        after: tuple[datetime, str],
        bounds: tuple[datetime, datetime],
        wanted: Document,
    ) -> list[Document]:
        """The files of the moment at which the last page has ended that were not on it."""
        at, last_id = after
        if not bounds[0] <= at < bounds[1]:
            return []
        return [item for item in self._of_moment(rest, at, wanted) if str(item["_id"]) < last_id]

    def _of_moment(self, rest: Document, at: datetime, wanted: Document) -> list[Document]:
        return _sorted(list(self._files.find({"created_at": at, **rest}, wanted)))

    def documents(self, raw_file_ids: Sequence[str]) -> dict[str, Document]:
        """Whole documents but for what is long, by id."""
        found: dict[str, Document] = {}
        for start in range(0, len(raw_file_ids), _AT_ONCE):
            query = {"_id": {"$in": list(raw_file_ids[start : start + _AT_ONCE])}}
            for item in self._files.find(query, {"history": 0, "file_info": 0, "file_digests": 0}):
                found[str(item["_id"])] = item
        return found


def _begin(before: datetime, low: datetime, width: timedelta) -> datetime:
    return before - width if before - low > width else low


def _bounds(query: Mapping[str, Any]) -> tuple[datetime, datetime, Document]:
    """The first moment and the one after the last, and the other conditions. One value instead of
    a list of one: so the embedded server finds the index with both."""
    period = query.get("created_at", {})
    before = min(period.get("$lte", _END), _END - _MOMENT) + _MOMENT
    rest = {name: value for name, value in query.items() if name != "created_at"}
    for name, value in rest.items():
        if isinstance(value, Mapping) and len(value.get("$in", ())) == 1:
            rest[name] = value["$in"][0]
    return period.get("$gte", _BEGIN), before, rest


def _sorted(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda item: (item["created_at"], str(item["_id"])), reverse=True)
