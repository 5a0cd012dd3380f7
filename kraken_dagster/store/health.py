"""The collection `kraken_status`: how every instrument and file system is, right now."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.collection import Collection as MongoCollection

from kraken_dagster.model.files.folder import LeftAlone
from kraken_dagster.model.raw_file import short_details
from kraken_dagster.store.errors import translated

OK = "ok"
WARNING = "warning"
ERROR = "error"
INSTRUMENT = "instrument"
FILE_SYSTEM = "file_system"
JOB = "job"
_LEFT_ALONE_AT_MOST = 200

Document = dict[str, Any]


OFFSITE_COPIES = "offsite copies"  # with a space, which no instrument's id has


@translated
class HealthRecords:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def get(self, entity_id: str) -> Document | None:
        return self._collection.find_one({"_id": entity_id})

    def well(
        self,
        instrument_id: str,
        *,
        details: str,
        free_bytes: int,
        total_bytes: int = 0,
        left_alone: Sequence[LeftAlone],
        problem: str | None = None,
        blind_since: datetime | None = None,
        had_entries: bool = True,
        clock_difference_s: float | None = None,
        now: datetime,
    ) -> list[LeftAlone]:
        """Records a look that worked; returns what was left alone for the first time.

        Args:
            problem: of the share, of which the look could see a part only, or nothing.
            blind_since: when it began to show nothing that is known.
            had_entries: whether anything stood there when it last showed something.
            clock_difference_s: of the instrument's clock from ours, where it is known to differ.
        """
        before = {item["name"] for item in (self.get(instrument_id) or {}).get("left_alone", ())}
        left_alone = left_alone[:_LEFT_ALONE_AT_MOST]
        kept = [{"name": _printable(item.name), "reason": item.reason} for item in left_alone]
        fields: Document = {} if problem is None else {"last_error_occurred_at": now}
        self._set(
            instrument_id,
            status=OK if problem is None else ERROR,
            status_details=short_details(problem or details),
            **_space(free_bytes, total_bytes),
            left_alone=kept,
            blind_since=blind_since,
            had_entries=had_entries,
            clock_difference_s=clock_difference_s,
            updated_at_=now,
            **fields,
        )
        return [item for item in left_alone if _printable(item.name) not in before]

    def still_well(
        self, instrument_id: str, *, free_bytes: int, total_bytes: int, now: datetime
    ) -> bool:
        """Records a look that found everything as `well` was told of it; False where it is said
        not to be well, or nothing is known."""
        found = self._collection.update_one(
            {"_id": instrument_id, "status": OK},
            {"$set": {**_space(free_bytes, total_bytes), "updated_at_": now}},
        )
        return found.matched_count == 1

    def unwell(self, instrument_id: str, *, details: str, now: datetime) -> None:
        self._set(
            instrument_id,
            status=ERROR,
            status_details=short_details(details),
            updated_at_=now,
            last_error_occurred_at=now,
        )

    def change_times(self, instrument_id: str, *, held: bool) -> None:
        """Counts how often in a row change times differed while the bytes did not."""
        change: Document = {"$inc": {"ctimes_restless": 1}}
        if held:
            change = {"$set": {"ctimes_restless": 0}}
        self._collection.update_one({"_id": instrument_id}, change)

    def file_system(self, name: str) -> Document | None:
        return self.get(_file_system_id(name))

    def file_system_well(
        self, name: str, *, free_bytes: int, total_bytes: int, now: datetime
    ) -> None:
        self._set(
            _file_system_id(name),
            entity_type=FILE_SYSTEM,
            status=OK,
            status_details=f"{free_bytes / 1024**3:.1f} of {total_bytes / 1024**3:.1f} GB are free",
            **_space(free_bytes, total_bytes),
            updated_at_=now,
        )

    def file_system_unwell(self, name: str, *, details: str, now: datetime) -> None:
        self._set(
            _file_system_id(name),
            entity_type=FILE_SYSTEM,
            status=ERROR,
            status_details=short_details(details),
            updated_at_=now,
            last_error_occurred_at=now,
        )

    def may_show(self, known: Document, *, every: timedelta, now: datetime) -> bool:
        """Whether an entity's metrics are to be shown anew; of several who ask at once one may."""
        before = known.get("shown_at")
        if isinstance(before, datetime) and now - before < every:
            return False
        result = self._collection.update_one(
            {"_id": known["_id"], "shown_at": before}, {"$set": {"shown_at": now}}
        )
        return result.modified_count == 1

    def disk(self, instrument_id: str) -> Document | None:
        """How the last purge of the instrument's disk ended."""
        return self.get(_disk_id(instrument_id))

    def disk_purged(
        self,
        instrument_id: str,
        *,
        details: str,
        enough: bool,
        free_bytes: int | None,
        now: datetime,
    ) -> None:
        """Records a purge; `enough`: as much is free as shall be."""
        self._set(
            _disk_id(instrument_id),
            entity_type=JOB,
            status=OK if enough else WARNING,
            status_details=short_details(details),
            free_space_gb=None if free_bytes is None else round(free_bytes / 1024**3, 3),
            updated_at_=now,
        )

    def offsite(self) -> Document | None:
        """Whether the server of the second copies answers, and takes uploads."""
        return self.get(OFFSITE_COPIES)

    def offsite_seen(self, *, details: str, is_well: bool, now: datetime) -> None:
        error = {} if is_well else {"last_error_occurred_at": now}
        self._set(
            OFFSITE_COPIES,
            entity_type=JOB,
            status=OK if is_well else ERROR,
            status_details=short_details(details),
            updated_at_=now,
            **error,
        )

    def engine(self, name: str) -> Document | None:
        return self.get(_engine_id(name))

    def engine_refusal(self, name: str, location: str) -> Document | None:
        """Why one code location can't ask the engine: `failures`, `ask_again_at`, and in words."""
        return self.get(_refusal_id(name, location))

    def engine_refused(
        self,
        name: str,
        location: str,
        *,
        details: str,
        failures: int,
        ask_again_at: datetime,
        now: datetime,
    ) -> None:
        self._set(
            _refusal_id(name, location),
            entity_type=JOB,
            status=ERROR,
            status_details=short_details(details),
            location=location,
            failures=failures,
            ask_again_at=ask_again_at,
            updated_at_=now,
        )

    def engine_reached(self, name: str, location: str) -> None:
        self._collection.delete_one({"_id": _refusal_id(name, location)})

    def engine_refusals(self, name: str, *, since: datetime) -> list[Document]:
        """Of all code locations, those that are not older."""
        of_engine = {"$regex": f"^{re.escape(_refusal_id(name, ''))}"}
        return list(self._collection.find({"_id": of_engine, "updated_at_": {"$gte": since}}))

    def engine_well(
        self, name: str, *, details: str, blocked: bool, location: str, now: datetime
    ) -> None:
        """Records an answer; `blocked`: jobs wait for what waiting doesn't cure."""
        self._set(
            _engine_id(name),
            entity_type=JOB,
            status=WARNING if blocked else OK,
            status_details=short_details(details),
            failures=0,
            ask_again_at=None,
            asked_by=location,
            updated_at_=now,
        )

    def engine_unwell(
        self, name: str, *, details: str, failures: int, ask_again_at: datetime, now: datetime
    ) -> None:
        self._set(
            _engine_id(name),
            entity_type=JOB,
            status=ERROR,
            status_details=short_details(details),
            failures=failures,
            ask_again_at=ask_again_at,
            asked_by=None,
            updated_at_=now,
            last_error_occurred_at=now,
        )

    def _set(self, entity_id: str, *, entity_type: str = INSTRUMENT, **fields: Any) -> None:
        self._collection.update_one(
            {"_id": entity_id}, {"$set": {**fields, "entity_type": entity_type}}, upsert=True
        )


def _space(free_bytes: int, total_bytes: int) -> Document:
    return {
        "free_space_gb": round(free_bytes / 1024**3, 3),
        "total_space_gb": round(total_bytes / 1024**3, 3),
    }


def _file_system_id(name: str) -> str:
    return f"file system {name}"


def _disk_id(instrument_id: str) -> str:
    return f"purge {instrument_id}"


def _engine_id(name: str) -> str:
    return f"engine {name}"  # with a space, which no instrument's id has


def _refusal_id(name: str, location: str) -> str:
    return f"{_engine_id(name)} from {location}"


def _printable(name: str) -> str:
    """A name as a database can hold it: bytes that are no UTF-8 are shown as such."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
