"""What archiving, purging and verifying ask of the collection `raw_file`, and write there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection

from kraken_dagster.model.errors import LeaseLost, StatusConflict
from kraken_dagster.model.files.appearance import Appearance
from kraken_dagster.model.files.marks import SourceLook
from kraken_dagster.model.raw_file import (
    AFTER_BACKUP,
    BACKED_UP,
    InstrumentFileStatus,
    Lease,
    RawFile,
    short_details,
)
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.documents import DATES, dated_id, parse, readable
from kraken_dagster.store.raw_files.history import appended, event_of
from kraken_dagster.store.raw_files.members import MemberLists

INDEXES = (
    IndexModel(
        [
            ("instrument_id", ASCENDING),
            ("instrument_file_status", ASCENDING),
            ("created_at", ASCENDING),
        ]
    ),
    IndexModel([("instrument_id", ASCENDING), ("archive.at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("purge.at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("purge_intent.began_at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("verified_at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("source_differs_at", ASCENDING)]),
)
# AlphaKraken writes `new` where Kraken writes `initial`.
_INITIAL = (InstrumentFileStatus.INITIAL.value, "new")
# AlphaKraken's older documents tell of a backup by their status alone.
_MAY_HAVE_BACKUP: tuple[dict[str, Any], ...] = (
    {"backup_status": {"$in": sorted(BACKED_UP)}},
    {"backup_status": None, "status": {"$in": sorted(AFTER_BACKUP)}},
)
_AT_ONCE = 100  # `$in` over more values costs the embedded server more than it saves
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
REFUSALS = ("archive", "purge")

Document = dict[str, Any]


@dataclass(frozen=True)
class ProofAge:
    """When a file's backup was last proven; None where no proof is recorded."""

    raw_file_id: str
    verified_at: datetime | None


@translated
class Retention:
    def __init__(
        self,
        collection: "MongoCollection[Document]",
        members: MemberLists,
    ) -> None:
        self._collection = collection
        self._members = members

    def to_move(
        self, instrument_id: str, *, now: datetime, failed_too: bool = False
    ) -> list[RawFile]:
        """Files that stand where the instrument left them, oldest first; without their history.

        None with trouble whose time hasn't come again, nor one without a backup, unless
        `failed_too`.
        """
        found: list[RawFile] = []
        backups: Sequence[Document] = [{}] if failed_too else _MAY_HAVE_BACKUP
        for status, backup in product(_INITIAL, backups):
            query = {"instrument_id": instrument_id, "instrument_file_status": status, **backup}
            for refusal in ({"archive.retry_at": None}, {"archive.retry_at": {"$lte": now}}):
                documents = self._collection.find({**query, **refusal}, {"history": 0})
                found.extend(readable(documents, self._members))
        return sorted(found, key=lambda item: item.dated_at)

    def moved(
        self, instrument_id: str, *, created_before: datetime | None = None
    ) -> Iterator[RawFile]:
        """Files that were archived, oldest first; without their history.

        Args:
            created_before: only those made, and first seen, before this.

        First their ids and dates, which are sorted here: the embedded server takes as long for a
        sorted page as for all of them, and a date may be one that can't be. The documents then are
        read some at a time, as they are needed.
        """
        query: Document = {
            "instrument_id": instrument_id,
            "instrument_file_status": InstrumentFileStatus.MOVED,
        }
        found = sorted(map(dated_id, self._collection.find(query, DATES)))
        ids = [
            raw_file_id
            for date, raw_file_id in found
            if created_before is None or date <= created_before
        ]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            documents = self._collection.find({**query, "_id": {"$in": some}}, {"history": 0})
            yield from readable(sorted(documents, key=dated_id), self._members)

    def purge_begun(self, instrument_id: str) -> list[RawFile]:
        """Files whose purge was begun and not recorded as done."""
        query = {"instrument_id": instrument_id, "purge_intent.began_at": {"$gte": _EVER}}
        return readable(self._collection.find(query, {"history": 0}), self._members)

    def troubled(self, instrument_id: str) -> list[RawFile]:
        """Files that can't be archived or purged, the longest first; without their history."""
        found: dict[str, RawFile] = {}
        for field in REFUSALS:
            query = {"instrument_id": instrument_id, f"{field}.at": {"$gte": _EVER}}
            documents = self._collection.find(query, {"history": 0})
            for item in readable(documents, self._members):
                found[item.id] = item
        return sorted(found.values(), key=lambda item: min(_times(item)))

    def proofs(self, instrument_id: str, *, before: datetime | None = None) -> list[ProofAge]:
        """All files of an instrument by the age of their proof, those without any first.

        With `before` only those that were not proven since.
        """
        query: Document = {"instrument_id": instrument_id}
        wanted: list[Document] = [{**query, "verified_at": None}]
        wanted.append({**query, "verified_at": {"$gte": _EVER}})
        if before is not None:
            wanted[1]["verified_at"]["$lt"] = before
        found = []
        for one in wanted:
            documents = self._collection.find(one, {"verified_at": 1, **DATES})
            found.extend(sorted(documents, key=_age_of_proof))
        return [ProofAge(str(item["_id"]), item.get("verified_at")) for item in found]

    def note(
        self, raw_file: RawFile, field: str, refusal: Refusal, *, now: datetime, run_id: str | None
    ) -> None:
        """Keeps what stands in the way of moving or purging; in the history if it is news.

        Nothing is noted of a file that another run has moved, or purged, meanwhile.
        """
        before: Refusal | None = getattr(raw_file, field)
        changes: Document = {"$set": {field: refusal.model_dump()}}
        if before is None or before.problem != refusal.problem:
            reason = short_details(refusal.in_words())
            event = event_of(now, raw_file.status, raw_file.status, reason, run_id=run_id)
            changes["$push"] = appended(event)
        query = {"_id": raw_file.id, "instrument_file_status": {"$in": _as_stored(raw_file)}}
        self._collection.update_one(query, changes)

    def clear(
        self, raw_file: RawFile, *, now: datetime, note: str, fields: Sequence[str] = REFUSALS
    ) -> RawFile:
        """Forgets what stood in the way, of a move, a purge or both."""
        event = event_of(now, raw_file.status, raw_file.status, short_details(note))
        self._collection.update_one(
            {"_id": raw_file.id},
            {"$unset": dict.fromkeys(fields, ""), "$push": appended(event)},
        )
        return self._get(raw_file.id)

    def to_compare(self, instrument_id: str) -> list[RawFile]:
        """Files that a look found written to since they were backed up; without their history."""
        query = {"instrument_id": instrument_id, "source_differs_at": {"$gte": _EVER}}
        return readable(self._collection.find(query, {"history": 0}), self._members)

    def source_differs(self, raw_file_id: str, recorded: float, *, now: datetime) -> None:
        """Asks for a comparison of a file whose recorded time of the last write is this."""
        self._collection.update_one(
            {"_id": raw_file_id, "source_look.mtime": recorded, "source_differs_at": None},
            {"$set": {"source_differs_at": now}},
        )

    def source_seen(
        self, raw_file: RawFile, scan: SourceLook | None, *, lease: Lease, over: bool = True
    ) -> None:
        """Records how a source looks whose bytes were compared; `over`: none is asked for now."""
        fields: Document = {} if scan is None else {"source_look": scan.model_dump()}
        if over:
            fields["source_differs_at"] = None
        if fields:
            query = {"_id": raw_file.id, "lease.token": lease.token}
            self._collection.update_one(query, {"$set": fields})

    def intend_purge(self, raw_file: RawFile, intent: Mapping[str, Any], *, lease: Lease) -> None:
        """Records, while the lease is held, that everything is proven and is now deleted."""
        result = self._collection.update_one(
            {
                "_id": raw_file.id,
                "lease.token": lease.token,
                "instrument_file_status": InstrumentFileStatus.MOVED,
            },
            {"$set": {"purge_intent": dict(intent)}},
        )
        if result.matched_count == 0:
            self._explain(raw_file, lease)

    def set_instrument_file(
        self,
        raw_file: RawFile,
        new: InstrumentFileStatus,
        *,
        now: datetime,
        reason: str,
        run_id: str | None,
        lease: Lease,
        fields: Mapping[str, Any] | None = None,
    ) -> RawFile:
        """Records what became of the file on the instrument, by compare-and-set.

        Raises:
            StatusConflict: it is another one by now.
            LeaseLost: the lease has been taken over.
        """
        event = event_of(
            now, raw_file.status, raw_file.status, short_details(reason), run_id=run_id
        )
        result = self._collection.update_one(
            {
                "_id": raw_file.id,
                "lease.token": lease.token,
                "instrument_file_status": {"$in": _as_stored(raw_file)},
            },
            {
                "$set": {"instrument_file_status": new, "updated_at_": now, **(fields or {})},
                "$unset": dict.fromkeys(
                    ("archive", "purge", "purge_intent", "source_differs_at"), ""
                ),
                "$push": appended({**event, "instrument_file": new}),
            },
        )
        if result.matched_count == 0:
            self._explain(raw_file, lease)
        return self._get(raw_file.id)

    def proven(self, raw_file: RawFile, *, now: datetime, seen: Appearance | None = None) -> None:
        """Records that every byte of the backup was what was recorded, and how it looked then."""
        fields: Document = {"verified_at": now}
        if seen is not None:
            fields["backup_seen"] = seen.model_dump()
        self._collection.update_one({"_id": raw_file.id}, {"$set": fields})

    def seen(self, raw_file: RawFile, seen: Appearance) -> None:
        """Records how the backup looks."""
        fields = {"backup_seen": seen.model_dump()}
        self._collection.update_one({"_id": raw_file.id}, {"$set": fields})

    def _get(self, raw_file_id: str) -> RawFile:
        document = self._collection.find_one({"_id": raw_file_id})
        if document is None:
            raise StatusConflict("The document is gone from MongoDB", file=raw_file_id)
        return parse(document, self._members)

    def _explain(self, raw_file: RawFile, lease: Lease) -> None:
        current = self._get(raw_file.id)
        if current.lease is None or current.lease.token != lease.token:
            raise LeaseLost(
                "Another run has taken this file over",
                file=raw_file.id,
                next_step="nothing: that other run goes on with it.",
            )
        raise StatusConflict(
            "Somebody else changed what is recorded of the file on the instrument",
            file=raw_file.id,
            expected=raw_file.instrument_file_status,
            found=current.instrument_file_status,
            next_step="nothing: what is due follows from what is recorded now.",
        )


def _as_stored(raw_file: RawFile) -> list[str | None]:
    """What the document may say where the file is as it is here."""
    status = raw_file.instrument_file_status
    return list(_INITIAL) if status is InstrumentFileStatus.INITIAL else [status]


def _times(raw_file: RawFile) -> list[datetime]:
    return [item.at for item in (raw_file.archive, raw_file.purge) if item is not None]


def _age_of_proof(document: Document) -> datetime:
    proven = document.get("verified_at")
    return proven if isinstance(proven, datetime) else dated_id(document)[0]
