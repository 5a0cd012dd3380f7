"""What uploads ask of the collection `raw_file` and write there; and `offsite_object` (ours): one
document for each member that was uploaded.

`backup_status` tells of both copies, as AlphaKraken has it. A word of an upload is written only
where the local backup counts as one, so that it never hides a backup that was lost or damaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.database import Database

from kraken_dagster.model.offsite import (
    BegunUpload,
    ColdRequest,
    OffsiteState,
    OffsiteStatus,
    StoredObject,
)
from kraken_dagster.model.raw_file import (
    AFTER_BACKUP,
    BACKED_UP,
    BackupStatus,
    FileFact,
    RawFile,
    short_details,
)
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.documents import parse, readable
from kraken_dagster.store.raw_files.history import appended, event_of
from kraken_dagster.store.raw_files.members import MemberLists, recorded

INDEXES = (
    IndexModel(
        [
            ("instrument_id", ASCENDING),
            ("backup_status", ASCENDING),
            ("offsite.retry_at", ASCENDING),
        ]
    ),
)
OBJECT_INDEXES = (IndexModel([("raw_file", ASCENDING)]),)
_UPLOAD_BEGUN = [BackupStatus.UPLOAD_IN_PROGRESS, BackupStatus.UPLOAD_FAILED]
_TRIES = 5  # to write what somebody else writes to at the same moment

Document = dict[str, Any]


@dataclass(frozen=True)
class CopyAge:
    """When a copy was last seen, and last read back; its size in bytes."""

    raw_file_id: str
    bytes: int
    seen_at: datetime | None
    verified_at: datetime | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "CopyAge":
        known = document["offsite"]
        return cls(
            document["_id"],
            int(known.get("bytes") or 0),
            known.get("seen_at"),
            known.get("verified_at"),
        )


@translated
class OffsiteCopies:
    def __init__(self, database: "Database[Document]", members: MemberLists) -> None:
        self._collection = database["raw_file"]
        self._objects = database["offsite_object"]
        self._begun = database["offsite_upload"]
        self._read = database["offsite_read"]
        self._members = members

    def due(self, instrument_id: str, now: datetime, *, limit: int) -> list[RawFile]:
        """Files with a local backup and no copy off-site of it, without their history.

        Those that AlphaKraken has uploaded are among them: which version it was it doesn't tell.
        One that failed for what time doesn't cure has no time for the next try, and is not.
        """
        is_later = {"offsite.retry_at": {"$lte": now}}
        not_later = {"$or": [{"offsite.retry_at": None}, is_later]}
        not_failed = {"offsite.retry_at": None, "offsite.status": {"$ne": OffsiteStatus.FAILED}}
        wanted: list[Document] = [
            {"backup_status": BackupStatus.COPYING_DONE, **not_later},
            {"backup_status": {"$in": _UPLOAD_BEGUN}, "$or": [not_failed, is_later]},
            {"backup_status": BackupStatus.UPLOAD_DONE, "offsite": None},
            {"backup_status": None, "status": {"$in": sorted(AFTER_BACKUP)}, **not_later},
        ]
        found: list[RawFile] = []
        for query in wanted:
            query["instrument_id"] = instrument_id
            documents = self._collection.find(query, {"history": 0}).limit(limit)
            found += [
                item for item in readable(documents, self._members) if item.unreadable is None
            ]
        backed_up = [item for item in found if item.is_backed_up and item.file_info]
        return sorted(backed_up, key=lambda item: item.dated_at)[:limit]

    def waits(self, raw_file: RawFile, problem: str, *, now: datetime) -> None:
        """Records why no upload is begun, once for each reason; how the last one was stays."""
        note = short_details(f"not uploaded yet: {problem}")
        event = event_of(now, raw_file.status, raw_file.status, note)
        self._collection.update_one(
            {"_id": raw_file.id, "offsite_waits_for": {"$ne": problem}},
            {"$set": {"offsite_waits_for": problem}, "$push": appended(event)},
        )

    def asked_for(self, raw_file_id: str, request: ColdRequest | None) -> None:
        """Records what was asked for from cold storage; None once all of it can be read.

        The first time stays, unless all could be read meanwhile.
        """
        changes: Document = {"$unset": {"offsite_cold": ""}}
        if request is not None:
            changes = {"$set": {"offsite_cold": request.model_dump()}}
        self._collection.update_one({"_id": raw_file_id}, changes)

    def tell(
        self,
        raw_file: RawFile,
        state: OffsiteState,
        *,
        now: datetime,
        note: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Records how an upload is. Where the local backup is none any more, `backup_status` goes
        on saying so."""
        changes: Document = {
            "$set": {"offsite": state.model_dump()},
            "$unset": {"offsite_waits_for": ""},
        }
        if note is not None:
            event = event_of(now, raw_file.status, raw_file.status, note, run_id=run_id)
            changes["$push"] = appended(event)
        both = {
            **changes,
            "$set": {**changes["$set"], "backup_status": state.status, "updated_at_": now},
        }
        query: Document = {"_id": raw_file.id, "backup_status": {"$in": [None, *BACKED_UP]}}
        if self._collection.update_one(query, both).matched_count == 0:
            self._collection.update_one({"_id": raw_file.id}, changes)

    def seen(self, raw_file_id: str, state: OffsiteState) -> None:
        """Records a look at a copy that is done, unless another upload was quicker."""
        self._collection.update_one(
            {"_id": raw_file_id, "offsite.at": state.at, "offsite.status": state.status},
            {"$set": {"offsite": state.model_dump()}},
        )

    def done(
        self,
        raw_file: RawFile,
        state: OffsiteState,
        objects: Sequence[StoredObject],
        *,
        now: datetime,
        note: str,
        run_id: str | None,
    ) -> bool:
        """Records a copy that is whole, with its ETags; False where the backup it was made of is
        not the recorded one any more."""
        facts = dict(raw_file.file_info)
        for _ in range(_TRIES):
            document = self._collection.find_one({"_id": raw_file.id}, {"history": 0})
            current = None if document is None else parse(document, self._members)
            if current is None or not current.is_backed_up or not _same(current.file_info, facts):
                return False
            event = event_of(now, current.status, current.status, note, run_id=run_id)
            fields = {
                "offsite": state.model_dump(),
                "backup_status": state.status,
                "s3_upload_path": state.path,
                **recorded(_with_etags(current.file_info, objects)),
                "updated_at_": now,
            }
            changes = {
                "$set": self._members.kept(raw_file.id, fields),
                "$push": appended(event),
                "$unset": {"offsite_waits_for": ""},
            }
            query = {"_id": raw_file.id, "updated_at_": current.updated_at_}
            if self._collection.update_one(query, changes).matched_count == 1:
                return True
        return False

    def began(self, upload: BegunUpload) -> None:
        document = upload.model_dump(by_alias=True)
        self._begun.replace_one({"_id": upload.id}, document, upsert=True)

    def ended(self, upload_id: str) -> None:
        self._begun.delete_one({"_id": upload_id})

    def begun(self, raw_file_id: str) -> list[BegunUpload]:
        """Uploads in parts of a raw file that are not known to have ended."""
        return [BegunUpload(**item) for item in self._begun.find({"raw_file": raw_file_id})]

    def begun_before(self, limit: datetime) -> list[BegunUpload]:
        return [BegunUpload(**item) for item in self._begun.find({"begun_at": {"$lt": limit}})]

    def keep_object(self, raw_file_id: str, stored: StoredObject) -> None:
        """Records a member that was uploaded, in place of what was known of it before."""
        # A raw file's id has no slash, so that this is one file's.
        key = f"{raw_file_id}/{stored.path}"
        document = {"raw_file": raw_file_id, **stored.model_dump()}
        self._objects.replace_one({"_id": key}, document, upsert=True)

    def forget_object(self, raw_file_id: str, path: str) -> None:
        """Of a member whose copy is not there any more, so that it is uploaded again."""
        self._objects.delete_one({"_id": f"{raw_file_id}/{path}"})

    def copies(self, instrument_ids: Sequence[str]) -> list[CopyAge]:
        """The files of these instruments whose copy is done, and when it was last looked at."""
        query = {
            "instrument_id": {"$in": list(instrument_ids)},
            "offsite.status": OffsiteStatus.DONE,
        }
        fields = {"offsite.seen_at": 1, "offsite.verified_at": 1, "offsite.bytes": 1}
        return [CopyAge.of(item) for item in self._collection.find(query, fields)]

    def was_read(self, month: str, size: int) -> None:
        """Counts bytes that were read back from the server in a month, like `2026-03`."""
        self._read.update_one({"_id": month}, {"$inc": {"bytes": size}}, upsert=True)

    def read_in(self, month: str) -> int:
        document = self._read.find_one({"_id": month})
        return 0 if document is None else int(document["bytes"])

    def objects(self, raw_file_id: str) -> dict[str, StoredObject]:
        """The members that were uploaded, by their path."""
        found = [StoredObject.model_validate(item) for item in self._objects_of(raw_file_id)]
        return {item.path: item for item in found}

    def _objects_of(self, raw_file_id: str) -> list[Document]:
        return list(self._objects.find({"raw_file": raw_file_id}))


def _same(one: Mapping[str, FileFact], other: Mapping[str, FileFact]) -> bool:
    """Whether both are the same content, whatever ETags they have."""
    return _content(one) == _content(other)


def _content(facts: Mapping[str, FileFact]) -> dict[str, tuple[int | None, str | None]]:
    return {path: (fact.size, fact.md5) for path, fact in facts.items()}


def _with_etags(
    facts: Mapping[str, FileFact], objects: Sequence[StoredObject]
) -> dict[str, FileFact]:
    etags = {item.path: item.etag_for_record for item in objects}
    return {
        path: fact.model_copy(update={"etag": etags.get(path, fact.etag)})
        for path, fact in facts.items()
    }
