"""The collection `raw_file`: identity, status, lease and history of every raw file.

A status changes by compare-and-set on the old one; a run that works under a lease writes only
while it holds it. Every change is appended to the document's history.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from kraken_dagster.model.errors import LeaseHeld, LeaseLost, StatusConflict, UnknownRawFile
from kraken_dagster.model.files.acquisition import Watch
from kraken_dagster.model.files.dates import dated
from kraken_dagster.model.raw_file import (
    FileFact,
    InstrumentFileStatus,
    KnownFile,
    Lease,
    RawFile,
    Status,
    may_become,
    short_details,
)
from kraken_dagster.store.errors import translated
from kraken_dagster.store.members import MemberLists

INDEXES = (
    IndexModel([("instrument_id", ASCENDING), ("original_name", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("status", ASCENDING), ("retry_at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("status", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("filed_as", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("updated_at_", ASCENDING)]),
)
HISTORY_LENGTH = 100
_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
DATES = {"created_at": 1, "created_at_": 1}
# `$in` over more values than this costs the embedded server more than it saves.
_NAMES_AT_ONCE = 100
_DUPLICATE = 11000
IDENTITY = dict.fromkeys(
    (
        "original_name",
        "status",
        "size",
        "file_info",
        "instrument_file_status",
        "gone_at",
        "source_look.mtime",
        "source_differs_at",
        "created_at",
        "created_at_",
        "acquisition.looked_at",
        "acquisition.ended_size",
    ),
    1,
)

Document = dict[str, Any]


@translated
class RawFiles:
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
        limit: int = 50,
    ) -> list[RawFile]:
        """The newest files of some instruments, newest first; without their history."""
        found: list[RawFile] = []
        for instrument_id in instrument_ids:
            query: Document = {"instrument_id": instrument_id}
            if set(statuses) != set(Status):
                query["status"] = {"$in": sorted(statuses)}
            documents = self._collection.find(query, {"history": 0})
            documents = documents.sort("created_at", DESCENDING).limit(limit)
            found.extend(parse(document, self._members) for document in documents)
        return sorted(found, key=lambda item: item.created_at, reverse=True)[:limit]

    def count_by_status(self, instrument_id: str) -> dict[Status, int]:
        counts = {
            status: self._collection.count_documents(
                {"instrument_id": instrument_id, "status": status}
            )
            for status in Status
        }
        return {status: count for status, count in counts.items() if count}

    def register(self, raw_file: RawFile, *, reason: str) -> bool:
        """Adds a new raw file; False if its id is taken already."""
        try:
            self._collection.insert_one(_document_of(raw_file, reason))
        except DuplicateKeyError:
            return False
        return True

    def register_many(self, raw_files: Sequence[RawFile], *, reason: str) -> set[str]:
        """Adds new raw files; the ids of those that were added, and not taken already."""
        if not raw_files:
            return set()
        documents = [_document_of(item, reason) for item in raw_files]
        ids = [item.id for item in raw_files]
        try:
            self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            wrong = error.details["writeErrors"]
            if any(item["code"] != _DUPLICATE for item in wrong):
                raise
            return set(ids) - {ids[item["index"]] for item in wrong}
        return set(ids)

    def save_watch(self, raw_file: RawFile, watch: Watch) -> bool:
        """Keeps the monitor's state; False if another look was quicker."""
        result = self._collection.update_one(
            {
                "_id": raw_file.id,
                "status": raw_file.status,
                "acquisition.looked_at": raw_file.acquisition.get("looked_at"),
            },
            {"$set": {f"acquisition.{key}": value for key, value in watch.to_record().items()}},
        )
        return result.matched_count == 1

    def transition(
        self,
        raw_file: RawFile,
        new: Status,
        *,
        now: datetime,
        reason: str | None = None,
        run_id: str | None = None,
        lease: Lease | None = None,
        options: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> RawFile:
        """Sets a status if the file still has the one that `raw_file` shows; the file after that.

        Args:
            reason: goes into `status_details` (cut to 512 characters) and the history; None
                empties `status_details`.
            lease: the change is made only while this lease is held.
            fields: further fields that change with it.

        Raises:
            StatusConflict: the transition isn't legal, or the status is another one by now.
            LeaseLost: the lease has been taken over.
        """
        if not may_become(raw_file.status, new):
            raise StatusConflict(
                f"A file can't go from {raw_file.status} to {new}",
                file=raw_file.id,
                next_step="this is a fault in Kraken; the transitions stand in model/raw_file.py.",
            )
        query: Document = {"_id": raw_file.id, "status": raw_file.status}
        if lease is not None:
            query["lease.token"] = lease.token
        details = None if reason is None else short_details(reason)
        event = event_of(now, raw_file.status, new, details, run_id=run_id, options=options)
        kept = self._members.kept(raw_file.id, fields or {})
        changes = {"status": new, "status_details": details, "updated_at_": now, **kept}
        result = self._collection.update_one(
            query,
            {
                "$set": changes,
                "$push": {"history": {"$each": [event], "$slice": -HISTORY_LENGTH}},
            },
        )
        if result.matched_count == 0:
            self._explain_conflict(raw_file, lease)
        return self.current(raw_file.id)

    def update(
        self,
        raw_file: RawFile,
        fields: Mapping[str, Any],
        *,
        now: datetime,
        note: str,
        run_id: str | None = None,
    ) -> RawFile:
        """Changes fields other than the status, which must still be the same; the file after."""
        event = event_of(now, raw_file.status, raw_file.status, short_details(note), run_id=run_id)
        result = self._collection.update_one(
            {"_id": raw_file.id, "status": raw_file.status},
            {
                "$set": {**self._members.kept(raw_file.id, fields), "updated_at_": now},
                "$push": {"history": {"$each": [event], "$slice": -HISTORY_LENGTH}},
            },
        )
        if result.matched_count == 0:
            self._explain_conflict(raw_file, None)
        return self.current(raw_file.id)

    def next_attempt(self, raw_file: RawFile, step: str) -> int | None:
        """Counts one more attempt at a step; None if somebody else just did."""
        before = raw_file.attempts.get(step)
        after = (before or 0) + 1
        result = self._collection.update_one(
            {"_id": raw_file.id, f"attempts.{step}": before},
            {"$set": {f"attempts.{step}": after}},
        )
        return after if result.matched_count == 1 else None

    def take_lease(
        self, raw_file_id: str, lease: Lease, *, now: datetime, known: RawFile | None = None
    ) -> RawFile:
        """Takes the lease if it is free or has lapsed.

        Args:
            known: the record as it was read a moment ago, which saves reading it once more.

        Raises:
            LeaseHeld: by whom, on which host, for which step, until when.
        """
        raw_file = known or self.current(raw_file_id)
        held = raw_file.leased(now)
        if held is not None and held.run_id != lease.run_id:
            raise _held(raw_file_id, held)
        old = None if raw_file.lease is None else raw_file.lease.token
        result = self._collection.update_one(
            {"_id": raw_file_id, "lease.token": old, "updated_at_": raw_file.updated_at_}
            if known
            else {"_id": raw_file_id, "lease.token": old},
            {"$set": {"lease": lease.model_dump(), "updated_at_": now}},
        )
        if result.matched_count == 0 and known:
            return self.take_lease(raw_file_id, lease, now=now)
        if result.matched_count == 0:
            now_held = self.current(raw_file_id).lease
            raise _held(raw_file_id, now_held or lease)
        return raw_file.model_copy(update={"lease": lease})

    def renew_lease(self, raw_file_id: str, lease: Lease, until: datetime) -> bool:
        result = self._collection.update_one(
            {"_id": raw_file_id, "lease.token": lease.token}, {"$set": {"lease.until": until}}
        )
        return result.matched_count == 1

    def release_lease(self, raw_file_id: str, lease: Lease, *, now: datetime) -> None:
        self._collection.update_one(
            {"_id": raw_file_id, "lease.token": lease.token},
            {"$unset": {"lease": ""}, "$set": {"updated_at_": now}},
        )

    def _explain_conflict(self, raw_file: RawFile, lease: Lease | None) -> None:
        current = self.current(raw_file.id)
        if lease is not None and (current.lease is None or current.lease.token != lease.token):
            raise LeaseLost(
                "Another run has taken this file over",
                file=raw_file.id,
                found=f"a lease of run {current.lease.run_id}" if current.lease else "no lease",
                next_step="nothing: that other run goes on with it.",
            )
        raise StatusConflict(
            "Somebody else changed the file's status meanwhile",
            file=raw_file.id,
            expected=raw_file.status,
            found=current.status,
            next_step="nothing: what is due follows from the new status.",
        )


def _document_of(raw_file: RawFile, reason: str) -> Document:
    document = raw_file.model_dump(
        by_alias=True, exclude={"history", "file_info", "lease", "unreadable"}
    )
    document["file_info"] = {}
    document["history"] = [event_of(raw_file.created_at_, None, raw_file.status, reason)]
    return document


def readable(documents: Iterable[Document], members: MemberLists) -> list[RawFile]:
    """The documents that can be read; one that can't keeps nobody else's file from going on."""
    found = (parse(document, members) for document in documents)
    return [item for item in found if item.unreadable is None]


def parse(document: Document, members: MemberLists | None) -> RawFile:
    """A document as a model; also where other writers left fields out.

    A list of members that the document doesn't hold is read when it is needed. Without `members`
    those stand for all that the document has.

    One with a value that no Kraken writes comes back as an `error` that says so in `unreadable`.
    """
    try:
        return _parse(document, members)
    except (
        ValidationError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:
        where, reported = _what_is_unreadable(error)
        return RawFile(
            id=str(document["_id"]),
            original_name=str(document.get("original_name") or document["_id"]),
            instrument_id=str(document.get("instrument_id")),
            status=Status.ERROR,
            status_details=short_details(
                f"The document in MongoDB can't be read: {where}: {reported}. Next: correct it in "
                "MongoDB."
            ),
            unreadable=where,
            created_at=_NO_DATE,
            created_at_=_NO_DATE,
            updated_at_=_NO_DATE,
        )


def dated_id(document: Document) -> tuple[datetime, str]:
    """What files are sorted by, of a document with its `DATES`; what is no date is the oldest."""
    made, seen = document.get("created_at"), document.get("created_at_")
    first_seen = seen if isinstance(seen, datetime) else made
    if not isinstance(first_seen, datetime):
        return _NO_DATE, str(document["_id"])
    created_at = made if isinstance(made, datetime) else first_seen
    return dated(created_at, first_seen=first_seen), str(document["_id"])


def known_file(document: Document) -> KnownFile:
    """What tells a file apart; `parse` reads a document that isn't as Kraken writes it."""
    try:
        return _as_written(document)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        return KnownFile.of(parse(document, None))


def _as_written(document: Document) -> KnownFile:
    file_id, created_at, gone_at = document["_id"], document["created_at_"], document.get("gone_at")
    if not (
        isinstance(file_id, str)
        and isinstance(created_at, datetime)
        and isinstance(gone_at, datetime | None)
    ):
        raise TypeError
    place = document.get("instrument_file_status")
    acquisition = document.get("acquisition") or {}
    return KnownFile(
        file_id,
        Status(document["status"]),
        created_at,
        None if place is None else InstrumentFileStatus(place),
        gone_at is not None,
        _bytes(document.get("size")),
        {path: _bytes(fact[0]) for path, fact in (document.get("file_info") or {}).items()},
        bool(acquisition),
        acquisition.get("ended_size"),
        (document.get("source_look") or {}).get("mtime"),
        document.get("source_differs_at") is not None,
    )


def _bytes(recorded: Any) -> int | None:
    """A recorded size; members have theirs as a float."""
    size = None if recorded is None else int(recorded)
    if size != recorded:
        raise ValueError
    return size


def _what_is_unreadable(error: Exception) -> tuple[str, str]:
    """The field and what is wrong with it."""
    if not isinstance(error, ValidationError):
        return "file_info", str(error)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return where, f"{first['msg']}, found {first['input']!r}"


def _parse(document: Document, members: MemberLists | None) -> RawFile:
    created = document.get("created_at") or document.get("created_at_") or _NO_DATE
    instrument_id = document.get("instrument_id") or "unknown"
    known = {key: value for key, value in document.items() if value is not None}
    if known.get("instrument_file_status") == "new":  # AlphaKraken's word
        known["instrument_file_status"] = InstrumentFileStatus.INITIAL
    return RawFile.model_validate(
        {
            **known,
            "instrument_id": instrument_id,
            "created_at": created,
            "created_at_": document.get("created_at_") or created,
            "updated_at_": document.get("updated_at_") or created,
            "original_name": document.get("original_name") or document["_id"],
            "file_info": _members_of(document, document.get("filed_as") or instrument_id, members),
        }
    )


def _members_of(
    document: Document, instrument_id: str, members: MemberLists | None
) -> Mapping[str, FileFact]:
    elsewhere = None if members is None else members.of(document)
    if elsewhere is not None:
        return elsewhere
    return {
        _below_backup_folder(path, instrument_id): FileFact.from_record(fact or (None, None))
        for path, fact in (document.get("file_info") or {}).items()
    }


def _below_backup_folder(path: str, instrument_id: str) -> str:
    """A member's path as it is recorded now: AlphaKraken's older versions had it start at the
    backup root, with the instrument's and the month's folders."""
    return re.sub(rf"^{re.escape(instrument_id)}/\d{{4}}_\d{{2}}/", "", path)


def event_of(
    now: datetime,
    old: Status | None,
    new: Status,
    reason: str | None,
    *,
    run_id: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Document:
    event: Document = {"at": now, "from": old, "to": new, "reason": reason, "run_id": run_id}
    return {**event, "options": dict(options)} if options else event


def _held(raw_file_id: str, lease: Lease) -> LeaseHeld:
    return LeaseHeld(
        "Another run works on this file",
        file=raw_file_id,
        found=f"run {lease.run_id} on {lease.host}, step {lease.step}, until {lease.until:%H:%M:%S}"
        " UTC",
        next_step="nothing: that run goes on; if it dies its lease lapses and the file is due "
        "again.",
    )


def _batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
