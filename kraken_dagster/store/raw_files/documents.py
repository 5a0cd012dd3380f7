"""Reads documents of `raw_file` as models, also those that other writers left fields out of."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kraken_dagster.model.files.dates import dated
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import (
    FileFact,
    InstrumentFileStatus,
    RawFile,
    Status,
    short_details,
)
from kraken_dagster.store.raw_files.members import MemberLists

DATES = {"created_at": 1, "created_at_": 1}
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
_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)

Document = dict[str, Any]


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
    seconds = document.get("file_digests") or {}
    return {
        _below_backup_folder(path, instrument_id): FileFact.from_record(
            fact or (None, None), seconds.get(path)
        )
        for path, fact in (document.get("file_info") or {}).items()
    }


def _below_backup_folder(path: str, instrument_id: str) -> str:
    """A member's path as it is recorded now: AlphaKraken's older versions had it start at the
    backup root, with the instrument's and the month's folders."""
    return re.sub(rf"^{re.escape(instrument_id)}/\d{{4}}_\d{{2}}/", "", path)
