"""The collections `api_token` (what programs ask with) and `api_action` (what they had done)."""

from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.api_tokens import ApiToken
from kraken_dagster.store.errors import translated

INDEXES = {
    "api_token": (IndexModel([("digest", ASCENDING)], unique=True),),
    "api_action": (IndexModel([("at", DESCENDING)]),),
}
_NOTED_EVERY = timedelta(minutes=1)

Document = dict[str, Any]


@translated
class ApiTokens:
    def __init__(self, database: "Database[Document]") -> None:
        self._tokens: MongoCollection[Document] = database["api_token"]
        self._actions: MongoCollection[Document] = database["api_action"]

    def add(self, token: ApiToken) -> bool:
        """False if there is, or was, one of that name: what it did stays told by it."""
        document = token.model_dump(exclude={"name"})
        try:
            self._tokens.insert_one({**document, "_id": token.name})
        except DuplicateKeyError:
            return False
        return True

    def all(self) -> list[ApiToken]:
        """By name; also those that hold no more."""
        return sorted(map(_token, self._tokens.find({})), key=lambda item: item.name)

    def by_digest(self, digest: str) -> ApiToken | None:
        found = self._tokens.find_one({"digest": digest})
        return None if found is None else _token(found)

    def revoke(self, name: str, *, by: str, now: datetime) -> bool:
        """False if there is none of that name that is not revoked."""
        change = {"$set": {"revoked_at": now, "revoked_by": by}}
        query = {"_id": name, "revoked_at": None}
        return self._tokens.update_one(query, change).modified_count == 1

    def used(self, token: ApiToken, *, now: datetime) -> None:
        """Notes it, once a minute."""
        last = token.last_used_at
        if last is None or now - last >= _NOTED_EVERY:
            self._tokens.update_one({"_id": token.name}, {"$set": {"last_used_at": now}})

    def record(self, *, by: str, action: str, subject: str, status: int, at: datetime) -> None:
        """Keeps who had what done, and the status of the answer."""
        self._actions.insert_one(
            {"by": by, "action": action, "subject": subject, "status": status, "at": at}
        )

    def actions(self, *, limit: int) -> list[Document]:
        """The last ones, newest first."""
        found = self._actions.find({}, {"_id": 0}).sort("at", DESCENDING).limit(limit)
        return list(found)


def _token(document: Document) -> ApiToken:
    return ApiToken.model_validate({**document, "name": document["_id"]})
