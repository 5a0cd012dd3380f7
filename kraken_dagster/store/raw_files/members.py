"""The collection `raw_file_members` (ours): lists of members too long for a raw file's document.

A list stands in documents of its own, whose ids begin with the raw file's id and a digest of the
whole list. It is written before the raw file's document names that digest, so whoever dies in
between leaves documents that nothing refers to; and one list never replaces another. None is ever
deleted: what a document once said of a backup stays readable.

Second digests of members (`file_digests`) stand beside `file_info`, or are the fourth element in a
list that is kept here.

In `raw_file.file_info`, which other programs read, the largest members stay, the main file among
them. What another program writes there later counts. Where those members all stand there still (it
has added their ETags, say) the others of the list count too: what it saw was a part, and a part is
never taken for the whole. Where they don't, its own list alone counts.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.errors import NotRecorded
from kraken_dagster.model.files.members import MembersElsewhere
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.store.errors import translated

# A document may have 16 MB. A file of 15,000 members with ordinary names stays below this, and
# reading one document for each file of a folder costs a tick 15 ms for each that is as large.
_MOST_BYTES_IN_DOCUMENT = 2_000_000
_KEPT_BYTES = 64_000
_PART_BYTES = 4_000_000
_RECORD_BYTES = 80  # of what is recorded beside a member's path
_SECOND_BYTES = 130  # of its second digest

Document = dict[str, Any]
Record = list[Any]


def recorded(facts: Mapping[str, FileFact]) -> Document:
    """The fields of a raw file's document that have its members, for `MemberLists.kept`.

    `file_info` is as AlphaKraken has it. `file_digests` has by path `[MD5, kind, digest]`, which
    holds as long as that is the recorded MD5; None where there is none.
    """
    seconds = {
        path: fact.second.to_record(fact.md5)
        for path, fact in facts.items()
        if fact.second is not None
    }
    return {
        "file_info": {path: fact.to_record() for path, fact in facts.items()},
        "file_digests": seconds or None,
    }


@translated
class MemberLists:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def kept(self, raw_file_id: str, fields: Mapping[str, Any]) -> Document:
        """The fields of a raw file as they fit into its document; a long list is kept here."""
        if "file_info" not in fields:
            return dict(fields)
        info: Mapping[str, Record] = fields["file_info"]
        seconds: Mapping[str, Record] = fields.get("file_digests") or {}
        size = sum(map(_bytes, info)) + sum(len(path) + _SECOND_BYTES for path in seconds)
        if size <= _MOST_BYTES_IN_DOCUMENT:
            return {**fields, "members": None}
        rows = [_row(path, info[path], seconds.get(path)) for path in sorted(info)]
        digest, parts = _digest(rows), list(_parts(rows))
        for number, part in enumerate(parts):
            self._put(_part_id(raw_file_id, digest, number), raw_file_id, part)
        largest = _largest(info)
        named = {
            "digest": digest,
            "parts": len(parts),
            "count": len(rows),
            "in_document": _digest(_rows(largest)),
        }
        return {**fields, "file_info": largest, "file_digests": None, "members": named}

    def _put(self, part_id: str, raw_file_id: str, rows: list[Record]) -> None:
        changes = {"$set": {"raw_file": raw_file_id, "members": rows}}
        try:
            self._collection.update_one({"_id": part_id}, changes, upsert=True)
        except DuplicateKeyError:  # another run wrote the same at this moment
            return

    def of(self, document: Document) -> Mapping[str, FileFact] | None:
        """The members of a raw file whose list is kept here; None where its document has them."""
        named = document.get("members")
        if not named:
            return None
        raw_file_id, said = str(document["_id"]), document.get("file_info") or {}
        if _digest(_rows(said)) == named["in_document"]:
            return MembersElsewhere(named["count"], lambda: self.read(raw_file_id, named))
        try:
            whole = self._rows_of(raw_file_id, named)
        except NotRecorded:  # told to who needs the members
            return MembersElsewhere(named["count"], lambda: self.read(raw_file_id, named))
        if not _largest(whole).keys() <= said.keys():
            return None  # another program has written all that it knows
        return {
            path: FileFact.from_record(record or (None, None), _second(whole.get(path)))
            for path, record in {**whole, **said}.items()
        }

    def read(self, raw_file_id: str, named: Mapping[str, Any]) -> Mapping[str, FileFact]:
        """
        Raises:
            NotRecorded: not all of it is there, or it is another list.
        """
        rows = self._rows_of(raw_file_id, named)
        return {
            path: FileFact.from_record(record, _second(record)) for path, record in rows.items()
        }

    def _rows_of(self, raw_file_id: str, named: Mapping[str, Any]) -> dict[str, Record]:
        rows: list[Record] = []
        for number in range(named["parts"]):
            part_id = _part_id(raw_file_id, named["digest"], number)
            part = self._collection.find_one({"_id": part_id})
            rows += (part or {}).get("members", ())
        if _digest(rows) != named["digest"]:
            raise NotRecorded(
                "The list of the file's members in MongoDB is not complete",
                file=raw_file_id,
                expected=f"{named['count']} members in {named['parts']} documents of "
                f"`raw_file_members`, with digest {named['digest']}",
                found=f"{len(rows)} members",
                next_step="restore the collection `raw_file_members` from a backup of MongoDB.",
            )
        return {path: record for path, *record in rows}


def _row(path: str, record: Record, second: Record | None) -> Record:
    """One without a second digest is as it was before there were any."""
    return [path, *record] if second is None else [path, *[*record, None][:3], second]


def _second(record: Record | None) -> Record | None:
    return record[3] if record is not None and len(record) > 3 else None


def _rows(info: Mapping[str, Record]) -> list[Record]:
    return [[path, *(info[path] or ())] for path in sorted(info)]


def _bytes(path: str) -> int:
    return len(path.encode()) + _RECORD_BYTES


def _part_id(raw_file_id: str, digest: str, number: int) -> str:
    return f"{raw_file_id}:{digest}:{number}"


def _digest(rows: list[Record]) -> str:
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row).encode() + b"\n")
    return found.hexdigest()[:32]


def _parts(rows: list[Record]) -> Iterator[list[Record]]:
    part: list[Record] = []
    size = 0
    for row in rows:
        size += _bytes(row[0])
        if part and size > _PART_BYTES:
            yield part
            part, size = [], _bytes(row[0])
        part.append(row)
    yield part


def _largest(info: Mapping[str, Record]) -> dict[str, Record]:
    """As many of the members as fit, the largest first: the main file is always one of these."""
    kept: dict[str, Record] = {}
    room = _KEPT_BYTES
    for path, record in sorted(info.items(), key=lambda item: (-(item[1][0] or 0), item[0])):
        room -= _bytes(path)
        if room < 0:
            break
        kept[path] = record
    return kept
