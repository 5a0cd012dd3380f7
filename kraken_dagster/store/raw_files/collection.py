"""Changes documents of the collection `raw_file`: status, lease, attempts and the monitor's state.

A status changes by compare-and-set on the old one; a run that works under a lease writes only
while it holds it. Every change is appended to the document's history.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError

from kraken_dagster.model.errors import LeaseHeld, LeaseLost, StatusConflict
from kraken_dagster.model.files.acquisition import Watch
from kraken_dagster.model.raw_file import Lease, RawFile, Status, short_details
from kraken_dagster.model.transitions import may_become
from kraken_dagster.store.errors import translated
from kraken_dagster.store.raw_files.history import appended, event_of
from kraken_dagster.store.raw_files.queries import RawFileQueries

INDEXES = (
    IndexModel([("instrument_id", ASCENDING), ("original_name", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("status", ASCENDING), ("retry_at", ASCENDING)]),
    IndexModel([("instrument_id", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("status", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("filed_as", ASCENDING), ("created_at", ASCENDING)]),
    IndexModel([("updated_at_", ASCENDING)]),
)
_DUPLICATE = 11000

Document = dict[str, Any]


@translated
class RawFiles(RawFileQueries):
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
                next_step="this is a fault in Kraken; see model/transitions.py.",
            )
        details = None if reason is None else short_details(reason)
        event = event_of(now, raw_file.status, new, details, run_id=run_id, options=options)
        changes = {"status": new, "status_details": details, "updated_at_": now}
        return self._change(raw_file, {**changes, **(fields or {})}, event, lease)

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
        return self._change(raw_file, {**fields, "updated_at_": now}, event, None)

    def _change(
        self, raw_file: RawFile, fields: Mapping[str, Any], event: Document, lease: Lease | None
    ) -> RawFile:
        """Sets fields while the file has the status that `raw_file` shows, and the lease holds."""
        query: Document = {"_id": raw_file.id, "status": raw_file.status}
        if lease is not None:
            query["lease.token"] = lease.token
        kept = self._members.kept(raw_file.id, fields)
        changes = {"$set": kept, "$push": appended(event)}
        if self._collection.update_one(query, changes).matched_count == 0:
            self._explain_conflict(raw_file, lease)
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


def _held(raw_file_id: str, lease: Lease) -> LeaseHeld:
    return LeaseHeld(
        "Another run works on this file",
        file=raw_file_id,
        found=f"run {lease.run_id} on {lease.host}, step {lease.step}, until {lease.until:%H:%M:%S}"
        " UTC",
        next_step="nothing: that run goes on; if it dies its lease lapses and the file is due "
        "again.",
    )
