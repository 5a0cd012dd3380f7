"""The collection `instrument` (ours): each instrument's identity; and what belongs to one at all.

`raw_file` and `quant_job` name their instrument in each document: what a rename changes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.model.files.identity import Elsewhere, Identity
from kraken_dagster.model.jobs.report import OPEN_STATES
from kraken_dagster.model.raw_file import BACKED_UP, FINAL, RawFile, Status
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.documents import IDENTITY, known_file, parse
from kraken_dagster.store.raw_files.history import appended, event_of
from kraken_dagster.store.raw_files.members import MemberLists

_AT_ONCE = 100

Document = dict[str, Any]


@translated
class Instruments:
    def __init__(self, database: "Database[Document]", members: MemberLists) -> None:
        self._members = members
        self._identities: MongoCollection[Document] = database["instrument"]
        self._raw_files: MongoCollection[Document] = database["raw_file"]
        self._jobs: MongoCollection[Document] = database["quant_job"]

    def get(self, instrument_id: str) -> Identity | None:
        found = self._identities.find_one({"_id": instrument_id})
        return None if found is None else Identity.model_validate(found)

    def all(self) -> dict[str, Identity]:
        found = map(Identity.model_validate, self._identities.find({}))
        return {item.id: item for item in found}

    def set(self, instrument_id: str, **fields: Any) -> None:
        """Changes what is recorded of an instrument; None takes a field away."""
        kept = {name: value for name, value in fields.items() if value is not None}
        gone = {name: "" for name, value in fields.items() if value is None}
        change = {"$set": kept, "$unset": gone}
        self._identities.update_one(
            {"_id": instrument_id},
            {name: value for name, value in change.items() if value},
            upsert=True,
        )

    def ids(self) -> list[str]:
        """Of every instrument that has a file."""
        return sorted(str(item) for item in self._raw_files.distinct("instrument_id") if item)

    def has_files(self, instrument_id: str) -> bool:
        return self._raw_files.find_one({"instrument_id": instrument_id}, {"_id": 1}) is not None

    def elsewhere(self, instrument_id: str, names: Sequence[str]) -> dict[str, Elsewhere]:
        """Which of these names are the ids of other instruments' files, and what is known of them.

        One query for each 100 names. Ids with a flag in front are not looked for.
        """
        fields = {**IDENTITY, "instrument_id": 1, "created_at_on_disk": 1}
        fields["acquisition.seen_size"] = 1
        found: dict[str, Elsewhere] = {}
        for start in range(0, len(names), _AT_ONCE):
            query = {"_id": {"$in": list(names[start : start + _AT_ONCE])}}
            for document in self._raw_files.find(query, fields):
                created_at = document.get("created_at")
                owner = document.get("instrument_id")
                if owner in (None, instrument_id) or not isinstance(created_at, datetime):
                    continue
                seen = (document.get("acquisition") or {}).get("seen_size")
                on_disk = document.get("created_at_on_disk")
                made = created_at.timestamp() if on_disk is None else float(on_disk)
                found[str(document["_id"])] = Elsewhere(owner, made, known_file(document), seen)
        return found

    def summary(self, instrument_id: str) -> Document:
        """How many files, unfinished files, backups, and open jobs an instrument has."""
        mine: Document = {"instrument_id": instrument_id}
        return {
            "files": self._raw_files.count_documents(mine),
            "unfinished": self._raw_files.count_documents(
                {**mine, "status": {"$in": sorted(set(Status) - FINAL)}}
            ),
            "errors": self._raw_files.count_documents({**mine, "status": Status.ERROR}),
            "backups": self._raw_files.count_documents(
                {**mine, "backup_status": {"$in": sorted(BACKED_UP)}}
            ),
            "open_jobs": self._jobs.count_documents(
                {**mine, "state": {"$in": sorted(OPEN_STATES)}, "uncollected": True}
            ),
        }

    def leased(self, instrument_id: str, now: datetime) -> list[RawFile]:
        """The files that somebody holds right now."""
        query = {"instrument_id": instrument_id, "lease.until": {"$gt": now}}
        return [parse(item, self._members) for item in self._raw_files.find(query, {"history": 0})]

    def common_names(self, first: str, second: str) -> int:
        """How many original names two instruments have both."""
        names = [
            set(self._raw_files.distinct("original_name", {"instrument_id": item}))
            for item in (first, second)
        ]
        return len(names[0] & names[1])

    def refile(self, old: str, new: str, *, now: datetime, note: str) -> int:
        """Gives an instrument's files another instrument's id; how many. Those that somebody holds
        stay; so does every backup, of which the folder is recorded."""
        done, query = 0, {"instrument_id": old, **_free(now)}
        fields = {"filed_as": 1, "status": 1}
        for document in list(self._raw_files.find(query, fields)):
            done += self._refile(document, old, new, now=now, note=note)
        return done

    def _refile(self, document: Mapping[str, Any], old: str, new: str, **what: Any) -> int:
        filed_as = document.get("filed_as") or old
        place: Document = {"$set": {"filed_as": filed_as}}
        if filed_as == new:  # it comes back to the id that its folder has
            place = {"$set": {}, "$unset": {"filed_as": ""}}
        status, now = document.get("status"), what["now"]
        event = {**event_of(now, None, Status.DONE, what["note"]), "from": status, "to": status}
        place["$set"] |= {"instrument_id": new, "updated_at_": now}
        result = self._raw_files.update_one(
            {"_id": document["_id"], "instrument_id": old, **_free(now)},
            {**place, "$push": appended(event)},
        )
        return result.modified_count

    def refile_jobs(self, old: str, new: str) -> int:
        result = self._jobs.update_many({"instrument_id": old}, {"$set": {"instrument_id": new}})
        return result.modified_count


def _free(now: datetime) -> Document:
    """What nobody holds."""
    return {"$or": [{"lease": None}, {"lease.until": {"$lte": now}}]}
