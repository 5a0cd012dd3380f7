"""The collection `input_digest` (ours): digests of fastas, libraries and configurations."""

import os
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from pymongo.collection import Collection as MongoCollection

from kraken_dagster.store.errors import translated

Document = dict[str, Any]


class KnownInput(BaseModel):
    """A file's digest, and by what it is told whether it is still that file. Times in ns."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: str  # as text: an inode may be larger than the largest number of MongoDB
    md5: str

    @classmethod
    def of(cls, facts: os.stat_result, *, md5: str) -> "KnownInput":
        return cls(
            size=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            ctime_ns=facts.st_ctime_ns,
            inode=str(facts.st_ino),
            md5=md5,
        )

    def is_of(self, facts: os.stat_result) -> bool:
        return self == KnownInput.of(facts, md5=self.md5)


@translated
class Inputs:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def get(self, path: str) -> KnownInput | None:
        document = self._collection.find_one({"_id": path})
        return None if document is None else KnownInput.model_validate(document)

    def put(self, path: str, known: KnownInput, *, now: datetime) -> None:
        document = {**known.model_dump(), "digested_at": now}
        self._collection.update_one({"_id": path}, {"$set": document}, upsert=True)
